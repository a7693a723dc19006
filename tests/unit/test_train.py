"""The training loop: schedules, accumulation, log, faults, and going on after an interruption."""

import itertools
from dataclasses import replace

import pytest
import torch

from bench.config import Phase, TrainSection
from bench.data.views import RawBatch
from bench.machine import Machine
from bench.train import LOG_EVERY, NonFiniteLoss, StepTraining, make_optimiser, rate, train_step
from methods.base import MethodConfig, Term
from methods.finetune import Finetune
from methods.nn.network import NetworkConfig, build
from protocols import load

ITERATIONS = 2 * LOG_EVERY + 5
MACHINE = Machine(torch.device("cpu"), "fp32", torch.contiguous_format, 0, 1e9)


def recipe(**changes):
    base = TrainSection(batch=4, crop=32, schedule="poly", precision="fp32")
    return replace(base, **{"base": Phase(lr=0.01, iterations=ITERATIONS), **changes})


def batches(first):
    for i in range(first, ITERATIONS):
        generator = torch.Generator().manual_seed(i)
        images = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8, generator=generator)
        labels = torch.randint(11, (4, 32, 32), dtype=torch.uint8, generator=generator)
        yield RawBatch(images, labels, ("a", "b", "c", "d"))


def fresh(method_class=Finetune):
    torch.manual_seed(0)
    method = method_class(MethodConfig(), build(NetworkConfig("deeplab-tiny", "none", 32)))
    method.begin_step(load("voc_10-1").steps[0].visible())
    return method


def run(method, tmp_path, machine=MACHINE, section=None, source=batches):
    section = section or recipe()
    training = StepTraining(section, section.base, ITERATIONS, source, tmp_path / "rolling" / "at.safetensors")
    normalise = machine.normaliser((0.5,) * 3, (0.25,) * 3)
    return train_step(method, training, machine, normalise, lambda *_: None)


def test_poly_falls_to_zero_and_constant_stays():
    poly = [rate(recipe(power=1.0), Phase(lr=0.1), i, 10) for i in range(10)]
    assert poly == pytest.approx([0.1 * (1 - i / 10) for i in range(10)])
    assert [rate(recipe(schedule="constant"), Phase(lr=0.1), i, 10) for i in range(10)] == [0.1] * 10


def test_warm_up_rises_linearly_over_its_share():
    rates = [rate(recipe(schedule="constant", warmup=0.4), Phase(lr=1.0), i, 10) for i in range(10)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 1])


def test_groups_scale_the_rate_and_set_their_own_decay():
    weight, bias = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    groups = [{"params": [weight], "lr_scale": 0.1}, {"params": [bias], "weight_decay": 0.0}]
    optimiser = make_optimiser(recipe(weight_decay=0.01), groups, [], torch.device("cpu"))
    assert [(g["lr_scale"], g["weight_decay"]) for g in optimiser.param_groups] == [(0.1, 0.01), (1.0, 0.0)]


def test_the_encoder_learns_at_its_own_rate_in_whichever_group_it_is():
    a, b, c = (torch.nn.Parameter(torch.ones(2)) for _ in range(3))
    groups = [{"params": [a, b], "lr_scale": 0.5}, {"params": [c], "weight_decay": 0.0}]
    optimiser = make_optimiser(recipe(encoder_lr=0.1), groups, [b, c], torch.device("cpu"))
    rates = {id(p): (g["lr_scale"], g["weight_decay"]) for g in optimiser.param_groups for p in g["params"]}
    assert rates[id(a)] == (0.5, 0.0) and rates[id(b)] == pytest.approx((0.05, 0.0))
    assert rates[id(c)] == pytest.approx((0.1, 0.0)) and len(optimiser.param_groups) == 3


def test_the_log_holds_means_over_its_iterations(tmp_path):
    class Counting(Finetune):
        calls = itertools.count(1)

        def forward(self, batch):
            value = super().forward(batch)["ce"].value
            return {"ce": value * 0 + next(self.calls), "kd": Term(value * 0 + 6.0, torch.tensor(3), weight=0.5)}

    position = run(fresh(Counting), tmp_path)
    assert [row["iteration"] for row in position.log] == [20, 40, 45]
    assert [row["ce"] for row in position.log] == [10.5, 30.5, 43.0]
    assert [row["kd"] for row in position.log] == [1.0, 1.0, 1.0]


