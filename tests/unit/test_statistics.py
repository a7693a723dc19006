"""Statistics over seeds, worked by hand."""

import math

import numpy as np
import pytest

from results.statistics import base_models, compare, compare_classes, compare_seeds, half_width, summary
from tests.made_up import JOINT, make


def test_mean_and_sample_deviation():
    assert summary([1, 2, 6]) == (3, pytest.approx(math.sqrt(7)), 3)  # (4 + 1 + 9) / 2
    one = summary([5])
    assert (one.mean, one.n) == (5, 1) and math.isnan(one.std)
    assert np.isnan(summary([1, math.nan])[:2]).all()  # a hole is no mean of the rest
    with pytest.raises(ValueError, match="no values"):
        summary([])


def test_confidence_interval_is_students():
    # t tables: 4.303 at 2 degrees of freedom, 12.706 at 1, two-sided 95%
    assert half_width(summary([1, 2, 6])) == pytest.approx(4.3027 * math.sqrt(7) / math.sqrt(3), rel=1e-4)
    assert half_width(summary([1, 3])) == pytest.approx(12.7062, rel=1e-4)  # s = sqrt 2, n = 2
    assert math.isnan(half_width(summary([5])))


def test_paired_t_test_by_hand():
    found = compare_seeds([12, 15, 18], [10, 12, 14])  # differences 2, 3, 4: t = 3 / (1 / sqrt 3), 2 degrees of freedom
    assert found.difference == (3, 1, 3)
    assert (found.low, found.high) == pytest.approx((3 - 4.3027 / math.sqrt(3), 3 + 4.3027 / math.sqrt(3)), rel=1e-4)
    t = 3 * math.sqrt(3)
    assert found.p == pytest.approx(1 - t / math.sqrt(2 + t * t))  # Student's distribution in closed form at 2
    assert found.how == "paired t-test over 3 seeds"


def test_differences_that_do_not_vary_are_no_test():
    assert math.isnan(compare_seeds([2, 3], [1, 2]).p)
    assert math.isnan(compare_seeds([0.1 + 0.2, 1.3], [0.2, 1.2]).p)  # but for rounding
    assert math.isnan(compare_classes(np.ones(4), np.zeros(4)).p)
    with pytest.raises(ValueError, match="two seeds"):
        compare_seeds([1], [2])


def test_bootstrap_over_classes():
    one, other = np.array([10.0, 20, 30, math.nan]), np.array([0.0, 5, 10, 50])  # differences 10, 15, 20
    found = compare_classes(one, other)
    assert found.difference == (15, 5, 3)
    assert (found.low, found.high) == (10, 20)  # all three alike: probability 1 / 27 each, more than 2.5%
    assert found.p == pytest.approx(2 / 10001)  # no resample is on the other side
    assert found.how == "paired bootstrap over 3 classes"
    assert compare_classes(one, other) == found  # the seed is fixed
    assert compare_classes(one, one[::-1]).p > 0.5
    assert math.isnan(compare_classes(np.array([1.0]), np.array([2.0])).low)


def test_bootstrap_p_by_hand():
    found = compare_classes(np.array([3.0, 0.0]), np.array([0.0, 1.0]))  # differences 3, -1: means 3, 1, 1, -1
    assert found.p == pytest.approx(2 * 0.25, abs=0.02)


def test_seeds_are_compared_where_two_are_common_and_classes_otherwise():
    classes = np.array([1.0, 2.0]), np.array([0.0, 0.5])
    assert compare({0: 5, 1: 6, 2: 9}, {1: 4, 2: 5, 7: 0}, *classes).difference == (3, pytest.approx(math.sqrt(2)), 2)
    assert compare({0: 5, 1: 6}, {1: 4, 2: 5}, *classes).how == "paired bootstrap over 2 classes"


def test_base_models_are_the_distinct_keys_of_step_0(tmp_path):
    def run(name, seed, **step):
        return make(tmp_path, name, seed=seed, steps=[{"index": 0, **step}])

    shared = [
        run("mib", 0, base_key="a", key="a1"),
        run("plop", 0, base_key="a", key="a2"),
        run("mib", 1, base_key="b"),
    ]
    assert base_models(shared) == 2
    assert base_models([*shared, run("lwf", 0, base_key=None, key="c")]) == 3
    assert base_models([*shared, make(tmp_path, "joint", hits=JOINT)]) == 2
    assert base_models([*shared, make(tmp_path, "external")]) is None
