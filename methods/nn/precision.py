"""Where full precision matters inside an autocast training step."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def full_precision(like: Tensor) -> AbstractContextManager:
    """Autocast switched off for the device of `like`: products of small vectors whose differences are what counts.

    On the meta device, where shapes are tried out, there is nothing to switch off.
    """
    return nullcontext() if like.is_meta else torch.autocast(like.device.type, enabled=False)
