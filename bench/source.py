"""Which code trained a step: digests of the modules that determine its weights, so that a change that raised no version
is noticed.

Keys hold versions, which people raise. A step's record holds these digests, too: where a cached step was trained by
other code of the same version, a run and `bench cache verify` say so. Comments, docstrings and layout do not count.
"""

import ast
import hashlib
import importlib.util
import io
import re
import textwrap
import tokenize
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import methods
from bench.spec import TRAINING_VERSION
from methods.base import Method
from protocols.errors import InputError

# What trains every method. Images, labels and recipes are in the keys by their content, whoever made them.
SHARED = (
    *("bench.train", "bench.learner", "bench.machine", "bench.distributed", "bench.keys"),
    *("bench.data.views", "bench.data.transforms"),
)
ENGINE = ("OnePass", "_train", "_complete_base", "_end_step", "_batches")  # its parts that do; the rest tells of runs
APART = {"methods", "methods.published"}  # the registry, and published recipes, which are in the keys as values
_LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.ENCODING, tokenize.ENDMARKER}
_MARKS = {tokenize.NEWLINE: "\0;", tokenize.INDENT: "\0{", tokenize.DEDENT: "\0}"}


def code_record(method: type[Method]) -> dict[str, Any]:
    """What the record of a step says of the code that trained it: versions, and a digest by module."""
    return {"version": _version(method), "modules": code_digests(method)}


def changed_modules(meta: Mapping[str, Any], own: methods.Found | None = None) -> list[str]:
    """The modules that have changed since the step of this record was trained, with no version raised since; sorted.

    own: the method of the run, which finds a method given as a file. Steps without such a record, of other versions, or
    of methods that are gone, give none.
    """
    record, label = meta.get("code"), meta.get("method")
    try:
        found = own if own is not None and own.label == label else methods.get(str(label))
    except InputError:
        return []
    if not isinstance(record, dict) or record.get("version") != _version(found.method):
        return []
    then, now = record.get("modules", {}), code_digests(found.method)
    return sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))


@cache
def code_digests(method: type[Method]) -> dict[str, str]:
    """The start of the sha256 of every module that determines what `method` trains to, by name.

    These are SHARED, ENGINE, the method's own module, and what it imports from its own package, to any depth.
    """
    digests = {name: digest_of(path.read_text(encoding="utf-8")) for name, path in sorted(_modules(method))}
    return {**digests, "bench.engine": digest_of(_parts("bench.engine", ENGINE))}


def digest_of(source: str) -> str:
    """16 hex digits of the sha256 of Python source without comments, docstrings, blank space and empty lines."""
    docstrings = {
        (node.body[0].lineno, node.body[0].col_offset)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None
    }
    kept = [_MARKS[tokenize.NEWLINE]]  # tokens, and marks for the ends of lines and blocks
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in _LAYOUT or (token.type == tokenize.STRING and token.start in docstrings):
            continue
        if token.type == tokenize.NEWLINE and kept[-1] in _MARKS.values():  # of a docstring
            continue
        kept.append(_MARKS.get(token.type, token.string))
    # No blank space at all: from Python 3.12 on f-strings are several tokens.
    return hashlib.sha256(re.sub(r"\s+", "", "".join(kept)).encode()).hexdigest()[:16]


def _version(method: type[Method]) -> str:
    return f"{TRAINING_VERSION}.{method.version}"


def _parts(module: str, names: Collection[str]) -> str:
    """The source of the classes and functions of these names in a module, whatever they are inside of."""
    source = _file_of(module).read_text(encoding="utf-8")
    nodes = (node for node in ast.walk(ast.parse(source)) if getattr(node, "name", None) in names)
    return "\n".join(textwrap.dedent(ast.get_source_segment(source, node, padded=True)) for node in nodes)


def _modules(method: type[Method]) -> Iterator[tuple[str, Path]]:
    """Names and files of the modules of `code_digests`, each once."""
    seen: set[str] = set()
    waiting = [*SHARED, method.__module__]
    while waiting:
        name = waiting.pop()
        path = _file_of(name)
        if name in seen or name in APART or path is None:
            continue
        seen.add(name)
        yield name, path
        if name not in SHARED:
            packages = {name.split(".")[0], "methods"}
            waiting += [other for other in _imported(name, path) if other.split(".")[0] in packages]


def _imported(name: str, path: Path) -> Iterator[str]:
    """The names of everything that a module imports, wherever in its file; some are of classes and functions."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def _file_of(name: str) -> Path | None:
    """The source of a module; None for what is none, and for modules without a file of source."""
    top, *rest = name.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin)
    if rest:
        path = path.parent.joinpath(*rest)
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return path if path.suffix == ".py" and path.is_file() else None
