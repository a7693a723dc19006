"""The contract tests of `bench check`, over every registered method on every backbone it supports."""

import pytest
import torch

import methods
from bench.contract import CHECKS, Trial, explain
from methods.base import Batch, Method, Term, cross_entropy

PAIRS = [(name, backbone) for name in methods.names() for backbone in methods.get(name).method.backbones]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize(("name", "backbone"), PAIRS)
def test_the_method_keeps_the_contract(name, backbone, check):
    fault = explain(check, Trial(methods.get(name), backbone))
    assert fault is None, fault


class Sound(Method):
    def forward(self, batch: Batch) -> dict[str, Term]:
        return {"ce": cross_entropy(self.logits(batch.images), batch.labels)}


class InPlace(Sound):
    def forward(self, batch):
        batch.labels[batch.labels == 255] = 0
        return super().forward(batch)


class NotFinite(Sound):
    def forward(self, batch):
        loss = torch.nn.functional.cross_entropy(self.logits(batch.images), batch.labels, ignore_index=255)
        return {"ce": loss}  # 0/0 on a batch without labels


class MeanOfMeans(Sound):
    """Divides by the labelled pixels itself."""

    def forward(self, batch):
        return {"ce": super().forward(batch)["ce"].value}


class Moody(Sound):
    """Has a term where there are labels."""

    def forward(self, batch):
        terms = super().forward(batch)
        return terms | ({"extra": terms["ce"]} if (batch.labels != 255).any() else {})


class OutOfRange(Sound):
    def predict(self, batch):
        return super().predict(batch) + 1


class Detached(Sound):
    def forward(self, batch):
        return {"ce": self.logits(batch.images).mean().detach()}


class Hidden(Sound):
    """Keeps what it learned outside parameters and buffers."""

    memory = 0.0

    def end_step(self, step, loader):
        self.memory += 1.0

    def forward(self, batch):
        term = super().forward(batch)["ce"]
        return {"ce": term._replace(weight=1.0 + self.memory * (self.step.index > 0))}


class OwnBase(Sound):
    """Trains step 0 in its own way, and does not say so."""

    def forward(self, batch):
        return {"ce": super().forward(batch)["ce"]._replace(weight=2.0)}


class Remembering(Sound):
    """Learns something in step 0 that the shared base network does not hold."""

    def __init__(self, config, network):
        super().__init__(config, network)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, batch):
        self.seen += 1
        return super().forward(batch)


class Shuffling(Sound):
    """Starts its old classes anew when it grows."""

    def begin_step(self, step):
        super().begin_step(step)
        if step.index > 0:
            torch.nn.init.normal_(self.network.classifier.steps[0].weight)


class Teaching(Sound):
    """Registers its teacher as a part of itself."""

    uses_teacher = True

    def begin_step(self, step):
        super().begin_step(step)
        if self.teacher is not None:
            self.old = self.teacher


class Drawing(Sound):
    calls = 0

    def forward(self, batch):
        Drawing.calls += 1
        return {"ce": super().forward(batch)["ce"]._replace(weight=float(Drawing.calls))}


@pytest.mark.parametrize(
    ("method", "broken"),
    [
        (Sound, set()),
        (InPlace, {"batch_untouched"}),
        (NotFinite, {"void_batch"}),
        (MeanOfMeans, {"halves"}),
        (Moody, {"void_batch"}),
        (OutOfRange, {"predictions"}),
        (Detached, {"losses", "gradient"}),
        (Hidden, {"round_trip"}),
        (OwnBase, {"shared_base"}),
        (Remembering, {"base_state"}),
        (Shuffling, {"growth"}),
        (Teaching, {"teacher"}),
        (Drawing, {"repeatable"}),
    ],
)
def test_each_check_catches_what_it_is_for(method, broken):
    trial = Trial(methods.Found("candidate", None, method), "deeplab")
    faults = {check.__name__.removeprefix("check_"): explain(check, trial) for check in CHECKS}
    found = {name for name, fault in faults.items() if fault}
    assert broken <= found, faults
    if not broken:
        assert not found, faults
