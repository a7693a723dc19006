"""Scores, curves and class IoUs of made-up counts, under each convention."""

import math

import numpy as np
import pytest

from results.scores import class_forgetting, class_ious, curves, score
from results.tables import main_table
from tests.made_up import JOINT, frame, make


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
