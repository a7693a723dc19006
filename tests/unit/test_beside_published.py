"""Own runs beside published numbers: ranges, conventions, differences only where the images agree."""

import math
import re

import pandas as pd
import pytest

from results.beside_published import obstacles, published_table
from results.groups import group_runs
from results.latex import tabular
from results.markdown import to_markdown
from results.published_numbers import COLUMNS as PUBLISHED
from results.published_numbers import published_numbers
from results.render import report
from results.scores import score
from results.table import Table, arranged
from results.terminal import to_terminal
from tests.made_up import frame as raw
from tests.made_up import make

WHOLE = {"split": "val", "size": 512, "images": 1449}
REAL = {"protocol": "voc_2-1", "dataset": "voc", "data": "voc", "network": "deeplab", "track": "unified"}


def real(store, **changes):
    """A made-up run that claims to be of VOC's validation images."""
    return make(store, **{**REAL, "evaluation": WHOLE, **changes})


def number(value, metric="all", **changes) -> dict:
    row = dict.fromkeys(PUBLISHED, "") | {"method": "MiB", "backbone": "ResNet-101/DeepLabV3", "dataset": "voc"}
    row |= {"protocol": "voc_2-1", "setting": "overlapped", "regime": "standard", "source": "a paper"}
    return row | {"metric": metric, "value": value} | changes


def table_of(runs, *numbers, convention="default") -> Table:
    return published_table(runs, convention, pd.DataFrame(numbers, columns=list(PUBLISHED)))


def beside(runs, *numbers, convention="default") -> pd.DataFrame:
    """The raw numbers of the table."""
    return raw(table_of(runs, *numbers, convention=convention))


def test_several_sources_of_one_number_are_a_range(tmp_path):
    run = real(tmp_path)
    frame = beside([run], number(38.2, source="C"), number(29.3, source="A"), number(29.7, source="B"))
    (line,) = frame.to_dict("records")
    assert list(frame.columns[-16:]) == [
        "measure", "seeds", "counted", "low", "high", "sources", "difference low", "difference high",
        "their network", "mark", "their convention", "note", "source", "ours", "ours std", "ours ci95",
    ]  # fmt: skip
    ours = score(run).all
    assert (line["method"], line["measure"], line["seeds"], line["sources"]) == ("mib", "all", 1, 3)
    assert (line["low"], line["high"], line["source"]) == (29.3, 38.2, "A | B | C")
    assert line["ours"] == pytest.approx(ours) and math.isnan(line["ours std"])
    assert line["difference low"] == pytest.approx(ours - 38.2)
    assert line["difference high"] == pytest.approx(ours - 29.3)


def test_ours_is_counted_as_theirs_where_that_is_known_and_flagged_elsewhere(tmp_path):
    run = real(tmp_path)
    rows = [
        number(35.0, "old", convention="mib", background_in_old="no"),
        number(36.0, "old", convention="dkd", background_in_old="yes", source="B"),
        number(37.0, "old", background_in_old="no", source="C"),
        number(38.0, "old", source="D"),
    ]
    frame = beside([run], *rows, convention="ssul").set_index("their convention")
    assert frame["counted"].to_dict() == {"mib": "mib", "dkd": "ssul", "old without 0": "ssul", "unknown": "ssul"}
    assert frame.loc["mib", "ours"] == pytest.approx(25.0)  # classes 1 and 2: 30 and 20
    assert frame.loc["unknown", "ours"] == pytest.approx((25.0 + 30 + 20) / 3)  # background: 100 / 400
    assert frame.loc["mib", "difference low"] == pytest.approx(-10.0)


def test_networks_and_marks_are_lines_of_their_own_and_our_network_comes_first(tmp_path):
    rows = [
        number(60, backbone="ViT-B/16"),
        number(35, mark="re-run"),
        number(34),
        number(33, backbone="Mask2Former-type"),
    ]
    frame = beside([real(tmp_path)], *rows)
    assert frame[["their network", "mark", "low"]].fillna("").values.tolist() == [
        ["ResNet-101/DeepLabV3", "", 34],
        ["ResNet-101/DeepLabV3", "re-run", 35],
        ["Mask2Former-type", "", 33],
        ["ViT-B/16", "", 60],
    ]


def test_only_the_same_protocol_setting_regime_and_method_are_set_beside(tmp_path):
    others = [
        number(1, protocol="voc_1-1"), number(1, setting="disjoint"), number(1, regime="weak"),
        number(1, method="MiB+AWT"), number(1, method="PLOP"),
    ]  # fmt: skip
    table = table_of([real(tmp_path)], *others)
    assert "no published numbers for voc_2-1 overlapped: mib" in table.below
    (line,) = raw(table).to_dict("records")
    assert line["method"] == "mib" and line["sources"] == 0 and line["ours"] > 0
    assert all(math.isnan(line[hole]) for hole in ("low", "high", "difference low", "difference high", "source"))
    texts = [cell.text for cell in arranged(table).lines[0]]
    assert texts[:4] == ["mib", "all", "-", "-"] and texts[-3:] == ["-"] * 3


