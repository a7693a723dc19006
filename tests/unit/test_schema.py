"""What a run leaves on disk: it reads back, it can be checked, and damage is named."""

import json
import os

import numpy as np
import pandas as pd
import pytest

from protocols.errors import InputError
from results.schema import CELL_COLUMNS, SCHEMA_VERSION, cells, read_run, read_runs, write_run

NAMES = ["background", "cat", "dog", "owl"]
# step 0: classes 2 and 1 (order permuted), step 1: class 3
STEP_0 = np.array(
    [
        [[4, 0, 1], [0, 0, 0], [0, 0, 0], [2, 1, 0]],
        [[9, 1, 0], [2, 6, 0], [0, 0, 0], [0, 0, 0]],
        [[4, 0, 0], [1, 3, 0], [0, 0, 0], [1, 1, 1]],
    ]
)
STEP_1 = np.pad(STEP_0, ((0, 0), (0, 0), (0, 1)))


def manifest(**changes):
    return {
        "schema_version": SCHEMA_VERSION,
        "run": "mib-0",
        "method": "mib",
        "variant": None,
        "label": "mib",
        "backbone": "deeplab",
        "network": "deeplab-tiny",
        "pretrained": "none",
        "track": "demo",
        "data": "shapes",
        "protocol": "pets_2-1",
        "dataset": "pets",
        "setting": "overlapped",
        "order": "default",
        "seed": 0,
        "recipe": "abcdef012345",
        "status": "complete",
        "single_step": False,
        "protocol_digest": "d1",
        "class_names": NAMES,
        "step_classes": ((2, 1), (3,)),
        "background_evaluated": True,
        "evaluation": {"split": "val"},
    } | changes


SLOTS = (0, 2, 1, 3)


@pytest.fixture
def folder(tmp_path):
    write_run(tmp_path / "run", manifest(), SLOTS, {0: STEP_0, 1: STEP_1})
    return tmp_path / "run"


def test_a_run_reads_back(tmp_path):
    log = [{"step": 0, "loss": 1.5}, {"step": 1, "loss": 1.0, "kd": 0.1}]
    written = write_run(tmp_path / "run", manifest(), SLOTS, {1: STEP_1, 0: STEP_0}, log)
    run = read_run(tmp_path / "run")
    assert run.manifest == written.manifest
    assert run.manifest["step_classes"] == [[2, 1], [3]]
    assert run.slot_ids.tolist() == [0, 2, 1, 3]
    assert sorted(run.counts) == [0, 1]
    assert all(run.counts[step].dtype == np.int64 for step in (0, 1))
    assert (run.counts[0] == STEP_0).all()
    assert (run.counts[1] == STEP_1).all()
    assert run.missing_steps == ()
    text = (tmp_path / "run" / "log.csv").read_text()
    assert text == "step,loss,kd\n0,1.5,\n1,1.0,0.1\n"
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "cells.csv",
        "counts.npz",
        "log.csv",
        "manifest.json",
    ]


def test_equal_counts_give_equal_bytes(tmp_path):
    write_run(tmp_path / "a", manifest(), SLOTS, {0: STEP_0, 1: STEP_1})
    write_run(tmp_path / "b", manifest(seed=1), SLOTS, {0: STEP_0})  # half way, then brought up to date
    write_run(tmp_path / "b", manifest(seed=1), np.array(SLOTS), {1: STEP_1, 0: STEP_0.astype(np.int32)})
    assert (tmp_path / "a" / "counts.npz").read_bytes() == (tmp_path / "b" / "counts.npz").read_bytes()


def test_a_later_write_keeps_the_log(tmp_path):
    write_run(tmp_path / "run", manifest(status="running"), SLOTS, {0: STEP_0}, [{"loss": 1}])
    write_run(tmp_path / "run", manifest(), SLOTS, {0: STEP_0, 1: STEP_1})
    assert (tmp_path / "run" / "log.csv").read_text() == "loss\n1\n"


def test_cells_by_hand(folder):
    table = cells(read_run(folder))
    assert tuple(table.columns) == CELL_COLUMNS
    assert len(table) == 3 + 4
    # step 0, class 2 (slot 1): 6 + 3 hits, 1 false alarm on background (future pixels ignored), 2 + 1 misses
    row = table[(table.step == 0) & (table.class_id == 2)].iloc[0]
    assert (row.tp, row.fp, row.fn, row.iou) == (9, 1, 3, 9 / 13)
    assert (row.class_name, row.class_step, row.run, row.variant) == ("dog", 0, "mib-0", "")
    absent = table[(table.step == 0) & (table.class_id == 1)].iloc[0]  # no pixel in the ground truth
    assert absent.fp == 1
    assert np.isnan(absent.iou)
    owl = table[(table.step == 1) & (table.class_id == 3)].iloc[0]
    assert (owl.class_step, owl.tp, owl.fn, owl.iou) == (1, 0, 6, 0)  # zeros are zeros