def test_training_lowers_the_loss(tmp_path):
    def bright_or_dark(first):
        for batch in batches(first):
            bright = torch.arange(4).view(4, 1, 1) % 2
            yield RawBatch(batch.images // 2 + 120 * bright.unsqueeze(1), (3 + bright).expand(4, 32, 32), batch.ids)

    log = run(fresh(), tmp_path, source=bright_or_dark).log
    assert log[-1]["ce"] < 0.5 * log[0]["ce"]


class Interrupted(Exception):
    pass


def test_a_step_that_was_interrupted_ends_bit_equal(tmp_path):
    whole = fresh()
    expected = run(whole, tmp_path / "whole")

    def interrupted(first):
        for i, batch in enumerate(batches(first), first):
            if i == LOG_EVERY + 7:
                raise Interrupted
            yield batch

    eager = replace(MACHINE, checkpoint_seconds=0.0)
    with pytest.raises(Interrupted):
        run(fresh(), tmp_path, eager, source=interrupted)
    started = []

    def resumed(first):
        started.append(first)
        return batches(first)

    again = fresh()
    position = run(again, tmp_path, eager, source=resumed)
    assert started == [LOG_EVERY]
    assert position.log == expected.log
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


@pytest.mark.parametrize(
    ("seconds", "writing", "expected"),
    [
        (30.0, 0.25, [40, 80, 120, 160, 200]),  # every 30 seconds: at the first row after them
        (30.0, 0.5, [40, 100, 160]),  # 50 seconds
        (30.0, 0.9, [40, 140]),  # 90
        (0.0, 0.9, list(range(20, 220, 20))),
    ],
)
def test_checkpoints_take_a_hundredth_of_the_time_at_most(tmp_path, monkeypatch, seconds, writing, expected):
    """An iteration takes a second, writing a checkpoint `writing` of them."""
    now, saved = 0.0, []

    def tick(seconds):
        nonlocal now
        now += seconds

    def save(path, method, optimiser, position):
        saved.append(position.iteration)
        tick(writing)

    class Second(Finetune):
        def forward(self, batch):
            tick(1.0)
            return {"ce": next(self.parameters()).sum()}

    monkeypatch.setattr("bench.train.time.monotonic", lambda: now)
    monkeypatch.setattr("bench.train.rolling.save", save)
    long = recipe(base=Phase(lr=0.01, iterations=220))
    same = [next(batches(0))] * 220
    training = StepTraining(long, long.base, 220, lambda first: same, tmp_path / "at.safetensors")
    machine = replace(MACHINE, checkpoint_seconds=seconds)
    train_step(fresh(Second), training, machine, machine.normaliser((0.5,) * 3, (0.25,) * 3), lambda *_: None)
    assert saved == expected


def test_accumulation_changes_memory_not_the_gradient(tmp_path):
    """On a network without batch statistics, two halves of a batch give the gradient of the whole."""

    def trained(parts):
        torch.manual_seed(0)
        method = Finetune(MethodConfig(), build(NetworkConfig("segmenter-tiny", "none", 32)))
        method.begin_step(load("voc_10-1").steps[0].visible())
        run(method, tmp_path / str(parts), section=recipe(accumulate=parts))
        return method.state_dict()

    whole, halves = trained(1), trained(2)
    for name, value in whole.items():
        torch.testing.assert_close(halves[name], value, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_step_and_says_where(tmp_path, value):
    class Broken(Finetune):
        calls = itertools.count()

        def forward(self, batch):
            terms = super().forward(batch)
            return {**terms, "extra": terms["ce"].value * (value if next(self.calls) == 25 else 0.0)}

    with pytest.raises(NonFiniteLoss, match=r"is not finite in step 0 by iteration 40 .*lr"):
        run(fresh(Broken), tmp_path)
