"""Which code trained a step: what counts as a change, and that it is reported."""

import methods
from bench import source
from bench.source import changed_modules, code_digests, code_record, digest_of

CODE = '''"""A module."""
import torch  # the library


def double(x: float) -> float:
    """Twice."""
    return 2 * x
'''


def test_comments_docstrings_and_layout_are_no_change():
    other = """import torch
def double(x:  float) -> float:
    # another way to say it

    return 2*x
"""
    assert digest_of(CODE) == digest_of(other)


def test_code_strings_and_blocks_are_changes():
    changed = [
        CODE.replace("2 * x", "3 * x"),
        CODE.replace("float", "int"),
        CODE + "\ndouble(1.0)\n",
        CODE + "    double(1.0)\n",
        CODE.replace("import torch", "import numpy"),
        CODE.replace("return 2", 'x = "a string"\n    return 2'),
    ]
    assert len({digest_of(text) for text in (CODE, *changed)}) == 1 + len(changed)


def test_a_method_stands_for_its_own_modules_and_those_that_train_all():
    mib, lbd = code_digests(methods.get("mib").method), code_digests(methods.get("lbd").method)
    assert {"methods.mib", "methods.nn.losses", "methods.base", "bench.train", "bench.engine"} <= mib.keys()
    assert {"methods.lbd.method", "methods.lbd.background", "methods.mbs", "bench.data.transforms"} <= lbd.keys()
    assert not {"methods.lbd.method", "methods.plop", "methods", "bench.panels"} & mib.keys()
    assert all(mib[name] == lbd[name] for name in mib.keys() & lbd.keys())


def test_other_code_of_the_same_version_is_named(monkeypatch):
    found = methods.get("mib")
    meta = {"method": "mib", "code": code_record(found.method)}
    assert changed_modules(meta) == []
    meta["code"]["modules"] = {**meta["code"]["modules"], "bench.train": "0" * 16, "methods.gone": "1" * 16}
    assert changed_modules(meta) == ["bench.train", "methods.gone"]
    monkeypatch.setattr(source, "TRAINING_VERSION", 99)  # a version was raised: the keys tell the two apart
    assert changed_modules(meta) == []


def test_what_cannot_be_known_is_no_change():
    record = code_record(methods.get("mib").method)
    assert changed_modules({"method": "mib"}) == []  # trained before there were records
    assert changed_modules({"method": "gone", "code": record}) == []


def test_a_method_file_is_recorded_with_what_trains_it(tmp_path):
    path = tmp_path / "own.py"
    path.write_text("from methods.finetune import Finetune\n\n\nclass Own(Finetune):\n    pass\n")
    found = methods.get(f"{path}:Own")
    digests = code_digests(found.method)
    assert {"methods.finetune", "bench.train"} <= digests.keys()
    assert changed_modules({"method": "own", "code": code_record(found.method)}, found) == []
