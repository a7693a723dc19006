"""The rolling checkpoint within a step: one safetensors file that holds everything that training needs to go on
exactly.

Tensors: the method's state, the optimiser's state, the generators' states of every process of the run, the sums of
losses since the last log row. Everything else is JSON in the file's metadata, beside the sha256 of both.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.optim import Optimizer

from bench import distributed
from bench.progress import announce
from bench.tensors import write_tensors
from protocols.files import replacing


@dataclass
class Position:
    """Where training stands: iterations done, log rows so far, seconds spent, in this and earlier processes."""

    iteration: int = 0
    log: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    sums: dict[str, Tensor] = field(default_factory=dict)  # of losses since the last log row


def save(path: Path, method: nn.Module, optimiser: Optimizer, position: Position) -> None:
    """Replaces the checkpoint at `path`. Called by every process of a run; rank 0 writes.

    Where it cannot be written (a full disk), that is said, the one before it stays, and training goes on.
    """
    tensors = {f"method.{name}": tensor for name, tensor in method.state_dict().items()}
    state = optimiser.state_dict()
    scalars: dict[str, dict[str, Any]] = {}
    for index, slots in state["state"].items():
        for name, value in slots.items():
            if isinstance(value, Tensor):
                tensors[f"optimiser.{index}.{name}"] = value
            elif value is not None:
                scalars.setdefault(str(index), {})[name] = value
    tensors |= {f"sums.{name}": value for name, value in position.sums.items()}
    for name, value in _generators().items():
        tensors |= {_stored(name, rank): one for rank, one in enumerate(distributed.gathered(value))}
    at = {name: value for name, value in vars(position).items() if name != "sums"}
    plain = {"scalars": scalars, "groups": state["param_groups"], "position": at, "sums": list(position.sums)}

    def write() -> None:
        stored, text = {k: v.detach().contiguous().cpu() for k, v in tensors.items()}, json.dumps(plain)
        try:
            with replacing(path) as aside:
                write_tensors(stored, aside, {"json": text, "sha256": _digest(stored, text)})
        except OSError as fault:
            announce(f"no checkpoint: cannot write {path} ({fault.strerror or fault}); training goes on without")

    distributed.main_only(write)


def load(path: Path, method: nn.Module, optimiser: Optimizer) -> Position:
    """Restores method, optimiser and generators from `path`, and says where training stands.

    Without a checkpoint it changes nothing and gives the start; with a damaged one, too, and says so. A process that
    the checkpoint knows no generators of, since it is from fewer processes, keeps its own.
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
    # Whether it is fused follows the device of today; it also decides where the optimiser keeps its steps.
    fused = [group["fused"] for group in optimiser.param_groups]
    groups = [{**group, "fused": own} for group, own in zip(plain["groups"], fused, strict=True)]
    optimiser.load_state_dict({"state": slots, "param_groups": groups})
    _restore_layout(optimiser)
    cpu, cuda = (_stored(name, distributed.rank()) for name in ("cpu", "cuda"))
    if cpu in tensors:
        torch.set_rng_state(tensors[cpu])
    if torch.cuda.is_initialized() and cuda in tensors:
        torch.cuda.set_rng_state(tensors[cuda])
    sums = {name: tensors[f"sums.{name}"] for name in plain.get("sums", ())}
    return Position(**plain["position"], sums=sums)


def _stored(generator: str, rank: int) -> str:
    """The name of a generator's state in the file."""
    return "random.cpu" if (generator, rank) == ("cpu", 0) else f"random.{generator}.{rank}"


def _generators() -> dict[str, Tensor]:
    """The states of the generators that training draws from, uint8 on the CPU."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


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
