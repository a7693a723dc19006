"""One training step of every method, worked by hand: fixed outputs of teacher and student in, every loss term, the
label map after pseudo-labelling and the gradient out.

The image has two by two pixels, and the networks' maps have its size, so that nothing is interpolated. Slot 0 is the
background, slot 1 the old class, slot 2 the new one.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import methods
from bench.train import loss_values
from methods.base import Batch
from methods.nn.losses import label_guided_distillation
from methods.nn.network import Network, NetworkConfig, Output, build
from methods.plop import entropy_pseudo_labels
from protocols.protocol import Step

STEPS = [Step(0, (1,), (), {1: "old"}), Step(1, (2,), (1,), {1: "old", 2: "new"})]
LABELS = torch.tensor([[[0, 0], [2, 255]]])
OLD = ((0.1, 0.9), (0.6, 0.4), (0.8, 0.2), (0.8, 0.2))  # the teacher's probabilities of the four pixels
NEW = ((0.2, 0.3, 0.5), (0.2, 0.3, 0.5), (0.1, 0.2, 0.7), (0.25, 0.25, 0.5))
HOT = torch.eye(3).tolist()


def as_logits(probabilities) -> Tensor:
    return torch.tensor(probabilities).log().T.reshape(1, -1, 2, 2)


def maps(value: float) -> Tensor:
    return torch.full((1, 1, 2, 2), value)


@dataclass
class Case:
    """Outputs of the network by its number of slots: two are the teacher's, three the student's."""

    outputs: dict[int, Output]
    vectors: Tensor


def case() -> Case:
    old = Output(as_logits(OLD), maps(1.0), maps(1.0), torch.tensor([[[1.0], [2.0]]]), (maps(1.0),) * 4)
    student = as_logits(NEW).requires_grad_()
    features = torch.tensor([[[[2.0, 1.0], [4.0, 1.0]]]])
    taps = (maps(2.0), maps(1.0), maps(1.0), maps(1.0))
    new = Output(student, features, maps(1.5), torch.tensor([[[1.0], [5.0], [7.0]]]), taps)
    return Case({2: old, 3: new}, torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]], requires_grad=True))


class Canned(Network):
    """Gives fixed outputs, whatever the images."""

    def __init__(self, case: Case):
        super().__init__()
        self.case, self.slots = case, 0
        self.started: list[str] = []

    @property
    def n_slots(self):
        return self.slots

    def grow(self, n_new, init="background"):
        self.slots += n_new
        self.started.append(init)

    def forward(self, images, taps=False):
        output = self.case.outputs[self.slots]
        return output if taps else output._replace(taps=())

    def class_vectors(self):
        return self.case.vectors

    def encoder_parameters(self) -> list[nn.Parameter]:
        return []

    def head_parameters(self) -> list[nn.Parameter]:
        return []


def second_step(name: str, **options):
    """The method `name` in step 1, and the batch."""
    found = methods.get(name)
    method = found.method(found.method.Config(**{**found.options, **options}), Canned(case()))
    for step in STEPS:
        method.begin_step(step)
    return method.train(), Batch(torch.zeros(1, 3, 2, 2), LABELS.clone(), ("image",))


def student_gradient(method) -> list[list[float]]:
    """The gradient at the student's logits, one list of three for each pixel."""
    return method.network.case.outputs[3].logits.grad.flatten(2)[0].T.tolist()


def approx(value):
    return pytest.approx(value, rel=1e-5, abs=1e-7)


def values_of(terms) -> dict[str, float]:
    return {name: value.item() for name, value in loss_values(terms).items()}


def cross_entropy_gradient(pixel: int, target, scale: float) -> list[float]:
    return [scale * (p - t) for p, t in zip(NEW[pixel], target, strict=True)]


def plain_kd() -> float:
    """Mean over four pixels and two old slots; the student's softmax is over the old slots alone."""
    total = 0.0
    for q, p in zip(OLD, NEW, strict=True):
        total -= sum(q[c] * math.log(p[c] / (p[0] + p[1])) for c in range(2))
    return total / 8


def test_finetune():
    method, batch = second_step("finetune")
    terms = method(batch)
    assert values_of(terms) == {"ce": approx(-(2 * math.log(0.2) + math.log(0.7)) / 3)}
    loss_values(terms)["ce"].backward()
    gradient = student_gradient(method)
    for pixel, slot in [(0, 0), (1, 0), (2, 2)]:
        assert gradient[pixel] == approx(cross_entropy_gradient(pixel, HOT[slot], 1 / 3))
    assert gradient[3] == [0, 0, 0]  # void


