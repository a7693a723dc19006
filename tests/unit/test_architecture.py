"""Who may import whom, read from the imports themselves."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("protocols", "methods", "results", "bench")
MAY_IMPORT = {
    "protocols": set(),
    "methods": {"protocols"},
    "results": {"protocols"},
    "bench": {"protocols", "methods", "results"},
}
FORBIDDEN = {
    "protocols": {"torch", "pandas", "hydra"},
    "results": {"torch", "torchvision", "timm", "hydra"},
    "methods": {"hydra"},
}


def imported(path: Path) -> set[str]:
    """Top-level names of everything that a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_follow_the_direction(package):
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        names = imported(path)
        strangers = (names & set(PACKAGES)) - MAY_IMPORT[package] - {package}
        assert not strangers, f"{path.relative_to(ROOT)} imports {strangers}"
        assert not names & FORBIDDEN.get(package, set()), f"{path.relative_to(ROOT)}"


@pytest.mark.parametrize("package", PACKAGES)
def test_the_imported_packages_are_ours(package):
    assert Path(importlib.import_module(package).__file__).is_relative_to(ROOT)


@pytest.mark.parametrize(
    "statement",
    [
        "import bench.cli; bench.cli.main(['list', 'protocols'])",
        "import bench.cli; assert bench.cli.main(['report', '--store', 'nowhere']) == 2",
        "import results.render, results.tables, results.measures, results.schema",
        "import protocols; protocols.load('voc_15-1')",
        "import methods; methods.names()",
    ],
)
def test_light_commands_load_no_torch(statement):
    code = f"import sys\n{statement}\nassert 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
