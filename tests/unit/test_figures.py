"""Figures of made-up runs: the right values, one look a method, gaps where something is missing, equal bytes."""

import math
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

import results
from protocols.errors import InputError
from results.figures import FORMATS, draw
from results.figures.classes import forgetting_bars, heat_maps
from results.figures.files import write_figures
from results.figures.labels import label_points
from results.figures.looks import CHOSEN, GREY, REMAINING, colors_of
from results.figures.scatter import cost, stability_plasticity
from results.figures.series import series_of
from results.figures.steps import over_steps
from results.figures.style import PAPER
from results.groups import group_runs
from results.render import report
from results.scores import score
from tests.made_up import JOINT, NAMES, make

ALL = ["miou", "miou-old", "miou-new", "heat-map", "forgetting", "stability-plasticity", "background-swallow"]
ALL += ["old-to-new", "cost"]


def timed(seconds: float) -> list[dict]:
    """A manifest's record of steps that took so long."""
    return [{"index": 0, "seconds": seconds, "iterations": 10}]


def figures(group, folder: Path, formats=FORMATS) -> list[Path]:
    return write_figures(draw(group, formats), folder, formats)


def group_of(*runs):
    (group,) = group_runs(runs)
    return group


def two_methods(store):
    return group_of(
        make(store, seed=0, steps=timed(100.0)),
        make(store, seed=1, steps=timed(140.0), hits=((90, 80), (60, 40, 50), (50, 40, 30, 60))),
        make(store, "finetune", steps=timed(60.0), hits=((90, 80), (0, 0, 50), (0, 0, 0, 40))),
        make(store, "joint", hits=JOINT, steps=timed(30.0)),
    )


def drawn_lines(axes: Axes, color: str) -> list:
    return [line for line in axes.get_lines() if line.get_color() == color]


def test_every_figure_in_every_format_and_equal_bytes(tmp_path):
    group = two_methods(tmp_path / "runs")
    paths = figures(group, tmp_path / "a")
    assert [path.name for path in paths] == [f"{name}.{kind}" for name in ALL for kind in ("png", "pdf")]
    assert {path.name for path in (tmp_path / "a").iterdir()} == {path.name for path in paths}
    for path, again in zip(paths, figures(group, tmp_path / "b"), strict=True):
        assert path.read_bytes() == again.read_bytes(), path.name


def test_a_readers_own_settings_change_nothing(tmp_path):
    group = group_of(make(tmp_path / "runs", "joint", hits=JOINT, steps=timed(30.0)))
    (plain,) = figures(group, tmp_path / "a", ("png",))
    with matplotlib.rc_context({"lines.linewidth": 9, "figure.facecolor": "black", "axes.spines.left": False}):
        (styled,) = figures(group, tmp_path / "b", ("png",))
        assert matplotlib.rcParams["lines.linewidth"] == 9
    assert plain.read_bytes() == styled.read_bytes()


def test_files_are_one_column_wide_with_truetype_fonts_and_say_what_they_show(tmp_path):
    png, pdf = figures(two_methods(tmp_path / "runs"), tmp_path)[:2]
    with Image.open(png) as image:
        assert image.width == round(3.3 * 300)
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        assert image.info["Title"].startswith("pets_2-1 overlapped | demo track")
        assert "mean ± sample standard deviation over seeds" in image.info["Description"]
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF")
    assert b"/FontFile2" in content
    assert b"/Type3" not in content
    assert b"CreationDate" not in content


def test_lines_are_means_over_seeds_in_a_band_of_one_standard_deviation(tmp_path):
    group = two_methods(tmp_path)
    mib = [score(run).steps for run in group.runs if run.manifest["method"] == "mib"]
    axes = over_steps(series_of(group), "all", "mIoU").axes[0]
    (line,) = drawn_lines(axes, CHOSEN["mib"][0])
    assert line.get_xdata().tolist() == [0, 1, 2]
    assert line.get_ydata() == pytest.approx(np.mean(mib, axis=0))
    (upper,) = drawn_lines(axes, GREY)
    assert upper.get_ydata() == pytest.approx([score(group.runs[-1]).all] * 2)  # joint, across
    bands = [band.get_paths()[0].vertices for band in axes.collections if band.get_paths()]
    edges = [vertices[vertices[:, 0] == 2][:, 1] for vertices in bands]
    last, spread = np.mean(mib, axis=0)[2], np.std(mib, axis=0, ddof=1)[2]
    assert any(
        math.isclose(edge.min(), last - spread) and math.isclose(edge.max(), last + spread)
        for edge in edges
        if len(edge)
    )


