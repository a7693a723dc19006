"""LaTeX: valid structure, marks, citations. Whether it compiles is tested in tests/e2e."""

import re
from dataclasses import replace

import pytest

from results import citations
from results.files import write_latex
from results.groups import group_runs
from results.latex import escaped, pages, table_environment, tabular
from results.render import across_tables, group_tables
from results.statistics import summary
from results.table import Column, Line, Table
from tests.made_up import two_protocols
from tests.unit.test_table import COLUMNS, TABLE, line


def columns_of(source: str) -> int:
    """Columns that a tabular declares."""
    declared = re.match(r"\\begin\{tabular\}\{((?:[lcr]|@\{\})+)\}\n", source)
    return len(declared[1].replace("@{}", ""))


def cells_of(line: str) -> int:
    """Columns that a line of a tabular fills."""
    spans = [int(width) for width in re.findall(r"\\multicolumn\{(\d+)\}", line)]
    return len(re.split(r"(?<!\\)&", line)) + sum(spans) - len(spans)


def check(source: str) -> None:
    """Every line of the tabular fills all columns; braces match; nothing is left that pdflatex cannot read."""
    body = [line for line in source.splitlines()[1:-1] if line.endswith(r"\\")]
    assert body and {cells_of(line) for line in body} == {columns_of(source)}
    plain = source.replace(r"\{", "").replace(r"\}", "")
    assert plain.count("{") == plain.count("}")
    assert source.splitlines()[1] == r"\toprule" and source.splitlines()[-2] == r"\bottomrule"
    assert not re.search(r"(?<!\\)[%#_]", source)


@pytest.fixture
def tables(tmp_path):
    """All tables of two protocols with up to two seeds, and awkward names."""
    groups = group_runs(two_protocols(tmp_path))
    return [table for group in groups for table in group_tables(group)] + across_tables(groups)


def test_special_characters_of_latex_are_escaped():
    assert escaped("a_b & 5% #1 {x} ~^\\") == (
        r"a\_b \& 5\% \#1 \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{}"
    )
    assert escaped("35.0 ± 1.2") == r"35.0 $\pm$ 1.2"
    assert escaped("[a]|*") == r"{[}a{]}\textbar{}{*}"  # "\\ [a]" would be read as a length
    assert escaped("café\nmüll") == "café müll"
    assert escaped("中\x07") == "{[}U+4E2D{]}{[}U+0007{]}"


