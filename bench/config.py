"""The typed configuration of a run, and how command-line overrides become configurations (Hydra).

`bench.yaml` composes a track, a backbone and the recipe of that pair over the schema here; each registered method has
one node of its own options under its name, so `mib.kd=100` touches MiB alone.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, make_dataclass

from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import methods
import protocols
from methods.published import published_overrides
from protocols.errors import InputError, unknown

TRACKS = ("unified", "paper", "demo")
BACKBONES = ("segmenter", "deeplab")
NATIVE = "native"  # evaluation.size of whole images
DEMO_RECIPES = ("ade",)  # data sets whose scenes have demo recipes of their own


@dataclass
class NetworkSection:
    """The network that every method of the run starts from."""

    name: str = MISSING  # deeplab, segmenter or a tiny sibling
    pretrained: str = MISSING  # default (published weights), none, or a path to a .safetensors file


@dataclass
class Phase:
    """The length and learning rate of step 0, or of every increment. Give `epochs` or `iterations`; iterations win."""

    lr: float = MISSING
    epochs: int | None = None
    iterations: int | None = None


@dataclass
class TrainSection:
    """Everything that determines training besides data, network and method: part of every key."""

    optimiser: str = "sgd"  # sgd (Nesterov) or adamw
    momentum: float = 0.9  # of sgd
    weight_decay: float = 0.0
    encoder_lr: float = 1.0  # rate of the image encoder, times that of the rest: below 1 spares what it knows
    schedule: str = "poly"  # poly or constant, restarted in each step
    power: float = 0.9  # of poly
    warmup: float = 0.0  # share of a step's iterations in which the rate rises linearly from zero
    batch: int = MISSING  # images an iteration
    accumulate: int = 1  # equal parts of a batch, to save memory; its loss is the mean of theirs
    precision: str = "bf16"  # bf16 (autocast) or fp32
    crop: int = MISSING  # pixels; also the size that shorter sides are resized to before random scaling
    augmentation: str = "scale_crop"  # or resized_crop: random area and aspect ratio (MiB, PLOP)
    scale: list[float] = field(default_factory=lambda: [0.5, 2.0])  # lowest and highest factor, of sides or of area
    flip: float = 0.5  # probability of a horizontal flip
    void: str = "ignore"  # what label 255 becomes in training: ignore or background
    padding: str = "ignore"  # what the label of padding becomes: ignore or background
    base: Phase = field(default_factory=Phase)
    increment: Phase = field(default_factory=Phase)


@dataclass
class EvaluationSection:
    """How the network of each step is evaluated: part of the key of its counts, not of training."""

    size: int | str = MISSING  # shorter side resized to this, then the centre crop; or native: whole images, unresized
    batch: int = 8  # images at once; changes nothing but memory: 1.2 GiB of logits at 512 x 512 with 151 slots
    split: str = "val"  # val, or dev: a tenth of the training images, held out of training, for tuning

    @property
    def side(self) -> int | None:
        """The side of the evaluated squares in pixels; None for whole images."""
        return None if self.size == NATIVE else self.size


@dataclass
class DataSection:
    """Which images."""

    name: str | None = None  # voc, ade or shapes; default: the data set of the protocol
    root: str | None = None  # folder of a real data set
    train_images: int = 2000  # scenes to render (shapes only)
    val_images: int = 300
    image_size: int | None = None  # pixels a side of scenes (shapes only); default: the crop of training


@dataclass
class RunConfig:
    """One run: method x protocol x seed. What follows `store` is provenance and changes no key."""

    method: str = MISSING
    protocol: str = MISSING
    setting: str = "overlapped"  # overlapped, disjoint or sequential
    order: str | None = None  # class order: a name of protocols/orders.yaml, or random:SEED
    seed: int = 0
    track: str = MISSING
    backbone: str = MISSING
    network: NetworkSection = field(default_factory=NetworkSection)
    train: TrainSection = field(default_factory=TrainSection)
    evaluation: EvaluationSection = field(default_factory=EvaluationSection)
    data: DataSection = field(default_factory=DataSection)
    store: str = "runs"  # where runs and the step cache live
    device: str = "auto"  # auto, cpu or cuda
    threads: int | None = None  # CPU threads of PyTorch; default: PyTorch's own
    workers: int | None = None  # data-loading processes; default: none for rendered scenes, else up to 16
    channels_last: bool = True  # memory format of images and convolutions
    compile: bool = False  # torch.compile for training: a slow start of each step, then less time an iteration
    # Least time between rolling checkpoints within a step; 100 times what writing one takes, if that is more.
    checkpoint_seconds: float = 60.0  # 0: one every 20 iterations


def register(references: Sequence[str] = ()) -> list[str]:
    """Declares the schema to Hydra, with one node for each shipped method and each of `references`; returns its keys.

    Raises InputError for a method whose name is taken: its options could not be told from what has the name.
    """
    nodes: dict[str, type] = {}
    taken = {field.name: "a part of the configuration" for field in fields(RunConfig)}
    for reference in dict.fromkeys([*methods.BUILT_IN, *references]):
        found = methods.get(reference)
        if found.name in taken or nodes.get(found.name, found.method.Config) is not found.method.Config:
            raise InputError(
                f"{reference}: the name {found.name} is {taken.get(found.name, 'taken')}; rename the class"
            )
        nodes[found.name] = found.method.Config
    schema = make_dataclass(
        "Schema",
        [(name, node, field(default_factory=node)) for name, node in nodes.items()],
        bases=(RunConfig,),
    )
    ConfigStore.instance().store(name="schema", node=schema)
    return sorted(_keys(OmegaConf.structured(schema)))


def unregister() -> None:
    """Takes the schema back, whose classes another process may not be able to import: it declares its own."""
    ConfigStore.instance().repo.pop("schema.yaml", None)


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """Every combination of swept values (`seed=0,1`), one list of overrides a run, in the order Hydra would run
    them."""
    parser = OverridesParser.create()
    runs: list[list[str]] = [[]]
    for text in overrides:
        try:
            override = parser.parse_override(text)
            if override.is_sweep_override():
                values = [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
            else:
                values = [override.input_line]
        except (HydraException, ValueError) as fault:  # ValueError: a number of thousands of digits
            raise InputError(f"{text!r} cannot be read ({one_line(fault)}): quote special characters") from fault
        runs = [[*run, value] for run in runs for value in values]
    return runs


def configurations(overrides: Sequence[str], references: Sequence[str] = ()) -> list[DictConfig]:
    """The composed configuration of every run that `overrides` describe.

    Raises InputError naming the wrong key or value.
    """
    known = register(references)
    with _hydra():
        return [_compose(run, known) for run in runs(overrides)]


def runs(overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of every run: sweeps expanded, with the recipe that belongs to its method (paper track) or to the
    data set of its protocol (demo track)."""
    return [_with_recipe(run) for run in expand(overrides)]


