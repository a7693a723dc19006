"""A method on its way through the steps: built, grown and loaded so that it holds the finished state of any step."""

from dataclasses import dataclass

import torch

from bench import distributed
from bench.cache import StepCache
from bench.keys import derived_seed
from bench.machine import Machine
from bench.plan import RunPlan, StepPlan
from methods.base import Method
from methods.nn.network import build

NETWORK = "network."


@dataclass
class Learner:
    """The method of one run; `at` is the step whose finished state it holds (-1: none yet)."""

    plan: RunPlan
    cache: StepCache
    machine: Machine
    method: Method | None = None
    at: int = -1

    def hold(self, index: int) -> Method:
        """The method in the finished state of step `index`, loaded from the cache unless it is held already."""
        if self.method is None or self.at != index:
            self.enter(index)
            step = self.plan.steps[index]
            self.load(step.key)
            self.at = index
        return self.method

    def enter(self, index: int) -> Method:
        """The method as it begins step `index`: the state of the step before, the head grown, the teacher kept."""
        if index > 0 and self.at == index - 1:
            self._begin(self.plan.steps[index])
            return self.method
        self._build()
        for step in self.plan.steps[: index + 1]:
            if step.step.index == index and index > 0:
                self.load(self.plan.steps[index - 1].key)
            self._begin(step)
        return self.method

    def load(self, key: str) -> None:
        """Loads an entry: the whole state, or the network alone where the entry is a shared base.

        Raises CorruptEntry, with the entry in quarantine, if it is damaged.
        """
        self.cache.verify_or_quarantine(key)
        tensors = self.cache.load(key)
        state = self.method.state_dict()
        wanted = set(state) if len(tensors) == len(state) else {name for name in state if name.startswith(NETWORK)}
        if set(tensors) != wanted:
            odd = sorted(set(tensors) ^ wanted)[0]
            raise RuntimeError(f"the cached step {key[:12]} does not fit the method: {odd}")
        self.method.load_state_dict({**state, **tensors})

    def _build(self) -> None:
        spec = self.plan.spec
        torch.manual_seed(derived_seed(spec.seed, "initial weights"))
        method = spec.found.method(spec.options, build(spec.network))
        self.method = method.to(self.machine.device, memory_format=self.machine.memory_format)
        self.at = -1

    def _begin(self, step: StepPlan) -> None:
        torch.manual_seed(derived_seed(self.plan.spec.seed, "growth", step.step.index))
        self.method.begin_step(step.step)
        self.method = distributed.synchronise_norms(self.method)
        self.method.to(self.machine.device, memory_format=self.machine.memory_format)
        self.at = -1