def test_missing_steps_are_gaps_and_make_no_forgetting(tmp_path):
    group = group_of(make(tmp_path, hits=((90, 80), None, (30, 20, 10, 40)), status="running", steps=timed(9.0)))
    series = series_of(group)
    assert np.isnan(over_steps(series, "all", "mIoU").axes[0].get_lines()[0].get_ydata()).tolist() == [
        False,
        True,
        False,
    ]
    assert np.ma.getmaskarray(heat_maps(series, group).axes[0].collections[0].get_array())[:, 1].all()
    assert forgetting_bars(series, group) is None  # step 1 may have been the best
    assert stability_plasticity(series, "old") is None  # class 3 was first seen a step too late
    assert cost(series, "all", 1) is None  # the rest of its time is still to come


def test_a_heat_map_has_a_row_for_each_class_in_the_order_learned(tmp_path):
    steps = [[2, 1], [4], [3]]
    runs = [make(tmp_path, seed=seed, step_classes=steps, hits=hits) for seed, hits in enumerate((
        ((90, 80), (60, 40, 50), (30, 20, 10, 40)), ((70, 80), (60, 40, 50), (10, 20, 10, 40))
    ))]  # fmt: skip
    group = group_of(*runs)
    axes = heat_maps(series_of(group), group).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["background", "dog", "cat", "fox", "owl"]
    cells = axes.collections[0].get_array()
    np.testing.assert_allclose(np.ma.filled(cells[1:], -1), [[80, 60, 20], [80, 40, 20], [-1, 50, 10], [-1, -1, 40]])
    assert axes.collections[0].get_clim() == (0, 100)


def test_background_has_no_row_where_it_is_no_class(tmp_path):
    group = group_of(make(tmp_path, background_evaluated=False))
    labels = heat_maps(series_of(group), group).axes[0].get_yticklabels()
    assert [label.get_text() for label in labels] == NAMES[1:]


def test_many_classes_are_named_by_the_ids_of_their_steps(tmp_path):
    steps = [list(range(1, 31)), list(range(31, 46)), list(range(46, 61))]
    hits = [[50] * n for n in (30, 45, 60)]
    group = group_of(make(tmp_path, step_classes=steps, class_names=[f"c{i}" for i in range(61)], hits=hits))
    axes = heat_maps(series_of(group), group).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["1-30", "31-45", "46-60"]
    assert axes.get_yticks().tolist() == [15.5, 38, 53]
    bars = forgetting_bars(series_of(group), group).axes[0]
    assert len(bars.patches) == 45 and [label.get_text() for label in bars.get_xticklabels()] == ["1-30", "31-45"]
    assert [line.get_xdata()[0] for line in bars.lines if line.get_linestyle() == ":"] == [30.5]  # between steps


def test_bars_are_the_forgetting_of_the_classes_learned_before_the_last_step(tmp_path):
    group = two_methods(tmp_path)
    finetune, mib = forgetting_bars(series_of(group), group).axes
    assert [bar.get_height() for bar in finetune.patches] == pytest.approx([90, 80, 50])
    assert [bar.get_height() for bar in mib.patches] == pytest.approx([50, 50, 30])  # of 60 and 40; 60, 40; 40, 20
    assert [label.get_text() for label in mib.get_xticklabels()] == ["cat", "dog", "owl"]


def test_scatter_points_by_hand(tmp_path):
    group = two_methods(tmp_path)
    series = series_of(group)
    axes = stability_plasticity(series, "old 0-2").axes[0]
    seeds, mean = drawn_lines(axes, CHOSEN["mib"][0])
    assert seeds.get_ydata().tolist() == pytest.approx([45, 55])  # IoU of classes 3 and 4 when first learned
    assert mean.get_ydata() == pytest.approx([50])
    olds = [score(run).old for run in group.runs if run.manifest["method"] == "mib"]
    assert mean.get_xdata() == pytest.approx([np.mean(olds)])
    axes = cost(series, "all 0-4", 1).axes[0]
    assert drawn_lines(axes, CHOSEN["mib"][0])[1].get_xdata() == pytest.approx([120 / 60])
    assert axes.get_xlabel() == "training time (min)"
    assert axes.get_xscale() == "linear"
    assert {text.get_text() for text in axes.texts} == {"Fine-tuning", "MiB", "Joint"}