def test_a_tabular_by_hand():
    names = (line("[x]_1", 3, [50, 52, 54], [-10, -11, -12]), line("mib", 12, [60, 80], [9, 39.3], method="mib"))
    source = tabular(Table("main", "s", "t", COLUMNS, (*names, TABLE.lines[4]), "x"))
    assert source.splitlines() == [
        r"\begin{tabular}{lrr@{}lr@{}l}",
        r"\toprule",
        r"method & \multicolumn{1}{c}{seeds} & \multicolumn{2}{c}{all} & \multicolumn{2}{c}{forgetting} \\",
        r" &  & \multicolumn{2}{c}{0-4} & & \\",
        r"\midrule",
        r"{[}x{]}\_1 & 3 & \underline{52.0} & \,$\pm$\,\phantom{0}2.0 & \textbf{$-$11.0} & \,$\pm$\,\phantom{0}1.0 \\",
        r"mib~\cite{cermelli2020mib} & 12 & \textbf{70.0} & \,$\pm$\,14.1 & \underline{24.1} & \,$\pm$\,21.4 \\",
        r"\midrule",
        r"\color{gray}bound & \color{gray}1 & \color{gray}90.0 & & \color{gray}-- & \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    check(source)


def test_heads_that_columns_share_are_ruled():
    columns = [Column(head, over=over) for over in ("voc_15-5", "voc_10-1") for head in ("old", "new")]
    cells = tuple(TABLE.lines[0].cells[1:2]) * 4
    source = tabular(Table("protocols", "s", "t", tuple(columns), (Line("a", cells),), "x"))
    assert r"\multicolumn{1}{c}{} & \multicolumn{4}{c}{voc\_15-5} & \multicolumn{4}{c}{voc\_10-1} \\" in source
    assert r"\cmidrule(lr){2-5}\cmidrule(lr){6-9}" in source
    check(source)


def test_every_table_is_valid(tables):
    kinds = [table.kind for table in tables]
    assert set(kinds) == {"main", "steps", "classes", "comparison", "cost", "protocols"}
    for table in tables:
        check(tabular(table))


def test_a_caption_states_what_the_numbers_are(tables):
    source = table_environment(tables[0])
    caption = next(line for line in source.splitlines() if line.startswith(r"\caption"))
    for phrase in (
        r"Protocol pets\_2-1: 3 steps", "setting overlapped", "data shapes", "Default convention: all val images",
        "over seeds, which differ: 0, 1 (finetune, lbd, mib); 0 (joint)", r"Method joint: 100 \% sure.",
        r"network~\cite{chen2017deeplab}, forgetting~\cite{chaudhry2018forgetting}",
    ):  # fmt: skip
        assert phrase in caption
    assert "upper bound" in source


def test_a_long_table_is_split_into_pages():
    columns = tuple(Column(f"class {number}", str(number)) for number in range(120))
    cells = tuple(TABLE.lines[0].cells[1:2]) * 120
    parts = pages(Table("classes", "s", "t", columns, (Line("a", cells),), "x", by=("class", "id")))
    assert [len(part.columns) for part in parts] == [50, 50, 20] == [len(part.lines[0].cells) for part in parts]
    assert [part.stem for part in parts] == ["x-part1", "x-part2", "x-part3"]
    assert parts[1].title == "t (part 2 of 3)" and parts[1].columns[0].head == "class 50"
    assert pages(TABLE) == [TABLE]


def test_many_lines_are_split_into_pages_unless_the_best_of_them_is_marked():
    lines = tuple(Line(f"m{number}", (summary([number]),)) for number in range(60))
    table = Table("published", "s", "t", (Column("x"),), lines, "x", below=("the last word",))
    first, last = pages(table)
    assert (first.lines, last.lines) == (lines[:50], lines[50:])
    assert (first.below, last.below) == ((), ("the last word",))
    assert pages(replace(table, columns=(Column("x", better="higher"),)))[0].lines == lines


def test_the_document_cites_only_what_its_bibliography_has(tables, tmp_path):
    paths = write_latex(tables, tmp_path / "out", "report")
    assert len(paths) == len(tables) + 2 and all(path.stat().st_size for path in paths)
    document, bibliography = (tmp_path / "out" / f"report.{ending}" for ending in ("tex", "bib"))
    source = document.read_text()
    cited = {key for keys in re.findall(r"\\cite\{([^}]+)\}", source) for key in keys.split(",")}
    assert cited == set(re.findall(r"\\bibitem\{(\w+)\}", source))
    assert cited == set(re.findall(r"^@\w+\{(\w+),", bibliography.read_text(), re.M))
    assert {"cermelli2020mib", "wu2025lbd", "chen2017deeplab"} <= cited
    assert "li2016lwf" not in cited
    begun, ended = (sorted(re.findall(rf"\\{what}{{(\w+)}}", source)) for what in ("begin", "end"))
    assert begun == ended
    assert source.isascii()


def test_every_paper_that_can_be_cited_is_in_the_bibliography():
    keys = {*citations.METHODS.values(), *citations.CONVENTIONS.values()}
    for some in (citations.NETWORKS, citations.DATA, citations.MEASURES):
        keys |= {key for found in some.values() for key in found}
    assert keys == set(citations.PAPERS)
    sources = citations.of_provenance({"network": "segmenter-tiny", "data": "voc", "convention": "ssul"})
    assert sources["network"] == ["strudel2021segmenter", "radford2021clip"]
    assert sources["data"] == ["everingham2010voc", "hariharan2011sbd"] and sources["convention"] == ["cha2021ssul"]
    assert citations.of_method("my_method") is None
