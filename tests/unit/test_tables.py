"""Tables and reports of made-up runs: the right means, and holes where something is missing."""

import math

import numpy as np
import pandas as pd
import pytest

from protocols.errors import InputError
from results.groups import group_runs, id_ranges
from results.notes import notes
from results.render import report
from results.scores import class_forgetting, class_ious, curves, score
from results.tables import main_table, per_class_table, per_group_table, per_step_table
from results.terminal import to_terminal
from tests.made_up import JOINT, NAMES, frame, make


def test_scores_by_hand(tmp_path):
    scores = score(make(tmp_path))
    background = [100 / (100 + missed) for missed in (30, 150, 300)]
    assert scores.steps == pytest.approx(
        [
            100 * (background[0] + 0.9 + 0.8) / 3,
            100 * (background[1] + 0.6 + 0.4 + 0.5) / 4,
            100 * (background[2] + 0.3 + 0.2 + 0.1 + 0.4) / 5,
        ]
    )
    assert scores.old == pytest.approx(100 * (background[2] + 0.3 + 0.2) / 3)
    assert scores.new == pytest.approx(25)
    assert scores.all == scores.steps[2]
    assert scores.avg == pytest.approx(scores.steps.mean())
    assert scores.forgetting == pytest.approx((60 + 60 + 40) / 3)  # foreground classes but the last learned
    assert class_forgetting(make(tmp_path)) == pytest.approx([60, 60, 40, math.nan], nan_ok=True)
    assert scores.plasticity == pytest.approx((50 + 40) / 2)  # of the classes learned after step 0


def test_scores_under_other_conventions(tmp_path):
    run = make(tmp_path, hits=((90, 80), (60, 40, 50), (30, 20, 10, 0)))
    mib, plop, mbs, ssul = (score(run, name) for name in ("mib", "plop", "mbs", "ssul"))
    background = 100 * 100 / (100 + 340)
    assert mib.old == pytest.approx(25)
    assert mib.all == pytest.approx(15)
    assert plop.old == pytest.approx((background + 50) / 3)
    assert plop.steps[0] == pytest.approx((100 * 300 / 330 + 90 + 80) / 3)  # future pixels, all hit as background
    assert mbs.old == pytest.approx(25)
    assert mbs.new == pytest.approx(5)
    assert mbs.all == pytest.approx((background + 60) / 4)  # the class with IoU 0 is dropped
    assert ssul.all == pytest.approx((background + 60) / 5)


def test_curves_by_hand(tmp_path):
    over_steps = curves(make(tmp_path))
    assert over_steps.all == pytest.approx(score(make(tmp_path)).steps)
    background = [100 / (100 + missed) for missed in (30, 150, 300)]
    shares = [(0.9, 0.8), (0.6, 0.4), (0.3, 0.2)]
    assert over_steps.old == pytest.approx([100 * (background[t] + sum(shares[t])) / 3 for t in range(3)])
    assert over_steps.new[1:] == pytest.approx([50, (10 + 40) / 2])
    assert math.isnan(over_steps.new[0])
    assert over_steps.swallow == pytest.approx([15, 50, 75])  # all misses are background
    assert over_steps.confusion[1:] == pytest.approx([0, 0])
    assert math.isnan(over_steps.confusion[0])
    assert over_steps.leakage[:2] == pytest.approx([0, 0])
    assert math.isnan(over_steps.leakage[2])


def test_curves_see_old_classes_turn_into_new_ones_and_future_ones_into_seen_ones(tmp_path):
    run = make(tmp_path)
    run.counts[1][2, 1] -= [10, 0, 0, 0]
    run.counts[1][2, 1, 3] += 10  # of the 100 pixels of class 1, at the step that learns class 3
    run.counts[1][2, 4] -= [30, 0, 0, 0]
    run.counts[1][2, 4, 1] += 30  # class 4 is learned at the next step
    assert curves(run).confusion[1:] == pytest.approx([(10 + 0) / 2, 0])
    assert curves(run).swallow[1] == pytest.approx((30 + 60) / 2)
    assert curves(run).leakage[:2] == pytest.approx([0, 30])


