"""torch.compile on request: the same losses, and a note instead of a fault where it does not work."""

import pytest
import torch
from functorch.compile import nop
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.utils import counters

from bench import compiling
from bench.compiling import compiled
from methods.base import cross_entropy_on
from methods.nn.image_size import at_image_size


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """As in a process where nothing has failed yet."""
    monkeypatch.setattr(compiling, "_refused", False)


class Losses(torch.nn.Module):
    """A layer that grows, as a network does from step to step."""

    def __init__(self):
        super().__init__()
        self.grow(2)

    def grow(self, slots: int) -> None:
        self.layer = torch.nn.Linear(3, slots)

    def forward(self, images):
        logits = self.layer(images)
        return {"ce": logits.logsumexp(1).mean(), "l2": logits.square().mean()}


def test_losses_and_gradients_are_those_without(monkeypatch):
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module, **options: compile_(module, backend="aot_eager", **options))
    module, images = Losses(), torch.randn(5, 3)
    for slots in range(2, 14):  # more steps than torch.compile keeps versions of one function
        module.grow(slots)
        plain = module(images)
        sum(plain.values()).backward()
        expected = module.layer.weight.grad.clone()
        module.layer.weight.grad = None
        call = compiled(module)
        for _ in range(2):
            losses = call(images)
            assert losses.keys() == plain.keys()
            for name, value in losses.items():
                assert value.item() == pytest.approx(plain[name].item(), rel=1e-6)
        sum(losses.values()).backward()
        torch.testing.assert_close(module.layer.weight.grad, expected)


def broken(graph, inputs):
    raise RuntimeError("no compiler here")


@pytest.mark.parametrize(
    "backend", [broken, aot_autograd(fw_compiler=nop, bw_compiler=broken)], ids=["forward", "backward"]
)
def test_where_it_does_not_work_training_goes_on_and_a_line_says_so(monkeypatch, capsys, backend):
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module, **options: compile_(module, backend=backend, **options))
    module, images = Losses(), torch.randn(5, 3)
    call = compiled(module)
    for _ in range(3):
        losses = call(images)
        assert losses["ce"].item() == module(images)["ce"].item()
        sum(losses.values()).backward()
    assert compiled(module) is module and compiling.refused()  # it is not tried again
    said = capsys.readouterr().err
    assert said.count("no torch.compile") == 1 and "no compiler here" in said and "going on without" in said


def full(*arguments):
    raise torch.OutOfMemoryError("CUDA out of memory.")


def full_when_run(graph, inputs):
    return full


@pytest.mark.parametrize("backend", [full, full_when_run], ids=["compiling", "running"])
def test_too_little_memory_is_no_fault_of_the_compiler(monkeypatch, capsys, backend):
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module, **options: compile_(module, backend=backend, **options))
    call = compiled(Losses())
    for _ in range(2):
        with pytest.raises(torch.OutOfMemoryError):
            call(torch.randn(5, 3))
    assert not compiling.refused() and capsys.readouterr().err == ""


def test_a_fault_of_the_method_stays_one():
    def faulty(images):
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        compiled(faulty)(torch.zeros(1))


@pytest.mark.parametrize("part_bytes", [2**28, 1], ids=["whole", "parts"])
def test_a_loss_at_image_size_is_one_graph_in_parts_too(monkeypatch, part_bytes):
    monkeypatch.setattr("methods.nn.image_size.PART_BYTES", part_bytes)
    torch._dynamo.reset()
    counters.clear()
    loss = torch.compile(lambda *given: at_image_size(cross_entropy_on, *given).value, backend="aot_eager")
    for seed in range(2):
        torch.manual_seed(seed)
        labels, low = torch.randint(5, (3, 16, 16)), torch.randn(3, 5, 2, 2, requires_grad=True)
        values = [one(labels, low) for one in (loss, lambda *given: at_image_size(cross_entropy_on, *given).value)]
        gradients = [torch.autograd.grad(value, low)[0] for value in values]
        torch.testing.assert_close(*values)
        torch.testing.assert_close(*gradients)
    assert counters["stats"]["unique_graphs"] == 1 and not counters["graph_break"]
