"""The usual protocols, and how many training images each of their steps has."""

from functools import cache
from pathlib import Path

from protocols.yaml_file import read_yaml


@cache
def _table() -> dict[str, dict[str, list[int]]]:
    return read_yaml(Path(__file__).with_name("step_counts.yaml"))


def names() -> tuple[str, ...]:
    """Names of the usual protocols. Any other pair that divides the classes is as valid."""
    return tuple(_table())


def step_counts(name: str, setting: str = "overlapped") -> tuple[int, ...] | None:
    """Number of training images of every step of a usual protocol, or None where it is not known.

    A user's copy of the dataset is held against it. Sequential steps have the images of disjoint ones.
    """
    counts = _table().get(name, {}).get("disjoint" if setting == "sequential" else setting)
    return None if counts is None else tuple(counts)