def test_lwf_and_ilt():
    ce = -(2 * math.log(0.2) + math.log(0.7)) / 3
    method, batch = second_step("lwf")
    assert values_of(method(batch)) == {"ce": approx(ce), "kd": approx(100 * plain_kd())}
    assert method.network.started == ["random", "random"]
    method, batch = second_step("ilt")
    expected = {"ce": approx(ce), "kd": approx(100 * plain_kd()), "features": approx(100 * 0.5**2)}
    assert values_of(method(batch)) == expected


def test_mib():
    method, batch = second_step("mib")
    kd = 0.0
    for q, p in zip(OLD, NEW, strict=True):  # the new slot belongs to the background
        kd -= (q[0] * math.log(p[0] + p[2]) + q[1] * math.log(p[1])) / 8
    ce = -(2 * math.log(0.5) + math.log(0.7)) / 3  # background is background or old class
    assert values_of(method(batch)) == {"ce": approx(ce), "kd": approx(10 * kd)}
    assert method.network.started == ["random", "background"]


def pod_of_logits() -> float:
    """Distance of the embeddings of the squared logits: the new slot is added to the background."""
    squares = []
    for q, p in zip(OLD, NEW, strict=True):
        z = [math.log(x) for x in p]
        merged = (z[0] + z[2], z[1])
        squares.append([merged[c] ** 2 - math.log(q[c]) ** 2 for c in range(2)])
    total = 0.0
    for c in range(2):
        a, b, d, e = (pixel[c] for pixel in squares)
        means = [(a + b) / 2, (d + e) / 2, (a + d) / 2, (b + e) / 2]  # rows, columns of the whole map
        total += sum(m * m for m in means) + 2 * (a * a + b * b + d * d + e * e)  # regions of one pixel, twice
    return math.sqrt(total)


def score(p: float) -> float:
    """Score of a pixel of which the teacher is p sure, with three slots now."""
    return -(p * math.log(p) + (1 - p) * math.log(1 - p)) / 2 / math.log(2) / math.log(3)


def test_plop():
    method, batch = second_step("plop")
    method.thresholds[:3] = torch.tensor([score(0.6) * 0.99, score(0.9) * 1.01, 0.0])
    terms = method(batch)
    # pixel 0 is surely the old class, pixel 1 unsurely background: half of the background gets a label
    old_logits = method.teacher.case.outputs[2].logits
    labels, factor = entropy_pseudo_labels(old_logits, batch.labels, method.thresholds, n_current=3)
    assert labels.tolist() == [[[1, 255], [2, 255]]] and factor.tolist() == approx([0.5])
    ce = -0.5 * (math.log(0.3) + math.log(0.7)) / 4  # a mean over all four pixels
    # tap 0: 4 - 1 = 3 in four means of the map and eight of its regions; the head's output: 3, 0, 15, 0
    tap = math.sqrt(12 * 9)
    head = math.sqrt(1.5**2 + 7.5**2 + 9**2 + 0 + 2 * (3**2 + 15**2))
    pod = math.sqrt(3 / 1) / 6 * (0.01 * (tap + head) + 0.0005 * pod_of_logits())
    assert values_of(terms) == {"ce": approx(ce), "pod": approx(pod)}
    assert method.network.started == ["random", "background"]
    loss_values(terms)["ce"].backward()
    gradient = student_gradient(method)
    assert gradient[0] == approx(cross_entropy_gradient(0, HOT[1], 0.5 / 4))
    assert gradient[2] == approx(cross_entropy_gradient(2, HOT[2], 0.5 / 4))
    assert gradient[1] == gradient[3] == [0, 0, 0]


def test_plop_computes_its_thresholds_before_the_step():
    method, batch = second_step("plop")
    method.prepare(method.step, [batch, batch])
    # two background pixels, one predicted as either slot; the new class is never predicted: the floor
    assert method.thresholds[:3].tolist() == approx([score(0.6), score(0.9), 0.001])
    assert method.thresholds[3:].eq(0).all()


def test_plop_without_its_parts():
    ce = -(2 * math.log(0.2) + math.log(0.7)) / 4
    method, batch = second_step("plop-no_pseudo", distil=False)
    method.prepare(method.step, [])
    assert values_of(method(batch)) == {"ce": approx(ce)}
    method, batch = second_step("plop-no_adaptive", distil=False)
    method.thresholds[1] = 1.0
    assert values_of(method(batch)) == {"ce": approx(-(math.log(0.3) + math.log(0.7)) / 4)}