def test_class_ious_are_those_of_the_slots_and_nan_where_there_is_none(tmp_path):
    ious = class_ious(make(tmp_path, hits=((90, 80), None, (30, 20, 10, 40)), absent=(2,)))
    nan = math.nan
    expected = [[1000 / 11, 90, nan, nan, nan], [nan] * 5, [31.25, 30, nan, 10, 40]]
    np.testing.assert_allclose(ious, expected)
    assert np.isnan(class_ious(make(tmp_path, background_evaluated=False))[:, 0]).all()


def test_scores_of_joint_training(tmp_path):
    scores = score(make(tmp_path, "joint", hits=JOINT))
    assert scores.new == scores.plasticity == pytest.approx(75)
    assert math.isnan(scores.avg)
    assert math.isnan(scores.forgetting)
    assert np.isnan(scores.steps[:2]).all()


def test_an_absent_class_is_left_out_even_if_it_is_predicted(tmp_path):
    run = make(tmp_path, absent=(2,))
    for counts in run.counts.values():
        counts[2, 0, 0] -= 5
        counts[2, 0, 2] += 5  # five background pixels taken for the class
    background = 95 / (100 + 70 + 90 + 60)
    assert score(run).absent == (2,)
    assert score(run).old == pytest.approx(100 * (background + 0.3) / 2)
    assert score(run, "ssul").old == pytest.approx(100 * (background + 0.3) / 3)
    assert score(run).forgetting == pytest.approx((60 + 40) / 2)


def test_label_0_is_no_class_where_the_dataset_says_so(tmp_path):
    run = make(tmp_path, background_evaluated=False)
    assert score(run).old == pytest.approx(25)
    assert score(run).all == pytest.approx(25)
    assert score(run, "plop").old == pytest.approx((100 * 100 / 400 + 50) / 3)
    table = frame(main_table([run]))
    assert {"old 1-2", "new 3-4", "all 1-4"} <= set(table.columns)


def test_main_table_averages_over_seeds(tmp_path):
    runs = [
        make(tmp_path, seed=0),
        make(tmp_path, seed=1, hits=((90, 80), (60, 40, 50), (30, 20, 20, 60))),
        make(tmp_path, "joint", seed=0, hits=JOINT),
        make(tmp_path, "finetune", seed=0, hits=((90, 80), (0, 0, 50), (0, 0, 0, 40))),
    ]
    table = frame(main_table(runs))
    assert table["method"].tolist() == ["finetune", "mib", "joint"]  # the upper bound comes last
    assert table["seeds"].tolist() == [1, 2, 1]
    mib = table.iloc[1]
    assert mib["new 3-4"] == pytest.approx(32.5)  # of 25 and 40
    assert mib["new 3-4 std"] == pytest.approx(15 / math.sqrt(2))
    assert table.iloc[0][["new 3-4", "forgetting"]].tolist() == pytest.approx([20, (90 + 80 + 50) / 3])
    assert math.isnan(table.iloc[0]["new 3-4 std"])
    assert math.isnan(table.iloc[2]["avg"])
    measures = ["old 0-2", "new 3-4", "all 0-4", "avg", "harmonic", "forgetting"]
    assert list(table.columns[table.columns.get_loc("seeds") + 1 :: 3]) == measures
    assert mib["runs"] == "mib-r-0 mib-r-1"
    means = [score(run) for run in runs[:2]]
    by_seed = [2 * one.old * one.new / (one.old + one.new) for one in means]  # the mean of them, not that of the means
    assert mib["harmonic"] == pytest.approx(sum(by_seed) / 2)


