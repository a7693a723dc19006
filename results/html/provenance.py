"""Where the rows of a group come from, as blocks to open: recipe, runs, commands, versions, configuration."""

import json
from collections.abc import Iterable, Sequence
from html import escape

from results.cost import hardware
from results.explanation import command, of_other_code
from results.groups import Group, Row, rows_of
from results.naming import named
from results.schema import Run

NOT_RECORDED = "not recorded"
HEADS = ("seed", "run", "finished steps", "use", "revision", "hardware")


def runs_element(group: Group) -> str:
    """A block for each row of the group's tables, closed at first."""
    return "\n".join(_block(row) for row in rows_of(group))


def _block(row: Row) -> str:
    used = [(run, "averaged" if row.complete else "incomplete") for run in row.used]
    runs = [*used, *((run, "left out") for run in row.left_out)]
    seeds = ", ".join(map(str, row.seeds))
    title = (
        f"<b>{escape(named(row['method'], row.label))}</b>: recipe <code>{escape(row.recipe[:12])}</code>, seed {seeds}"
    )
    return "\n".join(
        [
            f"<details><summary>{title}</summary>",
            f"<p>Recipe <code>{escape(row.recipe)}</code></p>",
            _runs_table(runs),
            *_caveats(run for run, _ in runs),
            *_distinct("Command", (command(run) for run, _ in runs)),
            *_distinct("Versions", (_versions(run) for run, _ in runs)),
            *_configuration(row),
            "</details>",
        ]
    )


def _runs_table(runs: Sequence[tuple[Run, str]]) -> str:
    heads = "".join(f'<th scope="col">{head}</th>' for head in HEADS)
    lines = [f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in _facts(run, use))}</tr>" for run, use in runs]
    body = "\n".join(lines)
    return (
        f'<div class="scroll"><table class="facts"><thead><tr>{heads}</tr></thead>\n<tbody>{body}</tbody></table></div>'
    )


def _facts(run: Run, use: str) -> list[str]:
    """The cells of HEADS for a run."""
    manifest = run.manifest
    expected = len(run.expected_steps)
    failed = f", failed: {manifest.get('error')}" if manifest["status"] == "failed" else ""
    done = f"{expected - len(run.missing_steps)} of {expected}{failed}"
    revision = manifest.get("git_revision") or NOT_RECORDED
    machines = "; ".join(sorted(hardware(run))) or NOT_RECORDED
    return [str(manifest["seed"]), manifest["run"], done, use, str(revision), machines]


def _caveats(runs: Iterable[Run]) -> list[str]:
    texts = [(run.manifest["seed"], of_other_code(run)) for run in runs]
    return [f"<p>Seed {escape(str(seed))}: {escape(text)}</p>" for seed, text in texts if text]


def _versions(run: Run) -> str:
    return ", ".join(f"{name} {version}" for name, version in (run.manifest.get("versions") or {}).items())


def _distinct(title: str, texts: Iterable[str]) -> list[str]:
    """The texts, each once, as they would be typed."""
    listing = "\n".join(text for text in dict.fromkeys(texts) if text) or NOT_RECORDED
    return [f"<p>{title}</p>", f"<pre>{escape(listing)}</pre>"]


def _configuration(row: Row) -> list[str]:
    """What all runs of a row were configured with, but for the seed and for where they are stored."""
    recorded = row.used[0].manifest.get("config")
    if not isinstance(recorded, dict):
        return []
    shared = {key: value for key, value in recorded.items() if key not in ("seed", "store")}
    text = json.dumps(shared, indent=1, ensure_ascii=False)
    return [f"<details><summary>Configuration</summary><pre>{escape(text)}</pre></details>"]
