"""Where runs go: how many at once, on which seats, in which order, and what Hydra is told."""

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bench import interruption, launch, launchers, seats
from bench.launchers import Launcher
from bench.seats import Seats
from protocols import InputError


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr(launchers, "_is_installed", lambda module: True)


@pytest.fixture
def host(monkeypatch):
    """Sets the cores and CUDA devices that there seem to be."""

    def set_to(cores: int, devices: int) -> None:
        monkeypatch.setattr(launchers, "usable_cpus", lambda: cores)
        monkeypatch.setattr(seats, "usable_cpus", lambda: cores)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)

    return set_to


@pytest.mark.parametrize(
    ("cores", "devices", "runs", "device", "threads", "jobs", "expected"),
    [
        (16, 0, 21, "auto", None, None, 16),
        (16, 0, 21, "auto", 4, None, 4),
        (16, 0, 3, "auto", 4, None, 3),
        (2, 0, 3, "auto", 4, None, 1),
        (16, 2, 21, "auto", None, None, 2),
        (16, 2, 21, "cpu", 8, None, 2),
        (16, 2, 21, "auto", None, 5, 5),
        (16, 2, 3, "auto", None, 5, 3),
    ],
)
def test_as_many_at_once_as_there_are_devices_or_cores_for(
    installed, host, cores, devices, runs, device, threads, jobs, expected
):
    host(cores, devices)
    assert Launcher("joblib", jobs).jobs_at_once(runs, device, threads) == expected


def test_what_hydra_is_told(installed):
    assert Launcher().overrides(1, "auto") == []
    joblib = Launcher("joblib", options=("hydra.launcher.verbose=1",)).overrides(3, "auto")
    assert joblib[0] == "hydra/launcher=joblib" and "hydra.launcher.n_jobs=3" in joblib
    assert joblib[-1] == "hydra.launcher.verbose=1"
    slurm = Launcher("slurm", 4).overrides(4, "auto")
    assert slurm[0] == "hydra/launcher=submitit_slurm" and "hydra.launcher.gpus_per_node=1" in slurm
    assert "hydra.launcher.array_parallelism=4" in slurm
    assert not any("gpus" in text for text in Launcher("slurm").overrides(4, "cpu"))


def test_jobs_of_a_cluster_are_described_where_its_machines_see_it(installed):
    scratch, store = Path("/scratch"), Path("/store")
    assert Launcher("joblib").folder(scratch, store, ["a"]) == scratch
    one, other = (Launcher("slurm").folder(scratch, store, runs) for runs in (["a"], ["a", "b"]))
    assert one.parent == other.parent == store / "cache" / "jobs" and one != other


def test_torchrun_and_a_launcher_do_not_go_together(installed, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="give one of the two"):
        Launcher("joblib")


def test_runs_with_different_bases_go_first():
    plans = [SimpleNamespace(steps=[SimpleNamespace(base_key=key)]) for key in "aabab"]
    assert launch._spread(plans) == [0, 2, 1, 4, 3]


def test_each_job_has_a_seat_of_its_own_and_its_share_of_the_cores(tmp_path, host):
    host(8, 0)
    before = torch.get_num_threads()
    both = Seats(tmp_path, 2)
    try:
        with both.taken("cpu", None) as one:
            assert torch.get_num_threads() == 4
            torch.set_num_threads(1)
            with both.taken("cpu", 1) as other:
                assert {one, other} == {0, 1} and torch.get_num_threads() == 1
                assert len(list(tmp_path.glob("*.process"))) == 2
            with both.taken("cpu", 1) as again:
                assert again == other
    finally:
        torch.set_num_threads(before)
    assert not list(tmp_path.glob("*.process"))


def test_on_gpus_too_jobs_share_the_cores_and_leave_no_memory_behind(tmp_path, host, monkeypatch):
    host(8, 2)
    done = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda place: done.append(place))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: done.append("emptied"))
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: done.append(f"{threads} threads"))
    both = Seats(tmp_path, 2)
    with pytest.raises(ZeroDivisionError), both.taken("auto", None), both.taken("auto", 3):
        raise ZeroDivisionError
    assert done == [0, "4 threads", 1, "emptied", "emptied"]


def _sit(folder: Path, ready) -> None:
    with Seats(folder, 1).taken("cpu", 1), interruption.obeyed(), interruption.postponed():
        ready.set()
        while not interruption.asked():
            time.sleep(0.01)
        time.sleep(0.3)
        (folder / "written").touch()


def test_dismissal_waits_for_what_jobs_still_write(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    job = context.Process(target=_sit, args=(tmp_path, ready))
    job.start()
    assert ready.wait(60)
    Seats(tmp_path, 1).dismiss(signal.SIGTERM)
    assert (tmp_path / "written").exists()
    job.join(60)
    assert job.exitcode == 143


def test_signals_are_left_alone_in_threads_and_handed_back(monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def elsewhere():
        with interruption.obeyed():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [before]
    monkeypatch.setattr(interruption, "_asked", None)
    with pytest.raises(SystemExit) as ended, interruption.obeyed():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    assert ended.value.code == 143 and signal.getsignal(signal.SIGTERM) is before


def test_whoever_handled_a_signal_before_is_asked_once_it_is_safe(monkeypatch):
    monkeypatch.setattr(interruption, "_asked", None)
    order = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: order.append("requeued"))
    try:
        with pytest.raises(interruption.Stopped), interruption.obeyed(lambda number: order.append("passed on")):
            with interruption.postponed():
                os.kill(os.getpid(), signal.SIGUSR2)
                time.sleep(0.05)
                order.append("written")
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert order == ["written", "passed on", "requeued"]
