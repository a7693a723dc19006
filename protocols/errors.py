"""The error of wrong user input. The command line prints its one line and exits with status 2."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Wrong input of the user: one line that names the thing and the fix."""


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
