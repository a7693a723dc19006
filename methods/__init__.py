"""Methods, found by name: those shipped here, those of installed packages, and a user's own file.

`get("mib")` and `get("mib-no_init")` name a shipped method and a variant of it; `get("path/to/file.py:Class")` a class
in a file of the user's own, whose code is run. Other packages register under the group `ciss_bench.methods`. Importing
this package imports no torch; looking a method up does.
"""

import hashlib
import importlib
import importlib.util
import re
import sys
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protocols.errors import InputError, unknown

if TYPE_CHECKING:
    from methods.base import Method

ENTRY_POINTS = "ciss_bench.methods"
BUILT_IN = {
    "finetune": "methods.finetune:Finetune",
    "ilt": "methods.ilt:Ilt",
    "joint": "methods.joint:Joint",
    "lbd": "methods.lbd:Lbd",
    "lwf": "methods.ilt:Lwf",
    "mbs": "methods.mbs:Mbs",
    "mib": "methods.mib:Mib",
    "plop": "methods.plop:Plop",
}
NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Found:
    """A method by name: its class, and the options that its variant changes."""

    name: str  # also the namespace of its options on the command line
    variant: str | None
    method: type["Method"]
    source: str | None = None  # the sha256 of a method file; part of the keys, since nobody versions it

    @property
    def label(self) -> str:
        """`name` or `name-variant`, as in tables."""
        return self.name if self.variant is None else f"{self.name}-{self.variant}"

    @property
    def options(self) -> dict[str, Any]:
        """The options that the variant changes."""
        return {} if self.variant is None else dict(self.method.variants[self.variant])


def targets() -> dict[str, str]:
    """Every registered method: name -> `module:Class`. Shipped names win over those of other packages."""
    found = {point.name: point.value for point in entry_points(group=ENTRY_POINTS) if NAME.fullmatch(point.name)}
    return {**found, **BUILT_IN}


def names() -> tuple[str, ...]:
    """The names of all registered methods, sorted."""
    return tuple(sorted(targets()))


def get(reference: str) -> Found:
    """The method that `reference` names: `name`, `name-variant` or `path/to/file.py:Class[-variant]`.

    Raises InputError for an unknown name, variant, file or class.
    """
    if ".py" in reference:
        path, _, rest = reference.partition(":")
        class_name, _, variant = rest.partition("-")
        method = _from_file(Path(path), class_name)
        source = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", class_name).lower()
    else:
        name, _, variant = reference.partition("-")
        known = targets()
        if name not in known:
            raise unknown("method", name, sorted(known))
        method, source = _load(name, known[name]), None
    found = Found(name, None, method, source)
    if not variant:
        return found
    if variant not in method.variants:
        raise unknown(f"variant of {name}", variant, sorted(method.variants))
    return replace(found, variant=variant)


def _load(name: str, target: str) -> type["Method"]:
    module, _, attribute = target.partition(":")
    try:
        return _checked(getattr(importlib.import_module(module), attribute), name)
    except (ImportError, AttributeError) as fault:
        raise InputError(f"method {name} cannot be loaded from {target}: {fault}") from fault


def _from_file(path: Path, class_name: str) -> type["Method"]:
    if not path.is_file():
        raise InputError(f"no method file {path}: give path/to/file.py:Class")
    module_name = "ciss_bench_file_" + hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    module = sys.modules.get(module_name)
    if module is None:
        spec = importlib.util.spec_from_file_location(module_name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as fault:
            del sys.modules[module_name]
            raise InputError(f"{path} cannot be imported: {type(fault).__name__}: {fault}") from fault
    if not class_name or not hasattr(module, class_name):
        raise InputError(f"no class {class_name or '(none given)'} in {path}: give path/to/file.py:Class")
    return _checked(getattr(module, class_name), class_name)


def _checked(method: type, name: str) -> type["Method"]:
    from methods.base import Method

    if not (isinstance(method, type) and issubclass(method, Method)):
        raise InputError(f"method {name} is no subclass of methods.base.Method")
    return method
