"""A signal to a run on two processes."""

import signal
import time

import pytest

from tests.e2e.test_several_processes import arguments, runs_of, torchrun

__all__ = ["torchrun"]
pytestmark = pytest.mark.timeout(900)  # processes that each start PyTorch, on a machine that may be busy


def test_a_signal_ends_both_at_a_checkpoint_from_which_both_go_on(torchrun, tmp_path):
    words = arguments("mib", "train.base.iterations=100", "train.increment.iterations=2")
    output, _ = (process := torchrun(*words, "store=whole")).communicate(timeout=400)
    assert process.returncode == 0, output
    process = torchrun(*words, "store=told")
    deadline = time.monotonic() + 400
    while not list(tmp_path.glob("told/cache/locks/*.lock")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(1.0)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=400)
    assert process.returncode != 0 and "ended by SIGTERM; the same command goes on from here" in output, output
    assert len(list(tmp_path.glob("told/cache/rolling/[!.]*.safetensors"))) == 1, output
    output, _ = (process := torchrun(*words, "store=told")).communicate(timeout=400)
    assert process.returncode == 0, output
    (whole,), (told,) = (runs_of(tmp_path / store).values() for store in ("whole", "told"))
    assert (whole.path / "log.csv").read_text() == (told.path / "log.csv").read_text()
    assert (whole.path / "counts.npz").read_bytes() == (told.path / "counts.npz").read_bytes()
