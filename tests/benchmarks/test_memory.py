"""What a full-size training step holds in memory at most, beside the same step written naively in float32.

Counted on tensors without data, so that no GPU is needed. ResNet-101 alone: on a GPU autocast casts a transformer's
norms, as it does not on the CPU, whose rules are counted here; of convolutions and batch norms both think the same.
"""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import methods
from bench.train import loss_values
from methods.base import Batch, Method
from methods.nn.network import NetworkConfig, build
from protocols import load
from tests.benchmarks.byte_counts import LiveBytes, without_data

BATCH, CROP = 24, 512
AIM = 0.6  # of the naive step's bytes, for MiB


def in_last_step(name: str, protocol: str, memory_format: torch.memory_format) -> Method:
    """A method on ResNet-101 in the last step, with the most slots; its tensors have values."""
    method_class = methods.get(name).method
    method = method_class(method_class.Config(), build(NetworkConfig("deeplab", "none", CROP)))
    for step in load(protocol).steps:
        method.begin_step(step.visible())
    return method.to(memory_format=memory_format).train()


def peak_of_a_step(method: Method, precision: torch.dtype, memory_format: torch.memory_format, iterations: int) -> int:
    """Bytes at the peak of some iterations; from the second on the optimiser's momentum is there, too."""
    mode = FakeTensorMode()
    for module in (method, method.teacher):
        without_data(module, mode)
    with mode:
        optimiser = torch.optim.SGD(method.parameter_groups(method.step), lr=0.01, momentum=0.9)
        images = torch.empty(BATCH, 3, CROP, CROP).contiguous(memory_format=memory_format)
        labels = torch.empty(BATCH, CROP, CROP, dtype=torch.int64)
        batch = Batch(images, labels, tuple(map(str, range(BATCH))))
        networks = [*method.state_dict(keep_vars=True).values(), *method.teacher.state_dict(keep_vars=True).values()]
        with LiveBytes([*networks, images, labels]) as memory:
            for _ in range(iterations):
                with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
                    values = loss_values(method(batch))
                sum(values.values()).backward()
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
    return memory.peak


@pytest.mark.benchmark(group=f"memory of a training step of an increment, {BATCH} x {CROP} x {CROP}")
@pytest.mark.parametrize("name", ["mib", "plop", "lwf", "ilt"])
@pytest.mark.parametrize("protocol", ["voc_15-1", "ade_100-10"])
def test_a_step_takes_less_memory_than_a_naive_one(benchmark, capsys, monkeypatch, name, protocol):
    if not benchmark.enabled and (name, protocol) != ("mib", "voc_15-1"):
        pytest.skip("one of them shows that it works; `make bench` counts them all")
    iterations = 2 if benchmark.enabled else 1
    method = in_last_step(name, protocol, torch.channels_last)
    step = benchmark.pedantic(peak_of_a_step, (method, torch.bfloat16, torch.channels_last, iterations), rounds=1)
    monkeypatch.setattr("methods.nn.image_size.PART_BYTES", 2**60)  # all images at once
    method = in_last_step(name, protocol, torch.contiguous_format)
    naive = peak_of_a_step(method, torch.float32, torch.contiguous_format, iterations)
    benchmark.extra_info |= {"GiB": round(step / 2**30, 2), "ratio to a naive step": round(step / naive, 3)}
    with capsys.disabled():
        text = f"{step / 2**30:.1f} GiB, naive {naive / 2**30:.1f} GiB, ratio {step / naive:.2f}"
        print(f"\n{name} on deeplab in {protocol}: {text}" if benchmark.enabled else "", end="")
    assert step / naive < (AIM if name == "mib" else 1)


def test_live_bytes_are_those_of_storages():
    held = torch.empty(1000)
    with LiveBytes([held]) as memory:
        grown = torch.empty(250) + 1  # 1,000 bytes twice, the first for a moment
        view = grown[:10]
        assert (memory.now, memory.peak) == (5000, 6000)
        del grown
        assert memory.now == 5000  # the view holds the storage
        del view
    assert (memory.now, memory.peak) == (4000, 6000)
