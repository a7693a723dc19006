"""A protocol: the named sequence of steps in which the classes of a dataset are learned.

Two label spaces meet here. A *class id* is the label value of the dataset's masks. A *slot* is the index of a
logit: 0 is the background, then come the classes in the order in which they are learned, so that heads only
ever grow.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate

import numpy as np

from protocols.dataset_info import DatasetInfo
from protocols.errors import InputError, unknown

VOID = 255  # label of pixels that count for nothing
SETTINGS = ("overlapped", "disjoint", "sequential")
VOID_RULES = ("ignore", "background")

Images = tuple[str, ...] | tuple[int, ...]  # names, or 0-based indices into the training list; sorted


@dataclass(frozen=True)
class Step:
    """One step of a protocol, as a method sees it: nothing of the future."""

    index: int  # 0 = base
    new: tuple[int, ...]  # class ids learned at this step
    old: tuple[int, ...]  # class ids learned before, in the order learned
    names: Mapping[int, str] = field(hash=False)  # class id -> name of every seen class

    @property
    def seen(self) -> tuple[int, ...]:
        """Class ids of old and new classes, in the order learned (background is not among them)."""
        return self.old + self.new

    @property
    def slots(self) -> dict[int, int]:
        """Class id -> slot of every seen class; the background (0 -> 0) is not among them."""
        return {id: slot for slot, id in enumerate(self.seen, start=1)}

    @property
    def n_old_slots(self) -> int:
        """Number of slots before this step, the background counted (1 at step 0)."""
        return 1 + len(self.old)

    @property
    def n_slots(self) -> int:
        """Number of slots at this step, the background counted."""
        return 1 + len(self.seen)


@dataclass(frozen=True)
class ProtocolStep(Step):
    """One step of a protocol, as the engine sees it."""

    future: tuple[int, ...]  # class ids learned later

    def visible(self) -> Step:
        """The step without its future: what a method is handed."""
        return Step(self.index, self.new, self.old, dict(self.names))


@dataclass(frozen=True)
class Protocol:
    """What is learned when. Made by `protocols.load`."""

    name: str
    dataset: str
    setting: str  # one of SETTINGS
    order: tuple[int, ...]  # class ids as learned
    steps: tuple[ProtocolStep, ...]
    class_names: tuple[str, ...]  # index = class id, 0 = "background"
    image_lists: tuple[Images, ...] | None = None  # per step, where the protocol states them

    @property
    def slot_ids(self) -> tuple[int, ...]:
        """Class id of every slot, the background first."""
        return (0, *self.order)

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of everything that decides what is learned when.

        The name is left out: two spellings of one protocol have one digest.
        """
        content = {
            "dataset": self.dataset,
            "setting": self.setting,
            "class_names": self.class_names,
            "steps": [step.new for step in self.steps],
            "image_lists": self.image_lists,
        }
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def training_table(self, step: Step, void: str = "ignore") -> np.ndarray:
        """Look-up table from the class ids of a mask to the slots of its training labels.

        New classes keep their meaning (in the sequential setting old ones, too); every other class of the
        dataset becomes background.

        Args:
            step: a step of this protocol, or its `joint_step()`.
            void: what 255 becomes: "ignore" (255) or "background" (0).

        Returns:
            uint8 (256,): slot per class id; 255 for labels that the dataset does not have.
        """
        if void not in VOID_RULES:
            raise unknown("void rule", void, VOID_RULES)
        labelled = step.seen if self.setting == "sequential" else step.new
        table = np.full(256, VOID, dtype=np.uint8)
        table[: len(self.class_names)] = 0
        slots = step.slots
        table[list(labelled)] = [slots[id] for id in labelled]
        if void == "background":
            table[VOID] = 0
        return table

    def evaluation_table(self) -> np.ndarray:
        """Look-up table from class ids to slots in the full protocol order: uint8 (256,), unknown is 255."""
        table = np.full(256, VOID, dtype=np.uint8)
        table[list(self.slot_ids)] = np.arange(len(self.slot_ids), dtype=np.uint8)
        return table

    def joint_step(self) -> ProtocolStep:
        """All classes at once, in protocol order: one step without old or future classes."""
        return ProtocolStep(0, self.order, (), {id: self.class_names[id] for id in self.order}, ())


def build(
    name: str,
    info: DatasetInfo,
    setting: str,
    order: Sequence[int],
    sizes: Sequence[int],
    image_lists: tuple[Images, ...] | None = None,
) -> Protocol:
    """A protocol that learns `sizes[t]` classes of `order` at step t.

    Raises:
        InputError: unknown setting, or sizes that do not add up to the number of classes.
    """
    if setting not in SETTINGS:
        raise unknown("setting", setting, SETTINGS)
    if min(sizes, default=0) < 1 or sum(sizes) != info.n_classes:
        raise InputError(
            f"protocol {name}: classes per step {list(sizes)} add up to {sum(sizes)}, but {info.name} has "
            f"{info.n_classes}; give every step at least one, and {info.n_classes} together"
        )
    order = tuple(order)
    steps = []
    for index, (size, end) in enumerate(zip(sizes, accumulate(sizes), strict=True)):
        seen = order[:end]
        names = {id: info.class_names[id] for id in seen}
        steps.append(ProtocolStep(index, seen[end - size :], seen[: end - size], names, order[end:]))
    return Protocol(name, info.name, setting, order, tuple(steps), info.class_names, image_lists)
