"""Names that mean harm to LaTeX: printed as text, in our own files, with pdflatex itself where it is installed."""

import re
import shutil
import subprocess

import pytest

from results.files import write_latex
from results.groups import group_runs
from results.latex import SPECIAL
from results.render import group_tables
from tests.made_up import make

HOSTILE = [
    "\\input{secret}",
    "$(touch x)$",
    "</script><script>alert(1)</script>",
    "}\\end{document}",
    "^^5cinput{secret}",
    "#1%",
]


def tables_of(store, names):
    """All tables of runs with six methods, of which three are classes and two a protocol and a network, too."""
    classes = {"class_names": ["background", *names[:3], "\\write18{touch x}" if names is HOSTILE else "d"]}
    texts = {"protocol": names[0], "network": names[1], "data": "../../secret", "method_note": names[3]}
    runs = [make(store, method, label=method, run=f"r{i}", **classes, **texts) for i, method in enumerate(names)]
    return [table for group in group_runs(runs) for table in group_tables(group)]


def commands(paths) -> set[str]:
    """Every command in the LaTeX files among the paths."""
    return {name for path in paths if path.suffix == ".tex" for name in re.findall(r"\\([a-zA-Z]+)", path.read_text())}


def test_names_that_mean_harm_are_text(tmp_path):
    """No command is in their files that is not in those of harmless names, or prints one character."""
    harmless = write_latex(tables_of(tmp_path, list("uvwxyz")), tmp_path / "harmless", "report")
    paths = write_latex(tables_of(tmp_path, HOSTILE), tmp_path / "out", "report")
    printing = {re.sub(r"\W", "", code) for code in SPECIAL.values() if code.startswith("\\text")}
    assert commands(paths) <= commands(harmless) | printing
    assert {path.parent for path in paths} == {tmp_path / "out"}  # a name is no path either
    text = (tmp_path / "out" / "report.tex").read_text()
    assert r"\textbackslash{}input\{secret\}" in text and "^^" not in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_names_that_mean_harm_compile_and_do_none(tmp_path):
    (tmp_path / "secret.tex").write_text("SECRET")
    write_latex(tables_of(tmp_path, HOSTILE), tmp_path, "report")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert b"secret.tex" not in done.stdout and not (tmp_path / "x").exists()
