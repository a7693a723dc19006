"""Where every row of a report comes from: run ids, seeds, revisions and commands."""

from collections.abc import Sequence
from pathlib import PurePath

from results.groups import Group, Row, rows_of
from results.schema import Run

OURS = ("bench", "__main__.py")  # what the program is called: as it is installed, and as a module


def explain(groups: Sequence[Group]) -> str:
    """For each row of each group: its recipe, its runs, and the commands that made them, ready to be given again.

    A run that is stored but not averaged is marked as left out; the notes of the tables say why.
    """
    lines = []
    for group in groups:
        lines.append(f"{group.title}: the runs behind each row")
        for row in rows_of(group):
            lines += _of_row(row)
        lines.append("")
    return "\n".join(lines)


def _of_row(row: Row) -> list[str]:
    """The runs of a row, then each of their commands once."""
    lines, commands = [f" {row.label}   recipe {row.recipe}"], []
    averaged = [(run, "" if row.complete else "   incomplete") for run in row.used]
    for run, fate in [*averaged, *((run, "   left out") for run in row.left_out)]:
        revision = run.manifest.get("git_revision") or "not recorded"
        lines.append(f"   seed {run.manifest['seed']}   {run.manifest['run']}   revision {revision}{fate}")
        if caveat := of_other_code(run):
            lines.append(f"     {caveat}")
        commands.append(f"   command: {command(run) or 'not recorded'}")
    return [*lines, *dict.fromkeys(commands)]


def of_other_code(run: Run) -> str:
    """Which steps came from the cache and were trained by other code of the same version; "" if none did."""
    steps = run.manifest.get("steps", ())
    found = [(row["index"], row["changed_modules"]) for row in steps if row.get("changed_modules")]
    modules = {name for _, names in found for name in names if isinstance(name, str) and name.isprintable()}
    if not found:
        return ""
    numbers = ", ".join(str(index) for index, _ in found)
    return f"trained by other code of the same version: step {numbers} ({', '.join(sorted(modules))} changed since)"


def command(run: Run) -> str:
    """The command that made a run, wherever the program lay then: "bench run ..."; "" where it is not recorded."""
    program, space, rest = (run.manifest.get("command") or "").partition(" ")
    return f"bench{space}{rest}" if PurePath(program).name in OURS else f"{program}{space}{rest}"
