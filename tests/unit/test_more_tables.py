"""Comparisons, cost, protocols side by side, and what stands behind each row."""

import math

import pytest

from results.comparison import comparison_table
from results.cost import cost_table
from results.explanation import explain
from results.groups import group_runs
from results.scores import score
from results.side_by_side import protocols_table, sets_of_protocols
from results.table import arranged
from tests.made_up import JOINT, frame, make

FIRST = ((90, 80), (60, 40, 50))


def test_methods_are_compared_with_the_best_over_their_common_seeds(tmp_path):
    mib = [make(tmp_path, "mib", seed=seed, hits=(*FIRST, (50 + 2 * seed,) * 4)) for seed in range(3)]
    plop = [make(tmp_path, "plop", seed=seed, hits=(*FIRST, (40 - seed,) * 4)) for seed in range(2)]
    lwf = [make(tmp_path, "lwf", seed=2, hits=(*FIRST, (10, 20, 30, 40)))]
    joint = [make(tmp_path, "joint", hits=JOINT)]
    table = comparison_table([*mib, *plop, *lwf, *joint])
    assert table.title.startswith("Difference to mib")
    lines = frame(table).set_index("method")
    assert sorted(lines.index) == ["lwf", "plop"]
    differences = [score(plop[seed]).all - score(mib[seed]).all for seed in range(2)]
    assert lines["difference"]["plop"] == pytest.approx(sum(differences) / 2)
    assert lines["test"]["plop"] == "paired t-test over 2 seeds"
    half = 12.7062 * abs(differences[0] - differences[1]) / 2  # s / sqrt 2, with s = |a - b| / sqrt 2
    assert lines["95% CI to"]["plop"] == pytest.approx(sum(differences) / 2 + half, rel=1e-4)
    assert lines["test"]["lwf"] == "paired bootstrap over 5 classes"
    means = [100 / (100 + 4 * missed) for missed in (50, 48, 46)]  # background, of mib
    by_class = [100 * (100 / 400 - sum(means) / 3), 10 - 52, 20 - 52, 30 - 52, 40 - 52]
    assert lines["difference"]["lwf"] == pytest.approx(sum(by_class) / 5)
    assert any("says nothing about seeds" in text for text in table.below)


def test_there_is_nothing_to_compare_with_one_method(tmp_path):
    alone = [make(tmp_path), make(tmp_path, "joint", hits=JOINT), make(tmp_path, "plop", hits=((1, 1), None, None))]
    assert comparison_table(alone) is None


def step(index, seconds, **more):
    hardware = {"device": "cpu", "name": "Xeon", "threads": 2}
    return {"index": index, "seconds": seconds, "iterations": 5, "images_per_second": 10.0, "hardware": hardware} | more


def test_cost_by_hand(tmp_path):
    runs = [
        make(tmp_path, steps=[step(0, 60.0), step(1, 20.0, images_per_second=30.0)], trainable_parameters=1_500_000),
        make(tmp_path, seed=1, steps=[step(0, 40.0, peak_memory_mb=5), step(1, 20.0, peak_memory_mb=7)]),
        make(tmp_path, "joint", hits=JOINT, steps=[step(2, 30.0, hardware={"device": "cuda", "name": "H100"})]),
        make(tmp_path, "lwf", hits=((1, 1), None, None), steps=[step(0, 1.0)]),
    ]
    table = cost_table(runs)
    mib, lwf, joint = (frame(table).set_index("method").loc[name] for name in ("mib", "lwf", "joint"))
    assert mib["training step 0 s"] == 50 and mib["training later steps s"] == 20 and mib["training total s"] == 70
    assert mib["training step 0 s std"] == pytest.approx(math.sqrt(200))
    assert mib["images/s"] == pytest.approx(((600 + 600) / 80 + 10) / 2)
    assert math.isnan(mib["peak memory MB"]) and math.isnan(mib["parameters million"])  # one of the seeds lacks it
    assert joint["training total s"] == 30 and math.isnan(joint["training step 0 s"])
    assert lwf["seeds"] == 0 and math.isnan(lwf["training total s"])  # incomplete
    assert "hardware of lwf, mib: Xeon, 2 threads" in table.below and "hardware of joint: H100" in table.below
    assert not any(cell.mark for line in arranged(table).lines for cell in line)