def test_cells_without_background_where_the_dataset_has_none(tmp_path):
    run = write_run(tmp_path / "run", manifest(background_evaluated=False), SLOTS, {0: STEP_0, 1: STEP_1})
    table = cells(run)
    assert 0 not in set(table.class_id)
    assert table[(table.step == 0) & (table.class_id == 2)].iloc[0].fp == 0  # on pixels of label 0


def test_cells_csv_is_regenerable_from_the_counts(folder):
    assert cells(read_run(folder)).to_csv(index=False) == (folder / "cells.csv").read_text()
    stored = pd.read_csv(folder / "cells.csv", keep_default_na=False)
    assert stored.tp.sum() == sum(np.trace(step.sum(0)[: step.shape[2]]) for step in (STEP_0, STEP_1))


def test_joint_training_is_complete_with_its_last_step(tmp_path):
    run = write_run(tmp_path / "run", manifest(method="joint", label="joint", single_step=True), SLOTS, {1: STEP_1})
    assert run.expected_steps == (1,)
    assert run.missing_steps == ()
    assert write_run(tmp_path / "other", manifest(), SLOTS, {1: STEP_1}).missing_steps == (0,)


def test_a_run_that_has_only_started_reads(tmp_path):
    write_run(tmp_path / "run", manifest(status="running"), SLOTS, {})
    assert read_run(tmp_path / "run").missing_steps == (0, 1)


def edit(folder, **changes):
    file = folder / "manifest.json"
    content = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in content.items() if value != "DROP"}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "manifest.json").unlink(), "manifest.json is missing"),
        (lambda f: (f / "manifest.json").write_text("{"), "manifest.json cannot be read"),
        (lambda f: (f / "manifest.json").write_bytes(b"\xff\xfe\x00"), "manifest.json cannot be read"),
        (lambda f: (f / "manifest.json").write_text("[1]"), "not the manifest of a run"),
        (lambda f: edit(f, schema_version=99), "newer than 1: upgrade ciss-bench"),
        (lambda f: edit(f, recipe="DROP"), "lacks 'recipe'"),
        (lambda f: edit(f, seed="zero"), "seed = 'zero'"),
        (lambda f: edit(f, step_classes=[[2], [2]]), "each once"),
        (lambda f: edit(f, step_classes=[2, 1, 3]), "each once"),
        (lambda f: edit(f, step_classes=[[2, 1], [4]]), "each once"),
        (lambda f: edit(f, step_classes=[[1, 2], [3]]), "disagree on the classes"),
        (lambda f: (f / "counts.npz").unlink(), "counts.npz is missing"),
        (lambda f: (f / "counts.npz").write_bytes(b""), "counts.npz is corrupt"),
        (lambda f: (f / "counts.npz").write_bytes((f / "counts.npz").read_bytes()[:-99]), "npz is corrupt"),
        (lambda f: np.savez(f / "counts.npz", step_00=STEP_0), "not slot_ids and step_00"),
        (lambda f: np.savez(f / "counts.npz", slot_ids=np.array([None])), "counts.npz is corrupt"),
        (
            lambda f: np.savez(f / "counts.npz", slot_ids=SLOTS, step_00=STEP_1),
            "step 0 is int64 .* not int64",
        ),
        (lambda f: np.savez(f / "counts.npz", slot_ids=SLOTS, step_00=STEP_0 / 2), "step 0 is float64"),
        (lambda f: np.savez(f / "counts.npz", slot_ids=SLOTS, step_00=-STEP_0), "negative"),
        (lambda f: np.savez(f / "counts.npz", slot_ids=SLOTS, step_02=STEP_0), "step 2, the protocol has 2"),
    ],
)
def test_damage_is_named_and_the_other_runs_are_kept(folder, damage, message):
    write_run(folder.parent / "sound", manifest(seed=1), SLOTS, {0: STEP_0, 1: STEP_1})
    damage(folder)
    with pytest.raises(InputError, match=message) as caught:
        read_run(folder)
    assert "\n" not in str(caught.value)
    runs, problems = read_runs(folder.parent)
    assert [run.manifest["seed"] for run in runs] == [1]
    assert problems == [str(caught.value)]


