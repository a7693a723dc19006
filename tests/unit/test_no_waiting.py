"""Neither a training step nor a batch of evaluation waits for the device: nothing in it asks what a value is, or
brings one from the host.

Where there is no GPU, the operations that would make one wait are looked for instead.
"""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import methods
from bench.contract import Trial
from bench.data.views import RawBatch
from bench.evaluate import evaluate
from bench.machine import Machine
from bench.train import loss_values
from methods.base import Term

# item, bool(); boolean masks as indices; sizes that depend on values; numbers made into tensors on the host
WAITING = ("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "unique", "bincount", "lift_fresh")
MOVING = (torch.ops.aten._to_copy, torch.ops.aten.to)  # the second in inference mode
LEARNING = [(name, kind) for name in methods.names() for kind in methods.get(name).method.backbones]


class Watch(TorchDispatchMode):
    """Notes the operations that make the host wait for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        masks = operation.overloadpacket in (torch.ops.aten.index, torch.ops.aten.index_put, torch.ops.aten.index_put_)
        if masks and any(place is not None and place.dtype == torch.bool for place in arguments[1]):
            self.found.append(f"{operation} by a boolean mask")
        if any(name in str(operation) for name in WAITING):
            self.found.append(str(operation))
        options = options or {}
        moved = operation.overloadpacket in MOVING and options.get("device", arguments[0].device) != arguments[0].device
        if moved and not options.get("non_blocking"):
            self.found.append(f"{operation} to {options['device']}")
        return operation(*arguments, **options)


@pytest.mark.parametrize(("name", "backbone"), LEARNING)
@pytest.mark.parametrize("index", [0, 1])
def test_no_training_step_waits(name, backbone, index):
    trial = Trial(methods.get(name), backbone)
    method = trial.trained(0) if index else trial.fresh()
    trial.enter(method, index)
    batch = trial.batch(index)
    method.prepare(trial.steps[index], [batch])
    with Watch() as watch:
        sum(loss_values(method.train()(batch)).values()).backward()
    assert watch.found == []


class Enough(Exception):
    pass


@pytest.mark.parametrize(
    ("name", "backbone", "crop"),  # no shipped method predicts in a way of its own; crop: of whole images, in windows
    [
        ("finetune", "deeplab", None),
        ("finetune", "segmenter", None),
        ("lbd", "segmenter", None),
        ("mib", "segmenter", 48),
    ],
)
def test_no_batch_of_evaluation_waits(name, backbone, crop, monkeypatch):
    """On the device without data, where nothing can be asked for, counts are made as on a GPU."""
    monkeypatch.setattr(Machine, "autocast", lambda machine: nullcontext())  # there is none for that device
    trial = Trial(methods.get(name), backbone)
    method = trial.enter(trial.fresh(), 0).to("meta")
    machine = Machine(torch.device("meta"), "fp32", torch.contiguous_format, 0, 60)
    normalise = machine.normaliser((0.5,) * 3, (0.25,) * 3)
    images, labels = torch.zeros(2, 3, 48, 64, dtype=torch.uint8), torch.zeros(2, 48, 64, dtype=torch.uint8)
    found = []

    def progress(done):
        found.append(len(watch.found))
        if done == 4:
            raise Enough

    with pytest.raises(Enough), Watch() as watch:
        batches = [RawBatch(images, labels, ("a", "b"))] * 2
        evaluate(method, batches, np.zeros(4, dtype=np.int64), 21, machine, normalise, progress, crop)
    assert found[0] == found[1], watch.found  # the scopes of all images came before


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).any()),
        lambda x: x[x > 0],
        lambda x: x.masked_select(x > 0),
        lambda x: x.new_tensor(3),
        lambda x: torch.where(x > 0),
        lambda x: x.to("meta"),
    ],
)
def test_the_watch_sees_what_waits(wait):
    values: Tensor = torch.ones(3)
    with Watch() as watch:
        wait(values)
    assert watch.found


def test_terms_bring_no_number_from_the_host():
    with Watch() as watch:
        assert Term.mean_of(torch.ones(4)).value == 1
        assert Term.mean_over(3, torch.ones(())).value == 1
    assert watch.found == ["aten._local_scalar_dense.default"] * 2  # of these comparisons themselves
