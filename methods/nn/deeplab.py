"""DeepLabV3 on a ResNet, as in MiB and PLOP: dilated ResNet, ASPP head, growing 1x1 classifier.

Sources: Chen et al., Rethinking Atrous Convolution for Semantic Image Segmentation, 2017; the head follows
the official code of MiB (Cermelli et al., CVPR 2020) and PLOP (Douillard et al., CVPR 2021).
Deviations from them: timm's ResNet and its published weights, with ReLU in place of leaky ReLU, and dilation 1 in the
first block of the last stage (its input is not yet dilated); ordinary batch norm in place of in-place ABN.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn

from methods.nn import weights
from methods.nn.growing_head import GrowingClassifier
from methods.nn.network import Network, Output

SLOPE = 0.01  # of the leaky ReLU that follows every norm of the head


class AsppHead(nn.Module):
    """Atrous spatial pyramid pooling: features (B, C, h, w) -> (B, out_channels, h, w).

    A 1x1 and three dilated 3x3 convolutions, concatenated, normalised and reduced; an image-pooling branch is
    *added* (not concatenated), then the sum is normalised. Training pools over the whole map. Evaluation
    pools over a window of `eval_window`^2 positions around each one, the size of a map in training: equal to
    the whole map on a training-sized crop, and what the branch was trained for on larger images. Training
    needs at least two images a batch (batch norm of the pooled branch sees one value per image).
    """

    def __init__(
        self, in_channels: int, hidden: int, out_channels: int, dilations: tuple[int, ...], eval_window: int
    ) -> None:
        super().__init__()
        self.eval_window = eval_window
        kernels = [(1, 1), *((3, dilation) for dilation in dilations)]
        self.branches = nn.ModuleList(
            nn.Conv2d(in_channels, hidden, kernel, dilation=dilation, padding=dilation * (kernel // 2), bias=False)
            for kernel, dilation in kernels
        )
        self.branch_norm = nn.BatchNorm2d(hidden * len(kernels))
        self.reduce_conv = nn.Conv2d(hidden * len(kernels), out_channels, 1, bias=False)
        self.pool_conv = nn.Conv2d(in_channels, hidden, 1, bias=False)
        self.pool_norm = nn.BatchNorm2d(hidden)
        self.pool_reduce_conv = nn.Conv2d(hidden, out_channels, 1, bias=False)
        self.out_norm = nn.BatchNorm2d(out_channels)
        gain = nn.init.calculate_gain("leaky_relu", SLOPE)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_normal_(module.weight, gain)

    def forward(self, features: Tensor) -> Tensor:
        pyramid = torch.cat([branch(features) for branch in self.branches], dim=1)
        out = self.reduce_conv(_activate(self.branch_norm(pyramid)))
        pooled = self._pool(features)  # one position, or one per window
        pooled = self.pool_reduce_conv(_activate(self.pool_norm(self.pool_conv(pooled))))
        if pooled.shape[2:] != (1, 1):
            pooled = _pad_by_replication(pooled, out.shape[2:])
        return _activate(self.out_norm(out + pooled))

    def _pool(self, features: Tensor) -> Tensor:
        """Means over the map (B, C, 1, 1), or over every window inside a larger map (B, C, h', w')."""
        height, width = features.shape[2:]
        window = (min(self.eval_window, height), min(self.eval_window, width))
        if self.training or window == (height, width):
            return features.mean(dim=(2, 3), keepdim=True)
        return F.avg_pool2d(features, window, stride=1)


def _activate(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE, inplace=True)  # in place: a norm's backward does not need its output


def _pad_by_replication(x: Tensor, size: torch.Size) -> Tensor:
    """Pads (B, C, h', w') to (B, C, h, w) with copies of the border; the odd row or column goes to the bottom
    or right."""
    height, width = size[0] - x.shape[2], size[1] - x.shape[3]
    padding = (width // 2, width - width // 2, height // 2, height - height // 2)
    return F.pad(x, padding, mode="replicate")


@dataclass(frozen=True)
class DeepLabSize:
    """The parts of a DeepLab that differ between the full network and its tiny sibling."""

    make_encoder: Callable[[], ResNet]
    published: weights.Published | None  # of the encoder
    stride: int  # image pixels per position of the map
    hidden: int  # channels of each ASPP branch
    features: int  # channels of the head's output
    dilations: tuple[int, ...]  # of the ASPP branches
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def build(self, image_size: int, initial: Path | None) -> "DeepLab":
        return DeepLab(self, image_size, initial)


class DeepLab(Network):
    """ResNet, ASPP head and growing classifier.

    The activation that ends each stage of the encoder is applied by `encode`, not by the stage, so that the sum before
    it can be tapped without hooks.
    """

    any_size = True

    def __init__(self, size: DeepLabSize, image_size: int, initial: Path | None) -> None:
        """image_size: side of the training crop in pixels; initial: file of encoder weights, None for random
        ones."""
        super().__init__()
        self.mean, self.std = size.mean, size.std
        self.encoder = size.make_encoder()
        if initial is not None:
            weights.load(self.encoder, initial)
        for stage in self._stages():
            setattr(stage[-1], "act3" if hasattr(stage[-1], "act3") else "act2", nn.Identity())
        self.head = AsppHead(
            self.encoder.num_features,
            size.hidden,
            size.features,
            size.dilations,
            -(-image_size // size.stride),
        )
        self.classifier = GrowingClassifier(size.features)

    @property
    def n_slots(self) -> int:
        return self.classifier.n_slots

    def grow(self, n_new: int, init: str = "background") -> None:
        """See `GrowingClassifier.grow`. With "background" the logits of old classes stay as they are."""
        self.classifier.grow(n_new, init)
        self.classifier.to(self.head.out_norm.weight)  # the slots of the first step start on the CPU

    def _stages(self) -> tuple[nn.Sequential, ...]:
        encoder = self.encoder
        return encoder.layer1, encoder.layer2, encoder.layer3, encoder.layer4

    def encode(self, images: Tensor, taps: bool = False) -> tuple[Tensor, tuple[Tensor, ...]]:
        """images (B, 3, H, W) -> the encoder's output (B, D', h, w) and, if asked for, the sum of branch and shortcut
        that ends each stage, before its activation (PLOP)."""
        encoder, sums = self.encoder, []
        x = encoder.maxpool(encoder.act1(encoder.bn1(encoder.conv1(images))))
        for stage in self._stages():
            x = stage(x)
            if taps:
                sums.append(x)
            x = F.relu(x, inplace=not taps)
        return x, tuple(sums)

    def forward(self, images: Tensor, taps: bool = False) -> Output:
        encoded, sums = self.encode(images, taps)
        features = self.head(encoded)
        return Output(self.classifier(features), features, encoded, taps=sums)

    def class_vectors(self) -> Tensor:
        return self.classifier.parameters_of_all_steps()[0]

    def encoder_parameters(self) -> list[nn.Parameter]:
        return list(self.encoder.parameters())

    def head_parameters(self) -> list[nn.Parameter]:
        return [*self.head.parameters(), *self.classifier.parameters()]


def _resnet101() -> ResNet:
    return timm.create_model("resnet101", num_classes=0, global_pool="", output_stride=16)


def _tiny_resnet() -> ResNet:
    """One basic block per stage, stride 4 (stem 2, second stage 2), dilation 2 and 4 in the last two
    stages."""
    encoder = ResNet(
        BasicBlock,
        layers=(1, 1, 1, 1),
        channels=(16, 32, 64, 64),
        num_classes=0,
        global_pool="",
        output_stride=8,
        stem_type="deep",
        stem_width=8,
    )
    encoder.maxpool = nn.Identity()  # the objects of 64x64 scenes do not survive it
    return encoder


SIZES = {
    "deeplab": DeepLabSize(
        make_encoder=_resnet101,
        published=weights.timm_file("resnet101.tv_in1k"),  # nearest in accuracy to those of MiB (77 % top-1)
        stride=16,
        hidden=256,
        features=256,
        dilations=(6, 12, 18),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    ),
    "deeplab-tiny": DeepLabSize(
        make_encoder=_tiny_resnet,
        published=None,
        stride=4,
        hidden=32,
        features=64,
        dilations=(3, 6, 9),  # the reach of 6, 12, 18 on a 32x32 map, on the 16x16 map of a 64x64 image
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    ),
}
