"""The record of a run: what was run, on what, with what, and how it went. It lies beside the counts."""

import os
import platform
import shlex
import subprocess
import sys
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import protocols
from bench import compiling, distributed
from bench.machine import Machine
from bench.plan import RunPlan
from bench.spec import RunSpec
from protocols import Protocol, orders
from results.schema import SCHEMA_VERSION

COMMAND = "CISS_BENCH_COMMAND"  # set by the command that starts runs, for the processes that run them
PACKAGES = ("ciss-bench", "torch", "torchvision", "timm", "open_clip_torch", "hydra-core", "numpy", "pandas")


def manifest(plan: RunPlan, machine: Machine) -> dict[str, Any]:
    """Everything that is known of a run before it starts; the engine adds steps, status and times."""
    spec, config = plan.spec, plan.spec.config
    return {
        "schema_version": SCHEMA_VERSION,
        "run": plan.run_id,
        "method": spec.found.name,
        "variant": spec.found.variant,
        "label": spec.found.label,
        "method_note": spec.found.method.note,
        "backbone": config.backbone,
        "network": config.network.name,
        "pretrained": initial_weights(spec),
        "track": config.track,
        "data": config.data.name,
        **described(spec.protocol),
        "seed": spec.seed,
        "recipe": plan.recipe,
        "single_step": spec.joint,
        "evaluation": {
            "split": config.evaluation.split,
            "size": config.evaluation.size,
            "images": len(plan.evaluation.indices),
        },
        "command": os.environ.get(COMMAND, shlex.join(sys.argv)),
        "config": {**asdict(config), spec.found.name: asdict(spec.options)},
        "versions": versions(),
        "hardware": hardware(machine),
        "git_revision": git_revision(),
    }


def described(protocol: Protocol) -> dict[str, Any]:
    """What a manifest says of the protocol."""
    info = protocols.dataset(protocol.dataset)
    return {
        "protocol": protocol.name,
        "dataset": protocol.dataset,
        "setting": protocol.setting,
        "order": orders.resolve(info, protocol.order)[1] or "default",
        "class_names": list(protocol.class_names),
        "step_classes": [list(step.new) for step in protocol.steps],
        "background_evaluated": info.background_counted,
        "protocol_digest": protocol.digest,
    }


def initial_weights(spec: RunSpec) -> str:
    """What tables call the initial weights: `none` for random ones, else the choice and the start of their sha256."""
    weights = spec.network_recipe["weights"]
    if weights == "random":
        return "none"
    kind = "default" if spec.network.pretrained == "default" else "file"
    return f"{kind} {weights[:8]}"


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def hardware(machine: Machine) -> dict[str, Any]:
    """The device that computes, its threads, and the host's cores; the processes of the run where there are several,
    each with such a device; and whether torch.compile compiles."""
    device = machine.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    one = {"device": device.type, "name": name, "threads": torch.get_num_threads(), "cores": os.cpu_count()}
    if distributed.world() > 1:
        one["processes"] = distributed.world()
    if machine.compile and not compiling.refused():
        one["compile"] = True
    return one


@cache
def processor() -> str:
    """The processor's model where the system tells it (Linux), else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


@cache
def git_revision() -> str | None:
    """The revision of the checkout that this code runs from, with `+` where files differ; None outside one."""
    here = Path(__file__).resolve().parent
    try:
        revision = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+"],
            cwd=here, capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return revision.stdout.strip()
