"""How many processes make batches: none where they would take the cores that train, else one a core, 16 at most."""

import pytest
import torch

from bench import machine
from bench.config import configurations
from bench.engine import Engine
from bench.machine import MOST_WORKERS, Machine
from bench.plan import make_plan
from bench.spec import resolve
from bench.workspace import Workspace


@pytest.fixture
def workers(tmp_path, monkeypatch):
    """The number for a device, on a machine of some cores; `asked` is what the command line says."""
    (config,) = configurations(["method=finetune", "protocol=voc_15-5", "track=demo", "backbone=deeplab"])
    workspace = Workspace(tmp_path)
    plan = make_plan(resolve(config), workspace)

    def count(device: str, cores: int, asked: int | None = None, jobs: int = 1) -> int:
        monkeypatch.setattr(machine, "usable_cpus", lambda: cores)
        here = Machine(torch.device(device), "fp32", torch.contiguous_format, asked, 60)
        return Engine(plan, workspace, here, None, jobs).workers

    return count


def test_rendered_scenes_on_the_cpu_need_no_process(workers):
    assert workers("cpu", 8) == 0


def test_on_a_gpu_rendered_scenes_are_made_beside_training(workers):
    assert workers("cuda", 8) == 8
    assert workers("cuda", 1) == 1
    assert workers("cuda", 64) == MOST_WORKERS


def test_what_is_asked_for_holds(workers):
    assert workers("cpu", 8, asked=3) == 3
    assert workers("cuda", 8, asked=0) == 0


def test_runs_side_by_side_share_the_cores(workers):
    assert [workers("cuda", 32, jobs=jobs) for jobs in (1, 4, 64)] == [MOST_WORKERS, 8, 1]
    assert workers("cpu", 32, jobs=4) == 0
    assert workers("cuda", 32, asked=12, jobs=4) == 12
