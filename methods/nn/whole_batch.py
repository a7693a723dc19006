"""What a loss takes from all images of a batch at once, wherever they are.

On several devices each computes the losses of its share of the images. A mean over images that a loss is a nonlinear
function of must then be taken over all shares first: a mean of such losses would be another loss.
"""

import torch
import torch.distributed as dist
from torch import Tensor


def mean_over_images(values: Tensor) -> Tensor:
    """Mean over the first dimension of (B, ...) and over the equal shares of all processes, with its gradient.

    In training alone: every process of the run must call it.
    """
    mean = values.mean(dim=0)
    if not dist.is_initialized():
        return mean
    return _Sum.apply(mean) / dist.get_world_size()


class _Sum(torch.autograd.Function):
    """Sum over processes; the gradients that reach it in all of them are those of each summand, added up."""

    @staticmethod
    def forward(_, tensor: Tensor) -> Tensor:
        return _added_up(tensor)

    @staticmethod
    def backward(_, gradient: Tensor) -> Tensor:
        return _added_up(gradient)


def _added_up(tensor: Tensor) -> Tensor:
    total = tensor.contiguous().clone()
    dist.all_reduce(total)
    return total
