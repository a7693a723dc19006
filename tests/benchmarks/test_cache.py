"""Publishing and loading a trained step, beside the bare bytes."""

import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from bench.cache import StepCache

MEGABYTES = 64


@pytest.fixture
def tensors():
    return {f"layer{i}": torch.rand(MEGABYTES, 2**15) for i in range(8)}


@pytest.mark.benchmark(group=f"cache: a step of {MEGABYTES} MB")
def test_publishing_beside_writing(beside, tmp_path, tensors):
    cache, names = StepCache(tmp_path / "cache"), iter(range(10**9))

    def floor():
        path = tmp_path / f"bare{next(names)}.safetensors"  # a new file each time, as the cache writes one
        save_file(tensors, path)
        with open(path, "rb") as file:
            os.fsync(file.fileno())

    beside(
        "publish (write, sha256, fsync, rename), beside write and fsync",
        lambda: cache.publish(f"step{next(names)}", tensors, {}, [{"iteration": 1, "ce": 0.5}]),
        floor,
        rounds=5,
    )


@pytest.mark.benchmark(group=f"cache: a step of {MEGABYTES} MB")
def test_verified_loading_beside_reading(beside, tmp_path, tensors):
    cache = StepCache(tmp_path / "cache")
    cache.publish("step", tensors, {}, [])

    def work():
        cache.verify("step")
        return cache.load("step")

    beside("verify and load, beside load", work, lambda: load_file(cache.step_folder("step") / "weights.safetensors"))
