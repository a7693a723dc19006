"""Panels through the command line: networks from the cache look at the images on which the methods differ."""

import numpy as np
from PIL import Image

from bench.panels import panels_of
from results.groups import group_runs
from results.schema import read_runs
from tests.e2e.conftest import run_arguments


def group(tmp_path):
    (only,) = group_runs(read_runs(tmp_path / "runs")[0])
    return only


def test_panels_show_the_images_on_which_methods_differ_most(bench, tmp_path):
    assert bench(*run_arguments("finetune,mib"))[0] == 0
    code, out, err = bench("report", "--format", "terminal", "--panels", "3")
    assert code == 0, err
    (path,) = (tmp_path / "runs" / "reports").glob("figures-*/panels.png")
    assert f"written: {path.relative_to(tmp_path)}" in out and "not all methods predict alike" in err
    assert Image.open(path).size[0] == 2070  # 6.9 inches at 300 dpi
    made = panels_of(group(tmp_path), 20)
    assert len(made.panels) == 20 and set(made.panels[0].predictions) == {"finetune", "mib"}
    share = [
        ((panel.predictions["finetune"] != panel.predictions["mib"]) & (panel.truth != 255)).mean()
        for panel in made.panels
    ]
    assert share == sorted(share, reverse=True) and share[0] > 0


def test_panels_of_named_images_are_those_the_engine_evaluates(bench, tmp_path):
    assert bench(*run_arguments("finetune"))[0] == 0
    made = panels_of(group(tmp_path), 0, ["shapes_val_00003", "shapes_val_00001"])
    assert [panel.name for panel in made.panels] == ["shapes_val_00003", "shapes_val_00001"]
    from bench.data.voc_scenes import render

    image, mask = render("val", 3, 32)
    assert np.array_equal(made.panels[0].truth, mask)
    assert np.array_equal(made.panels[0].image, image)
    assert set(np.unique(made.panels[0].predictions["finetune"])) <= set(range(21))


def test_the_page_embeds_panels_and_groups_without_networks_do_without(bench, tmp_path):
    assert bench(*run_arguments("finetune"))[0] == 0
    (run,) = group(tmp_path).runs
    bench("predict", run.path, "--out", "maps")
    scored = ["--protocol", "voc_10-5", "--data", "shapes", "data.val_images=20"]
    assert bench("score", "maps", *scored)[0] == 0
    code, out, err = bench("report", "--format", "html", "--panels", "2")
    assert code == 0 and "external track" in err and "figures-voc" in out
    page = (tmp_path / "runs" / "reports" / "report.html").read_text()
    assert page.count('alt="panels: Image, ground truth and predictions at the last step: shapes_val_') == 1


def test_what_cannot_be_shown_is_told(bench, tmp_path):
    assert bench(*run_arguments("finetune"))[0] == 0
    code, _, err = bench("report", "--images", "shapes_val_99999")
    assert code == 2 and "shapes_val_99999 is no evaluated image" in err
    code, _, err = bench("report", "--panels", "-1")
    assert code == 2 and "1 or more" in err
    for step in (tmp_path / "runs" / "cache" / "steps").iterdir():
        for file in step.iterdir():
            file.unlink()
        step.rmdir()
    code, _, err = bench("report", "--panels", "2")
    assert code == 2 and "is not in the cache" in err
