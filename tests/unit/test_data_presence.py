"""The presence matrix in its file: found again, never trusted blindly, never half written."""

from pathlib import Path

import numpy as np
import pytest

from bench.data import presence as module
from bench.data.base import SegmentationData, open_data
from bench.data.presence import Presence, presence
from protocols import InputError


@pytest.fixture
def data() -> SegmentationData:
    return open_data("shapes", "val", val_images=12)


def same(a: Presence, b: Presence) -> bool:
    return a.digest == b.digest and np.array_equal(a.matrix, b.matrix)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one at every pass over the masks."""
    seen: list[int] = []
    read = module.read_presence

    def counting(*args: object) -> Presence:
        seen.append(len(seen))
        return read(*args)

    monkeypatch.setattr(module, "read_presence", counting)
    return seen


def test_the_matrix_says_which_classes_each_mask_holds(data: SegmentationData, tmp_path: Path) -> None:
    matrix = presence(data, tmp_path).matrix
    assert (matrix.shape, matrix.dtype) == ((12, 21), bool)
    for index, row in enumerate(matrix):
        assert set(np.flatnonzero(row)) == set(data.load(index)[1].unique().tolist())


def test_a_second_call_reads_the_file(data: SegmentationData, tmp_path: Path, passes: list[int]) -> None:
    first = presence(data, tmp_path / "new" / "folder")
    assert same(presence(data, tmp_path / "new" / "folder"), first)
    assert len(passes) == 1
    assert len(list((tmp_path / "new" / "folder").iterdir())) == 1


def test_other_data_have_another_file(data: SegmentationData, tmp_path: Path, passes: list[int]) -> None:
    digests = {presence(data, tmp_path).digest}
    digests.add(presence(open_data("shapes", "val", val_images=11), tmp_path).digest)
    digests.add(presence(open_data("shapes", "train", train_images=12), tmp_path).digest)
    assert len(digests) == len(passes) == 3


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garble(path: Path) -> None:
    path.write_bytes(b"not a zip file at all" * 20)


def falsify(path: Path) -> None:
    with np.load(path) as file:
        content = dict(file)
    content["matrix"][0] = ~content["matrix"][0]
    np.savez_compressed(path, **content)


def pickle(path: Path) -> None:
    with np.load(path) as file:
        content = dict(file)
    content["digest"] = np.array([{}], dtype=object)
    np.savez_compressed(path, **content)


@pytest.mark.parametrize("damage", [truncate, empty, garble, falsify, pickle])
def test_a_damaged_file_is_made_again(
    data: SegmentationData, tmp_path: Path, passes: list[int], damage: object
) -> None:
    first = presence(data, tmp_path)
    (path,) = tmp_path.iterdir()
    damage(path)
    assert same(presence(data, tmp_path), first)
    assert same(presence(data, tmp_path), first)
    assert len(passes) == 2


def test_progress_counts_every_image_once(data: SegmentationData, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    presence(data, tmp_path, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 12) for done in range(1, 13)]


def test_an_unwritable_place_is_named(data: SegmentationData, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"cannot write .*file.*store="):
        presence(data, tmp_path / "file" / "cache")


def test_a_failed_write_leaves_nothing(data: SegmentationData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **arrays: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.np, "savez_compressed", full)
    with pytest.raises(InputError, match="No space left on device"):
        presence(data, tmp_path)
    assert list(tmp_path.iterdir()) == []
