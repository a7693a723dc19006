"""What there is: methods with their options, protocols with their steps, runs of a store, published numbers."""

import sys
from dataclasses import Field, fields
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

import methods
import protocols
from protocols.errors import InputError
from results.schema import read_runs

if TYPE_CHECKING:
    from methods.base import Method


def print_methods() -> None:
    """Each method with its variants and options."""
    table = Table("method", "what it does", "variants (run as method-variant)", "options (method.key=value)")
    for name in methods.names():
        try:
            method = methods.get(name).method
        except InputError as fault:  # of another package
            table.add_row(name, f"[red]{escape(str(fault))}[/red]", "", "")
            continue
        options = "\n".join(f"{field.name}={_default(method, field)}" for field in fields(method.Config))
        what = method.summary + (f"\n[dim]{method.paper}[/dim]" if method.paper else "")
        what += f"\n{method.note}" if method.note else ""
        table.add_row(name, what, "\n".join(method.variants), options)
    Console().print(table)


def _default(method: "type[Method]", field: Field) -> str:
    """The default of an option; one for each data set where the published values differ."""
    values = {dataset: options[field.name] for dataset, options in method.by_dataset.items() if field.name in options}
    return ", ".join(f"{value} on {dataset}" for dataset, value in values.items()) or str(field.default)


def print_protocols() -> None:
    """The usual protocols with the training images of each step on the full data set."""
    console = Console()
    table = Table("protocol", "classes at each step", "steps", "training images, overlapped", "disjoint")
    for name in protocols.names():
        protocol = protocols.load(name)
        sizes = [len(step.new) for step in protocol.steps]
        counts = [
            " ".join(map(str, protocols.step_counts(name, setting) or ())) for setting in ("overlapped", "disjoint")
        ]
        table.add_row(name, f"{sizes[0]}, then {sizes[1]} at a time", str(len(sizes)), *counts)
    console.print(table)
    console.print(
        "Any base and increment that divide the classes are valid: voc_BASE-INCREMENT, ade_BASE-INCREMENT, "
        "with _ORDER for a class order; so is a path to a YAML file.",
        soft_wrap=True,
    )


def print_runs(store: str) -> None:
    """The runs of a store and how they ended."""
    runs, problems = read_runs(Path(store))
    table = Table("run", "status", "steps", "training time")
    for run in runs:
        seconds = sum(step.get("seconds", 0) for step in run.manifest.get("steps", ()))
        table.add_row(run.path.name, run.manifest["status"], str(len(run.counts)), f"{seconds / 60:.1f} min")
    console = Console()
    console.print(table)
    for problem in problems:
        console.print(problem, markup=False)


def print_published(protocol: str | None = None, method: str | None = None) -> None:
    """Published numbers, those of one source, network and setting on a line. InputError: an unknown name."""
    from results.published_numbers import METRICS, published_numbers

    numbers = published_numbers(protocol, method)
    kinds = [column for column in numbers.columns if column not in ("metric", "value")]
    table = Table("method", "network", "protocol", "setting", *METRICS, "convention", "source")
    for _, lines in numbers.groupby(kinds, sort=False):
        first, values = lines.iloc[0], dict(zip(lines["metric"], lines["value"], strict=True))
        name = first["method"] + (f" ({first['mark']})" if first["mark"] else "")
        setting = " ".join(word for word in (first["setting"], first["regime"]) if word not in ("", "standard"))
        cells = [f"{values[metric]:g}" if metric in values else "" for metric in METRICS]
        texts = (name, first["backbone"], first["protocol"], setting, *cells, first["convention"], first["source"])
        table.add_row(*map(escape, texts))
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)
    console.print(f"{len(numbers)} numbers; where they come from: results/published/README.md", markup=False)