def test_per_step_table(tmp_path):
    runs = [make(tmp_path), make(tmp_path, "joint", hits=JOINT)]
    table = per_step_table(runs)
    lines = frame(table)
    assert lines["learned"].tolist() == ["1-2", "3", "4"]
    assert lines["step"].tolist() == ["0", "1", "2"]
    assert lines["all"].tolist() == pytest.approx(score(runs[0]).steps)
    assert lines["method"].tolist() == ["mib"] * 3  # joint training has no steps
    background = 100 / 200
    assert table.below == (f"joint, all classes in one step: {100 * (background + 3.0) / 5:.1f}",)


def test_per_class_table(tmp_path):
    runs = [
        make(tmp_path, absent=(2,)),
        make(tmp_path, seed=1, absent=(2,), hits=((90, 80), (60, 40, 50), (40, 20, 10, 40))),
        make(tmp_path, seed=2, absent=(2,), hits=((90, 80), None, None)),
    ]
    lines = frame(per_class_table(runs)).set_index("class")
    assert lines.index.tolist() == NAMES
    assert lines["iou"]["cat"] == pytest.approx(35) and lines["iou std"]["cat"] == pytest.approx(math.sqrt(50))
    assert lines["iou"]["fox"] == pytest.approx(40)
    assert math.isnan(lines["iou"]["dog"])  # no such pixel: a hole, not a zero
    assert lines["seeds"].tolist() == [2] * 5
    assert frame(per_class_table(runs, "mib"))["class"].tolist() == NAMES[1:]


def test_per_group_table(tmp_path):
    steps = {"class_names": [f"c{i}" for i in range(7)], "step_classes": [[1, 2], [3, 4], [5, 6]]}
    hits = ((90, 80), (60, 40, 50, 50), (30, 20, 10, 40, 70, 90))
    table = per_group_table([make(tmp_path, hits=hits, background_evaluated=False, **steps)])
    line = frame(table).iloc[0]
    groups = {"1-2 step 0": 25, "3-4 step 1": 25, "5-6 step 2": 80, "all 1-6": 260 / 6}
    assert {name: line[name] for name in groups} == pytest.approx(groups)
    assert per_group_table([make(tmp_path)]) is None  # a class at a time: the classes say it


def test_recipes_of_one_method_are_never_averaged(tmp_path):
    runs = [
        make(tmp_path, recipe="aaaaaaa100", seed=0),
        make(tmp_path, recipe="aaaaaaa100", seed=1),
        make(tmp_path, recipe="aaaaaaa200", seed=2, hits=((0, 0), (0, 0, 0), (0, 0, 0, 0))),
    ]
    table = frame(main_table(runs))
    assert table["method"].tolist() == ["mib [aaaaaaa1]", "mib [aaaaaaa2]"]
    assert table["seeds"].tolist() == [2, 1]
    assert table["new 3-4"].tolist() == pytest.approx([25, 0])
    assert any("different recipes" in note for note in notes(*group_runs(runs)))


@pytest.mark.parametrize(
    "difference",
    [
        {"track": "paper"},
        {"network": "segmenter-tiny"},
        {"pretrained": "default"},
        {"data": "voc"},
        {"protocol": "pets_1-1", "step_classes": [[1], [2], [3], [4]], "hits": ((9,), None, None, None)},
        {"setting": "disjoint"},
        {"order": "b", "step_classes": [[2, 1], [3], [4]]},
        {"step_classes": [[2, 1], [3], [4]]},  # another protocol of the same name
        {"evaluation": {"split": "dev", "size": 64}},
        {"protocol_digest": "d2"},  # the same classes, other images
        {"pixels": 200},  # other images under the same name
    ],
)
def test_what_differs_never_shares_a_table(tmp_path, difference):
    runs = [make(tmp_path / "a", seed=0), make(tmp_path / "b", seed=1, **difference), make(tmp_path, seed=2)]
    groups = group_runs(runs)
    assert sorted([run.manifest["seed"] for run in group.runs] for group in groups) == [[0, 2], [1]]
    with pytest.raises(ValueError, match="2 groups"):
        main_table(runs)


