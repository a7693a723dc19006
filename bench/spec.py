"""A run, resolved: what a composed configuration means, checked, as plain values that keys are made from."""

import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from omegaconf import DictConfig, OmegaConf

import methods
import protocols
from bench.config import BACKBONES, TRACKS, Phase, RunConfig, TrainSection
from bench.data.base import DATA
from bench.data.transforms import AUGMENTATIONS
from bench.keys import digest
from methods.base import BaseRecipe, Method, MethodConfig
from methods.nn.network import NetworkConfig, check_name, family, sibling, unreadable, weights_digest
from protocols.errors import InputError, unknown
from protocols.protocol import Protocol

TRAINING_VERSION = 1  # raised when the same recipe trains to different weights; part of every key
NOT_TRAINING = ("base", "increment")


@dataclass(frozen=True)
class RunSpec:
    """One run: a method with its options, a protocol, a seed, and the configuration of everything else."""

    config: RunConfig
    found: methods.Found
    options: MethodConfig
    protocol: Protocol

    @property
    def seed(self) -> int:
        return self.config.seed

    @cached_property
    def base(self) -> BaseRecipe:
        return self.found.method.base_recipe(self.options)

    @property
    def joint(self) -> bool:
        """Whether the run is one step with all classes."""
        return self.base.view == "all"

    @property
    def network(self) -> NetworkConfig:
        section = self.config.network
        name = sibling(section.name, self.found.method.family)
        return NetworkConfig(name, section.pretrained, self.config.train.crop)

    @property
    def unsupported(self) -> str | None:
        """Why this method does not run here; None if it does."""
        method, backbone = self.found.method, self.config.backbone
        wanted = method.family or backbone
        reason = method.unsupported(backbone, self.protocol.setting)
        if reason is None and family(self.network.name) != wanted:
            return f"it is built on a {wanted} network, and {self.network.name} is none"
        return reason or unreadable(self.network.name, self.protocol.class_names[1:])

    def phase(self, index: int) -> Phase:
        """Length and learning rate of step `index`."""
        return self.config.train.base if index == 0 else self.config.train.increment

    def training_recipe(self, index: int) -> dict[str, Any]:
        """What the engine adds to the recipe of step `index`: optimiser, schedule, batch, augmentation, precision."""
        common = {name: value for name, value in asdict(self.config.train).items() if name not in NOT_TRAINING}
        return {**common, "phase": asdict(self.phase(index)), "version": TRAINING_VERSION}

    @cached_property
    def network_recipe(self) -> dict[str, Any]:
        """The network and the digest of its initial weights."""
        return {
            "name": self.network.name,
            "image_size": self.network.image_size,
            "weights": weights_digest(self.network),
        }

    @property
    def method_identity(self) -> dict[str, Any]:
        """Method and version, and the content of its file where it is one of the user's own."""
        return {"name": self.found.name, "version": self.found.method.version, "source": self.found.source}

    @cached_property
    def method_recipe(self) -> dict[str, Any]:
        """The method and every option: a variant and the options that it stands for are the same recipe."""
        return {**self.method_identity, "options": asdict(self.options)}

    @property
    def own_prediction(self) -> bool:
        """Whether the method predicts in a way of its own, so that equal networks may have other counts."""
        method = self.found.method
        return method.predict is not Method.predict or method.logits is not Method.logits

    def recipe_digest(self, data_digest: str) -> str:
        """The hash of everything but the seed: only runs that agree in it may be averaged.

        data_digest: the content of training and evaluation images.
        """
        evaluation = {name: value for name, value in asdict(self.config.evaluation).items() if name != "batch"}
        return digest(
            {
                "method": self.method_recipe,
                "base": asdict(self.base),
                "network": self.network_recipe,
                "training": [self.training_recipe(0), None if self.joint else self.training_recipe(1)],
                "protocol": self.protocol.digest,
                "data": data_digest,
                "evaluation": evaluation,
            }
        )

    def run_id(self, data_digest: str) -> str:
        """The name of the run's folder; it ends in a hash of recipe and seed."""
        config = self.config
        parts = [self.found.label, self.protocol.name, self.protocol.setting, config.network.name, config.data.name]
        return "_".join([*parts, f"s{self.seed}", digest([self.recipe_digest(data_digest), self.seed])[:8]])


