"""Whole reports of made-up runs: what is printed, written, left out and refused."""

import math

import pandas as pd
import pytest

from protocols.errors import InputError
from results.render import report
from results.scores import score
from results.tables import main_table
from results.terminal import to_terminal
from tests.made_up import JOINT, make


def store_of_many(tmp_path):
    for seed in range(3):
        for method, best in (("finetune", 10), ("mib", 60), ("a-method-with-a-long_name", 70)):
            hits = tuple((best - seed,) * (step + 2) for step in range(3))
            make(tmp_path, method, seed=seed, hits=hits)
        make(tmp_path, "joint", seed=seed, hits=JOINT)
    return tmp_path


@pytest.mark.parametrize("width", [60, 80, 100])
def test_terminal_tables_fit_the_width_and_lose_nothing(tmp_path, width):
    text = report(store_of_many(tmp_path), width=width).text
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert text.count("59.0 ± 1.0") >= 1  # new of mib: 60, 59, 58
    for word in ("0-2", "3-4", "0-4", "avg", "forgetting", "finetune", "joint"):
        assert word in text
    assert "\x1b" not in text


def test_terminal_colour_is_on_request(tmp_path):
    assert "\x1b[1m" in report(store_of_many(tmp_path), color=True).text


def test_markup_in_names_is_text(tmp_path):
    run = make(tmp_path, label="mib-[red]x")
    assert "mib-[red]x" in to_terminal([main_table([run])])


def test_report_names_what_it_leaves_out(tmp_path):
    make(tmp_path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "counts.npz").write_bytes(b"junk")
    text = report(tmp_path, width=1000).text
    assert "left out:" in text
    assert "broken" in text
    assert "mib" in text


def test_report_filters_by_protocol(tmp_path):
    make(tmp_path)
    make(tmp_path, run="other", protocol="pets_4-0", step_classes=[[1, 2, 3, 4]], hits=((10, 10, 10, 10),))
    assert "pets_4-0" not in report(tmp_path, protocol="pets_2-1").text
    both = report(tmp_path).text
    assert both.count("at the last step") == 2
    assert both.count("after every step") == 1  # nothing to add for one step
    with pytest.raises(InputError, match="unknown protocol of a run 'pets_2-2': did you mean 'pets_2-1'"):
        report(tmp_path, protocol="pets_2-2")


def test_report_of_chosen_runs(tmp_path):
    for method in ("mib", "plop"):
        make(tmp_path, method, run=f"run-{method}")
    text = report(tmp_path, runs=["run-plop", "not-there"]).text
    assert "plop" in text
    assert "mib" not in text
    with pytest.raises(InputError, match="none of the runs asked for is in .*: not-there"):
        report(tmp_path, runs=["not-there"])


def test_a_report_prints_as_its_text_and_its_files(tmp_path):
    make(tmp_path)
    made = report(tmp_path, formats=("terminal", "csv"))
    assert str(made).startswith(made.text)
    assert str(made).splitlines()[-3:] == [f"written: {path}" for path in made.paths]


def test_report_refuses_what_it_does_not_know(tmp_path):
    with pytest.raises(InputError, match="no runs in"):
        report(tmp_path)
    make(tmp_path)
    with pytest.raises(InputError, match="unknown format 'cvs': did you mean 'csv'"):
        report(tmp_path, formats=("cvs",))
    with pytest.raises(InputError, match="unknown convention"):
        report(tmp_path, convention="strict")


def test_csv_files_carry_provenance_and_exact_numbers(tmp_path):
    runs = [make(tmp_path / "store", seed=0), make(tmp_path / "store", "joint", hits=JOINT)]
    text, paths = report(tmp_path / "store", formats=("csv",), out=tmp_path / "out")
    assert text == ""
    assert [path.name for path in paths] == [
        "main-pets_2-1_overlapped_default_demo_deeplab-tiny_none_shapes.csv",
        "steps-pets_2-1_overlapped_default_demo_deeplab-tiny_none_shapes.csv",
        "classes-pets_2-1_overlapped_default_demo_deeplab-tiny_none_shapes.csv",
    ]
    table = pd.read_csv(paths[0], keep_default_na=False, na_values=[""])
    assert table["protocol"].tolist() == ["pets_2-1"] * 2
    assert table["convention"].tolist() == ["default"] * 2
    assert table["pretrained"].tolist() == ["none"] * 2
    assert table["old 0-2"][0] == score(runs[0]).old
    assert math.isnan(table["forgetting"][1])
    assert len(pd.read_csv(paths[1])) == 3
    assert len(pd.read_csv(paths[2])) == 10


def test_every_format_comes_from_the_same_tables(tmp_path):
    store_of_many(tmp_path)
    text, paths = report(tmp_path, formats=("terminal", "md", "csv", "latex"), convention="mib", explain=True)
    by_name = {path.name: path.read_text() for path in paths}
    assert {"report_mib.md", "report_mib.tex", "report_mib.bib"} <= by_name.keys()
    kinds = {name.split("-")[0] for name in by_name if name.endswith("_mib.csv")}
    assert kinds == {"main", "steps", "classes", "comparison"}
    assert sum(name.startswith("tabular-") for name in by_name) == 4
    assert "59.0 ± 1.0" in text and "| 59.0 ± 1.0 |" in by_name["report_mib.md"].replace("<u>", "").replace("</u>", "")
    assert r"\underline{59.0} & \,$\pm$\,1.0" in by_name["report_mib.tex"]
    assert "recipe 0123456789abcdef" in text and "mib convention" in text


def test_explanation_alone(tmp_path):
    make(tmp_path)
    text, paths = report(tmp_path, formats=("csv",), explain=True)
    assert text.startswith("pets_2-1 overlapped") and "mib-r-0" in text and len(paths) == 3


def test_csv_of_groups_that_share_a_name_do_not_overwrite_each_other(tmp_path):
    for size in (64, 128, 256):
        make(tmp_path, run=f"size-{size}", evaluation={"size": size})
    text, paths = report(tmp_path, formats=("csv", "terminal"))
    assert len({path for path in paths if path.parent == tmp_path / "reports"}) == 9
    assert all(path.exists() for path in paths)
    assert [path.stem[-2:] for path in paths[::3]] == ["es", "-2", "-3"]
    assert report(tmp_path).text == text  # the files are no runs
