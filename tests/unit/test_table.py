"""The table model: raw records, marks, and the strings that every format prints."""

import math

import pytest

from results.markdown import to_markdown
from results.statistics import summary
from results.table import Column, Line, Table, arranged, marked, written
from results.terminal import to_terminal

COLUMNS = (Column("seeds", kind="count"), Column("all", "0-4", better="higher"), Column("forgetting", better="lower"))


def line(label, seeds, everything, forgetting, **more) -> Line:
    return Line(label, (seeds, summary(everything), summary(forgetting)), **more)


LINES = (
    line("a", 3, [50, 52, 54], [10, 10, 13], facts={"recipe": "r1"}),
    line("b", 1, [60], [9]),
    line("c", 1, [10], [20]),
    line("halted", 0, [99], [0], complete=False),
    line("bound", 1, [90], [math.nan], upper_bound=True),
)
TABLE = Table("main", "where", "what", COLUMNS, LINES, "main-x", {"data": "shapes"}, ("said",), ("read",))
BY = Table(
    "steps", "where", "after", COLUMNS[1:], tuple(Line(one.label, one.cells[1:]) for one in LINES[:2]), "steps-x",
    by=("step", "learned"), measure="all", below=("a line below",),
)  # fmt: skip


def with_values(values, better="higher"):
    lines = tuple(Line(str(place), (summary([value]),)) for place, value in enumerate(values))
    return Table("t", "s", "t", (Column("x", better=better),), lines, "x")


def test_best_and_second_among_complete_methods():
    assert marked(TABLE) == {(1, 1): "best", (0, 1): "second", (1, 2): "best", (0, 2): "second"}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([5.04, 4.96, 1, 0], ["best", "best", "", ""]),  # equal as printed; two share both places
        ([9, 5, 5, 1], ["best", "second", "second", ""]),
        ([9, 0, 0, 0], ["best", "", "", ""]),  # what many share is no achievement
        ([7, 7, 7, 1], ["", "", "", ""]),
        ([7, 7], ["", ""]),
        ([7], [""]),
        ([7, math.nan, 3], ["best", "", "second"]),
    ],
)
def test_ties(values, expected):
    marks = marked(with_values(values))
    assert [marks.get((row, 0), "") for row in range(len(values))] == expected


def test_lower_can_be_better_and_some_columns_have_no_best():
    assert marked(with_values([3, 1, 2], "lower")) == {(1, 0): "best", (2, 0): "second"}
    assert marked(with_values([3, 1, 2], "")) == {}


def test_records_are_unrounded_with_provenance():
    first, *_, last = TABLE.records()
    assert list(first) == [
        "data", "method", "recipe", "seeds", "all 0-4", "all 0-4 std", "all 0-4 ci95",
        "forgetting", "forgetting std", "forgetting ci95",
    ]  # fmt: skip
    assert first["all 0-4"] == 52 and first["all 0-4 std"] == 2 and first["forgetting"] == 11
    assert first["all 0-4 ci95"] == pytest.approx(4.3027 * 2 / math.sqrt(3), rel=1e-4)
    assert last["forgetting"] == last["all 0-4 std"] == ""


def test_records_by_column_are_a_line_for_each_cell():
    records = BY.records()
    assert [(one["method"], one["step"], one["learned"], one["all"]) for one in records] == [
        ("a", "all", "0-4", 52), ("a", "forgetting", "", 11), ("b", "all", "0-4", 60), ("b", "forgetting", "", 9),
    ]  # fmt: skip


def test_arranged_across_and_down():
    grid = arranged(TABLE)
    assert [column.head for column in grid.columns] == ["method", "seeds", "all", "forgetting"]
    assert [(cell.text, cell.spread, cell.mark) for cell in grid.lines[0]] == [
        ("a", "", ""), ("3", "", ""), ("52.0", "2.0", "second"), ("11.0", "1.7", "second"),
    ]  # fmt: skip
    assert [cell.text for cell in grid.lines[3]] == ["halted", "-", "99.0", "0.0"]
    assert all(cell.greyed for cell in grid.lines[4]) and not any(cell.greyed for cell in grid.lines[3])
    down = arranged(BY)
    assert [column.head for column in down.columns] == ["step", "learned", "a", "b"]
    assert [[cell.text for cell in cells] for cells in down.lines] == [
        ["all", "0-4", "52.0", "60.0"], ["forgetting", "", "11.0", "9.0"],
    ]  # fmt: skip
    assert [cell.mark for cell in down.lines[0][2:]] == ["second", "best"]


def test_numbers_in_sentences():
    assert [written(summary(values)) for values in ([1, 3], [2.04], [math.nan])] == ["2.0 ± 1.4", "2.0", "-"]


def test_notes_are_printed_once_for_tables_of_one_group():
    same = Table(**{**BY.__dict__, "caption": TABLE.caption, "notes": TABLE.notes})
    for text in (to_terminal([TABLE, same]), to_markdown([TABLE, same])):
        assert text.count("said") == text.count("read") == 1
        assert text.count("a line below") == 1
    assert to_terminal([TABLE, same]).count("where: what") == 1
    assert to_terminal([TABLE, BY]).count("where: ") == 2


def test_markdown_marks_and_escapes():
    lines = (*LINES[:2], line("m|[x]_*<b>", 1, [10], [20]), LINES[4])
    text = to_markdown([Table("main", "w|x", "what", COLUMNS, lines, "x")], ["broken"])
    rows = [row for row in text.splitlines() if row.startswith("|")]
    assert rows == [
        "| method | seeds | all<br>0-4 | forgetting |",
        "| :-- | --: | --: | --: |",
        "| a | 3 | <u>52.0 ± 2.0</u> | <u>11.0 ± 1.7</u> |",
        "| b | 1 | **60.0** | **9.0** |",
        r"| m\|\[x\]\_\*\<b\> | 1 | 10.0 | 20.0 |",
        "| *bound* | *1* | *90.0* | *-* |",
    ]
    assert r"## w\|x" in text and text.endswith("Left out: broken\n")


def test_lines_in_a_row_that_share_a_name_print_it_once_and_files_have_their_facts_for_printed_texts():
    columns = (Column("measure", kind="text"), Column("theirs", kind="range", printed_only=True))
    lines = tuple(Line(name, ("all", "1..2"), facts={"low": 1, "high": math.nan}) for name in ("a", "a", "b", "a"))
    table = Table("published", "s", "t", columns, lines, "x")
    assert [[cell.text for cell in cells] for cells in arranged(table).lines] == [
        [name, "all", "1..2"] for name in ("a", "", "b", "a")
    ]
    assert table.records()[1] == {"method": "a", "low": 1, "high": "", "measure": "all"}
