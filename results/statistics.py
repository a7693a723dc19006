"""Statistics over seeds: mean, spread and confidence interval, and paired comparisons of two methods.

Values are in any unit; results are in the same. What does not exist is NaN, never 0.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from results.schema import Run

LEVEL = 0.95
RESAMPLES = 10_000
BOOTSTRAP_SEED = 0


class Summary(NamedTuple):
    """Mean and sample standard deviation (NaN for a single value) of n values."""

    mean: float
    std: float
    n: int


MISSING = Summary(float("nan"), float("nan"), 0)  # where there is nothing to summarise


def summary(values: Iterable[float]) -> Summary:
    """Mean and sample standard deviation, s = sqrt(sum (x - mean)^2 / (n - 1)).

    NaN if any value is, so that a hole never turns into a mean of what is left; ValueError: no values.
    """
    values = np.asarray(list(values), dtype=np.float64)
    if not values.size:
        raise ValueError("no values to summarise")
    std = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
    return Summary(float(values.mean()), std, len(values))


def half_width(spread: Summary, level: float = LEVEL) -> float:
    """Half the width of Student's confidence interval of the mean, t_{n-1} s / sqrt(n); NaN for a single value."""
    from scipy import stats  # on use: it takes half a second to load

    if spread.n < 2:
        return float("nan")
    return float(stats.t.ppf((1 + level) / 2, spread.n - 1) * spread.std / np.sqrt(spread.n))


@dataclass(frozen=True)
class Comparison:
    """One method minus another: mean difference, its interval at LEVEL, two-sided p, and in words how it was found.

    p is NaN where the differences do not vary, so that no test can be made of them.
    """

    difference: Summary
    low: float
    high: float
    p: float
    how: str


def compare(
    one: Mapping[int, float], other: Mapping[int, float], one_classes: np.ndarray, other_classes: np.ndarray
) -> Comparison:
    """One method minus another: over the seeds that both have if those are at least two, otherwise over classes.

    one, other: seed -> score. one_classes, other_classes (K,): IoU per class in one class order, NaN where undefined;
    looked at only where fewer than two seeds are common.
    """
    common = sorted(one.keys() & other.keys())
    if len(common) > 1:
        return compare_seeds([one[seed] for seed in common], [other[seed] for seed in common])
    return compare_classes(one_classes, other_classes)


def compare_seeds(one: Sequence[float], other: Sequence[float]) -> Comparison:
    """Student's paired t-test; one[i] and other[i] are of the same seed, so they share data order and step 0.

    With few seeds no rank test can reach a small p (Wilcoxon's is at least 2 / 2^n: 0.25 for three), hence t, which
    takes the differences to be normal. ValueError: fewer than two seeds.
    """
    from scipy import stats

    differences = np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    if len(differences) < 2:
        raise ValueError("a paired t-test needs at least two seeds")
    spread = summary(differences)
    half = half_width(spread)
    error = spread.std / np.sqrt(spread.n)
    p = float(2 * stats.t.sf(abs(spread.mean) / error, spread.n - 1)) if _vary(differences) else float("nan")
    return Comparison(spread, spread.mean - half, spread.mean + half, p, f"paired t-test over {spread.n} seeds")


def compare_classes(one: np.ndarray, other: np.ndarray) -> Comparison:
    """Paired bootstrap over classes: the classes are drawn with replacement, both methods' IoU of each together.

    one, other: (K,). Classes that are NaN in either are left out. Interval: percentiles of the resampled mean
    differences; p = 2 min(#{d <= 0}, #{d >= 0}), each count + 1, over RESAMPLES + 1. It speaks of the choice of
    classes, not of the seed. All NaN with fewer than two classes.
    """
    differences = np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    differences = differences[~np.isnan(differences)]
    count = len(differences)
    how = f"paired bootstrap over {count} classes"
    nan = float("nan")
    if count < 2:
        return Comparison(Summary(nan, nan, count), nan, nan, nan, how)
    draws = np.random.default_rng(BOOTSTRAP_SEED).integers(count, size=(RESAMPLES, count))
    means = differences[draws].mean(1)
    low, high = (float(np.quantile(means, q)) for q in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    tail = min((means <= 0).sum(), (means >= 0).sum()) + 1
    p = min(1.0, float(2 * tail / (RESAMPLES + 1))) if _vary(differences) else nan
    return Comparison(summary(differences), low, high, p, how)


def _vary(differences: np.ndarray) -> bool:
    """Do they differ by more than rounding errors?"""
    return bool(np.ptp(differences) > 1e-9 * np.abs(differences).max())


def base_models(runs: Iterable[Run]) -> int | None:
    """How many distinct networks the runs start from: keys of step 0 in their manifests.

    Runs that learn all classes at once have no step 0 of their own and do not count. None: a manifest does not say.
    """
    keys = set()
    for run in runs:
        if run.manifest["single_step"]:
            continue
        first = next((step for step in run.manifest.get("steps", ()) if step.get("index") == 0), {})
        key = first.get("base_key") or first.get("key")
        if key is None:
            return None
        keys.add(key)
    return len(keys)
