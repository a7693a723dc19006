"""The paper track: the recipe that each method's authors published, as data, each value with its source.

A method lists `Published` settings; those of a protocol are the ones that match it, later ones winning. Keys are those
of the command line. What cannot be expressed as a setting is a known deviation, told in the method's module.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from protocols.errors import InputError
from protocols.protocol import Protocol


@dataclass(frozen=True)
class Published:
    """One published value: a key of the configuration, and where it was found."""

    key: str
    value: Any
    source: str
    protocols: str = "*"  # a pattern over protocol names, as in a shell


def published_overrides(method: type, protocol: Protocol) -> list[str]:
    """The overrides that stand for a method's published recipe on a protocol.

    Raises InputError for a method that has none.
    """
    if not method.published:
        raise InputError(f"{method.__name__} has no published recipe: use --track unified")
    return [f"{setting.key}={_written(setting.value)}" for setting in settings_for(method.published, protocol)]


def _written(value: Any) -> str:
    """A value as on the command line, where lists have no spaces."""
    return str(value).replace(" ", "") if isinstance(value, list) else str(value)


def settings_for(published: Sequence[Published], protocol: Protocol) -> list[Published]:
    """The settings of a protocol, one for each key. A protocol of the user's own has those of its data set."""
    name = protocol.name if protocol.name.startswith(f"{protocol.dataset}_") else f"{protocol.dataset}_{protocol.name}"
    chosen = {setting.key: setting for setting in published if fnmatchcase(name, setting.protocols)}
    return list(chosen.values())


# MiB's training, which PLOP keeps, and with which both ran their baselines.
MIB_TRAINING = (
    Published("backbone", "deeplab", "MiB, official code: ResNet-101, output stride 16, DeepLabV3 head"),
    Published("network.name", "deeplab", "the same; in-place ABN there, batch norm and ReLU here"),
    Published("train.optimiser", "sgd", "MiB, official code: SGD with Nesterov momentum"),
    Published("train.momentum", 0.9, "MiB, official code"),
    Published("train.weight_decay", 1e-4, "MiB, official code, on all parameters"),
    Published("train.schedule", "poly", "MiB, official code, restarted in each step"),
    Published("train.power", 0.9, "MiB, official code"),
    Published("train.base.lr", 0.01, "MiB, README"),
    Published("train.increment.lr", 0.001, "MiB, README"),
    Published("train.batch", 24, "MiB, README: 12 on each of 2 GPUs"),
    Published("train.base.epochs", 30, "MiB, README", "voc_*"),
    Published("train.increment.epochs", 30, "MiB, README", "voc_*"),
    Published("train.base.epochs", 60, "MiB, README", "ade_*"),
    Published("train.increment.epochs", 60, "MiB, README", "ade_*"),
    Published("train.crop", 512, "MiB, official code"),
    Published("train.augmentation", "resized_crop", "MiB, official code: random area and ratio, horizontal flip"),
    Published("train.scale", [0.5, 2.0], "MiB, official code: share of the image's area"),
    Published("train.flip", 0.5, "MiB, official code"),
    Published("train.void", "background", "MiB, official code: 255 is masked to 0"),
    Published("train.precision", "fp32", "MiB, official code: apex at O0"),
    Published("evaluation.size", 512, "MiB, official code: shorter side 512, centre crop"),
)
PLOP_TRAINING = (
    *MIB_TRAINING,
    Published("train.void", "ignore", "PLOP, official code"),
    Published("train.precision", "bf16", "PLOP, official scripts: mixed precision (apex O1, float16; bfloat16 here)"),
    Published("train.increment.epochs", 10, "PLOP, official scripts", "voc_10-1"),
)
MBS_TRAINING = (
    Published("backbone", "segmenter", "MBS, official code: ViT-B/16 and mask transformer"),
    Published(
        "network.name", "segmenter-augreg", "MBS, official code: timm's vit_base_patch16_384, ImageNet-21k then 1k"
    ),
    Published("train.optimiser", "sgd", "MBS, official code: SGD with Nesterov momentum"),
    Published("train.momentum", 0.9, "MBS, official code"),
    Published("train.weight_decay", 1e-5, "MBS, configurations, on all parameters"),
    Published("train.schedule", "constant", "MBS, official code: a scheduler is defined and never stepped"),
    Published("train.base.lr", 1e-3, "MBS, configurations"),
    Published("train.increment.lr", 1e-4, "MBS, VOC configuration: inc_lr 0.1", "voc_*"),
    Published("train.increment.lr", 5e-4, "MBS, ADE configuration: inc_lr 0.5", "ade_*"),
    Published("train.batch", 16, "MBS, VOC configuration", "voc_*"),
    Published("train.batch", 8, "MBS, ADE configuration", "ade_*"),
    Published("train.base.epochs", 32, "MBS, VOC configuration", "voc_*"),
    Published("train.increment.epochs", 32, "MBS, VOC configuration", "voc_*"),
    Published("train.base.epochs", 64, "MBS, ADE configuration", "ade_*"),
    Published("train.increment.epochs", 64, "MBS, ADE configuration", "ade_*"),
    Published("train.crop", 512, "MBS, configurations"),
    Published(
        "train.augmentation", "scale_crop", "MBS, official code: shorter side 512, random scale, random crop, flip"
    ),
    Published("train.scale", [0.5, 2.0], "MBS, official code"),
    Published("train.flip", 0.5, "MBS, official code"),
    Published("train.void", "ignore", "MBS, official code"),
    Published("train.padding", "background", "MBS, official code: labels are padded with 0"),
    Published("train.precision", "bf16", "MBS, official code: mixed precision (float16 there, bfloat16 here)"),
    Published("evaluation.size", 512, "MBS, configurations: shorter side 512, centre crop"),
)
