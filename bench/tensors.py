"""Tensors to safetensors files, with the errors of any other file."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Writes tensors, wherever they are, to a new file. Raises OSError if it cannot, as safetensors itself does not."""
    try:
        save_file({name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}, path, metadata)
    except SafetensorError as fault:
        number = re.search(r"(?:os error |code: )(\d+)", str(fault))  # as versions of safetensors tell it
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from fault
