"""The arguments that describe runs, shared by the commands that take them, and the Hydra overrides that they become."""

import argparse
import re

from protocols.errors import InputError
from protocols.files import expanded

TRACKS = ("unified", "paper", "demo")
BACKBONES = ("segmenter", "deeplab")
PATHS = ("data.root", "store", "network.pretrained")  # keys whose values may begin with ~, as shells do not expand it
OVERRIDES = """\
key=value changes anything else. What changes training is part of the key of each step; what follows store= is not:
  mib.kd=100                       an option of one method (`bench list methods` shows them)
  train.base.iterations=200        the length of step 0; train.increment.* of the others (also .epochs, .lr)
  train.batch=8 train.crop=256 train.precision=fp32 train.void=background
  network.pretrained=none          random weights; or a path to a weights file
  order=random:7                   a class order
  data.root=PATH                   where VOC or ADE20K lies
  evaluation.size=native           whole images at their own size, in windows; default: squares of the crop
  evaluation.split=dev             evaluate on a tenth of the training images, held out, for tuning
  store=PATH                       where runs and trained steps are kept (default: runs)
  device=cpu threads=2 workers=4 checkpoint_seconds=60
Several values, as in mib.kd=10,100, make several runs."""


def add_run_arguments(parser: argparse.ArgumentParser, methods: bool = True) -> None:
    """Adds the arguments of `bench run`, `bench plan` and their kin; `methods`: --methods too."""
    if methods:
        parser.add_argument(
            "--methods", required=True, metavar="A,B", help="methods, or method-variant, or path/to/file.py:Class"
        )
    parser.add_argument("--protocol", required=True, metavar="P", help="e.g. voc_10-1, ade_100-10, or a YAML file")
    parser.add_argument("--setting", metavar="S", help="overlapped (default), disjoint or sequential")
    parser.add_argument("--seeds", default="0", metavar="0,1,2", help="default: 0")
    parser.add_argument(
        "--track",
        choices=TRACKS,
        help="unified (default): one recipe for all; paper: as published; demo: tiny, on scenes",
    )
    parser.add_argument("--backbone", choices=BACKBONES, help="segmenter (default, ViT) or deeplab (ResNet)")
    parser.add_argument("--data", metavar="NAME", help="voc, ade or shapes; default: the protocol's own")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="see below")
    parser.epilog = OVERRIDES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter


def add_dry_argument(parser: argparse.ArgumentParser) -> None:
    """Adds --dry to a command that runs."""
    parser.add_argument(
        "--dry",
        action="store_true",
        help="try every step: 2 iterations and 2 batches of evaluation of each, at the real batch, crop, network and "
        "precision; store nothing, and tell memory, seconds an iteration and what the whole would take",
    )


def add_launcher_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what says where the runs go."""
    parser.add_argument(
        "--launcher",
        choices=("joblib", "slurm", "submitit"),
        metavar="L",
        help="several runs at once: joblib (processes on this machine) or slurm (jobs of a cluster; submitit: the same "
        "on this machine, to try it); default: one after the other. One run on several GPUs: torchrun; see "
        "docs/several-devices.md",
    )
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="runs at once; default: one for each GPU, else cores / threads="
    )


def launcher(arguments: argparse.Namespace):
    """The launcher that the arguments choose; overrides that start with hydra.launcher. are its options.

    Raises InputError where it is not installed, and for options without one.
    """
    from bench.launchers import Launcher

    if arguments.jobs is not None and arguments.jobs < 1:
        raise InputError(f"--jobs {arguments.jobs}: give at least 1")
    return Launcher(arguments.launcher, arguments.jobs, tuple(filter(_is_for_launcher, arguments.overrides)))


def _is_for_launcher(override: str) -> bool:
    return override.startswith("hydra.launcher.")


def overrides(arguments: argparse.Namespace) -> list[str]:
    """The Hydra overrides that the arguments stand for.

    Raises InputError for a method, protocol, track or seed that is none, before anything heavy is imported.
    """
    for text in arguments.overrides:
        if "=" not in text:
            raise InputError(f"{text!r} is no override: write key=value")
    seeds = _items("--seeds", arguments.seeds)
    if not all(seed.isdigit() for seed in seeds):
        raise InputError(f"--seeds {arguments.seeds}: give whole numbers, as in 0,1,2")
    given = [
        "method=" + ",".join(map(quoted, method_references(arguments))),
        "protocol=" + ",".join(map(quoted, _items("--protocol", arguments.protocol))),
        "seed=" + ",".join(seeds),
    ]
    for key, value in (
        ("setting", arguments.setting),
        ("track", arguments.track),
        ("backbone", arguments.backbone),
        ("data.name", arguments.data),
    ):
        if value is not None:
            given.append(f"{key}={','.join(map(quoted, _items(key, value)))}")
    return given + [_at_home(text) for text in arguments.overrides if not _is_for_launcher(text)]


def _at_home(override: str) -> str:
    """The override with ~ replaced by the home folder where its key is a path: bash leaves data.root=~/x alone."""
    key, _, value = override.partition("=")
    if key not in PATHS or not value.startswith("~"):
        return override
    return f"{key}={quoted(str(expanded(value)))}"


def method_references(arguments: argparse.Namespace) -> list[str]:
    """The methods asked for, in order, each once."""
    return list(dict.fromkeys(_items("--methods", arguments.methods)))


def quoted(value: str) -> str:
    """A value as Hydra's grammar takes it."""
    return value if re.fullmatch(r"[\w.\-]+", value) else "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _items(name: str, text: str) -> list[str]:
    items = [item.strip() for item in text.split(",") if item.strip()]
    if not items:
        raise InputError(f"{name} is empty")
    return items