def _with_recipe(run: list[str]) -> list[str]:
    values = dict(override.partition("=")[::2] for override in run)
    if values.get("track") == "paper":
        return _with_published(run, values)
    if values.get("track") == "demo" and "protocol" in values and "recipe" not in values:
        dataset = protocols.load(values["protocol"].strip("'")).dataset
        if dataset in DEMO_RECIPES:
            return [f"recipe=demo_{dataset}_{values.get('backbone', 'segmenter')}", *run]
    return run


def _with_published(run: list[str], values: dict[str, str]) -> list[str]:
    """A run of the paper track: what its method's authors published, which later overrides may change."""
    method = methods.get(values["method"].strip("'")).method
    published = published_overrides(method, protocols.load(values["protocol"].strip("'")))
    backbone = next(setting for setting in published if setting.startswith("backbone="))
    if values.get("backbone", backbone.partition("=")[2]) != backbone.partition("=")[2]:
        raise InputError(f"{values['method']} is published with {backbone}: use --track unified for another")
    return [*(setting for setting in published if setting != backbone), backbone, *(o for o in run if o != backbone)]


def one_line(fault: Exception) -> str:
    """Hydra's message of a wrong override without its hints about Hydra."""
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    kept = [
        line for line in lines if not re.match(r"(To append|full_key|object_type|See https?:|reference_type)", line)
    ]
    return ": ".join(line.rstrip(":.") for line in kept[:2])


def _compose(overrides: list[str], known: list[str]) -> DictConfig:
    try:
        config = compose("bench", overrides=overrides)
        OmegaConf.resolve(config)
        missing = sorted({*OmegaConf.missing_keys(config), *(set(known) - set(_keys(config)))})
        if missing:
            raise InputError(f"{missing[0]} has no value: give {missing[0]}=...")
        strange = sorted(set(_keys(config)) - set(known))
        if strange:
            raise unknown("key", strange[0], known)
        return config
    except (HydraException, OmegaConfBaseException) as fault:
        key = re.search(r"(?:Key|Could not override) '([\w.]+)'", f"{fault} {fault.__cause__ or ''}")
        if key and "not in" in f"{fault} {fault.__cause__ or ''}":
            full = re.search(r"Could not override '([\w.]+)'", str(fault))
            raise unknown("key", (full or key).group(1), known) from fault
        reason = one_line(fault) + (f": {one_line(fault.__cause__)}" if fault.__cause__ else "")
        raise InputError(reason) from fault
    except InputError:
        raise
    except (ValueError, ArithmeticError) as fault:  # what Hydra and OmegaConf make of values that they did not expect
        raise InputError(f"{' '.join(overrides)} cannot be read: {one_line(fault)}") from fault


def _keys(node: DictConfig, prefix: str = "") -> Iterator[str]:
    for name in node:
        value = node._get_node(name)
        if isinstance(value, DictConfig) and not value._is_missing():
            yield from _keys(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


@contextmanager
def _hydra() -> Iterator[None]:
    GlobalHydra.instance().clear()
    with initialize_config_module("bench.conf", version_base="1.3"):
        yield
