"""Methods by name: shipped, from other packages, from a file."""

from importlib.metadata import EntryPoint

import pytest

import methods
from protocols.errors import InputError


def entry_points(*pairs):
    return lambda group: [EntryPoint(name, value, group) for name, value in pairs if group == "ciss_bench.methods"]


def test_shipped_methods_and_their_variants():
    assert set(methods.BUILT_IN) <= set(methods.names())
    found = methods.get("mib-no_init")
    assert (found.name, found.label, found.options) == ("mib", "mib-no_init", {"background_init": False})
    assert found.source is None


def test_a_method_of_another_package_is_found_by_its_entry_point(monkeypatch):
    monkeypatch.setattr(methods, "entry_points", entry_points(("theirs", "methods.finetune:Finetune")))
    assert "theirs" in methods.names()
    assert methods.get("theirs").method is methods.get("finetune").method


def test_a_shipped_name_cannot_be_taken_over(monkeypatch):
    monkeypatch.setattr(methods, "entry_points", entry_points(("mib", "methods.finetune:Finetune")))
    assert methods.get("mib").method.__name__ == "Mib"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("no_such_package:Method", "no_such_package"),
        ("methods.mib:Nothing", "Nothing"),
        ("pathlib:Path", "no subclass"),
    ],
)
def test_a_broken_entry_point_is_named_when_it_is_asked_for(monkeypatch, target, expected):
    monkeypatch.setattr(methods, "entry_points", entry_points(("theirs", target)))
    with pytest.raises(InputError, match=expected):
        methods.get("theirs")
    assert methods.get("mib").name == "mib"


def test_a_method_file_is_known_by_its_content(tmp_path):
    path = tmp_path / "own.py"
    path.write_text("from methods.finetune import Finetune\n\n\nclass MyOwn(Finetune):\n    pass\n")
    found = methods.get(f"{path}:MyOwn")
    assert found.name == "my_own" and len(found.source) == 64
    path.write_text(path.read_text() + "# changed\n")
    assert methods.get(f"{path}:MyOwn").source != found.source


@pytest.mark.parametrize(
    ("content", "reference", "expected"),
    [
        ("import no_such_thing\n", "own.py:Own", "no_such_thing"),
        ("Own = 3\n", "own.py:Own", "no subclass"),
        ("x = 1\n", "own.py:Own", "no class Own"),
        ("x = 1\n", "own.py", "none given"),
        ("x = (\n", "own.py:Own", "SyntaxError"),
    ],
)
def test_a_faulty_method_file_is_one_line(tmp_path, monkeypatch, content, reference, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(content)
    with pytest.raises(InputError, match=expected) as caught:
        methods.get(reference)
    assert "\n" not in str(caught.value)
