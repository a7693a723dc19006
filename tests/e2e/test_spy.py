"""A spy in the data path of every registered method, over whole runs: what it is shown holds nothing of the future, and
nothing is trained on an image that is evaluated."""

import re
from dataclasses import dataclass, field

import numpy as np
import pytest

import methods
import protocols
from bench.data.shapes import ShapesData
from bench.engine import Engine, OnePass
from bench.learner import Learner
from methods.base import Batch, Method
from methods.nn.clip import TextTower
from protocols import VOID, Step
from protocols.protocol import Protocol
from tests.e2e.conftest import SMALL

PROTOCOL = "voc_10-5"
NAMES = protocols.dataset("voc").class_names


@dataclass
class Spy:
    """What a method was given, in order: (step, batch) of training, of prediction, and (step, text) of its text
    tower. loaded: which split and image was read, and whether for training."""

    training: list[tuple[Step, Batch]] = field(default_factory=list)
    prediction: list[tuple[Step, Batch]] = field(default_factory=list)
    texts: list[tuple[Step | None, str]] = field(default_factory=list)
    loaded: list[tuple[bool, str, str]] = field(default_factory=list)
    method: Method | None = None
    in_training: bool = False

    def watch(self, method: Method) -> None:
        """Sees every call of forward and predict."""
        self.method = method
        method.register_forward_pre_hook(lambda own, given: self.training.append((own.step, given[0])))
        predict = method.predict

        def watched(batch):
            self.prediction.append((method.step, batch))
            return predict(batch)

        method.predict = watched


@pytest.fixture
def spy(monkeypatch):
    spy = Spy()
    build, begin, one_pass = Learner._build, Learner._begin, OnePass.__iter__
    load, rows = ShapesData.load, TextTower._rows
    entered = []

    def watched_build(learner):
        build(learner)
        spy.watch(learner.method)

    def watched_begin(learner, plan):
        entered[:] = [plan.step]
        begin(learner, plan)

    def watched_pass(given):
        for batch in one_pass(given):
            spy.training.append((given.step.step, batch))
            yield batch

    def watched_load(data, index):
        spy.loaded.append((spy.in_training, data.split, data.ids[index]))
        return load(data, index)

    def watched_rows(tower, texts):
        spy.texts += [(entered[0] if entered else None, text) for text in texts]
        return rows(tower, texts)

    def training(original):
        def watched(engine, *given):
            spy.in_training = True
            try:
                return original(engine, *given)
            finally:
                spy.in_training = False

        return watched

    monkeypatch.setattr(Learner, "_build", watched_build)
    monkeypatch.setattr(Learner, "_begin", watched_begin)
    monkeypatch.setattr(OnePass, "__iter__", watched_pass)
    monkeypatch.setattr(ShapesData, "load", watched_load)
    monkeypatch.setattr(TextTower, "_rows", watched_rows)
    for name in ("_train", "_complete_base"):
        monkeypatch.setattr(Engine, name, training(getattr(Engine, name)))
    return spy


def arguments(name: str, *more: str) -> list[str]:
    backbone = methods.get(name).method.backbones[-1]
    tiny = [backbone if text == "deeplab" else text for text in SMALL]
    return ["run", "--methods", name, "--protocol", PROTOCOL, *tiny, *more]


def leaks(spy: Spy, setting: str) -> list[str]:
    """Everything that a method was given too early."""
    found = []
    for step, batch in spy.training:
        visible = step.seen if setting == "sequential" else step.new
        slots = set(batch.labels.unique().tolist())
        if not slots <= {0, VOID} | {step.slots[id] for id in visible}:
            found.append(f"labels {slots} in step {step.index}")
        if hasattr(step, "future") or set(step.names) != set(step.seen):
            found.append(f"step {step.index} tells of its future")
    found += [
        f"labels in the prediction of step {step.index}" for step, batch in spy.prediction if batch.labels is not None
    ]
    for step, text in spy.texts:
        future = set(NAMES[1:]) - set(step.names.values()) if step is not None else set(NAMES[1:])
        told = [name for name in future if re.search(rf"\b{re.escape(name)}\b", text)]
        found += [f"the text {text!r} in step {step and step.index}"] * bool(told)
    return found


def check_apart(spy: Spy) -> None:
    """Training reads no image that is evaluated, and evaluation none that was trained on."""
    trained = {(split, id) for training, split, id in spy.loaded if training}
    evaluated = {(split, id) for training, split, id in spy.loaded if not training}
    assert {split for split, _ in trained} == {"train"}
    assert {id for _, batch in spy.training for id in batch.ids} <= {id for _, id in trained}
    ids = {id for _, batch in spy.prediction for id in batch.ids}
    assert ids == {id for split, id in evaluated if split == "val"} and len(ids) == 20
    assert not ids & {id for _, id in trained}


@pytest.mark.parametrize("name", methods.names())
def test_nothing_of_the_future_and_no_evaluated_image_reaches_a_method(bench, spy, name):
    assert bench(*arguments(name))[0] == 0
    steps = {step.index for step, _ in spy.training}
    assert steps == ({0} if name == "joint" else {0, 1, 2}) and spy.prediction
    assert bool(spy.texts) == (methods.get(name).method.family == "clip")
    assert leaks(spy, "overlapped") == []
    check_apart(spy)


@pytest.mark.parametrize("setting", ["disjoint", "sequential"])
def test_nothing_of_the_future_reaches_a_method_in_other_settings(bench, spy, setting):
    assert bench(*arguments("mib", "--setting", setting))[0] == 0
    assert {step.index for step, _ in spy.training} == {0, 1, 2}
    assert leaks(spy, setting) == []


def test_the_dev_split_is_held_out_of_training(bench, spy):
    assert bench(*arguments("finetune", "evaluation.split=dev", "train.base.iterations=40"))[0] == 0
    trained = {id for _, batch in spy.training for id in batch.ids}
    evaluated = {id for _, batch in spy.prediction for id in batch.ids}
    assert trained and evaluated and not trained & evaluated
    assert {split for when, split, _ in spy.loaded if when} == {"train"}


def test_the_spy_sees_a_label_of_the_future(bench, spy, monkeypatch):
    def leaking(protocol, step, void="ignore"):
        return np.where(protocol.evaluation_table() == 20, 20, sound(protocol, step, void)).astype(np.uint8)

    sound = Protocol.training_table
    monkeypatch.setattr(Protocol, "training_table", leaking)
    bench(*arguments("lwf", "train.base.iterations=20"))
    assert any(leak.startswith("labels") for leak in leaks(spy, "overlapped"))


def test_the_spy_sees_a_name_of_the_future(bench, spy, monkeypatch):
    lbd = methods.get("lbd").method
    begin = lbd.begin_step

    def leaking(method, step):
        begin(method, step)
        method.network.clip.text.templates([NAMES[20]])

    monkeypatch.setattr(lbd, "begin_step", leaking)
    bench(*arguments("lbd"))
    assert any("the text" in leak for leak in leaks(spy, "overlapped"))
