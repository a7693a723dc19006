"""Where every row of a report comes from: run ids, seeds, revisions and commands."""

from collections.abc import Sequence

from results.groups import Group, Row, rows_of


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
        revision, command = (run.manifest.get(key) or "not recorded" for key in ("git_revision", "command"))
        lines.append(f"   seed {run.manifest['seed']}   {run.manifest['run']}   revision {revision}{fate}")
        commands.append(f"   command: {command}")
    return [*lines, *dict.fromkeys(commands)]
