"""What an iteration costs: the engine's loop beside the bare one, the data that feeds it, the counts after it.

Compare two states of the code with `pytest-benchmark compare`; compare figures within one run only, as ratios.
"""

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
from methods.base import Batch, MethodConfig
from methods.finetune import Finetune
from methods.nn.network import NetworkConfig, build
from protocols import load

ITERATIONS, BATCH = 20, 16
MACHINE = Machine(torch.device("cpu"), "fp32", torch.channels_last, 0, 1e9)
RECIPE = TrainSection(batch=BATCH, crop=64, base=Phase(lr=0.01, iterations=ITERATIONS))


@pytest.fixture(scope="module")
def view():
    data = open_data("shapes", "train", train_images=200)
    step = load("voc_10-1").steps[0]
    return step_view(data, np.arange(len(data)), load("voc_10-1").training_table(step), "benchmark")


def learner():
    torch.manual_seed(0)
    method = Finetune(MethodConfig(), build(NetworkConfig("deeplab-tiny", "none", 64)))
    method.begin_step(load("voc_10-1").steps[0].visible())
    return method.to(memory_format=torch.channels_last).train()


def loader(view, first=0):
    return make_loader(view, TrainTransform(64), 0, BATCH, first, ITERATIONS, 0)


@pytest.mark.benchmark(group="training: 20 iterations of 16 scenes")
def test_the_engine(benchmark, view, tmp_path):
    method = learner()
    training = StepTraining(RECIPE, RECIPE.base, ITERATIONS, lambda first: loader(view, first), tmp_path / "none")
    normalise = MACHINE.normaliser(method.network.mean, method.network.std)
    benchmark(train_step, method, training, MACHINE, normalise, lambda *_: None)


@pytest.mark.benchmark(group="training: 20 iterations of 16 scenes")
def test_the_bare_loop_on_batches_in_memory(benchmark, view):
    method = learner()
    normalise = MACHINE.normaliser(method.network.mean, method.network.std)
    batches: list[Batch] = [normalise(raw) for raw in loader(view)]
    optimiser = make_optimiser(RECIPE, method.parameter_groups(method.step), [], torch.device("cpu"))

    def loop():
        for batch in batches:
            method(batch)["ce"].value.backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    benchmark(loop)


@pytest.mark.benchmark(group="data: 20 batches of 16 scenes")
def test_batches(benchmark, view):
    list(loader(view))  # renders the scenes
    benchmark(lambda: sum(len(raw.ids) for raw in loader(view)))


@pytest.mark.benchmark(group="counts: 32 label maps of 64 x 64")
def test_counts(benchmark):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(21, (32, 64, 64), generator=generator)
    predictions = torch.randint(21, (32, 64, 64), generator=generator)
    scopes = torch.randint(3, (32,), generator=generator)
    benchmark(count_confusion, labels, predictions, scopes, (3, 21, 21))
