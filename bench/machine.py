"""The device of a run: choice, threads, precision, and the way of a batch onto it."""

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from bench import distributed
from bench.allocator import keep_freed_memory
from bench.config import RunConfig
from bench.data.parallel import usable_cpus
from bench.data.views import RawBatch
from methods.base import Batch
from protocols.errors import InputError, unknown

MOST_WORKERS = 16  # one process decodes and augments some 100 images a second; a large GPU eats some 700


def take_device(place: int, processes: int) -> None:
    """Makes the CUDA device number `place` that of this process, one of `processes` on this machine.

    Raises InputError if there are fewer devices than processes.
    """
    if processes > torch.cuda.device_count():
        raise InputError(
            f"{processes} processes on this machine, which has {torch.cuda.device_count()} CUDA devices: "
            "start no more than that, or use device=cpu"
        )
    torch.cuda.set_device(place)


@dataclass(frozen=True)
class Machine:
    """Where a run computes. Provenance: nothing here is part of a key."""

    device: torch.device
    precision: str  # bf16 or fp32; part of the recipe, applied here
    memory_format: torch.memory_format
    workers: int | None
    checkpoint_seconds: float
    compile: bool = False

    @classmethod
    def of(cls, config: RunConfig) -> "Machine":
        """The machine that `config` asks for; sets PyTorch's thread count and allocator as a side effect."""
        if config.device not in ("auto", "cpu", "cuda"):
            raise unknown("device", config.device, ("auto", "cpu", "cuda"))
        if config.device == "cuda" and not torch.cuda.is_available():
            raise InputError("device=cuda, but PyTorch sees no CUDA device here: use device=auto or device=cpu")
        if config.compile and distributed.world() > 1:
            raise InputError("compile=true works for one process alone: leave it out, or start without torchrun")
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        cuda = config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())
        if cuda and distributed.world() > 1:
            take_device(distributed.local_rank(), distributed.local_world())
        if not cuda:
            keep_freed_memory()
        return cls(
            torch.device("cuda" if cuda else "cpu"),
            config.train.precision,
            torch.channels_last if config.channels_last else torch.contiguous_format,
            config.workers,
            config.checkpoint_seconds,
            config.compile,
        )

    def loading_processes(self, data: str, jobs: int = 1) -> int:
        """How many processes make the batches of a run on `data`, one of `jobs` side by side on this machine: what was
        asked for, else one a core, shared by those runs and by the processes of this one."""
        if self.workers is not None:
            return self.workers
        # Rendered scenes lie in memory: where the same cores train, a process for them costs more than it saves.
        if data == "shapes" and self.device.type == "cpu":
            return 0
        return max(1, min(MOST_WORKERS, usable_cpus() // (distributed.local_world() * jobs)))

    def autocast(self, cache_enabled: bool = True) -> AbstractContextManager:
        """The precision of the recipe; `cache_enabled=False` where weights may change inside the context."""
        enabled = self.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled, cache_enabled=cache_enabled)

    def normaliser(self, mean: tuple[float, ...], std: tuple[float, ...]) -> "Normaliser":
        return Normaliser(self, mean, std)


class Normaliser:
    """Turns a raw batch into what a method sees: on the device, images normalised, labels as int64 slots."""

    def __init__(self, machine: Machine, mean: tuple[float, ...], std: tuple[float, ...]):
        self.machine = machine
        self.scale = 1 / (255 * torch.tensor(std, device=machine.device).view(1, 3, 1, 1))
        self.shift = -torch.tensor(mean, device=machine.device).view(1, 3, 1, 1) * 255

    def __call__(self, raw: RawBatch) -> Batch:
        device = self.machine.device
        images = raw.images.to(device, non_blocking=True)  # uint8: a quarter of the bytes of float32
        images = ((images + self.shift) * self.scale).contiguous(memory_format=self.machine.memory_format)
        labels: Tensor = raw.labels.to(device, non_blocking=True).long()
        return Batch(images, labels, raw.ids)
