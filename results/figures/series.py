"""What the figures of a group draw: for each row of its tables, the scores of the runs that it averages."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from results.cost import training_seconds
from results.figures.looks import Look, looks
from results.groups import Group, rows_of
from results.naming import named
from results.scores import Curves, class_forgetting, class_ious, curves, score
from results.statistics import summary


@dataclass(frozen=True, eq=False)
class Series:
    """One method (one row of the tables), named as in papers, over its seeds; percent, NaN where there is nothing.

    curves: by field of `scores.Curves`, (seeds, S). class_ious (seeds, S, T): by slot. forgetting (seeds, T - 1):
    by foreground slot. plasticity (seeds,). seconds (seeds,): `cost.training_seconds`.
    """

    label: str
    look: Look
    joint: bool
    curves: dict[str, np.ndarray]
    class_ious: np.ndarray
    forgetting: np.ndarray
    plasticity: np.ndarray
    seconds: np.ndarray

    def mean_and_std(self, curve: str) -> tuple[np.ndarray, np.ndarray]:
        """A curve's mean over seeds and sample standard deviation (NaN for a single seed), (S,) each."""
        return over_seeds(self.curves[curve])


def over_seeds(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sample standard deviation of every column of values (seeds, N): (N,) each."""
    columns = [summary(column) for column in values.T]
    return np.array([column.mean for column in columns]), np.array([column.std for column in columns])


def series_of(group: Group, convention: str = "default") -> list[Series]:
    """The rows of the group's tables, joint training last. InputError: unknown convention."""
    rows = rows_of(group)
    return [
        Series(
            label=named(row["method"], row.label),
            look=look,
            joint=row.joint,
            curves=_stacked([curves(run, convention) for run in row.used]),
            class_ious=np.stack([class_ious(run, convention) for run in row.used]),
            forgetting=np.stack([class_forgetting(run, convention) for run in row.used]),
            plasticity=np.array([score(run, convention).plasticity for run in row.used]),
            seconds=np.array([training_seconds(run) for run in row.used]),
        )
        for row, look in zip(rows, looks(rows), strict=True)
    ]


def _stacked(of_runs: Sequence[Curves]) -> dict[str, np.ndarray]:
    names = [field.name for field in fields(Curves)]
    return {name: np.stack([getattr(one, name) for one in of_runs]) for name in names}
