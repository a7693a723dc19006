"""LBD through the command line: beside MBS from one image tower, resumed from the cache, and ablated."""

import json

import pytest

from tests.e2e.conftest import SMALL

TINY = [text for text in SMALL if text not in ("--backbone", "deeplab")]


def run(methods, *more):
    return ["run", "--methods", methods, "--protocol", "voc_10-5", *TINY, *more]


def manifests(folder):
    return {(one := json.loads(path.read_text()))["label"]: one for path in (folder / "runs").glob("*/manifest.json")}


def test_lbd_and_mbs_share_a_table_an_image_tower_and_nothing_hidden(bench, tmp_path):
    code, out, err = bench(*run("lbd,mbs"))
    assert code == 0, err
    assert "our implementation of the paper's abstract" in " ".join(out.split())
    stored = manifests(tmp_path)
    assert stored["lbd"]["pretrained"] == stored["mbs"]["pretrained"] != "none"
    assert out.count("segmenter-tiny, weights") == 1  # one group: one table


def test_lbd_goes_on_from_the_cache_and_its_steps_are_those_of_one_go(bench, tmp_path):
    whole = {}
    for store in ("a", "b"):
        if store == "b":  # the first step alone, then the rest in another process's shoes
            assert bench(*run("lbd", "store=b", "--protocol", "voc_10-10"))[0] == 0
        code, _, err = bench(*run("lbd", f"store={store}"))
        assert code == 0, err
        whole[store] = next((tmp_path / store).glob("lbd_voc_10-5*/counts.npz")).read_bytes()
    assert whole["a"] == whole["b"]
    code, _, err = bench(*run("lbd", "store=a"))
    assert code == 0 and err.count("from the cache") == 3


def test_variants_that_do_not_touch_step_0_share_it(bench, tmp_path):
    assert bench(*run("lbd", "lbd.threshold=0.7,0.5"))[0] == 0
    keys = [json.loads(p.read_text())["steps"][0]["base_key"] for p in (tmp_path / "runs").glob("*/manifest.json")]
    assert len(keys) == 2 and len(set(keys)) == 1


def test_ablate_runs_what_is_missing_and_writes_its_table(bench, tmp_path):
    given = ["ablate", "lbd", "--protocol", "voc_10-10", "--variants", "full,no_lpd,k1", *TINY]
    code, out, err = bench(*given)
    assert code == 0, err
    assert "✓" in out and "lbd-no_lpd" in out and "our implementation" in " ".join(out.split())
    reports = sorted(path.suffix for path in (tmp_path / "runs" / "reports").iterdir())
    assert reports == [".bib", ".csv", ".tex", ".tex"]
    again = bench(*given)
    assert again[0] == 0 and "from the cache" in again[2] and again[1] == out
    assert bench(*given, "--out", "paper")[0] == 0
    assert [path.suffix for path in sorted((tmp_path / "paper").iterdir())].count(".csv") == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["ablate", "lbd", "--protocol", "voc_10-10", "--variants", "no_lpdd"], "no_lpd"),
        (["run", "--methods", "mbs,lbd", "--protocol", "voc_10-10", "lbd.lpd=relkl"], "rel_kl"),
        (["run", "--methods", "lbd", "--protocol", "voc_10-10", "--backbone", "deeplab"], "nothing to run"),
        (["run", "--methods", "lbd", "--protocol", "voc_10-10", "network.name=segmenter-augreg"], "built on a clip"),
        (["run", "--methods", "mbs", "--protocol", "voc_10-10", "network.name=clip-tiny"], "built on a segmenter"),
    ],
)
def test_wrong_input_is_told_in_one_line(bench, tmp_path, arguments, complaint):
    code, _, err = bench(*arguments, *[text for text in TINY if text != "--backbone"])
    assert not list(tmp_path.glob("runs/cache/steps/*"))  # nothing was trained first
    assert code == 2 and complaint in err and len(err.strip().splitlines()) == 1
