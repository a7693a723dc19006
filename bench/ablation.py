"""Ablations: the declared variants of a method, run and set beside each other by what their configurations change."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import methods
from bench.spec import RunSpec
from protocols.errors import InputError
from results.ablation import Variant


def references(method: str, variants: Sequence[str] | None = None) -> list[str]:
    """The method and its variants as references, the full method first.

    Raises InputError for an unknown variant, and for a method that declares none.
    """
    found = methods.get(method)
    if found.variant is not None:
        raise InputError(f"ablate the method itself: `bench ablate {found.name}`")
    if not found.method.variants:
        raise InputError(f"{method} declares no variants: there is nothing to ablate")
    chosen = list(found.method.variants) if variants is None else [name for name in variants if name != "full"]
    listed = [f"{method}-{name}" for name in chosen]
    for reference in listed:
        methods.get(reference)
    return [method, *listed] if variants is None or "full" in variants else listed


def check_one_recipe_each(specs: Sequence[RunSpec]) -> None:
    """Raises InputError if a variant has several values of an option: its row could not say which. What a method
    decides by the data set has one on each."""
    options: dict[tuple[str, str], dict[str, Any]] = {}
    for spec in specs:
        first = options.setdefault((spec.found.label, spec.protocol.dataset), asdict(spec.options))
        swept = [name for name, value in asdict(spec.options).items() if value != first[name]]
        if swept:
            key = f"{spec.found.name}.{swept[0]}"
            raise InputError(f"{key} has several values: an ablation takes one; sweep it with `bench run` instead")


def variants_of(specs: Sequence[RunSpec], components: Mapping[str, Mapping[str, Any]]) -> list[Variant]:
    """The rows of the ablation table, in the order of the runs: a mark for each component, and a column for every
    option by which rows differ that their marks do not tell apart."""
    options = {spec.found.label: asdict(spec.options) for spec in specs}
    marks = {label: _marks(values, components) for label, values in options.items()}
    extra = _telling(options, marks)
    return [
        Variant(label, {**marks[label], **{name: _written(options[label][name]) for name in extra}})
        for label in options
    ]


def _marks(options: Mapping[str, Any], components: Mapping[str, Mapping[str, Any]]) -> dict[str, bool]:
    """Component -> whether it is on: off means that every option is as the component's absence demands."""
    return {
        component: any(options[name] != value for name, value in off.items()) for component, off in components.items()
    }


def _telling(options: Mapping[str, Mapping[str, Any]], marks: Mapping[str, Mapping[str, bool]]) -> list[str]:
    """Options in which two rows with equal marks differ; on-off options that no mark speaks for are among them."""
    labels = list(options)
    telling = {
        name
        for place, one in enumerate(labels)
        for other in labels[:place]
        if marks[one] == marks[other]
        for name in options[one]
        if options[one][name] != options[other][name]
    }
    return [name for name in options[labels[0]] if name in telling] if labels else []


def _written(value: Any) -> bool | str:
    return value if isinstance(value, bool) else str(value)
