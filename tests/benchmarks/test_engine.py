"""What the engine costs: its loop beside the bare one, on the same network, data and loss."""

import time

import numpy as np
import pytest
import torch

from bench.config import Phase, TrainSection
from bench.data.base import open_data
from bench.data.transforms import TrainTransform
from bench.data.views import make_loader, step_view
from bench.evaluate import count_confusion
from bench.machine import Machine
from bench.train import StepTraining, make_optimiser, train_step
from methods.base import MethodConfig
from methods.finetune import Finetune
from methods.nn.network import NetworkConfig, build
from protocols import load

ITERATIONS, BATCH = 8, 16
MACHINE = Machine(torch.device("cpu"), "bf16", torch.channels_last, 0, 1e9)
CPU_TIME = {"rounds": 9, "clock": time.process_time}
RECIPE = TrainSection(batch=BATCH, crop=64, base=Phase(lr=0.01, iterations=ITERATIONS))


@pytest.fixture(autouse=True)
def one_thread():
    """Threads that wait for each other count as CPU time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def view():
    data = open_data("shapes", "train", train_images=200)
    step = load("voc_10-1").steps[0]
    return step_view(data, np.arange(len(data)), load("voc_10-1").training_table(step), "benchmark")


def learner(network: str):
    torch.manual_seed(0)
    method = Finetune(MethodConfig(), build(NetworkConfig(network, "none", 64)))
    method.begin_step(load("voc_10-1").steps[0].visible())
    return method.to(memory_format=torch.channels_last).train()


def loader(view, first=0):
    return make_loader(view, TrainTransform(64), 0, BATCH, first, ITERATIONS, 0)


def engine_loop(method, batches, path):
    """The engine's loop over raw batches."""
    training = StepTraining(RECIPE, RECIPE.base, ITERATIONS, batches, path)
    normalise = MACHINE.normaliser(method.network.mean, method.network.std)
    return lambda: train_step(method, training, MACHINE, normalise, lambda *_: None)


def bare_loop(method, view):
    """The loop that anyone would write, over batches that lie normalised in memory."""
    normalise = MACHINE.normaliser(method.network.mean, method.network.std)
    batches = [normalise(raw) for raw in loader(view)]
    optimiser = make_optimiser(RECIPE, method.parameter_groups(method.step), [], torch.device("cpu"))

    def loop():
        for batch in batches:
            with MACHINE.autocast():
                loss = method(batch)["ce"].value
            loss.backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    return loop


@pytest.mark.benchmark(group="engine: 8 iterations of 16 scenes")
@pytest.mark.parametrize("network", ["deeplab-tiny", "segmenter-tiny"])
def test_the_engine_on_batches_in_memory(beside, view, tmp_path, network):
    raw = list(loader(view))
    method = learner(network)
    work = engine_loop(method, lambda first: raw[first:], tmp_path / "none")
    beside(f"the engine's loop on {network}, batches in memory", work, bare_loop(method, view), **CPU_TIME)


@pytest.mark.benchmark(group="engine: 8 iterations of 16 scenes")
@pytest.mark.parametrize("network", ["deeplab-tiny", "segmenter-tiny"])
def test_the_engine_with_its_data(beside, view, tmp_path, network):
    list(loader(view))  # renders the scenes
    method = learner(network)
    work = engine_loop(method, lambda first: loader(view, first), tmp_path / "none")
    beside(f"the engine's loop on {network}, batches made on the way", work, bare_loop(method, view), **CPU_TIME)


@pytest.mark.benchmark(group="evaluation")
def test_counts_beside_a_bare_bincount(beside):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(21, (32, 64, 64), generator=generator)
    predictions = torch.randint(21, (32, 64, 64), generator=generator)
    scopes = torch.randint(3, (32,), generator=generator)
    cells = (labels * 21 + predictions).flatten()
    beside(
        "counts of 32 label maps of 64 x 64, beside one bincount",
        lambda: count_confusion(labels, predictions, scopes, (3, 21, 21)),
        lambda: cells.bincount(minlength=3 * 21 * 21),
    )


@pytest.mark.benchmark(group="evaluation")
def test_evaluation_beside_its_forward(beside, view):
    method = learner("segmenter-tiny").eval()
    images = torch.rand(32, 3, 64, 64)
    labels = torch.randint(21, (32, 64, 64))
    scopes = torch.ones(32, dtype=torch.int64)

    @torch.inference_mode()
    def work():
        predictions = method.decide(method.logits(images))
        return count_confusion(labels, predictions, scopes, (3, 21, method.step.n_slots))

    @torch.inference_mode()
    def floor():
        return method.network(images).logits

    beside("prediction and counts of 32 scenes, beside the forward", work, floor)
