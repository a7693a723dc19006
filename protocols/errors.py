"""The error of wrong user input. The command line prints its one line and exits with status 2."""

import difflib
from collections.abc import Iterable

LONGEST = 4000  # characters of a message; what was given may be of any length


class InputError(ValueError):
    """Wrong input of the user: one line that names the thing and the fix.

    What was given may stand in it as it came: characters that are no text are shown as their escapes, and the middle of
    an endless line is left out.
    """

    def __init__(self, message: str):
        line = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in message)
        if len(line) > LONGEST:
            line = f"{line[: LONGEST // 2]} [...] {line[-LONGEST // 2 :]}"
        super().__init__(line)


def unknown(kind: str, name: object, choices: Iterable[str]) -> InputError:
    """An `InputError` for a name that is not among `choices`, with the nearest valid names first.

    >>> unknown("method", "mbi", ["finetune", "joint", "mib"])
    InputError("unknown method 'mbi': did you mean 'mib'? (finetune, joint, mib)")
    """
    choices = [str(choice) for choice in choices]
    near = difflib.get_close_matches(str(name), choices, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(choice) for choice in near)}? " if near else "choose one of "
    listing = ", ".join(choices) or "none available"
    return InputError(f"unknown {kind} {str(name)!r}: {hint}({listing})")