def test_cost_is_left_out_where_it_was_not_recorded(tmp_path):
    assert cost_table([make(tmp_path)]) is None


OTHER = {"protocol": "pets_1-1", "protocol_digest": "d2", "step_classes": [[1], [2], [3], [4]]}
FOUR = ((90,), (60, 40), (60, 40, 50), (30, 20, 10, 40))


def test_protocols_side_by_side(tmp_path):
    config = {"train": {"batch": 8}, "mib": {"kd": 10}}
    runs = [
        make(tmp_path, recipe="a", config=config),
        make(tmp_path, seed=1, recipe="a", config=config),
        make(tmp_path, recipe="b", hits=FOUR, config={**config, "mib": {"kd": 100}}, **OTHER),
        make(tmp_path, "plop", recipe="c", hits=FOUR, **OTHER),
        make(tmp_path, "joint", hits=JOINT),
    ]
    (groups,) = sets_of_protocols(group_runs(runs))
    table = protocols_table(groups)
    lines = frame(table).set_index("method")
    assert lines.index.tolist() == ["mib", "plop", "joint"]
    assert lines["pets_2-1 new 3-4"]["mib"] == pytest.approx(25)
    assert lines["pets_1-1 new 2-4"]["mib"] == pytest.approx(70 / 3)
    assert math.isnan(lines["pets_2-1 new 3-4"]["plop"]) and math.isnan(lines["pets_1-1 new 2-4"]["joint"])
    assert lines["recipe"]["mib"] == "b a" and lines["runs"]["mib"] == "mib-b-0 mib-a-0 mib-a-1"
    assert "mib: not the same in all protocols: mib.kd" in table.notes
    assert "pets_2-1: mean ± sample standard deviation over seeds, which differ: 0, 1 (mib); 0 (joint)" in table.caption
    assert sum(note.startswith("track demo") for note in table.caption) == 1  # said of both


@pytest.mark.parametrize(
    "difference",
    [{"track": "paper"}, {"setting": "disjoint"}, {"data": "voc"}, {"pretrained": "default"}, {"evaluation": {}}],
)
def test_only_protocols_may_differ_side_by_side(tmp_path, difference):
    runs = [make(tmp_path), make(tmp_path, "plop", hits=FOUR, **OTHER, **difference)]
    assert sets_of_protocols(group_runs(runs)) == []


def test_a_label_with_two_recipes_never_shares_a_line(tmp_path):
    runs = [
        make(tmp_path, recipe="aaaaaaaa"),
        make(tmp_path, recipe="bbbbbbbb"),
        make(tmp_path, recipe="cccccccc", hits=FOUR, **OTHER),
    ]
    table = protocols_table(sets_of_protocols(group_runs(runs))[0])
    assert [line.label for line in table.lines] == ["mib", "mib [aaaaaa]", "mib [bbbbbb]"]


def test_every_row_is_followed_to_its_runs(tmp_path):
    made = {"command": "bench run --methods mib", "git_revision": "abc123"}
    runs = [
        make(tmp_path, seed=0, **made),
        make(tmp_path, seed=1, **made),
        make(tmp_path, seed=2, hits=((1, 1), None, None)),
        make(tmp_path, "joint", hits=JOINT),
    ]
    text = explain(group_runs(runs))
    assert text.splitlines()[1:] == [
        " mib   recipe 0123456789abcdef",
        "   seed 0   mib-r-0   revision abc123",
        "   seed 1   mib-r-1   revision abc123",
        "   seed 2   mib-r-2   revision not recorded   left out",
        "   command: bench run --methods mib",
        "   command: not recorded",
        " joint   recipe 0123456789abcdef",
        "   seed 0   joint-r-0   revision not recorded",
        "   command: not recorded",
    ]


def test_a_row_says_which_steps_were_trained_by_other_code(tmp_path):
    steps = [{"index": 0, "changed_modules": []}, {"index": 1, "changed_modules": ["methods.mib", "bench.train"]}]
    text = explain(group_runs([make(tmp_path, steps=steps)]))
    said = "     trained by other code of the same version: step 1 (bench.train, methods.mib changed since)"
    assert text.splitlines()[3] == said
