"""Losses at the size of the images, from maps at the size of the network, a few images at a time.

At 512 x 512 the logits of 24 images over 151 slots take 3.8 GB in float32, and a loss keeps several such maps for its
gradient. In parts, only those of one part exist at a time: each is made, used for the loss and its gradient, and
dropped. What fits as a whole is computed as a whole.
"""

from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.checkpoint import checkpoint

from methods.nn.upsampling import upsample

PART_BYTES = 2**28  # of upsampled maps in a part: an image of student and teacher over 151 slots at 512 x 512


def at_image_size(function: Callable[..., Any], labels: Tensor, *maps: Tensor) -> Any:
    """function(labels, *maps) with the maps (B, K_i, h, w) upsampled to the labels' (H, W), float32.

    It must treat every image alike and on its own, and return a tuple, a dict or one of tensors (B, ...) without
    gradient and of `Term`s that are sums over the images: where one part at a time is computed (see PART_BYTES),
    tensors are put together and terms added up. labels (B, H, W).
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
    if torch.compiler.is_compiling():  # which knows no gradient within a forward pass, but what a checkpoint is
        return _join([checkpoint(part, *piece, use_reentrant=False, preserve_rng_state=False) for piece in pieces])
    return _join([_with_gradients(part, *piece) for piece in pieces])


def _with_gradients(part: Callable[..., Any], labels: Tensor, *maps: Tensor) -> Any:
    """What `part` returns. Its gradients with respect to the maps, which are small, are computed now."""
    form, *found = _GradientsAtOnce.apply(part, labels, *maps)
    return tree_unflatten(found, form)


class _GradientsAtOnce(torch.autograd.Function):
    """A part of a loss: forward also computes the gradient of each of its terms, so that nothing at the size of the
    images is kept, nor made a second time as a checkpoint would; backward adds them up."""

    @staticmethod
    def forward(ctx, part, labels, *maps):
        inputs = [low.detach().requires_grad_(low.requires_grad) for low in maps]
        with torch.enable_grad():
            found, form = tree_flatten(part(labels, *inputs))
        ctx.learning = [low.requires_grad for low in inputs]
        ctx.terms = [isinstance(one, Tensor) and one.requires_grad for one in found]
        wanted = list(compress(inputs, ctx.learning))
        terms = list(compress(found, ctx.terms))
        ctx.gradients = [
            torch.autograd.grad(term, wanted, retain_graph=term is not terms[-1], materialize_grads=True)
            for term in terms
        ]
        constants = [one for one, term in zip(found, ctx.terms, strict=True) if isinstance(one, Tensor) and not term]
        ctx.mark_non_differentiable(*constants)
        return form, *(one.detach() if term else one for one, term in zip(found, ctx.terms, strict=True))

    @staticmethod
    def backward(ctx, _, *scales):
        scales = list(compress(scales, ctx.terms))
        sums = iter(
            sum(scale * gradient for scale, gradient in zip(scales, of_map, strict=True))
            for of_map in zip(*ctx.gradients, strict=True)
        )
        return None, None, *(next(sums) if learning else None for learning in ctx.learning)


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
