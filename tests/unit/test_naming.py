"""Methods are named as in papers in Markdown and LaTeX, and there alone."""

import pytest

from results.files import write_csv, write_latex, write_markdown
from results.naming import as_in_papers
from results.statistics import summary
from results.table import Column, Line, Table
from results.terminal import to_terminal


def table_of(*names, **texts) -> Table:
    """A table of lines (label, method) with those texts."""
    lines = tuple(Line(label, (summary([1.0]),), method) for label, method in names)
    return Table("main", "s", texts.pop("title", "t"), (Column("x"),), lines, "main-x", **texts)


@pytest.mark.parametrize(
    ("label", "method", "shown"),
    [
        ("mib", "mib", "MiB"),
        ("mib-no_init", "mib", "MiB-no_init"),
        ("mib-no_init [e537fa]", "mib", "MiB-no_init [e537fa]"),
        ("lwf", "lwf", "LwF"),
        ("finetune", "finetune", "Fine-tuning"),
        ("joint", "joint", "Joint"),
        ("mine", "mine", "mine"),
        ("mib-ours", "mib-ours", "mib-ours"),  # a method of the user's own
    ],
)
def test_labels(label, method, shown):
    table = as_in_papers(table_of((label, method), notes=(f"{label}, seed 0: 2 of 3 steps", f"see {label}")))
    assert [line.label for line in table.lines] == [shown]
    assert table.notes == (f"{shown}, seed 0: 2 of 3 steps", f"see {shown}")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("difference to mib, the best", "difference to MiB, the best"),
        ("0, 1 (finetune, plop); 2 (joint)", "0, 1 (Fine-tuning, PLOP); 2 (Joint)"),
        ("not the same in all protocols: mib.kd", "not the same in all protocols: mib.kd"),
        ("see https://a.b/mib and mib_voc_10-1", "see https://a.b/mib and mib_voc_10-1"),
        ("joint training is no method to finetune here", "joint training is no method to finetune here"),
    ],
)
def test_texts(text, shown):
    table = as_in_papers(table_of(("mib", "mib"), title=text, caption=(text,), below=(text,)))
    assert (table.title, table.caption, table.below) == (shown, (shown,), (shown,))


def test_only_what_goes_into_a_paper_is_renamed(tmp_path):
    table = table_of(("mib", "mib"))
    markdown, tabular = write_markdown([table], tmp_path, "r")[0], write_latex([table], tmp_path, "r")[0]
    assert "| MiB |" in markdown.read_text() and r"MiB~\cite{cermelli2020mib}" in tabular.read_text()
    assert "mib" in write_csv([table], tmp_path)[0].read_text() and " mib " in to_terminal([table])