def test_mbs():
    method, batch = second_step("mbs")
    terms = method(batch)
    # pixel 0 becomes the old class (0.9), pixel 1 stays background (0.6)
    ce = -(math.log(0.3) + math.log(0.2) + math.log(0.7)) / 3
    patches = (1.0 * (2 - 1) ** 2 + 0.6 * (1 - 1) ** 2) / 2  # old class: 1, background: 0.6, new and void: 0
    classes = (0 + (5 - 2) ** 2) / 2
    targets = [(*q, 0.0) for q in OLD]
    targets[2] = (0.0, 0.2, 0.8)  # labelled new: it inherits the background
    od = -sum(t * math.log(p) for q, n in zip(targets, NEW, strict=True) for t, p in zip(q, n, strict=True)) / 12
    assert values_of(terms) == {
        "ce": approx(ce),
        "patches": approx(patches),
        "classes": approx(classes),
        "od": approx(25 * od),
        "ortho": approx(math.sqrt(0.5) / 3),
    }
    assert method.network.started == ["random", "copy"]
    loss_values(terms)["ce"].backward()
    gradient = student_gradient(method)
    for pixel, slot in [(0, 1), (1, 0), (2, 2)]:  # the label map
        assert gradient[pixel] == approx(cross_entropy_gradient(pixel, HOT[slot], 1 / 3))
    assert gradient[3] == [0, 0, 0]


def test_mbs_without_its_parts():
    method, batch = second_step("mbs-plain", threshold=0.95)  # pixel 0 is below the threshold: it stays background
    expected = {
        "ce": approx(-(2 * math.log(0.2) + math.log(0.7)) / 3),
        "patches": approx((1 + 0 + 9 + 0) / 4),
        "classes": approx(4.5),
        "od": approx(25 * plain_kd()),
    }
    assert values_of(method(batch)) == expected
    method, batch = second_step("mbs", threshold=0.95)  # the old class is more probable than the background: ignored
    assert values_of(method(batch))["ce"] == approx(-(math.log(0.2) + math.log(0.7)) / 2)


@pytest.mark.parametrize(
    ("name", "voc", "ade"),
    [
        ("plop", {"pod": 0.01, "pod_logits": 0.0005}, {"pod": 0.001, "pod_logits": 0.00001}),
        ("mbs", {"od": 25}, {"od": 50}),
    ],
)
def test_published_weights_depend_on_the_data_set(name, voc, ade):
    method = methods.get(name).method
    for dataset, expected in (("voc", voc), ("ade", ade)):
        complete = method.complete(method.Config(), dataset)
        assert {option: getattr(complete, option) for option in expected} == expected
    chosen = {option: 7.0 for option in voc}
    assert method.complete(method.Config(**chosen), "ade") == method.Config(**chosen)


def test_the_example_distils_by_the_rule_of_label_guided_distillation():
    example = methods.get(f"{Path(__file__).parents[2] / 'examples' / 'lgkd.py'}:Lgkd")
    method = example.method(example.method.Config(), Canned(case()))
    for step in STEPS:
        method.begin_step(step)
    values = values_of(method(Batch(torch.zeros(1, 3, 2, 2), LABELS, ("image",))))
    expected = label_guided_distillation(as_logits(NEW), as_logits(OLD), LABELS).item()
    ce = -(2 * math.log(0.5) + math.log(0.7)) / 3
    assert values == {"ce": approx(ce), "kd": approx(10 * expected)}


@pytest.mark.parametrize("backbone", ["deeplab", "segmenter"])
@pytest.mark.parametrize("name", ["ilt", "plop", "mbs"])
def test_losses_are_finite_float32_under_bfloat16_autocast(name, backbone):
    torch.manual_seed(0)
    found = methods.get(name).method
    method = found(found.Config(), build(NetworkConfig(f"{backbone}-tiny", "none", 32)))
    for step in STEPS:
        method.begin_step(step)
    labels = torch.randint(0, 3, (2, 32, 32))
    labels[labels == 1] = 0
    batch = Batch(torch.randn(2, 3, 32, 32), labels, ("a", "b"))
    with torch.autocast("cpu", torch.bfloat16):
        method.train().prepare(method.step, [batch])
        values = loss_values(method(batch))
    assert all(value.dtype == torch.float32 and value.isfinite() for value in values.values())
    sum(values.values()).backward()
    gradients = [p.grad for p in method.parameters() if p.grad is not None]
    assert gradients and all(g.isfinite().all() for g in gradients)
