"""Every measure against numbers worked by hand, golden values, and direct implementations on label maps."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from protocols.errors import InputError
from results import measures
from results.measures import (
    CONVENTIONS,
    background_swallow,
    confusion,
    first_minus_last,
    forgetting,
    forgetting_per_group,
    future_leakage,
    harmonic,
    iou,
    matrix,
    mean_iou,
    old_to_new,
    plasticity,
    plasticity_per_group,
    share_predicted,
)

# What the official evaluators give: class 3 is predicted but absent, class 5 is there but never predicted.
GOLDEN = np.array(
    [
        [104, 20, 15, 8, 6, 0],
        [16, 104, 8, 8, 6, 0],
        [22, 34, 107, 93, 22, 0],
        [0, 0, 0, 0, 0, 0],
        [10, 29, 6, 6, 111, 0],
        [12, 110, 12, 6, 21, 0],
    ]
)
GOLDEN_PRESENT, GOLDEN_NONZERO = 0.32913092003675165, 0.41141365004593955


def test_confusion_counts_pixels_and_drops_void_and_unknown_labels():
    labels = np.array([[0, 0, 1], [2, 255, 3]], dtype=np.uint8)
    predictions = np.array([[0, 1, 1], [0, 2, 2]], dtype=np.uint8)
    assert confusion(labels, predictions, 3).tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]


def test_confusion_of_shuffled_golden_pixels():
    true, predicted = (np.repeat(index.ravel(), GOLDEN.ravel()) for index in np.indices(GOLDEN.shape))
    order = np.random.default_rng(0).permutation(len(true))
    void = np.array([255, 6, -1])  # dropped: void, beyond n_classes, negative
    labels = np.concatenate([true[order], void])
    result = confusion(labels, np.concatenate([predicted[order], [0, 1, 2]]), 6)
    assert result.dtype == np.int64
    assert result.tolist() == GOLDEN.tolist()


def test_confusion_of_the_reference_arrays(shared):
    golden = np.load(shared / "golden" / "confusion.npz")
    result = confusion(golden["labels"], golden["predictions"], int(golden["n_classes"]))
    assert (result == golden["matrix"]).all()
    assert (golden["matrix"] == GOLDEN).all()


def test_confusion_of_many_classes_does_not_overflow_bytes():
    labels = np.array([149, 150], dtype=np.uint8)
    assert confusion(labels, labels, 151)[150, 150] == 1


def test_confusion_refuses_what_it_cannot_count():
    with pytest.raises(ValueError, match="differ in shape"):
        confusion(np.zeros((2, 2), int), np.zeros((2, 3), int), 2)
    with pytest.raises(ValueError, match="not 0..1"):
        confusion(np.zeros(2, int), np.array([0, 2]), 2)
    assert confusion(np.array([255]), np.array([7]), 2).sum() == 0  # a void pixel may be predicted anything


def test_iou_by_hand():
    # class 0: tp 3, fp 1 (row 1), fn 1; class 1: tp 1, fp 1, fn 1; class 2 nowhere; class 3 only predicted: 0
    m = np.array([[3, 1, 0, 0], [1, 1, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]])
    result = iou(m)
    assert result[:2].tolist() == [3 / 5, 1 / 4]
    assert math.isnan(result[2])
    assert result[3] == 0


def test_mean_iou_rules_by_hand():
    # IoUs: 0.5 and 0.25 in the ground truth, 0 missed entirely, 0 predicted but absent, NaN nowhere
    m = np.zeros((5, 5), int)
    m[0, 0], m[1, 1], m[2, 0], m[0, 1], m[1, 3] = 2, 1, 1, 1, 2
    assert iou(m)[:4].tolist() == [0.5, 0.25, 0, 0]
    assert mean_iou(m) == mean_iou(m, "seen") == 0.75 / 4
    assert mean_iou(m, "present") == 0.75 / 3
    assert mean_iou(m, "nonzero") == 0.75 / 2
    assert mean_iou(m, "zero") == 0.75 / 5
    assert mean_iou(m, "present", ids=[1, 2, 3]) == 0.125
    assert mean_iou(m, "zero", ids=range(3, 5)) == 0
    assert math.isnan(mean_iou(m, "present", ids=[3, 4]))
    assert math.isnan(mean_iou(m, "seen", ids=[]))
    with pytest.raises(InputError, match="unknown rule 'presnt'.*present"):
        mean_iou(m, "presnt")


def test_mean_iou_golden():
    assert mean_iou(GOLDEN, "present") == pytest.approx(GOLDEN_PRESENT, rel=1e-5)
    assert mean_iou(GOLDEN, "nonzero") == pytest.approx(GOLDEN_NONZERO, rel=1e-5)
    assert mean_iou(GOLDEN, "seen") == pytest.approx(GOLDEN_PRESENT * 5 / 6, rel=1e-5)


NAN = math.nan
WORKED = [[60, NAN, NAN], [80, 70, NAN], [70, 50, 90]]


def test_forgetting_of_the_worked_matrix():
    assert forgetting_per_group(WORKED)[:2].tolist() == [10, 20]
    assert math.isnan(forgetting_per_group(WORKED)[2])
    assert forgetting(WORKED) == 15.0
    assert first_minus_last(WORKED) == 5.0  # (60 - 70 + 70 - 50) / 2


def test_forgetting_of_an_improving_class_is_negative():
    assert forgetting([[10], [20], [25]]) == -5
    assert first_minus_last([[10], [20], [25]]) == -15


def test_forgetting_leaves_out_what_is_not_defined():
    R = [
        [50, NAN, 40],
        [30, NAN, NAN],
    ]  # a class that is never in the ground truth; one that is not at the end
    assert forgetting(R) == 20
    assert first_minus_last(R) == 20


def test_forgetting_does_not_exist_for_one_step_or_without_classes():
    for measure in (forgetting, first_minus_last):
        assert math.isnan(measure([[50, 60]]))
        assert math.isnan(measure(np.empty((2, 0))))
        with pytest.raises(ValueError, match="steps, groups"):
            measure([50, 60])


def test_harmonic_by_hand():
    assert harmonic(60, 30) == 40
    assert harmonic(0, 0) == 0
    assert harmonic(50, 0) == 0
    assert math.isnan(harmonic(NAN, 10))


def test_plasticity_is_the_score_when_first_learned():
    assert plasticity_per_group(WORKED).tolist() == [60, 70, 90]
    assert plasticity(np.array(WORKED)[:, 1:]) == 80
    assert plasticity([[NAN, NAN], [NAN, 40]]) == 40  # the first class is never learned
    assert math.isnan(plasticity([[NAN], [NAN]]))
    with pytest.raises(ValueError, match="steps, groups"):
        plasticity([50, 60])


# background, two old classes, two new ones; the second old class has no pixel
SHIFTED = np.array([[90, 5, 0, 5, 0], [20, 40, 10, 25, 5], [0, 0, 0, 0, 0], [1, 2, 3, 4, 0], [6, 0, 0, 2, 2]])


def test_where_the_pixels_of_old_classes_go():
    assert share_predicted(SHIFTED, [1, 2], [3, 4])[0] == 0.3
    assert math.isnan(share_predicted(SHIFTED, [1, 2], [3, 4])[1])
    assert background_swallow(SHIFTED, [1, 2]) == 0.2
    assert background_swallow(SHIFTED, [1, 3]) == pytest.approx((0.2 + 0.1) / 2)  # classes count alike
    assert old_to_new(SHIFTED, [1, 2], [3, 4]) == 0.3
    assert old_to_new(SHIFTED, [1, 3], [4]) == pytest.approx((0.05 + 0) / 2)
    assert math.isnan(background_swallow(SHIFTED, [2]))
    assert math.isnan(old_to_new(SHIFTED, [1], []))  # nothing new yet: not a zero


def test_future_leakage_by_hand():
    counts = np.zeros((3, 4, 2), dtype=np.int64)  # background, one seen class; two future classes
    counts[0, 2], counts[2, 2], counts[2, 3] = [30, 10], [50, 10], [0, 5]
    counts[1, 0] = [7, 7]  # a false positive on background is no leak
    assert future_leakage(counts) == pytest.approx((20 / 100 + 5 / 5) / 2)
    counts[:, 3] = 0
    assert future_leakage(counts) == 0.2
    assert math.isnan(future_leakage(counts[:, :2]))


# counts (3 scopes, 3 true, 2 predicted): background, a seen class, a future class
COUNTS = np.array([[[10, 1], [0, 0], [2, 3]], [[20, 2], [4, 30], [0, 0]], [[5, 1], [6, 7], [8, 9]]])


@pytest.mark.parametrize(
    ("convention", "expected"),
    [
        ("default", [[35, 4], [10, 37]]),
        ("ssul", [[35, 4], [10, 37]]),
        ("mbs", [[35, 4], [10, 37]]),
        ("mib", [[25, 3], [10, 37]]),  # images without a seen class left out
        ("plop", [[33, 12], [10, 37]]),  # and future pixels are background
    ],
)
def test_matrix_by_hand(convention, expected):
    before = COUNTS.copy()
    assert matrix(COUNTS, convention).tolist() == expected
    assert (COUNTS == before).all()


def test_matrix_where_label_0_is_no_class():
    # its pixels are ignored; to predict it on a class is a miss all the same. PLOP counts it as a class.
    assert matrix(COUNTS, "default", background_evaluated=False).tolist() == [[0, 0], [10, 37]]
    assert matrix(COUNTS, "mib", background_evaluated=False).tolist() == [[0, 0], [10, 37]]
    assert matrix(COUNTS, "plop", background_evaluated=False).tolist() == [[33, 12], [10, 37]]


def test_matrix_refuses_other_shapes_and_conventions():
    with pytest.raises(ValueError, match="expected"):
        matrix(COUNTS[:2])
    with pytest.raises(ValueError, match="expected"):
        matrix(COUNTS.transpose(0, 2, 1))
    with pytest.raises(InputError, match="unknown convention 'mip': did you mean 'mib'"):
        matrix(COUNTS, "mip")


def test_a_convention_says_what_it_does():
    assert "background counted in old and all" in CONVENTIONS["default"].sentence(True)
    assert "background not counted" in CONVENTIONS["default"].sentence(False)
    assert "background counted in old and all" in CONVENTIONS["plop"].sentence(False)
    assert "background counted in all;" in CONVENTIONS["mbs"].sentence(True)
    assert "counted as background" in CONVENTIONS["plop"].sentence(True)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_conventions_equal_an_evaluator_that_looks_at_the_images(convention, seed):
    """Images -> counts by scope -> matrix, against masks edited and images chosen as each project does."""
    rng = np.random.default_rng(seed)
    n_slots, n_seen = 6, 4
    counts = np.zeros((3, n_slots, n_seen), dtype=np.int64)
    expected = np.zeros((n_seen, n_seen), dtype=np.int64)
    for _ in range(30):
        members = rng.choice(n_slots, size=rng.integers(1, 4), replace=False)
        mask = rng.choice([*members, 255], size=(8, 8))
        prediction = rng.integers(0, n_seen, size=(8, 8))
        classes = set(np.unique(mask).tolist()) - {0, 255}
        seen, future = classes & set(range(1, n_seen)), classes & set(range(n_seen, n_slots))
        scope = 0 if not seen else 2 if future else 1
        counts[scope] += confusion(mask, np.minimum(prediction, n_seen - 1), n_slots)[:, :n_seen]

        if convention in ("mib", "plop") and not seen:
            continue
        if convention == "plop":
            mask = np.where((mask >= n_seen) & (mask != 255), 0, mask)
        else:
            mask = np.where(mask >= n_seen, 255, mask)
        expected += confusion(mask, prediction, n_seen)
    assert matrix(counts, convention).tolist() == expected.tolist()


def test_measures_load_nothing_heavy():
    heavy = ("torch", "pandas", "matplotlib")
    code = f"import results.render, sys; print([name for name in {heavy} if name in sys.modules])"
    root = Path(measures.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "[]"
