"""Disks that are full, that may only be read, and a cache that somebody removes."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import run_arguments
from tests.faults.stores import check_same, check_sound, files, published

pytestmark = pytest.mark.timeout(900)

RUN = [*run_arguments("mib"), "train.base.iterations=40", "train.increment.iterations=30", "checkpoint_seconds=0"]


@pytest.fixture
def mount(tmp_path):
    """Makes a folder a small file system of its own; only root can."""
    mounted = []

    def make(name: str, options: str) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        if mounted:
            options = f"remount,{options}"
        words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        try:
            done = subprocess.run(words, capture_output=True, text=True)
        except OSError as fault:
            pytest.skip(f"no small disk can be made here: {fault}")
        if done.returncode != 0:
            pytest.skip(f"no small disk can be made here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield make
    for folder in dict.fromkeys(mounted):
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def end(process: subprocess.Popen) -> tuple[int, str]:
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def test_a_full_disk_is_one_clear_line_and_the_run_goes_on_once_there_is_room(spawn, mount, tmp_path):
    """The disk grows by 300 KB after each failure: the run fails at one write after another, and loses none of them."""
    assert end(spawn(*RUN, "store=whole"))[0] == 0
    size, failures, made, said = 4, 0, {}, ""
    disk = mount("disk", f"size={size}k")
    while True:
        code, output = end(spawn(*RUN, "store=disk/runs"))
        check_sound(disk / "runs")
        assert "Traceback" not in output, output
        said += output
        now = published(disk / "runs")
        assert {key: now.get(key) for key in made} == made, "a published step was lost"
        made = now
        if code == 0:
            break
        assert code == 2 and "No space left on device" in output and "make room" in output, output
        failures += 1
        size += 300
        mount("disk", f"size={size}k")
    assert failures >= 5 and size > 2000
    assert "no checkpoint: cannot write" in said and "training goes on without" in said
    check_same(disk / "runs", tmp_path / "whole")


def test_a_full_disk_does_not_harm_a_report(spawn, mount, tmp_path):
    assert end(spawn(*RUN, "store=whole"))[0] == 0
    report = ["report", "--store", "whole", "--format", "md,csv,latex,png"]
    assert end(spawn(*report, "--out", "whole-out"))[0] == 0
    disk = mount("disk", "size=24k")
    code, output = end(spawn(*report, "--out", "disk/out"))
    assert code == 2 and "No space left on device" in output and "Traceback" not in output, output
    whole = files(tmp_path / "whole-out")
    for name, path in files(disk / "out").items():
        assert path.read_bytes() == whole[name].read_bytes(), f"{name} is half-written"
    mount("disk", "size=4m")
    code, output = end(spawn(*report, "--out", "disk/out"))
    assert code == 0, output
    check_same(disk / "out", tmp_path / "whole-out")


def test_a_store_that_may_only_be_read_gives_its_tables_and_takes_no_run(spawn, mount, tmp_path):
    assert end(spawn(*RUN, "store=whole"))[0] == 0
    disk = mount("disk", "size=16m")
    shutil.copytree(tmp_path / "whole", disk / "runs")
    mount("disk", "size=16m,ro")
    code, output = end(spawn(*RUN, "store=disk/runs"))
    lines = [line for line in output.splitlines() if line.startswith("bench: ")]
    assert code == 2 and len(lines) == 1 and "cannot be written" in lines[0] and "store=PATH" in lines[0], output
    for words in (["report", "--store", "disk/runs"], ["list", "runs", "--store", "disk/runs"]):
        code, output = end(spawn(*words))
        assert code == 0 and "mib" in output, output
    assert end(spawn("report", "--store", "disk/runs", "--format", "md", "--out", "disk/out"))[0] == 2
    assert end(spawn("cache", "verify", "--store", "disk/runs"))[0] == 0


def test_a_cache_that_is_removed_under_a_run_costs_only_time(spawn, tmp_path):
    """At six moments, from the first file of a step to the last evaluation."""
    assert end(spawn(*RUN, "store=whole"))[0] == 0
    total = len(files(tmp_path / "whole"))
    for moment in range(2, total, max(1, total // 6)):
        process = spawn(*RUN, "store=runs")
        while len(files(tmp_path / "runs")) < moment and process.poll() is None:
            time.sleep(0.005)
        shutil.rmtree(tmp_path / "runs" / "cache", ignore_errors=True)
        code, output = end(process)
        assert "Traceback" not in output, output
        assert code in (0, 2), output
        if code == 2:
            assert "same command" in output or "cannot write" in output, output
        check_sound(tmp_path / "runs")
        assert end(spawn(*RUN, "store=runs"))[0] == 0
        check_same(tmp_path / "runs", tmp_path / "whole")
        shutil.rmtree(tmp_path / "runs")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere; a mounted disk is tried above")
def test_a_store_without_permission_takes_no_run(bench, tmp_path):
    assert bench(*RUN, "store=runs")[0] == 0
    (tmp_path / "runs").chmod(0o500)
    try:
        code, _, err = bench(*RUN, "store=runs", "--seeds", "1")
    finally:
        (tmp_path / "runs").chmod(0o700)
    assert code == 2 and "cannot be written" in err
