"""Ablation tables: rows from configurations, marks that say what is on, and files ready for a paper."""

import csv
import shutil
import subprocess

import pytest

from bench.ablation import check_one_recipe_each, references, variants_of
from bench.config import configurations
from bench.spec import resolve
from methods import get
from protocols.errors import InputError
from results.ablation import Variant, ablation_table, report_ablation
from results.latex import escaped, latex_table
from tests.unit.test_tables import make


def specs(*labels):
    overrides = [f"method={','.join(labels)}", "protocol=voc_10-5", "track=demo"]
    return [resolve(config) for config in configurations(overrides, labels)]


def test_the_references_of_a_method_are_itself_and_its_variants():
    assert references("mbs")[:2] == ["mbs", "mbs-no_selective"]
    assert references("mbs", ["no_ortho", "full"]) == ["mbs", "mbs-no_ortho"]
    assert references("mbs", ["plain"]) == ["mbs-plain"]


@pytest.mark.parametrize(
    ("method", "variants", "complaint"),
    [
        ("mbs", ["no_orto"], "no_ortho"),
        ("finetune", None, "declares no variants"),
        ("mbs-plain", None, "ablate mbs"),
        ("nope", None, "unknown method"),
    ],
)
def test_what_cannot_be_ablated_is_told(method, variants, complaint):
    with pytest.raises(InputError, match=complaint):
        references(method, variants)


def test_a_swept_option_is_refused():
    check_one_recipe_each(specs("mbs", "mbs-plain"))
    swept = [
        resolve(c) for c in configurations(["method=mbs", "mbs.od=1,2", "protocol=voc_10-5", "track=demo"], ["mbs"])
    ]
    with pytest.raises(InputError, match="mbs.od has several values"):
        check_one_recipe_each(swept)


def test_marks_of_lbd_come_from_its_components():
    variants = variants_of(specs("lbd", "lbd-baseline", "lbd-no_lpd", "lbd-no_mmbd"), get("lbd").method.components)
    parts = ["soft prompts", "encoder adaptation", "LPD", "MMBD"]
    assert [list(variant.columns) for variant in variants] == [parts] * 4
    marks = {variant.label: [variant.columns[part] for part in parts] for variant in variants}
    assert marks["lbd"] == [True] * 4 and marks["lbd-baseline"] == [False] * 4
    assert marks["lbd-no_lpd"] == [True, True, False, True] and marks["lbd-no_mmbd"] == [True, True, True, False]


def test_rows_with_equal_marks_are_told_apart_by_their_options():
    variants = variants_of(specs("lbd", "lbd-k1", "lbd-lpd_mse", "lbd-no_lpd"), get("lbd").method.components)
    assert list(variants[0].columns)[4:] == ["lpd", "backgrounds"]
    told = {variant.label: (variant.columns["lpd"], variant.columns["backgrounds"]) for variant in variants}
    assert told["lbd"] == ("rel_kl", "4") and told["lbd-k1"] == ("rel_kl", "1") and told["lbd-lpd_mse"][0] == "rel_mse"


def test_without_declared_components_the_changed_options_are_the_columns():
    variants = variants_of(specs("mbs", "mbs-no_ortho", "mbs-plain"), get("mbs").method.components)
    assert variants[0].columns == dict.fromkeys(("selective", "adaptive", "label_guided", "orthogonal"), True)
    assert variants[1].columns["orthogonal"] is False and variants[1].columns["selective"] is True
    assert not any(variants[2].columns.values())


ROWS = [Variant("mib", {"init": True, "kd": "10"}), Variant("mib-no_init", {"init": False, "kd": "10"})]


def test_the_table_has_the_measures_of_the_main_table_and_holes_for_what_was_not_run(tmp_path):
    runs = [make(tmp_path, seed=0), make(tmp_path, seed=1, hits=((90, 80), (60, 40, 50), (50, 40, 10, 40)))]
    table = ablation_table(ROWS, runs)
    assert list(table.columns[:4]) == ["method", "init", "kd", "seeds"]
    assert table["method"].tolist() == ["mib", "mib-no_init"] and table["seeds"].tolist() == [2, 0]
    assert table.loc[1, "all 0-4"] != table.loc[1, "all 0-4"]  # NaN


def test_the_files_are_valid_and_say_the_same(tmp_path):
    runs = [make(tmp_path), make(tmp_path, label="mib-no_init", recipe="other")]
    text, paths = report_ablation("mib | 50 % & more", ROWS, runs, ["one note"], tmp_path / "reports")
    assert "✓" in text and "one note" in text and "mib-no_init" in text
    rows = list(csv.DictReader(paths[0].open()))
    assert [row["init"] for row in rows] == ["True", "False"]
    latex = paths[1].read_text()
    assert r"50 \% \& more" in latex and r"mib-no\_init" in latex and r"\checkmark" in latex
    assert latex.count(r"\\") == 3 and latex.count("&") == 3 * (len(rows[0]) - 6) + 1  # one column for mean and std


def test_special_characters_of_latex_are_escaped():
    assert escaped("a_b & 5% #1 {x} ~^\\") == (
        r"a\_b \& 5\% \#1 \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{}"
    )
    assert escaped("35.0 ± 1.2") == r"35.0 $\pm$ 1.2"


def test_columns_are_aligned_by_what_they_hold():
    table = latex_table({"name": ["a"], "on": [r"\checkmark"], "n": ["1.0"], "hole": ["-"]}, "c")
    assert r"\begin{tabular}{lcrl}" in table


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_the_table_compiles(tmp_path):
    table = latex_table({"m_1": ["a&b", "c"], "on": [r"\checkmark", ""], "n": ["1.0 ± 0.1", "-"]}, "50 % of it")
    source = r"\documentclass{article}\usepackage{booktabs,amssymb}\begin{document}" + table + r"\end{document}"
    (tmp_path / "t.tex").write_text(source)
    done = subprocess.run(["pdflatex", "-interaction=batchmode", "t.tex"], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0
