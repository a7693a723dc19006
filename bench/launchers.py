"""Where the runs of a command go: one after the other in this process, side by side in processes of this machine, or to
a SLURM cluster. The last two are launchers of Hydra's, in packages of their own.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from bench import distributed
from bench.data.parallel import usable_cpus
from bench.keys import digest
from protocols.errors import InputError

# our name -> Hydra's, the extra of this package that brings it, the module that must be there
LAUNCHERS = {
    "joblib": ("joblib", "joblib", "hydra_plugins.hydra_joblib_launcher"),
    "slurm": ("submitit_slurm", "slurm", "hydra_plugins.hydra_submitit_launcher"),
    "submitit": ("submitit_local", "slurm", "hydra_plugins.hydra_submitit_launcher"),
}
REQUEUES = 1000  # a job that ran out of time goes on from its rolling checkpoint: it may do so as often as it needs


@dataclass(frozen=True)
class Launcher:
    """The choice of the command line."""

    name: str | None = None  # one of LAUNCHERS; None: this process
    jobs: int | None = None  # at once
    options: tuple[str, ...] = ()  # hydra.launcher.key=value, for Hydra's launcher

    def __post_init__(self) -> None:
        if self.name is None:
            if self.jobs is not None or self.options:
                given = "--jobs" if self.jobs is not None else self.options[0]
                raise InputError(f"{given} needs --launcher {' or --launcher '.join(LAUNCHERS)}")
            return
        if distributed.started_by_torchrun():
            raise InputError(
                f"torchrun divides one run among processes, --launcher {self.name} several runs: give one of the two"
            )
        _, extra, module = LAUNCHERS[self.name]
        if not _is_installed(module):
            package = module.partition(".")[2].replace("_", "-")
            raise InputError(f"--launcher {self.name} needs {package}: pip install -e '.[{extra}]'")

    @property
    def here(self) -> bool:
        """Whether the runs go through this very process."""
        return self.name is None

    def folder(self, scratch: Path, store: Path, runs: Sequence[str]) -> Path:
        """Where jobs are described and write their output: in the store where other machines must see it."""
        return scratch if self.name in (None, "joblib") else store / "cache" / "jobs" / digest(list(runs))[:12]

    def jobs_at_once(self, runs: int, device: str, threads: int | None) -> int:
        """How many runs of `runs` go side by side on this machine: as many as it has CUDA devices; without any, as its
        cores give each its threads (one thread each where `threads` does not say)."""
        if self.jobs is not None:
            return min(self.jobs, runs)
        devices = torch.cuda.device_count() if device != "cpu" else 0
        return max(1, min(runs, devices or usable_cpus() // (threads or 1)))

    def overrides(self, jobs: int, device: str) -> list[str]:
        """What Hydra is told of the launcher; options of the user's own come last and win."""
        if self.name is None:
            return []
        hydra_name = LAUNCHERS[self.name][0]
        ours = [f"hydra/launcher={hydra_name}"]
        if self.name == "joblib":
            ours += [f"hydra.launcher.n_jobs={jobs}", "hydra.launcher.batch_size=1"]
        else:
            ours += ["hydra.launcher.name=ciss-bench"]
            ours += [] if device == "cpu" else ["hydra.launcher.gpus_per_node=1"]
        if self.name == "slurm":
            ours += [f"hydra.launcher.max_num_timeout={REQUEUES}"]
            ours += [] if self.jobs is None else [f"hydra.launcher.array_parallelism={self.jobs}"]
        return [*ours, *self.options]


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
