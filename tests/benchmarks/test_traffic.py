"""How many bytes the losses of a full-size increment move, beside the six passes that no way of computing them avoids:
logits written by the interpolation and read by the loss, their gradient written and read, the teacher's logits written
and read, all float32.

Counted on small maps: every operation is pixel by pixel, so bytes follow the number of pixels.
"""

import pytest
import torch

import methods
from bench.train import loss_values
from methods.base import Batch, Method
from methods.nn.network import Network, Output
from protocols import load
from tests.benchmarks.byte_counts import MovedBytes

BATCH, SIDE, STRIDE = 2, 128, 16
FULL = 24 * 512 * 512 / (BATCH * SIDE * SIDE)  # pixels of the published batch, in those that are counted


class Maps(Network):
    """A network that computes nothing: its logits are there already."""

    def __init__(self, slots: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(slots)
        self.low = torch.nn.Parameter(torch.randn(BATCH, slots, SIDE // STRIDE, SIDE // STRIDE, generator=generator))

    n_slots = property(lambda self: self.low.shape[1])

    def grow(self, n_new, init="background"): ...

    def forward(self, images, taps=False):
        return Output(self.low, self.low, self.low)

    def class_vectors(self):
        return self.low[0, :, 0]

    def encoder_parameters(self):
        return []

    head_parameters = encoder_parameters


def in_last_step(name: str, protocol: str) -> Method:
    """A method in the last step of a protocol, with the logits of student and teacher at hand."""
    step = load(protocol).steps[-1].visible()
    method_class = methods.get(name).method
    options = {"plop": {"distil": False}}.get(name, {})  # POD is of features
    method = method_class(method_class.Config(**options), Maps(step.n_slots))
    method.step = step
    object.__setattr__(method, "teacher", Maps(step.n_old_slots).requires_grad_(False))
    return method


@pytest.mark.benchmark(group="bytes that the losses of an increment move")
@pytest.mark.parametrize("name", ["lwf", "mib", "plop"])
@pytest.mark.parametrize("protocol", ["voc_15-1", "ade_100-10"])
@pytest.mark.parametrize("parts", [False, True], ids=["whole", "parts"])
def test_bytes_that_losses_move(benchmark, capsys, monkeypatch, name, protocol, parts):
    method = in_last_step(name, protocol)
    step = method.step
    monkeypatch.setattr("methods.nn.image_size.PART_BYTES", 1 if parts else 2**60)
    labels = torch.randint(step.n_old_slots, step.n_slots, (BATCH, SIDE, SIDE))
    labels[:, : SIDE // 2] = 0
    batch = Batch(torch.empty(BATCH, 3, SIDE, SIDE), labels, ("a", "b"))

    def count() -> int:
        with MovedBytes() as moved:
            sum(loss_values(method(batch)).values()).backward()
        return moved.total

    found = benchmark.pedantic(count, rounds=1)
    floor = 4 * labels.numel() * (4 * step.n_slots + 2 * step.n_old_slots)
    gigabytes = FULL * found / 1e9
    benchmark.extra_info |= {"GB at full size": round(gigabytes, 1), "ratio to the floor": round(found / floor, 2)}
    with capsys.disabled():
        text = f"{gigabytes:.1f} GB at full size, {found / floor:.1f} times the floor of {FULL * floor / 1e9:.1f} GB"
        how = "in parts" if parts else "all at once"
        print(f"\n{name} on {protocol}, {how}: {text}" if benchmark.enabled else "", end="")
    assert found > floor


def test_moved_bytes_are_those_read_and_written():
    with MovedBytes() as moved:
        one = torch.ones(250)  # written
        assert moved.total == 1000
        view = one[:100] + 1  # the view is read, as much is written
        assert moved.total == 1800
        view.add_(1)  # read and written
    assert moved.total == 2600
