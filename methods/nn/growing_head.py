"""A classifier that grows by a group of slots at every step, and MiB's way to start the new ones."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.nn.precision import full_precision
from protocols.errors import unknown

INITIALISATIONS = ("background", "copy", "random")


def background_initialisation(weight: Tensor, bias: Tensor, n_new: int) -> tuple[Tensor, Tensor]:
    """Classifier after a step of n_new classes, whose slots all start as the background (MiB's initialisation).

    New slots copy the background's weight; they and the background share its probability: each gets the
    background's bias minus log(n_new + 1). At the start p(background) + sum p(new) therefore equals
    p(background) before, and p(old) is kept.

    weight (K, D) and bias (K,), row 0 the background. Returns new tensors (K + n_new, D) and (K + n_new,).
    """
    shared = bias[:1] - math.log(n_new + 1)
    weight_after = torch.cat([weight, weight[:1].expand(n_new, -1)])
    bias_after = torch.cat([shared, bias[1:], shared.expand(n_new)])
    return weight_after, bias_after


class GrowingClassifier(nn.Module):
    """Pixel-wise linear classifier: one 1x1 convolution with bias per step, concatenated in the order of the steps.

    The group of the first step holds the background as slot 0. Growing never replaces a parameter that exists.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.steps = nn.ModuleList()

    @property
    def n_slots(self) -> int:
        return sum(step.out_channels for step in self.steps)

    @torch.no_grad()
    def grow(self, n_new: int, init: str = "background") -> None:
        """Adds n_new slots. `init`: "background" (see `background_initialisation`; it also lowers the
        background's bias), "copy" (weight and bias of the background, which stays as it is) or "random"
        (PyTorch's default for convolutions). The slots of the first step always start at random.

        Raises InputError for another `init`.
        """
        if init not in INITIALISATIONS:
            raise unknown("initialisation of a classifier", init, INITIALISATIONS)
        new = nn.Conv2d(self.in_channels, n_new, kernel_size=1)
        if self.steps:
            first, n_before = self.steps[0], self.n_slots
            new.to(first.weight)  # device and floating type of the network
            if init == "background":
                weight, bias = background_initialisation(*self.parameters_of_all_steps(), n_new)
                new.weight.copy_(weight[n_before:, :, None, None])
                new.bias.copy_(bias[n_before:])
                first.bias[0] = bias[0]
            elif init == "copy":
                new.weight.copy_(first.weight[:1].expand_as(new.weight))
                new.bias.copy_(first.bias[:1].expand_as(new.bias))
        self.steps.append(new)

    def forward(self, features: Tensor) -> Tensor:
        """features (B, D, h, w) -> logits (B, K, h, w), float32 under autocast too: half-precision logits are
        too coarse for distillation and for thresholds on probabilities."""
        weight, bias = self.parameters_of_all_steps()
        with full_precision(features):
            return F.conv2d(features.to(weight.dtype), weight[:, :, None, None], bias)

    def parameters_of_all_steps(self) -> tuple[Tensor, Tensor]:
        """Weight (K, D) and bias (K,): one convolution with all slots is faster than one per step."""
        weight = torch.cat([step.weight for step in self.steps]).flatten(1)
        return weight, torch.cat([step.bias for step in self.steps])
