"""The rolling checkpoint within a step: one safetensors file that holds everything that training needs to go on
exactly.

Tensors: the method's state, the optimiser's state, the generators' states. Everything else is JSON in the file's
metadata, beside the sha256 of both.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from bench.progress import announce
from protocols.files import replacing


@dataclass
class Position:
    """Where training stands: iterations done, log rows so far, seconds spent, in this and earlier processes."""

    iteration: int = 0
    log: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0


def save(path: Path, method: nn.Module, optimiser: Optimizer, position: Position) -> None:
    """Replaces the checkpoint at `path`."""
    tensors = {f"method.{name}": tensor for name, tensor in method.state_dict().items()}
    state = optimiser.state_dict()
    scalars: dict[str, dict[str, Any]] = {}
    for index, slots in state["state"].items():
        for name, value in slots.items():
            if isinstance(value, Tensor):
                tensors[f"optimiser.{index}.{name}"] = value
            elif value is not None:
                scalars.setdefault(str(index), {})[name] = value
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_initialized():
        for index, value in enumerate(torch.cuda.get_rng_state_all()):
            tensors[f"random.cuda.{index}"] = value
    plain = {"scalars": scalars, "groups": state["param_groups"], "position": vars(position)}
    stored, text = {k: v.detach().contiguous().cpu() for k, v in tensors.items()}, json.dumps(plain)
    with replacing(path) as aside:
        save_file(stored, aside, {"json": text, "sha256": _digest(stored, text)})


def load(path: Path, method: nn.Module, optimiser: Optimizer) -> Position:
    """Restores method, optimiser and generators from `path`, and says where training stands.

    Without a checkpoint it changes nothing and gives the start; with a damaged one, too, and says so.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
        plain = json.loads(metadata["json"])
        if metadata.get("sha256", "") not in ("", _digest(tensors, metadata["json"])):  # "": of an earlier version
            raise ValueError("it does not have the sha256 that it names")
    except FileNotFoundError:
        return Position()
    except (OSError, SafetensorError, ValueError, KeyError) as fault:
        announce(f"the checkpoint {path} is damaged ({fault}): its step starts again")
        return Position()
    method.load_state_dict({k.removeprefix("method."): v for k, v in tensors.items() if k.startswith("method.")})
    slots: dict[int, dict[str, Any]] = {int(index): dict(values) for index, values in plain["scalars"].items()}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, index, slot = name.split(".", 2)
            slots.setdefault(int(index), {})[slot] = tensor
    optimiser.load_state_dict({"state": slots, "param_groups": plain["groups"]})
    _restore_layout(optimiser)
    torch.set_rng_state(tensors["random.cpu"])
    if torch.cuda.is_initialized():
        torch.cuda.set_rng_state_all(
            [
                tensors[f"random.cuda.{index}"]
                for index in range(torch.cuda.device_count())
                if f"random.cuda.{index}" in tensors
            ]
        )
    return Position(**plain["position"])


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    """sha256 over names, types, shapes and bytes of the tensors (contiguous, on the CPU), and the text."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _restore_layout(optimiser: Optimizer) -> None:
    """Gives state tensors the memory format of their parameters, which fused optimisers on CUDA insist on."""
    for parameter, slots in optimiser.state.items():
        for name, value in slots.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                slots[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
