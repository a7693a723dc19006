"""Official values, and the tolerances that they are held to."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def golden(shared: Path, name: str) -> dict:
    """Inputs and official results of a function: tensors, and plain numbers for 0-d arrays."""
    with np.load(shared / "golden" / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(value) if value.ndim else value.item() for key, value in arrays.items()}


def assert_golden(actual: Tensor, expected: Tensor | float, gradient: bool = False, nan: bool = False) -> None:
    """Values to 1e-5, gradients to 1e-3 (the official float32 ones are no better), relative to the largest finite one.

    nan: whether NaN is a right answer, where the official value is NaN.
    """
    expected = torch.as_tensor(expected, dtype=actual.dtype)
    rtol, atol = (1e-3, 1e-5) if gradient else (1e-5, 1e-6)
    scale = expected[expected.isfinite()].abs().max().item()
    torch.testing.assert_close(actual.detach(), expected, rtol=rtol, atol=atol * scale, equal_nan=nan)
