"""A ViT encoder with a mask transformer whose class tokens grow, as in MBS.

Sources: Strudel et al., Segmenter: Transformer for Semantic Segmentation, ICCV 2021; the growing decoder
follows the official code of MBS (Park et al., Mitigating Background Shift in Class-Incremental Semantic
Segmentation, ECCV 2024).
Deviation from MBS: the default encoder is the image tower of CLIP, which all methods of the benchmark share.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Attention, Block, VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from methods.nn import tiny_clip, weights
from methods.nn.network import Network, Output
from methods.nn.precision import full_precision
from protocols.errors import InputError, unknown

INITIALISATIONS = ("background", "copy", "random")


def class_axis_norm(masks: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Masks normalised over the class axis: (x - mean) / (unbiased std + 1e-5) * weight + bias, in float32 (MBS).

    masks (B, N, K) cosines, K >= 2 slots; weight and bias (K,). Returns (B, N, K). The mean and the spread
    run over *all* slots, so a new slot moves the logits of the old ones.
    """
    masks = masks.float()
    std, mean = torch.std_mean(masks, dim=-1, keepdim=True)
    return (masks - mean) / (std + 1e-5) * weight + bias


class MaskTransformer(nn.Module):
    """Decoder: patch and class tokens attend to each other; masks are their cosines, normalised over the classes.

    Class tokens and the affine of the norm are lists with one entry for the background, one for the classes
    of the first step, and one for each later step.
    """

    def __init__(self, in_dim: int, dim: int, depth: int, heads: int, mlp_ratio: float, drop_path: float) -> None:
        """in_dim, dim: widths of encoder and decoder; drop_path: stochastic depth, from 0 in the first block to this
        in the last."""
        super().__init__()
        self.encoder_projection = nn.Linear(in_dim, dim)
        rates = [drop_path * block / max(depth - 1, 1) for block in range(depth)]
        self.blocks = nn.ModuleList(
            Block(dim, heads, mlp_ratio, qkv_bias=True, drop_path=rate, norm_layer=nn.LayerNorm) for rate in rates
        )
        self.out_norm = nn.LayerNorm(dim)
        self.patch_projection = nn.Parameter(dim**-0.5 * torch.randn(dim, dim))
        self.class_projection = nn.Parameter(dim**-0.5 * torch.randn(dim, dim))
        self.class_tokens = nn.ParameterList()  # (n, D) each
        self.norm_weight = nn.ParameterList()  # (n,) each
        self.norm_bias = nn.ParameterList()
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    @property
    def n_slots(self) -> int:
        return sum(len(tokens) for tokens in self.class_tokens)

    @property
    def tokens(self) -> Tensor:
        """Class tokens (K, D) of all slots."""
        return torch.cat(list(self.class_tokens))

    @torch.no_grad()
    def grow(self, n_new: int, init: str = "background") -> None:
        """Adds n_new slots; the first call counts the background and needs at least 2. How new slots start:

        * "random": tokens from a truncated normal of std 0.02, affine (1, 0); always so in the first call.
        * "copy": tokens copied from the background, affine (1, 0): MBS.
        * "background": tokens and affine copied from the background. Its probability is shared out evenly, as by MiB's
          rule for linear classifiers, which also lowers all shares by log(n_new + 1) so that together they are what
          the background was. That is not done here, and the rule is the benchmark's: logits that are normalised
          over the classes cannot grow back what the background's bias loses, which is log 2 at every step of one
          class, and after a few steps the background is predicted nowhere.

        Raises InputError for another `init`, and for a first call with fewer than 2 slots.
        """
        if init not in INITIALISATIONS:
            raise unknown("initialisation of class tokens", init, INITIALISATIONS)
        if not self.class_tokens:
            if n_new < 2:
                raise InputError(f"the first step needs the background and at least one class, not {n_new} slots")
            self._append(*self._random(1))
            self._append(*self._random(n_new - 1))
            return
        tokens, weight, bias = self._random(n_new)
        if init != "random":
            tokens = self.class_tokens[0].expand(n_new, -1).clone()
        if init == "background":
            weight, bias = (entries[0].expand(n_new).clone() for entries in (self.norm_weight, self.norm_bias))
        self._append(tokens, weight, bias)

    def _random(self, n: int) -> tuple[Tensor, Tensor, Tensor]:
        like = self.patch_projection
        tokens = nn.init.trunc_normal_(like.new_empty(n, like.shape[1]), std=0.02)
        return tokens, like.new_ones(n), like.new_zeros(n)

    def _append(self, tokens: Tensor, weight: Tensor, bias: Tensor) -> None:
        self.class_tokens.append(nn.Parameter(tokens))
        self.norm_weight.append(nn.Parameter(weight))
        self.norm_bias.append(nn.Parameter(bias))

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Patch tokens (B, N, in_dim) -> masks (B, N, K) float32; patch features (B, N, D) and class features
        (B, K, D), the projected tokens before their L2 normalisation."""
        n_patches = patches.shape[1]
        x = self.encoder_projection(patches)
        x = torch.cat([x, self.tokens.to(x.dtype).expand(len(x), -1, -1)], dim=1)
        for block in self.blocks:
            x = block(x)
        x = self.out_norm(x)
        patch_features = x[:, :n_patches] @ self.patch_projection
        class_features = x[:, n_patches:] @ self.class_projection
        with full_precision(x):  # the norm below would magnify half-precision errors
            patch_directions = F.normalize(patch_features.float(), dim=-1)
            class_directions = F.normalize(class_features.float(), dim=-1)
            cosines = patch_directions @ class_directions.transpose(1, 2)
            masks = class_axis_norm(cosines, torch.cat(list(self.norm_weight)), torch.cat(list(self.norm_bias)))
        return masks, patch_features, class_features


@dataclass(frozen=True)
class SegmenterSize:
    """The parts of a segmenter that differ between the full network and its tiny sibling."""

    make_encoder: Callable[[int], VisionTransformer]  # image size -> encoder
    published: weights.Published | None  # of the encoder
    patch: int  # pixels
    depth: int  # blocks of the decoder, which is as wide as the encoder
    heads: int
    mlp_ratio: float
    drop_path: float
    fused_attention: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def build(self, image_size: int, initial: Path | None) -> "Segmenter":
        return Segmenter(self, image_size, initial)


class Segmenter(Network):
    """ViT and mask transformer."""

    def __init__(self, size: SegmenterSize, image_size: int, initial: Path | None) -> None:
        """image_size: side of the training crop in pixels, a multiple of the patch; initial: file of encoder
        weights (position embeddings are resampled to image_size), None for random ones. Raises InputError for
        another size."""
        super().__init__()
        if image_size <= 0 or image_size % size.patch:
            raise InputError(
                f"image size {image_size} is not a multiple of the segmenter's patch of {size.patch} pixels"
            )
        self.mean, self.std, self.patch = size.mean, size.std, size.patch
        self.encoder = size.make_encoder(image_size)
        if initial is not None:
            weights.load(self.encoder, initial, adapt=checkpoint_filter_fn)
        dim = self.encoder.embed_dim
        self.decoder = MaskTransformer(dim, dim, size.depth, size.heads, size.mlp_ratio, size.drop_path)
        for module in self.modules():
            if isinstance(module, Attention):
                module.fused_attn = size.fused_attention

    @property
    def n_slots(self) -> int:
        return self.decoder.n_slots

    def grow(self, n_new: int, init: str = "background") -> None:
        """See `MaskTransformer.grow`."""
        self.decoder.grow(n_new, init)

    def encode(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W), sides multiples of the patch -> patch tokens (B, N, D), row by row."""
        return self.encoder.forward_features(images)[:, self.encoder.num_prefix_tokens :]

    def _encode_and_tap(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """As `encode`, with the outputs of four evenly spaced blocks, the last one among them, as maps (B, D, h, w)."""
        depth = len(self.encoder.blocks)
        tokens, maps = self.encoder.forward_intermediates(images, [depth * (i + 1) // 4 - 1 for i in range(4)])
        return tokens[:, self.encoder.num_prefix_tokens :], tuple(maps)

    def forward(self, images: Tensor, taps: bool = False) -> Output:
        patches, maps = self._encode_and_tap(images) if taps else (self.encode(images), ())
        masks, features, classes = self.decoder(patches)
        grid = (images.shape[2] // self.patch, images.shape[3] // self.patch)
        logits, features, encoded = (tokens.mT.unflatten(2, grid) for tokens in (masks, features, patches))
        return Output(logits, features, encoded, classes, maps)

    def class_vectors(self) -> Tensor:
        return self.decoder.tokens

    def encoder_parameters(self) -> list[nn.Parameter]:
        return list(self.encoder.parameters())

    def head_parameters(self) -> list[nn.Parameter]:
        return list(self.decoder.parameters())


def _clip_vit_b16(image_size: int) -> VisionTransformer:
    return timm.create_model(
        "vit_base_patch16_clip_quickgelu_224", img_size=image_size, num_classes=0, dynamic_img_size=True
    )


def _augreg_vit_b16(image_size: int) -> VisionTransformer:
    return timm.create_model("vit_base_patch16_384", img_size=image_size, num_classes=0, dynamic_img_size=True)


def _tiny_vit(image_size: int) -> VisionTransformer:
    """The image tower of the tiny CLIP, as timm writes such a tower."""
    return VisionTransformer(
        img_size=image_size,
        patch_size=4,
        embed_dim=128,
        depth=4,
        num_heads=4,
        num_classes=0,
        pre_norm=True,
        norm_layer=nn.LayerNorm,
        dynamic_img_size=True,
    )


FULL = SegmenterSize(
    make_encoder=_clip_vit_b16,
    published=weights.open_clip_file(*weights.OPENAI_CLIP.split("/")),
    patch=16,
    depth=2,
    heads=12,
    mlp_ratio=4.0,
    drop_path=0.1,
    fused_attention=True,
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
)
SIZES = {
    "segmenter": FULL,
    "segmenter-augreg": replace(  # MBS's: ImageNet's mean and std, as it normalises, though these weights expect 0.5
        FULL,
        make_encoder=_augreg_vit_b16,
        published=weights.timm_file("vit_base_patch16_384.augreg_in21k_ft_in1k"),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    ),
    "segmenter-tiny": SegmenterSize(
        make_encoder=_tiny_vit,
        published=weights.packaged(tiny_clip.FILE),
        patch=4,
        depth=2,
        heads=4,
        mlp_ratio=4.0,
        drop_path=0.0,
        fused_attention=False,  # its bfloat16 backward on a CPU is several times slower than plain products
        mean=tiny_clip.MEAN,
        std=tiny_clip.STD,
    ),
}
