"""What a plan looks at before anything runs: shared memory, through which loading processes hand over batches."""

import shutil

import pytest

from bench import preflight
from bench.config import configurations
from bench.spec import resolve
from bench.workspace import Workspace

TINY = [
    "method=finetune", "protocol=voc_15-5", "track=demo", "backbone=deeplab", "device=cpu", "train.batch=4",
    "train.crop=32", "evaluation.batch=8", "data.image_size=48", "data.val_images=3",
]  # fmt: skip


@pytest.fixture
def note(tmp_path, monkeypatch):
    """What is said of a machine with so many bytes of shared memory; None: nothing."""

    def found(size: int, *overrides: str) -> str | None:
        monkeypatch.setattr(preflight, "SHARED_MEMORY", tmp_path)
        usage = shutil.disk_usage(tmp_path)._replace(total=size)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
        specs = [resolve(node) for node in configurations([*TINY, *overrides])]
        findings = preflight._shared_memory(specs, Workspace(tmp_path))
        assert all(finding.ok is None for finding in findings)
        return findings[0].text if findings else None

    return found


@pytest.mark.parametrize(
    ("needed", "overrides"),
    [
        (2 * 4 * 4 * 32**2, ["evaluation.size=16", "workers=1"]),  # two batches ahead, 4 bytes a pixel
        (3 * 2 * 4 * 8 * 32**2, ["evaluation.size=32", "workers=3"]),
        (3 * 2 * 4 * 8 * 48**2, ["evaluation.size=native", "workers=3"]),
        (0, ["evaluation.size=32"]),  # scenes that are rendered on the CPU need no process
        (0, ["evaluation.size=32", "workers=0"]),
    ],
)
def test_batches_of_all_loading_processes_must_fit(note, needed, overrides):
    assert note(needed, *overrides) is None
    assert (note(max(0, needed - 1), *overrides) is None) == (needed == 0)


def test_the_note_names_both_remedies(note):
    full = ["evaluation.size=512", "evaluation.batch=8", "workers=16"]
    said = note(64 * 2**20, *full)
    assert said.startswith("64 MiB in ") and "16 loading processes may hold 256 MiB of batches" in said
    assert said.endswith("start the container with --shm-size=1g, or give workers=4")
    assert note(2**20, *full).endswith("workers=0")


def test_missing_images_and_systems_without_shared_memory_are_no_matter(note, tmp_path, monkeypatch):
    assert note(2 * 4 * 4 * 32**2, "data.name=voc", "data.root=nowhere", "evaluation.size=native", "workers=1") is None
    monkeypatch.setattr(preflight, "SHARED_MEMORY", tmp_path / "none")
    assert preflight._shared_memory([], Workspace(tmp_path)) == []