def resolve(node: DictConfig) -> RunSpec:
    """The run that a composed configuration describes. Raises InputError for values that name nothing."""
    found = methods.get(node.method)
    options = OmegaConf.to_object(OmegaConf.merge(node[found.name], found.options))
    config = _run_config(node)
    _check_finite("", asdict(config))
    _check_finite(f"{found.name}.", asdict(options))
    protocol = protocols.load(config.protocol, config.setting, config.order)
    options = found.method.complete(options, protocol.dataset)
    options.check()
    config.data.name = config.data.name or protocol.dataset
    _check(config)
    return RunSpec(config, found, options, protocol)


def _run_config(node: DictConfig) -> RunConfig:
    """The typed part of the configuration, without the nodes of the methods."""
    known = OmegaConf.structured(RunConfig)
    return OmegaConf.to_object(OmegaConf.merge(known, {name: node[name] for name in known}))


def _check(config: RunConfig) -> None:
    train: TrainSection = config.train
    choices = {
        "track": (config.track, TRACKS),
        "backbone": (config.backbone, BACKBONES),
        "train.optimiser": (train.optimiser, ("sgd", "adamw")),
        "train.schedule": (train.schedule, ("poly", "constant")),
        "train.precision": (train.precision, ("bf16", "fp32")),
        "train.augmentation": (train.augmentation, tuple(AUGMENTATIONS)),
        "train.void": (train.void, ("ignore", "background")),
        "train.padding": (train.padding, ("ignore", "background")),
        "evaluation.split": (config.evaluation.split, ("val", "dev")),
        "data.name": (config.data.name, DATA),
    }
    for key, (value, valid) in choices.items():
        if value not in valid:
            raise unknown(key, value, valid)
    ranges = {  # lowest and highest value
        "seed": (config.seed, 0, None),
        "threads": (config.threads, 1, None),
        "workers": (config.workers, 0, None),
        "checkpoint_seconds": (config.checkpoint_seconds, 0, None),
        "train.batch": (train.batch, 1, None),
        "train.accumulate": (train.accumulate, 1, train.batch),
        "train.crop": (train.crop, 16, None),
        "train.momentum": (train.momentum, 0, 1),
        "train.weight_decay": (train.weight_decay, 0, None),
        "train.encoder_lr": (train.encoder_lr, 0, None),
        "train.power": (train.power, 0, None),
        "train.warmup": (train.warmup, 0, 1),
        "train.flip": (train.flip, 0, 1),
        "train.base.lr": (train.base.lr, 0, None),
        "train.increment.lr": (train.increment.lr, 0, None),
        "evaluation.size": (config.evaluation.size, 16, None),
        "evaluation.batch": (config.evaluation.batch, 1, None),
        "data.train_images": (config.data.train_images, 1, None),
        "data.val_images": (config.data.val_images, 1, None),
    }
    for key, (value, least, most) in ranges.items():
        if value is not None and not least <= value <= (math.inf if most is None else most):
            raise InputError(
                f"{key}={value} is out of range: give at least {least}" + (f", at most {most}" if most else "")
            )
    for name, phase in (("base", train.base), ("increment", train.increment)):
        if phase.epochs is None and phase.iterations is None:
            raise InputError(f"train.{name} has no length: give train.{name}.epochs or train.{name}.iterations")
        if (phase.iterations if phase.iterations is not None else phase.epochs) < 0:
            raise InputError(f"train.{name} has a negative length")
    if len(train.scale) != 2 or not 0 < train.scale[0] <= train.scale[1]:
        raise InputError(f"train.scale={train.scale}: give [lowest, highest] with 0 < lowest <= highest")
    if train.batch % train.accumulate:
        raise InputError(
            f"train.accumulate={train.accumulate} does not divide train.batch={train.batch}: parts must be equal"
        )
    if config.backbone == "deeplab" and train.batch // train.accumulate < 2:
        raise InputError(
            "deeplab needs at least 2 images at once (batch norm): raise train.batch or lower train.accumulate"
        )
    check_name(config.network.name)
    if family(config.network.name) not in (config.backbone, "clip" if config.backbone == "segmenter" else None):
        raise InputError(f"network.name={config.network.name} is no {config.backbone}: choose it with --backbone")


def _check_finite(prefix: str, values: dict[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, dict):
            _check_finite(f"{prefix}{key}.", value)
        elif isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{prefix}{key}={value}: give a finite number")
