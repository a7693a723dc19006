"""Estimates: seconds from measured rates, each step once; clocks that leave the first portion out."""

from types import SimpleNamespace

import pytest
import torch

from bench.estimate import Rates, total_seconds
from bench.meter import Clock, duration, memory_text


def plan_of(*iterations, images=10):
    steps = tuple(SimpleNamespace(iterations=count, place=place) for place, count in enumerate(iterations))
    spec = SimpleNamespace(config=SimpleNamespace(evaluation=SimpleNamespace(batch=4)))
    return SimpleNamespace(steps=steps, evaluation_view=range(images), spec=spec)


def test_each_step_takes_its_own_rate_and_later_ones_that_of_the_last_measured():
    plan = plan_of(100, 20, 20)
    rates = Rates([0.5, 1.0], [0.1, 0.2])
    assert total_seconds(rates, plan, plan.steps) == pytest.approx(100 * 0.5 + 1 + 2 * (20 * 1.0 + 2))
    assert total_seconds(rates, plan, plan.steps[2:]) == pytest.approx(22)
    assert total_seconds(rates, plan, []) == 0


def test_steps_without_images_are_only_evaluated():
    plan = plan_of(100, 0, 20)
    rates = Rates([0.5, None, 1.5], [0.1, 0.1, 0.1])
    assert total_seconds(rates, plan, plan.steps) == pytest.approx(50 + 1 + 1 + 31)


def test_several_processes_share_the_evaluation(monkeypatch):
    """10 images in batches of 4 are three batches, of which the first of two processes has two."""
    monkeypatch.setattr("bench.distributed.world", lambda: 2)
    plan = plan_of(100)
    assert total_seconds(Rates([0.5], [0.1]), plan, plan.steps) == pytest.approx(50 + 8 * 0.1)


def test_nothing_measured_is_unknown():
    plan = plan_of(100, 20)
    assert total_seconds(Rates([], []), plan, plan.steps) is None
    assert total_seconds(Rates([None], [0.1]), plan, plan.steps) is None


def test_a_clock_leaves_out_the_first_of_several_portions(monkeypatch):
    times = iter([0.0, 10.0, 12.0, 18.0])
    monkeypatch.setattr("bench.meter.time.monotonic", lambda: next(times))
    clock = Clock(torch.device("cpu"), 13)
    assert clock.seconds is None
    clock.done(5)
    assert clock.seconds == 2.0  # it is all there is
    clock.done(4)
    clock.done(4)
    assert clock.seconds == 1.0


@pytest.mark.parametrize(
    ("warm_up", "portions", "waits"),
    [(1, [1, 1], [0, 1]), (1, [1] * 5, [0, 4]), (2, [1] * 5, [1, 4]), (2, [1, 1], [1]), (1, [8, 8, 3], [0, 2])],
)
def test_a_clock_waits_for_a_gpu_after_the_warm_up_and_at_the_end_alone(monkeypatch, warm_up, portions, waits):
    """The device takes 3 seconds a unit, the host none: what it queues is done once it is waited for."""
    now, queued, waited = 0.0, 0, []

    def wait(device):
        nonlocal now, queued
        now, queued = now + 3.0 * queued, 0
        waited.append(at)

    monkeypatch.setattr("bench.meter.time.monotonic", lambda: now)
    monkeypatch.setattr(torch.cuda, "synchronize", wait)
    clock = Clock(torch.device("cuda"), sum(portions), warm_up)
    for at, units in enumerate(portions):  # noqa: B007 (`wait` notes it)
        queued += units
        clock.done(units)
    assert waited == waits and clock.seconds == 3.0


def test_durations_and_memory_as_people_read_them():
    assert [duration(s) for s in (0, 89, 90, 5400, 48 * 3600)] == ["0.0 s", "89.0 s", "1.5 min", "1.5 h", "2.0 days"]
    assert [memory_text(b) for b in (3 * 2**20, 3 * 2**29)] == ["3 MiB", "1.5 GiB"]
