"""Reading YAML, with faults as one line."""

import re
from pathlib import Path

import yaml

from protocols.errors import InputError
from protocols.files import read_bytes

YAML_BYTES = 2**20  # ten seconds of parsing; long image lists go into files of their own


class _Loader(yaml.SafeLoader):
    """Safe YAML, in which only plain decimal digits are integers.

    YAML 1.1 drops underscores from numbers, so that the VOC image 2007_000032 would become 2007000032. Aliases are
    refused: a few lines of them stand for more than any memory holds.
    """

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(None, None, f"the alias *{event.anchor}", event.start_mark)
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:int"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789"))


def read_yaml(path: Path) -> object:
    """The content of a YAML file.

    Raises:
        InputError: the file is missing, unreadable or not YAML; the line names the file and the place.
    """
    try:
        return yaml.load(read_bytes(path, YAML_BYTES).decode("utf-8"), Loader=_Loader)
    except FileNotFoundError:
        raise InputError(f"no such file: {path}") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except RecursionError:
        raise InputError(f"{path} is not valid YAML: too deeply nested") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or "malformed"
        raise InputError(f"{path} is not valid YAML{place}: {reason}") from None
    except ValueError as error:  # bytes that are no text, dates and numbers that are none
        raise InputError(f"cannot read {path}: {error}") from None
