"""A training step never waits for the device: nothing in it asks what a value is, or brings one from the host.

Where there is no GPU, the operations that would make one wait are looked for instead.
"""

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import methods
from bench.contract import Trial
from bench.train import loss_values
from methods.base import Term

# item, bool(); boolean masks as indices; sizes that depend on values; numbers made into tensors on the host
WAITING = ("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "unique", "bincount", "lift_fresh")
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
        return operation(*arguments, **(options or {}))


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


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).any()),
        lambda x: x[x > 0],
        lambda x: x.masked_select(x > 0),
        lambda x: x.new_tensor(3),
        lambda x: torch.where(x > 0),
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
