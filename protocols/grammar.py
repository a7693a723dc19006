"""The grammar of protocol names: `<dataset>_<base>-<increment>[_<order>]`."""

import difflib
import re
from dataclasses import dataclass

from protocols.dataset_info import DatasetInfo, dataset, datasets
from protocols.errors import InputError, unknown
from protocols.usual import names

_NAME = re.compile(r"([a-z]+)_([1-9][0-9]{0,3})-([1-9][0-9]{0,3})(?:_([a-z]+[0-9]{0,18}|random:[0-9]{1,18}))?")

# Names in the literature and its code that mean something else here, or nothing.
_ELSEWHERE = {"15-5s": "voc_15-1", "10-5-5": "voc_10-5", "50": "ade_50-50"}


@dataclass(frozen=True)
class Parsed:
    """What a protocol's name says."""

    dataset: DatasetInfo
    sizes: tuple[int, ...]  # classes per step
    order: str | None  # label of the class order, None = the dataset's own


def is_name(text: str) -> bool:
    """Whether the text has the form of a protocol's name."""
    return _NAME.fullmatch(text) is not None


def parse(name: str) -> Parsed:
    """Take a protocol's name apart: `base` classes at step 0, then `increment` at a time.

    Raises:
        InputError: another form, an unknown dataset, or numbers that do not divide the classes; valid names
            nearby are listed.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise _malformed(name)
    if match[1] not in datasets():
        raise InputError(f"unknown protocol {name!r}: {unknown('dataset', match[1], datasets())}")
    info, base, increment = dataset(match[1]), int(match[2]), int(match[3])
    later = info.n_classes - base
    if later <= 0 or later % increment:
        raise _indivisible(name, info, base, increment)
    return Parsed(info, (base, *[increment] * (later // increment)), match[4])


def _malformed(name: str) -> InputError:
    spelling = _ELSEWHERE.get(name.removeprefix("voc_").removeprefix("ade_"))
    near = [spelling] if spelling else difflib.get_close_matches(name, names(), n=3, cutoff=0.5)
    return InputError(
        f"unknown protocol {name!r}: {_did_you_mean(near)}write <dataset>_<base>-<increment>[_<order>], "
        "such as voc_15-1, or the path of a .yaml file"
    )


def _indivisible(name: str, info: DatasetInfo, base: int, increment: int) -> InputError:
    def distance(pair: tuple[int, int]) -> int:
        return abs(pair[0] - base) + abs(pair[1] - increment)

    n = info.n_classes
    valid = [(b, i) for b in range(1, n) for i in range(1, n - b + 1) if (n - b) % i == 0]
    nearest = [f"{info.name}_{b}-{i}" for b, i in sorted(valid, key=distance)]
    usual = [candidate for candidate in nearest if candidate in names()]
    others = [candidate for candidate in nearest if candidate not in names()]
    if base >= n:
        reason = f"{info.name} has {n} classes, so a base of {base} leaves none to learn later"
    else:
        reason = f"{base} classes and then {increment} at a time do not add up to the {n} of {info.name}"
    return InputError(f"unknown protocol {name!r}: {reason}; {_did_you_mean(usual[:2] + others[:2]).rstrip()}")


def _did_you_mean(near: list[str]) -> str:
    return f"did you mean {', '.join(near[:-1])}{' or ' if near[1:] else ''}{near[-1]}? " if near else ""
