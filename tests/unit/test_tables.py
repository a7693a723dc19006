"""Tables of made-up runs: the right means, and holes where something is missing."""

import math

import numpy as np
import pytest

from results.groups import group_runs, id_ranges
from results.notes import notes
from results.scores import score
from results.tables import main_table, per_class_table, per_group_table, per_step_table
from tests.made_up import JOINT, NAMES, frame, make


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
