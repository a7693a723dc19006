"""What every segmentation network offers, and how one is built from its configuration.

A network is built without slots and grows at every step. To load a stored one: build it from the same
configuration, repeat its calls of `grow`, then `load_state_dict`.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from torch import Tensor, nn

from methods.nn import weights
from protocols.errors import unknown

if TYPE_CHECKING:
    from methods.nn.clip import DenseClip


CLIP_SIBLINGS = {"segmenter": "clip", "segmenter-tiny": "clip-tiny"}  # same weights of the image tower, text tower too


class Output(NamedTuple):
    """What a network computes, at its own low resolution (h, w)."""

    logits: Tensor  # (B, K, h, w) float32, before the softmax over slots
    features: Tensor  # (B, D, h, w), the output of the head that the classifier sees
    encoded: Tensor  # (B, D', h, w), the output of the encoder that the head sees
    classes: Tensor | None = None  # (B, K, D) features of the slots, where the network computes them from the image
    taps: tuple[Tensor, ...] = ()  # four maps (B, D_i, h_i, w_i) from inside the encoder, if asked for


class Network(nn.Module, ABC):
    """A segmentation network whose number of slots K grows. Images arrive normalised with `mean` and `std`."""

    mean: tuple[float, float, float]  # per RGB channel, of values in [0, 1]
    std: tuple[float, float, float]
    any_size: ClassVar[bool] = False  # takes images of any size and shape in evaluation, larger than in training too

    @property
    @abstractmethod
    def n_slots(self) -> int:
        """Number of slots K, background included; 0 before the first `grow`."""

    @abstractmethod
    def grow(self, n_new: int, init: str = "background") -> None:
        """Adds n_new slots after the present ones; the first call counts the background. `init` says how they
        start: "background", "copy" or "random". Raises InputError for an unknown one."""

    @abstractmethod
    def forward(self, images: Tensor, taps: bool = False) -> Output:
        """images (B, 3, H, W), normalised -> low-resolution logits and features. `taps`: keep the encoder's
        intermediate maps too."""

    @abstractmethod
    def class_vectors(self) -> Tensor:
        """One trainable vector per slot (K, D): the rows of the classifier, or the class tokens."""

    @abstractmethod
    def encoder_parameters(self) -> list[nn.Parameter]:
        """Parameters of the image encoder, the part with published weights."""

    @abstractmethod
    def head_parameters(self) -> list[nn.Parameter]:
        """All other parameters: what turns features into logits, the slots included."""


@dataclass(frozen=True)
class NetworkConfig:
    """Which network, with which initial weights, trained at which size."""

    name: str = "segmenter"  # one of `names()`
    pretrained: str = "default"  # "default" (the published weights; deeplab-tiny has none), "none", or a file
    image_size: int = 512  # side of the training crop in pixels


def names() -> tuple[str, ...]:
    """Names of the networks; `clip:MODEL/TAG` names any other CLIP of open_clip."""
    return (*_sizes(), "clip", "clip-tiny")


def check_name(name: str) -> None:
    """Raises InputError for a name of no network."""
    _size(name)


def family(name: str) -> str:
    """What a network is a size or a pre-training of: deeplab, segmenter or clip."""
    return re.split("[-:]", name)[0]


def sibling(name: str, wanted: str | None) -> str:
    """The network of the family `wanted` that stands on the same image tower as `name`: `clip-tiny` for
    `segmenter-tiny`. Networks without such a sibling, and wanted=None, give the name back."""
    return CLIP_SIBLINGS.get(name, name) if wanted == "clip" else name


def unreadable(name: str, texts: Sequence[str]) -> str | None:
    """Why a network that reads texts cannot read these; None if it can, and for networks that read none."""
    return _size(name).unreadable(texts) if family(name) == "clip" else None


def build(config: NetworkConfig) -> "Network | DenseClip":
    """The network of a configuration, with its initial weights and no slots yet; what has no initial weights
    is drawn from PyTorch's global random generator. The family clip gives the bare towers, which a method builds on.

    Raises InputError for an unknown name, an unfit image size, and initial weights that are missing or do not fit.
    """
    size = _size(config.name)
    return size.build(config.image_size, weights.initial_file(size.published, config.pretrained))


def weights_digest(config: NetworkConfig) -> str:
    """sha256 (hex) of the file of initial weights, "random" where there is none. Raises InputError as `build` does."""
    path = weights.initial_file(_size(config.name).published, config.pretrained)
    return "random" if path is None else weights.digest(path)


def _size(name: str):
    if family(name) == "clip":
        from methods.nn.clip import clip_size  # here, as below

        return clip_size(name)
    if name not in _sizes():
        raise unknown("network", name, names())
    return _sizes()[name]


def _sizes() -> dict:
    from methods.nn import deeplab, segmenter  # here, because both import this module

    return {**deeplab.SIZES, **segmenter.SIZES}
