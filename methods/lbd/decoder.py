"""The decoder of LBD: patches, background prototypes and class prototypes attend to each other.

In form the mask transformer of Segmenter and MBS, in the joint space of CLIP and with prototypes in place of class
tokens. Its branches start at zero and its projections as the identity, so that the first scores are CLIP's own cosines,
of features less their mean.
"""

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from methods.nn.precision import full_precision

DEPTH = 2


class PrototypeDecoder(nn.Module):
    """Pre-norm blocks over [patches; prototypes], an output norm, and one projection for each side."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        heads = max(4, dim // 64)  # 8 in CLIP's joint space; in small those of the tiny segmenter
        self.blocks = nn.ModuleList(Block(dim, heads, qkv_bias=True, norm_layer=nn.LayerNorm) for _ in range(DEPTH))
        self.norm = nn.LayerNorm(dim)
        self.patch_projection = nn.Parameter(torch.eye(dim))
        self.class_projection = nn.Parameter(torch.eye(dim))
        for block in self.blocks:
            for last in (block.attn.proj, block.mlp.fc2):
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)

    def forward(self, features: Tensor, prototypes: Tensor) -> tuple[Tensor, Tensor]:
        """features (B, N, D) and prototypes (R, D), all unit -> decoded patches (B, N, D) and prototypes (B, R, D),
        not normalised."""
        n_patches, dim = features.shape[1:]
        x = torch.cat([features, prototypes.to(features.dtype).expand(len(features), -1, -1)], dim=1)
        x = x * dim**0.5  # entries of about one, as the branches expect them
        for block in self.blocks:
            block.attn.fused_attn = x.device.type != "cpu"  # its bfloat16 backward is several times slower there
            x = block(x)
        x = self.norm(x)
        return x[:, :n_patches] @ self.patch_projection, x[:, n_patches:] @ self.class_projection


def cosines(patches: Tensor, prototypes: Tensor) -> Tensor:
    """Cosines in float32 of patches (B, N, D) and prototypes (R, D) or (B, R, D): (B, N, R)."""
    with full_precision(patches):
        return F.normalize(patches.float(), dim=-1) @ F.normalize(prototypes.float(), dim=-1).mT