def test_seeds_are_averaged_and_recipes_are_not(tmp_path):
    lower = ((90, 80), (60, 40, 50), (10, 20, 10, 40))
    runs = [real(tmp_path), real(tmp_path, seed=1, hits=lower), real(tmp_path, recipe="ffff", hits=lower)]
    frame = beside(runs, number(20, "new", convention="mib")).set_index("method")
    assert sorted(frame["seeds"]) == [1, 2] and len(frame) == 2
    frame = beside(runs, number(20, "old", convention="mib")).set_index("seeds")
    assert frame.loc[2, "ours"] == pytest.approx((25 + 15) / 2)
    assert frame.loc[2, "ours std"] == pytest.approx(math.sqrt(50))
    assert frame.loc[1, "ours"] == pytest.approx(15)


def test_an_incomplete_run_is_a_hole(tmp_path):
    frame = beside([real(tmp_path, hits=((90, 80), (60, 40, 50), None))], number(20))
    assert frame["seeds"].tolist() == [0]
    assert frame[["ours", "difference low", "difference high"]].isna().all(axis=None)
    assert frame["low"].tolist() == [20]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": "shapes"}, "ours are on shapes, theirs on Pascal VOC 2012"),
        ({"evaluation": {**WHOLE, "split": "dev"}}, "ours are on the dev split"),
        ({"evaluation": {**WHOLE, "images": 126}}, "ours are 126 val images, theirs all 1,449"),
        ({"evaluation": {"split": "val", "size": 512}}, "ours are an unknown number of val images"),
    ],
)
def test_where_the_images_differ_no_difference_is_shown(tmp_path, changes, words):
    run = real(tmp_path, **changes)
    (group,) = group_runs([run])
    table = table_of([run], number(20))
    assert words in obstacles(group)[0]
    assert obstacles(group)[0] in table.below
    frame = raw(table)
    assert frame["ours"].notna().all() and frame[["difference low", "difference high"]].isna().all(axis=None)


def test_comparable_runs_have_no_obstacle(tmp_path):
    (group,) = group_runs([real(tmp_path)])
    assert obstacles(group) == []


def test_notes_say_what_differs(tmp_path):
    run = real(tmp_path, network="segmenter")
    notes = " ".join(table_of([run], number(20, note="odd"), number(21, convention="dkd")).below)
    assert "one recipe for all methods" in notes and "ResNet-101/DeepLabV3" in notes
    assert "(dkd, unknown), in the default convention" in notes and "DKD's and STAR's code" in notes
    assert "! in their convention: odd" in notes
    notes = " ".join(table_of([run], number(20, backbone="ViT-B/16", convention="ssul")).below)
    assert "networks differ" not in notes and "may be counting" not in notes


def test_numbers_are_quoted_as_printed_with_their_sources_numbered(tmp_path):
    runs = [real(tmp_path), real(tmp_path, method="plop", label="plop")]
    numbers = [number(29.29, source="A"), number(38.2, source="B"), number(70, method="PLOP", source="A")]
    table = table_of(runs, *numbers, number(60, source="C", mark="re-run", note="odd"))
    ours = score(runs[0]).all
    mib, rerun, plop = ([cell.text for cell in line] for line in arranged(table).lines)
    assert mib[:4] == ["mib", "all", "ResNet-101/DeepLabV3", "unknown"]
    assert mib[5:] == ["29.29..38.2", f"{ours - 38.2:+.1f}..{ours - 29.29:+.1f}", "1-2"]
    assert rerun[:4] == ["", "all", "ResNet-101/DeepLabV3 (re-run)", "unknown !"]  # the name stands once
    assert plop[0] == "plop" and plop[5] == "70.0" and plop[7] == "1"
    assert [note for note in table.below if note[0] == "["] == ["[1] A", "[2] B", "[3] C"]
    shapes = table_of([real(tmp_path / "s", data="shapes")], *numbers)
    assert "difference" not in [column.head for column in shapes.columns]


def test_every_format_shows_the_table_and_the_text_fits(tmp_path):
    numbers = [number(29.29, source="A"), number(38.2, source="B"), number(60, mark="reproduced", convention="mib")]
    table = table_of([real(tmp_path)], *numbers)
    text, narrow = to_terminal([table], width=110), to_terminal([table], width=90)
    assert max(map(len, text.splitlines())) <= 110 and max(map(len, narrow.splitlines())) <= 90
    heads = re.compile(r"^ method +mIoU +network +counted", re.MULTILINE)  # each part of a split table has them
    assert (len(heads.findall(text)), len(heads.findall(narrow))) == (1, 2)
    assert (text.count("(reproduced)"), narrow.count("(reproduced)")) == (1, 2)
    assert narrow.count("29.29..38.2") == 1
    for shown in (text, narrow, to_markdown([table]), tabular(table)):
        assert "29.29..38.2" in shown and "(reproduced)" in shown
    assert re.search(r"& \$-\$\d+\.\d\.\.\$-\$\d+\.\d &", tabular(table))  # the differences have minus signs


def test_the_report_compares_on_request(tmp_path):
    real(tmp_path, protocol="voc_15-1")
    plain = report(tmp_path, formats=["terminal", "csv"])
    assert "published" not in plain.text and not any(path.name.startswith("published") for path in plain.paths)
    made = report(tmp_path, formats=["terminal", "csv"], compare=True)
    assert set(plain.text.splitlines()) <= set(made.text.splitlines()) and "Ours beside published" in made.text
    (path,) = set(made.paths) - set(plain.paths)
    frame = pd.read_csv(path)
    assert path.name.startswith("published-voc_15-1") and set(frame["method"]) == {"mib"}
    rows = published_numbers("voc_15-1", "mib", "overlapped")
    assert frame["sources"].sum() == len(rows[rows["regime"] == "standard"])