@pytest.mark.parametrize("status", ["complete", "running"])
def test_no_damaged_byte_changes_a_number(folder, status):
    """Whatever byte of the counts is damaged, it is named. The manifest of a run that goes on does not vouch for newer
    counts: there a byte that says nothing, such as a date, may pass."""
    write_run(folder, manifest(status=status), SLOTS, {0: STEP_0, 1: STEP_1})
    file = folder / "counts.npz"
    sound, named = file.read_bytes(), 0
    for place in range(len(sound)):
        file.write_bytes(sound[:place] + bytes([sound[place] ^ 0xFF]) + sound[place + 1 :])
        try:
            run = read_run(folder)
        except InputError:
            named += 1
        else:
            assert all((array == (STEP_0, STEP_1)[step]).all() for step, array in run.counts.items())
    assert named == len(sound) if status == "complete" else named > len(sound) / 2


def test_no_damaged_byte_changes_a_manifest(folder):
    file = folder / "manifest.json"
    sound, expected, named = file.read_bytes(), read_run(folder).manifest, 0
    for place in range(0, len(sound), 3):
        file.write_bytes(sound[:place] + bytes([sound[place] ^ 1 << place % 8]) + sound[place + 1 :])
        try:
            found = read_run(folder).manifest
        except InputError:
            named += 1
        else:  # the name of a digest, or blank space
            assert {key: found[key] for key in expected if key != "sha256"} == {
                key: expected[key] for key in expected if key != "sha256"
            }
    assert named > 0.95 * len(sound) / 3


def test_an_edited_manifest_is_refused(folder):
    edit(folder, label="ours")
    with pytest.raises(InputError, match="manifest.json was damaged or edited .* run its command again"):
        read_run(folder)


def test_counts_of_another_run_are_refused(folder):
    other = write_run(folder.parent / "other", manifest(seed=1), SLOTS, {0: STEP_0 * 2, 1: STEP_1 * 2})
    (folder / "counts.npz").write_bytes((other.path / "counts.npz").read_bytes())
    with pytest.raises(InputError, match="counts.npz does not have the sha256 that manifest.json names"):
        read_run(folder)


def test_a_run_killed_between_its_counts_and_its_manifest_reads(folder):
    """Counts are written first: those of a run that goes on may be newer than its manifest."""
    write_run(folder, manifest(status="running"), SLOTS, {0: STEP_0})
    old = (folder / "manifest.json").read_bytes()
    write_run(folder, manifest(status="running"), SLOTS, {0: STEP_0, 1: STEP_1})
    (folder / "manifest.json").write_bytes(old)
    assert sorted(read_run(folder).counts) == [0, 1]


def test_runs_from_before_there_were_digests_read(folder):
    edit(folder, sha256="DROP")
    np.savez_compressed(folder / "counts.npz", slot_ids=np.array(SLOTS), step_00=STEP_0, step_01=STEP_1)
    assert (read_run(folder).counts[1] == STEP_1).all()


def test_a_store_holds_more_than_runs(folder):
    for name in ("cache", "reports", ".hidden"):
        (folder.parent / name).mkdir()
    (folder.parent / "cache" / "manifest.json").write_text("not a run")
    (folder.parent / "notes.txt").write_text("not a run")
    runs, problems = read_runs(folder.parent)
    assert len(runs) == 1
    assert problems == []


def test_a_missing_store_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="no store at .*nowhere.*store=FOLDER"):
        read_runs(tmp_path / "nowhere")


def test_wrong_counts_are_not_written(tmp_path):
    with pytest.raises(InputError, match="step 1 is int64"):
        write_run(tmp_path / "run", manifest(), SLOTS, {0: STEP_0, 1: STEP_0})
    with pytest.raises(InputError, match="lacks 'track'"):
        bad = manifest()
        del bad["track"]
        write_run(tmp_path / "run", bad, SLOTS, {0: STEP_0})
    assert not (tmp_path / "run").exists()


def test_an_unwritable_store_is_an_input_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot write .*store=PATH"):
        write_run(tmp_path / "file" / "run", manifest(), SLOTS, {0: STEP_0})


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file(folder, monkeypatch, call):
    before = {file.name: file.read_bytes() for file in folder.iterdir()}

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(InputError, match="No space left on device"):
        write_run(folder, manifest(), SLOTS, {0: STEP_0 * 2, 1: STEP_1})
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
