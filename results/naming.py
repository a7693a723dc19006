"""Method names as papers write them, for what goes into a paper; variants keep their endings, other names stay."""

import re
from collections.abc import Mapping
from dataclasses import replace

from results.table import Table

NAMES = {
    "finetune": "Fine-tuning", "joint": "Joint", "lwf": "LwF", "ilt": "ILT", "mib": "MiB", "plop": "PLOP",
    "mbs": "MBS", "lbd": "LBD",
}  # fmt: skip
WORDS = ("finetune", "joint")  # names that are words of English too


def as_in_papers(table: Table) -> Table:
    """The table with its methods named as papers do, in lines, title and notes: "mib-no_init" is "MiB-no_init"."""
    names = NAMES | {line.label: named(line.method, line.label) for line in table.lines}
    texts = {key: tuple(_in_text(text, names) for text in getattr(table, key)) for key in ("caption", "notes", "below")}
    lines = tuple(replace(line, label=named(line.method, line.label)) for line in table.lines)
    return replace(table, title=_in_text(table.title, names), lines=lines, **texts)


def named(method: str, label: str) -> str:
    """The label of a line: its method's name as papers write it, and whatever follows it in the label."""
    if method not in NAMES or not label.startswith(method):
        return label
    return NAMES[method] + label.removeprefix(method)


def _in_text(text: str, names: Mapping[str, str]) -> str:
    """The text with names replaced where they stand alone: not in paths, run ids and options such as mib.kd.

    Words of English are names only where no other word follows.
    """
    longest_first = sorted(names, key=len, reverse=True)
    choices = "|".join(re.escape(name) + (r"(?! \w)" if name in WORDS else "") for name in longest_first)
    return re.sub(rf"(?<![\w./=-])({choices})(?![\w/=-]|\.\w)", lambda found: names[found[0]], text)