def test_incomplete_runs_do_not_enter_a_mean(tmp_path):
    runs = [
        make(tmp_path, seed=0),
        make(tmp_path, seed=1, hits=((0, 0), None, None), status="running"),
        make(tmp_path, seed=2, hits=((0, 0), None, (0, 0, 0, 0)), status="running"),
    ]
    table, steps = frame(main_table(runs)), frame(per_step_table(runs))
    assert table["seeds"].tolist() == [1]
    assert table["new 3-4"].tolist() == pytest.approx([25])
    assert steps["all"].tolist() == pytest.approx(score(runs[0]).steps)
    text = notes(*group_runs(runs))
    assert "mib, seed 1: 1 of 3 steps; left out" in text
    assert "mib, seed 2: 2 of 3 steps; left out" in text


def test_a_method_without_a_complete_run_shows_its_steps_and_holes(tmp_path):
    runs = [
        make(tmp_path, seed=0, hits=((90, 80), None, None), status="running"),
        make(tmp_path, seed=1, hits=((70, 60), (50, 50, 50), None), status="failed", error="loss is NaN"),
        make(tmp_path, "joint", seed=0, hits=JOINT),
    ]
    table, steps = frame(main_table(runs)), frame(per_step_table(runs))
    assert table["seeds"].tolist() == [0, 1]
    measures = ["old 0-2", "new 3-4", "all 0-4", "avg", "harmonic", "forgetting"]
    assert np.isnan(table.iloc[0][measures].astype(float)).all()
    assert steps["all"][1] == pytest.approx(100 * (0.4 + 1.5) / 4)  # of the run that got farthest
    assert math.isnan(steps["all"][2])
    text = notes(*group_runs(runs))
    assert "mib, seed 0: 1 of 3 steps; left out" in text
    assert "mib, seed 1: 2 of 3 steps, failed (loss is NaN); its finished steps are shown" in text


def test_a_run_without_counts_is_a_row_of_holes_beside_the_others(tmp_path):
    runs = [make(tmp_path, hits=(), status="running"), make(tmp_path, "joint", hits=JOINT)]
    (group,) = group_runs(runs)
    assert frame(main_table(group.runs))["method"].tolist() == ["mib", "joint"]
    assert per_step_table(group.runs).lines == ()
    assert "mib, seed 0: 0 of 3 steps; its finished steps are shown" in notes(group)
    assert "no run is complete" in notes(group_runs(runs[:1])[0])


def test_a_seed_counts_once(tmp_path):
    runs = [make(tmp_path, run="first"), make(tmp_path, run="second"), make(tmp_path, seed=1, run="third")]
    assert frame(main_table(runs))["seeds"].tolist() == [2]
    assert "mib, seed 0: second repeats first and is left out" in notes(*group_runs(runs))


def test_notes_say_what_a_reader_must_know(tmp_path):
    runs = [make(tmp_path, seed=seed, absent=(2,)) for seed in (0, 1)]
    text = "\n".join(notes(*group_runs(runs)))
    for phrase in (
        "protocol pets_2-1: 3 steps of 2 + 2 x 1 classes; setting overlapped; class order default",
        "track demo; network deeplab-tiny; initial weights none; data shapes",
        "evaluation: split val, size 64, 400 ground-truth pixels",
        "default convention: all val images, pixels of future classes ignored, background counted",
        "mean ± sample standard deviation over seeds 0, 1 (n = 2)",
        "distinct base models: not recorded",
        "1 class absent from the ground truth, left out of the means: dog (2)",
    ):
        assert phrase in text
    assert "joint" not in text
    unequal = [*runs, make(tmp_path, "finetune", absent=(2,))]
    assert "over seeds, which differ: 0 (finetune); 0, 1 (mib)" in "\n".join(notes(*group_runs(unequal)))


def test_id_ranges():
    assert id_ranges([2, 0, 1]) == "0-2"
    assert id_ranges([7, 1, 2, 3]) == "1-3,7"
    assert id_ranges(range(1, 21, 2)) == "10 ids"
    assert id_ranges([]) == "-"


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
