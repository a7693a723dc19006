"""The work of several processes is that of one, in order, faults included."""

import os
import signal
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from bench.data.base import open_data
from bench.data.pairs import SizeMismatch, inspect_pair, outcome_of_pair
from bench.data.parallel import FEW, parallel_map
from bench.data.presence import presence
from protocols import InputError
from tests import trees

CLASSES = {f"2008_{number:06d}": (1 + number % 20,) for number in range(FEW + 60)}


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    return trees.write_voc(tmp_path / "VOC2012", CLASSES, {"2007_000001": (1,)})


def test_several_processes_find_what_one_finds_bit_for_bit(voc: Path, tmp_path: Path) -> None:
    data = open_data("voc", "train", root=voc)
    one, two = (presence(data, tmp_path / str(processes), processes=processes) for processes in (1, 2))
    assert one.digest == two.digest and np.array_equal(one.matrix, two.matrix)
    for row, ids in zip(one.matrix, CLASSES.values(), strict=True):
        assert np.flatnonzero(row).tolist() == [0, *ids]


def test_the_digest_is_that_of_names_and_contents(tmp_path: Path) -> None:
    """It is part of the key of every step: a change trains everything again."""
    data = open_data("shapes", "val", val_images=3)
    digest = sha256(b"shapes val\n")
    for index, name in enumerate(data.ids):
        digest.update(f"{name}\n".encode() + data.inspect(index)[1])
    assert presence(data, tmp_path).digest == digest.hexdigest()


@pytest.mark.parametrize("processes", [1, 2])
def test_faults_reach_the_caller_by_their_kind(voc: Path, processes: int) -> None:
    name = list(CLASSES)[FEW]
    (voc / "JPEGImages" / f"{name}.jpg").write_bytes(trees.jpeg(7))
    pairs = [(voc / f"JPEGImages/{one}.jpg", voc / f"SegmentationClassAug/{one}.png") for one in CLASSES]
    found = list(parallel_map(outcome_of_pair, pairs, processes))
    assert [index for index, one in enumerate(found) if isinstance(one, InputError)] == [FEW]
    assert type(found[FEW]) is SizeMismatch and f"{name}.jpg is 7x2" in str(found[FEW])
    with pytest.raises(SizeMismatch, match=f"{name}.jpg is 7x2"):
        list(parallel_map(inspect_pair, pairs, processes))


def die(number: int) -> int:
    if number == FEW:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_killed_process_is_said_in_one_line() -> None:
    with pytest.raises(InputError, match="one of the 2 processes that read the files was killed: .*--processes 1"):
        list(parallel_map(die, range(FEW + 1), 2))
