"""Damage and changed code, through the command line: named, put aside, made again, never used."""

import errno
import json
import shutil
from pathlib import Path

import pytest

from bench import source
from bench.cache import CorruptEntry
from bench.engine import Engine
from results.schema import read_run, read_runs
from tests.e2e.conftest import run_arguments


@pytest.fixture
def done(bench, tmp_path):
    """A finished run of two increments."""
    assert bench(*run_arguments("finetune"))[0] == 0
    return next((tmp_path / "runs").glob("finetune*"))


def flip(path, place=-30):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def files(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_damaged_counts_are_named_put_aside_and_evaluated_again(bench, tmp_path, done):
    cache = tmp_path / "runs" / "cache"
    expected = (done / "counts.npz").read_bytes()
    victim = sorted((cache / "counts").iterdir())[1]
    sound = victim.read_bytes()
    flip(victim, 80)
    code, _, err = bench(*run_arguments("finetune"))
    assert code == 0 and victim.name in err and "evaluating that step again" in err
    assert victim.read_bytes() == sound and (done / "counts.npz").read_bytes() == expected
    assert len(list((cache / "quarantine").iterdir())) == 1


@pytest.mark.parametrize("name", ["meta.json", "log.csv"])
def test_a_damaged_record_or_log_is_named_and_its_step_trained_again(bench, tmp_path, done, name):
    """Although the weights are sound and nobody needs them: both go into the run's own files."""
    expected = (done / "counts.npz").read_bytes(), (done / "log.csv").read_bytes()
    key = read_run(done).manifest["steps"][1]["key"]
    path = tmp_path / "runs" / "cache" / "steps" / key / name
    path.write_text(path.read_text().replace("3", "4"))
    code, _, err = bench(*run_arguments("finetune"))
    assert code == 0 and key in err and "training that step again" in err
    assert (done / "counts.npz").read_bytes() == expected[0] and (done / "log.csv").read_bytes() == expected[1]


def test_what_cannot_be_read_for_now_is_no_damage(bench, tmp_path, done, monkeypatch):
    """Rights, open files, a network drive: the run ends and says so, and the trained step stays where it is."""
    cache = tmp_path / "runs" / "cache"
    before = files(cache)

    def refused(path):
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr("bench.cache.file_digest", refused)
    code, _, err = bench(*run_arguments("finetune"))
    assert code == 2 and "log.csv cannot be read (Input/output error): mend that" in err
    code, out, _ = bench("cache", "verify")
    assert code == 1 and out.count("not checked: ") == 3 and "moved to" not in out
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert files(cache) == before and bench("cache", "verify")[0] == 0


def test_a_machine_that_damages_all_it_writes_is_told_so(bench, tmp_path, done, monkeypatch):
    shutil.rmtree(tmp_path / "runs" / "cache")

    def damaged(cache, key):
        raise CorruptEntry(cache.step_folder(key) / "weights.safetensors", "does not have the sha256 of its record")

    monkeypatch.setattr("bench.cache.StepCache.verify_or_quarantine", damaged)
    code, _, err = bench(*run_arguments("finetune"))
    assert code == 2 and err.count("training that step again") == 2 and "3 times by now: memory or disk" in err


def test_a_complete_run_is_replaced_by_nothing_less(bench, tmp_path, done, monkeypatch):
    """Its cache is gone, and the command that makes it again ends half-way: what is published stays."""
    before = files(done)
    shutil.rmtree(tmp_path / "runs" / "cache")
    train = Engine._train

    def fails_later(engine, index, step):
        if index == 2:
            raise RuntimeError("no more")
        train(engine, index, step)

    monkeypatch.setattr(Engine, "_train", fails_later)
    code, _, err = bench(*run_arguments("finetune"))
    assert code == 1 and "no more" in err and files(done) == before
    monkeypatch.setattr(Engine, "_train", train)
    assert bench(*run_arguments("finetune"))[0] == 0
    assert (done / "counts.npz").read_bytes() == before[Path("counts.npz")]
    assert [step["cache"] for step in read_run(done).manifest["steps"]] == ["hit", "hit", "miss"]


def test_verify_names_damage_of_every_kind(bench, tmp_path, done):
    code, out, _ = bench("cache", "verify")
    assert code == 0
    assert out.splitlines() == [
        "3 trained steps checked, 0 damaged", "3 counts checked, 0 damaged", "1 runs checked, 0 damaged",
    ]  # fmt: skip
    cache = tmp_path / "runs" / "cache"
    weights = sorted((cache / "steps").iterdir())[0] / "weights.safetensors"
    counts = sorted((cache / "counts").iterdir())[0]
    for path in (weights, counts, done / "counts.npz"):
        flip(path)
    code, out, _ = bench("cache", "verify")
    assert code == 1 and sum(line.startswith("damaged: ") for line in out.splitlines()) == 3
    assert all(str(path.name) in out for path in (weights.parent, counts, done))
    assert not weights.exists() and not counts.exists()

    code, out, err = bench("report")
    assert "counts.npz is corrupt" in out + err and "mIoU" not in out  # the damaged run is in no table
    assert bench(*run_arguments("finetune"))[0] == 0
    assert bench("cache", "verify")[0] == 0


def test_a_store_from_before_there_were_digests_is_used_as_it_is(bench, tmp_path, done):
    """Keys are the same, nothing is trained or evaluated again, and what is written new has its digest."""
    for path in [done / "manifest.json", *(tmp_path / "runs" / "cache" / "steps").glob("*/meta.json")]:
        content = json.loads(path.read_text())
        content["sha256"].pop("record")
        content.pop("code", None)
        path.write_text(json.dumps(content))
    before = files(tmp_path / "runs" / "cache")
    code, out, _ = bench("cache", "verify")
    assert code == 0 and out.count("of an earlier version") == 2
    code, _, err = bench(*run_arguments("finetune"))
    assert code == 0 and "warning" not in err
    assert files(tmp_path / "runs" / "cache") == before
    assert [step["cache"] for step in read_run(done).manifest["steps"]] == ["hit"] * 3
    code, out, _ = bench("cache", "verify")
    assert out.count("of an earlier version") == 1  # the steps; the run has been written anew


def test_a_step_trained_by_other_code_of_the_same_version_is_reported(bench, tmp_path, done, monkeypatch):
    now = source.code_digests
    monkeypatch.setattr(source, "code_digests", lambda method: {**now(method), "methods.finetune": "0" * 16})
    code, _, err = bench(*run_arguments("finetune"))
    said = [line for line in err.splitlines() if "warning" in line]
    assert code == 0 and len(said) == 1  # once a run, not once a step
    assert "step 0, 1, 2" in said[0] and "methods.finetune changed since" in said[0]
    assert read_run(done).manifest["steps"][0]["changed_modules"] == ["methods.finetune"]
    code, out, _ = bench("cache", "verify")
    assert code == 0 and out.count("trained by other code of the same version") == 3


def test_a_base_of_another_method_is_held_against_that_methods_code(bench, tmp_path, done, monkeypatch):
    """Step 0 is shared: MiB's own module has nothing to do with what fine-tuning trained."""
    code, _, err = bench(*run_arguments("mib"))
    assert code == 0 and "warning" not in err
    mib = next(run for run in read_runs(tmp_path / "runs")[0] if run.manifest["label"] == "mib")
    assert [step["cache"] for step in mib.manifest["steps"]] == ["hit", "miss", "miss"]


def test_the_quarantine_is_cleared_with_the_rest(bench, tmp_path, done):
    flip(sorted((tmp_path / "runs" / "cache" / "counts").iterdir())[0])
    bench("cache", "verify")
    assert bench("cache", "gc")[0] == 0
    assert not list((tmp_path / "runs" / "cache" / "quarantine").iterdir())
