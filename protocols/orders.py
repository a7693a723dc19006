"""Class orders: in which order the classes of a dataset are learned."""

import hashlib
import operator
import re
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from protocols.dataset_info import DatasetInfo
from protocols.errors import InputError, unknown
from protocols.yaml_file import read_yaml

_RANDOM = re.compile(r"random:?([0-9]{1,18})")


@cache
def published(dataset: str) -> dict[str, tuple[int, ...]]:
    """The published class orders of a dataset (`orders.yaml`): name -> class ids as learned."""
    orders = read_yaml(Path(__file__).with_name("orders.yaml"))
    return {name: tuple(ids) for name, ids in orders.get(dataset, {}).items()}


def resolve(info: DatasetInfo, order: str | Iterable[int] | None) -> tuple[tuple[int, ...], str]:
    """Class ids in the order in which they are learned, and the label that a protocol's name bears for it.

    Args:
        info: the dataset.
        order: None for the dataset's own order (1, 2, 3, ...); a name in `orders.yaml`; "random:<seed>"; or
            every class id once.

    Returns:
        The ids, and their label: "" for the dataset's own order, a published name, "random<seed>" (without
        the colon, because names become names of folders), or "custom-<hash>" for any other permutation.

    Raises:
        InputError: unknown name, or ids that are no permutation of the dataset's classes.
    """
    natural = tuple(range(1, info.n_classes + 1))
    if order is None:
        return natural, ""
    if isinstance(order, str):
        return _named(info, order, natural)
    ids = _checked(info, order)
    labels = {natural: ""} | {known: name for name, known in published(info.name).items()}
    return ids, labels.get(ids, f"custom-{_digest(str(ids))[:8]}")


def _named(info: DatasetInfo, order: str, natural: tuple[int, ...]) -> tuple[tuple[int, ...], str]:
    if order in published(info.name):
        return published(info.name)[order], order
    match = _RANDOM.fullmatch(order)
    if match is None:
        raise unknown(f"class order of {info.name}", order, [*published(info.name), "random:<seed>"])
    seed = int(match[1])
    # Sorting by hash, not a random generator: the same order for ever, on every version of every library.
    return tuple(sorted(natural, key=lambda id: _digest(f"{info.name} {seed} {id}"))), f"random{seed}"


def _checked(info: DatasetInfo, order: Iterable[int]) -> tuple[int, ...]:
    try:
        ids = tuple(operator.index(id) for id in order)
    except TypeError:
        raise InputError(f"class order of {info.name}: give class ids as numbers, not {order!r}") from None
    expected = set(range(1, info.n_classes + 1))
    faults = {
        "missing": sorted(expected - set(ids)),
        "unknown": sorted(set(ids) - expected),
        "repeated": sorted(id for id, count in Counter(ids).items() if count > 1),
    }
    if any(faults.values()):
        found = "; ".join(f"{fault} {', '.join(map(str, some))}" for fault, some in faults.items() if some)
        raise InputError(f"class order of {info.name}: give every class id from 1 to {info.n_classes} once ({found})")
    return ids


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
