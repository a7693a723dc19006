"""The one extension point: what a class-incremental learner is to the engine.

The engine owns data, optimiser stepping, precision, devices, checkpoints and evaluation. A method owns its network, its
losses and its prediction rule, and sees one step at a time: nothing of the future reaches it.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.nn.image_size import at_image_size
from methods.nn.network import Network
from methods.nn.upsampling import upsample
from methods.published import Published
from protocols.protocol import VOID, Step


class Batch(NamedTuple):
    """What one call of `forward` or `predict` sees, on the device of the run."""

    images: Tensor  # (B, 3, H, W) float, normalised
    labels: Tensor | None  # (B, H, W) int64 slots; 255 = ignored; None when predicting
    ids: tuple[str, ...]  # B image names
    maps: Mapping[str, Tensor] = {}  # optional side maps per image, e.g. saliency (B, H, W)


class Term(NamedTuple):
    """A loss term as a sum and the count it is averaged over, so that it reduces exactly over devices.

    The value of the term is `weight * sum / count`; a count of zero gives zero.
    """

    sum: Tensor  # scalar, carries the gradient
    count: Tensor  # scalar, no gradient
    weight: float = 1.0

    @classmethod
    def mean_of(cls, values: Tensor, weight: float = 1.0) -> "Term":
        """The mean over every entry of `values`, whatever its shape (a scalar counts as one entry)."""
        return cls(values.sum(), values.new_full((), values.numel()), weight)

    @classmethod
    def mean_over(cls, images: int, mean: Tensor, weight: float = 1.0) -> "Term":
        """A mean over so many images that is known already; terms of other images can be added to it."""
        return cls(mean * images, mean.new_full((), images), weight)

    def added(self, others: Iterable["Term"]) -> "Term":
        """This term and those of other images, as one term over all of them."""
        terms = [self, *others]
        return Term(sum(term.sum for term in terms), sum(term.count for term in terms), self.weight)

    @property
    def value(self) -> Tensor:
        return self.weight * self.sum / self.count.clamp(min=1)


@dataclass(frozen=True)
class BaseRecipe:
    """What a method decides about step 0. Two methods with equal base recipes share one trained network.

    The engine adds what it owns itself: network, initial weights, data view, schedule, batch, augmentation, precision,
    seed.
    """

    loss: str = "cross_entropy"  # the name of what `forward` computes in step 0
    view: str = "step"  # "step": the classes of step 0; "all": every class of the protocol at once
    prediction: str = "argmax"
    options: Mapping[str, Any] = field(default_factory=dict)  # method options that reach step 0


@dataclass
class MethodConfig:
    """The options of a method; each method derives its own beside it.

    An option whose published value depends on the data set is None by default; `Method.by_dataset` has its values.
    """

    def check(self) -> None:
        """Raises InputError for a value that is none; called before anything starts."""


class Method(nn.Module, ABC):
    """One class-incremental learner.

    Life of a run, for each step: begin_step -> prepare -> parameter_groups -> forward ... forward -> end_step ->
    predict.

    A cached step is loaded by replaying `begin_step` for every step up to it, then `load_state_dict`: so `begin_step`
    may only change structure, and everything learned must live in parameters and buffers.
    """

    Config: ClassVar[type[MethodConfig]] = MethodConfig
    version: ClassVar[int] = 1  # raised when results change; part of every key
    summary: ClassVar[str] = ""  # one line for `bench list methods`
    paper: ClassVar[str] = ""
    note: ClassVar[str] = ""  # what every table with the method must say of it
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # name -> changed options; run as `method-name`
    components: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # named part -> the options that switch it off
    published: ClassVar[tuple[Published, ...]] = ()  # the recipe of the paper track
    by_dataset: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # data set -> values of the options that are None
    backbones: ClassVar[tuple[str, ...]] = ("deeplab", "segmenter")
    settings: ClassVar[tuple[str, ...]] = ("overlapped", "disjoint", "sequential")
    family: ClassVar[str | None] = None  # the kind of network it is built on, where that is not the backbone: "clip"
    uses_teacher: ClassVar[bool] = False  # keep a frozen copy of the network of the step before

    def __init__(self, config: MethodConfig, network: Network):
        super().__init__()
        self.config = self.complete(config, "voc")  # the engine has done so already, for its own data set
        self.network = network
        self.step: Step | None = None
        # Set around nn.Module's registration: the teacher is neither a parameter, nor a state, nor reached by
        # `.train()`.
        object.__setattr__(self, "teacher", None)

    @classmethod
    def unsupported(cls, backbone: str, setting: str) -> str | None:
        """Why this method does not run with `backbone` in `setting`; None if it does."""
        if backbone not in cls.backbones:
            return f"it is not defined on the backbone {backbone} (only {', '.join(cls.backbones)})"
        if setting not in cls.settings:
            return f"it is not defined in the setting {setting} (only {', '.join(cls.settings)})"
        return None

    @classmethod
    def complete(cls, config: MethodConfig, dataset: str) -> MethodConfig:
        """`config` with every option that is None and in `by_dataset` set to its value for the data set."""
        values = cls.by_dataset.get(dataset, {})
        open_ones = {name: value for name, value in values.items() if getattr(config, name) is None}
        return replace(config, **open_ones) if open_ones else config

    @classmethod
    def base_recipe(cls, config: MethodConfig) -> BaseRecipe:
        """What defines step 0; override it if `forward` computes anything but plain cross-entropy there.

        A class method, so that a plan needs no network.
        """
        return BaseRecipe()

    def begin_step(self, step: Step) -> None:
        """Enters `step`: keeps the teacher if the method uses one, and grows the head by the new classes."""
        self.step = step
        if self.uses_teacher and step.index > 0:
            self.keep_teacher()
        first = step.index == 0
        self.network.grow(len(step.new) + int(first), init="random" if first else self.initialisation())

    def initialisation(self) -> str:
        """How the weights of new slots start: `random`, or another rule of `Network.grow`."""
        return "random"

    def keep_teacher(self) -> None:
        """Freezes a copy of the network as the teacher: eval mode for good, no gradient, outside the state."""
        teacher = copy.deepcopy(self.network).eval().requires_grad_(False)
        object.__setattr__(self, "teacher", teacher)

    def _apply(self, fn, recurse: bool = True):  # moves the teacher along with .to(), .cuda(), ...
        super()._apply(fn, recurse)
        if self.teacher is not None:
            self.teacher._apply(fn, recurse)
        return self

    def prepare(self, step: Step, loader: Iterable[Batch]) -> None:
        """A pass over the training batches of the step before it is trained (thresholds, prototypes, warm-up)."""

    def parameter_groups(self, step: Step) -> list[dict[str, Any]]:
        """Optimiser groups: `params`, and optionally `lr_scale` (times the step's rate) and `weight_decay`."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Term | Tensor]:
        """The named loss terms of one training batch. A scalar tensor counts as an ordinary mean."""

    def end_step(self, step: Step, loader: Iterable[Batch]) -> None:
        """After the last iteration of a step (weight fusion, prototype update)."""

    def predict(self, batch: Batch) -> Tensor:
        """The predicted slot of every pixel, (B, H, W) int64, all seen classes competing."""
        return self.decide(self.logits(batch.images))

    def decide(self, logits: Tensor) -> Tensor:
        """The slot of every pixel, (B, H, W) int64, from logits (B, K, H, W), pixel by pixel.

        Override this for another rule than the largest logit: whole images are predicted in windows
        (evaluation.size=native), whose logits are averaged first and decided here.
        """
        return logits.max(dim=1).indices  # what argmax gives, the first of equals, in a fraction of its time on the CPU

    def logits(self, images: Tensor) -> Tensor:
        """Logits of the current network at the size of the images, (B, K, H, W) float32."""
        return upsample(self.network(images).logits.float(), images.shape[-2:])

    def supervised(self, batch: Batch) -> dict[str, Term]:
        """Plain cross-entropy of the network on the labels of a batch: what most methods train in step 0."""
        return {"ce": at_image_size(cross_entropy_on, batch.labels, self.network(batch.images).logits)}

    @torch.no_grad()
    def teacher_logits(self, images: Tensor) -> Tensor:
        """Logits of the teacher at the size of the images, (B, K_old, H, W) float32, without gradient."""
        return upsample(self.teacher(images).logits.float(), images.shape[-2:])


def cross_entropy(logits: Tensor, labels: Tensor) -> Term:
    """Cross-entropy averaged over the labelled pixels.

    logits (B, K, H, W); labels (B, H, W) slots, 255 ignored.
    """
    total = F.cross_entropy(logits, labels, ignore_index=VOID, reduction="sum")
    return Term(total, (labels != VOID).sum())


def cross_entropy_on(labels: Tensor, logits: Tensor) -> Term:
    """`cross_entropy` with its arguments in the order of `at_image_size`."""
    return cross_entropy(logits, labels)
