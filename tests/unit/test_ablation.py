"""Ablation tables: rows from configurations, marks that say what is on, and files ready for a paper."""

import csv

import pytest

from bench.ablation import check_one_recipe_each, references, variants_of
from bench.config import configurations
from bench.spec import resolve
from methods import get
from protocols.errors import InputError
from results.ablation import Variant, ablation_table, report_ablation
from tests.made_up import make


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


def test_what_a_method_decides_by_the_data_set_is_no_sweep():
    both = ["method=mbs,mbs-plain", "protocol=voc_10-5,ade_50-50", "track=demo"]
    found = [resolve(config) for config in configurations(both, ["mbs", "mbs-plain"])]
    assert len({spec.options.od for spec in found}) == 2
    check_one_recipe_each(found)


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
    assert [column.head for column in table.columns[:4]] == ["init", "kd", "seeds", "old"]
    first, second = table.records()
    assert (first["method"], first["init"], first["kd"], first["seeds"]) == ("mib", True, "10", 2)
    assert (second["method"], second["init"], second["seeds"], second["all 0-4"]) == ("mib-no_init", False, 0, "")


def test_recipes_of_one_variant_are_rows_of_their_own(tmp_path):
    runs = [make(tmp_path, recipe="aaaaaaaa1"), make(tmp_path, recipe="bbbbbbbb1")]
    lines = ablation_table(ROWS, runs).lines
    assert [line.label for line in lines] == ["mib [aaaaaa]", "mib [bbbbbb]", "mib-no_init"]
    assert [line.cells[0] for line in lines] == [True, True, False]


def test_the_files_are_valid_and_say_the_same(tmp_path):
    runs = [make(tmp_path), make(tmp_path, label="mib-no_init", recipe="other")]
    text, paths = report_ablation("mib | 50 % & more", ROWS, runs, tmp_path / "reports")
    assert "✓" in text and "pets_2-1" in text and "mib-no_init" in text
    stem = paths[0].stem
    assert stem.startswith("ablation-mib-50-more_pets_2-1_overlapped_default_demo_deeplab-tiny_none_shapes_")
    names = [f"{stem}.csv", f"tabular-{stem}.tex", f"{stem}.tex", f"{stem}.bib"]
    assert [path.name for path in paths] == names
    rows = list(csv.DictReader(paths[0].open()))
    assert [row["init"] for row in rows] == ["True", "False"]
    assert [row["runs"] for row in rows] == ["mib-r-0", "mib-no_init-other-0"]
    assert rows[0]["protocol"] == "pets_2-1" and rows[0]["convention"] == "default" and rows[0]["recipe"]
    tabular = paths[1].read_text()
    assert tabular in paths[2].read_text().replace("tabular}}", "tabular}")
    assert tabular.startswith(r"\begin{tabular}{lclrrrrrrr}") and r"MiB-no\_init" in tabular
    assert tabular.count(r"\checkmark") == 1 and tabular.count(r"$\cdot$") == 1
    assert r"MiB \textbar{} 50 \% \& more: mIoU" in paths[2].read_text()


def test_only_the_same_ablation_is_written_to_the_same_files(tmp_path):
    def stem(variants=ROWS, **changes):
        return report_ablation("mib", variants, [make(tmp_path, **changes)], tmp_path)[1][0].stem

    others = [
        stem(ROWS[:1]),
        stem([ROWS[0], Variant("mib-no_init", {"init": False, "kd": "20"})]),
        stem(evaluation={"split": "val", "size": 32}),
    ]
    assert len({stem(), *others}) == 4
    assert stem(seed=1) == stem()
