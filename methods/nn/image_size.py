"""Losses at the size of the images, from maps at the size of the network, a few images at a time.

At 512 x 512 the logits of 24 images over 151 slots take 3.8 GB in float32, and a loss keeps several such maps for its
gradient. In parts, only those of one part exist at a time: each is made, used and dropped, and made again when its
gradient is wanted. What fits as a whole is computed as a whole.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from methods.nn.upsampling import upsample

PART_BYTES = 2**28  # of upsampled maps in a part: an image of student and teacher over 151 slots at 512 x 512


def at_image_size(function: Callable[..., Any], labels: Tensor, *maps: Tensor) -> Any:
    """function(labels, *maps) with the maps (B, K_i, h, w) upsampled to the labels' (H, W), float32.

    It must treat every image alike and on its own, and return a tuple, a dict or one of tensors (B, ...) and of `Term`s
    that are sums over the images: where one part at a time is computed (see PART_BYTES), tensors are put together and
    terms added up. labels (B, H, W).
    """

    def part(labels: Tensor, *maps: Tensor) -> Any:
        return function(labels, *(upsample(low.float(), labels.shape[1:]) for low in maps))

    bytes_per_image = 4 * labels[0].numel() * sum(low.shape[1] for low in maps)
    images = max(1, PART_BYTES // bytes_per_image)
    if images >= len(labels):
        return part(labels, *maps)
    pieces = zip(*(whole.split(images) for whole in (labels, *maps)), strict=True)
    if not torch.is_grad_enabled():
        return _join([part(*piece) for piece in pieces])
    return _join([checkpoint(part, *piece, use_reentrant=False, preserve_rng_state=False) for piece in pieces])


def _join(parts: Sequence[Any]) -> Any:
    """The results of all parts as one."""
    first = parts[0]
    if isinstance(first, dict):
        return {name: _join([part[name] for part in parts]) for name in first}
    if hasattr(first, "added"):
        return first.added(parts[1:])
    if isinstance(first, tuple):
        return tuple(_join(list(values)) for values in zip(*parts, strict=True))
    return torch.cat(list(parts))
