"""What a training step of each method costs beside its parts: one teacher forward, one student forward and backward."""

import pytest
import torch

import methods
from bench.contract import Trial
from bench.train import loss_values
from methods.base import Batch, cross_entropy

BATCH = 16
PAIRS = [
    (name, backbone) for name in methods.names() if name != "joint" for backbone in methods.get(name).method.backbones
]


def batch(trial: Trial) -> Batch:
    """16 scenes' worth of random pixels and blocks of labels, in an increment."""
    parts = [trial.batch(1, seed) for seed in range(BATCH // 4)]
    images = torch.cat([part.images for part in parts]).contiguous(memory_format=torch.channels_last)
    return Batch(images, torch.cat([part.labels for part in parts]), tuple(str(i) for i in range(BATCH)))


@pytest.mark.benchmark(group="training step of an increment, 16 x 64 x 64")
@pytest.mark.parametrize(("name", "backbone"), PAIRS)
def test_a_training_step_beside_its_parts(beside, name, backbone):
    trial = Trial(methods.get(name), backbone)
    method = trial.trained(0)
    trial.enter(method, 1).to(memory_format=torch.channels_last)
    data = batch(trial)
    method.prepare(trial.steps[1], [data])

    def step() -> None:
        sum(loss_values(method(data)).values()).backward()
        method.zero_grad(set_to_none=True)

    def parts() -> None:
        if method.teacher is not None:
            method.teacher_logits(data.images)
        cross_entropy(method.logits(data.images), data.labels).value.backward()
        method.zero_grad(set_to_none=True)

    beside(f"{name} on {backbone}-tiny, beside its forwards and backward", step, parts)