def test_cost_is_logarithmic_where_it_differs_tenfold_and_says_if_machines_differ(tmp_path):
    runs = [make(tmp_path, steps=timed(10.0)), make(tmp_path, "plop", steps=timed(100.0)), make(tmp_path, "mbs")]
    axes = cost(series_of(group_of(*runs)), "all", machines=2).axes[0]
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "training time (s, 2 kinds of machine)"
    assert {text.get_text() for text in axes.texts} == {"MiB", "PLOP"}  # nobody knows how long the third took


def test_joint_training_alone_has_no_figure_over_steps(tmp_path):
    group = group_of(make(tmp_path / "runs", "joint", hits=JOINT, steps=timed(30.0)))
    assert [path.name for path in figures(group, tmp_path, ("png",))] == ["cost.png"]


def test_runs_without_counts_make_no_figure(tmp_path):
    group = group_of(make(tmp_path / "runs", hits=(), status="running"))
    assert figures(group, tmp_path / "out") == []
    assert not (tmp_path / "out").exists()


def test_an_unknown_format_is_refused_before_anything_is_written(tmp_path):
    group = group_of(make(tmp_path / "runs"))
    with pytest.raises(InputError, match="unknown figure format 'pgn': did you mean 'png'"):
        figures(group, tmp_path / "out", ("pdf", "pgn"))
    assert not (tmp_path / "out").exists()


def test_a_method_has_one_color_in_whatever_company():
    assert colors_of(["mib", "mine"])["mine"] == colors_of(["lbd", "mine", "plop"])["mine"] == ("#332288", ">")
    assert colors_of(["mib"]) == {"mib": ("#E69F00", "s")}


def test_no_two_methods_share_a_color_while_there_are_any_left():
    names = [f"method{index}" for index in range(len(REMAINING))]
    assert set(colors_of(names).values()) == set(REMAINING)
    assert len(colors_of([*names, "another"])) == len(names) + 1
    colors = [color for color, _ in (*CHOSEN.values(), *REMAINING)]
    nearest = min(math.dist(to_rgb(one), to_rgb(other)) for index, one in enumerate(colors) for other in colors[:index])
    assert len(set(colors)) == len(colors)
    assert nearest > 0.1


def test_variants_share_their_methods_color_in_another_line_style(tmp_path):
    variant = {"label": "mib-no_init", "variant": "no_init"}
    rows = series_of(group_of(make(tmp_path), make(tmp_path, **variant), make(tmp_path, "joint", hits=JOINT)))
    base, other, joint = (one.look for one in rows)
    assert (base.color, base.marker) == (other.color, other.marker) == CHOSEN["mib"]
    assert base.line == "-" != other.line
    assert (joint.color, joint.line) == (GREY, other.line)
    (alone,) = series_of(group_of(make(tmp_path, **variant)))
    assert alone.look == other  # also where its method is not drawn


@matplotlib.rc_context(PAPER)
def test_names_cover_neither_each_other_nor_a_point():
    figure = Figure(figsize=(3.3, 2.5), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.1, 0.1, 0.8, 0.8), xlim=(0, 10), ylim=(0, 10))
    points = np.array([[5 + 0.8 * (index % 3), 5 + 0.7 * (index // 3)] for index in range(9)])
    names = [f"method {index}" for index in range(9)]
    label_points(axes, points, names, ["black"] * 9, points)
    boxes = [text.get_window_extent(figure.canvas.get_renderer()) for text in axes.texts]
    assert [text.get_text() for text in axes.texts] == names
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:index])
        assert not any(box.contains(*place) for place in axes.transData.transform(points))
        assert axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1


def test_report_draws_each_group_into_a_folder_of_its_own(tmp_path):
    for size in (64, 128):
        make(tmp_path, "joint", run=f"size-{size}", evaluation={"size": size}, hits=JOINT, steps=timed(9.0))
    _, paths = report(tmp_path, formats=("png",))
    assert [path.name for path in paths] == ["cost.png"] * 2
    assert len({path.parent for path in paths}) == 2
    assert all(path.exists() and path.parent.name.startswith("figures-pets_2-1_") for path in paths)


def test_figures_need_no_pyplot_and_leave_no_settings_behind(tmp_path):
    make(tmp_path, steps=timed(9.0))
    code = (
        "import sys, matplotlib; before = matplotlib.rcParams.copy()\n"
        f"from results.render import report; report({str(tmp_path)!r}, formats=('pdf',))\n"
        "assert matplotlib.rcParams.copy() == before\n"
        "print([name for name in ('torch', 'matplotlib.pyplot') if name in sys.modules])"
    )
    root = Path(results.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "[]"
