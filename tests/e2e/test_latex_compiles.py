"""LaTeX as pdflatex takes it: the document as it is, and each bare tabular in a document of the reader's own."""

import shutil
import subprocess
from pathlib import Path

import pytest

from results.latex import PACKAGES
from results.render import report
from tests.made_up import two_protocols

pytestmark = pytest.mark.skipif(
    shutil.which("pdflatex") is None, reason="pdflatex is not installed (Debian: texlive-latex-base, -recommended)"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The LaTeX files of a report on two protocols, with names that LaTeX would misread."""
    store = tmp_path_factory.mktemp("store")
    two_protocols(store)
    report(store, formats=("latex",), compare=True)
    return store / "reports"


def run(program: str, *arguments: str, folder: Path) -> str:
    """What the program prints; it must succeed."""
    done = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


def pdflatex(document: str, folder: Path) -> str:
    return run("pdflatex", "-interaction=nonstopmode", "-halt-on-error", document, folder=folder)


def test_the_document_compiles_as_it_is(folder):
    pdflatex("report.tex", folder)
    said = pdflatex("report.tex", folder)
    assert "undefined" not in said and "Overfull" not in said and "LaTeX Warning" not in said
    assert (folder / "report.pdf").read_bytes().startswith(b"%PDF")


def test_bare_tabulars_compile_in_another_document_with_the_bibliography(folder):
    tabulars = sorted(path.name for path in folder.glob("tabular-*.tex"))
    assert len(tabulars) >= 9
    inputs = "\n\n".join(rf"\resizebox{{\linewidth}}{{!}}{{\input{{{name}}}}}" for name in tabulars)
    (folder / "mine.tex").write_text(
        rf"\documentclass{{article}}\usepackage{{{','.join(PACKAGES)}}}\begin{{document}}"
        f"\n{inputs}\n" + r"\bibliographystyle{plain}\bibliography{report}\end{document}"
    )
    pdflatex("mine.tex", folder)
    assert "error" not in run("bibtex", "mine", folder=folder).lower()
    pdflatex("mine.tex", folder)
    assert "undefined" not in pdflatex("mine.tex", folder)
    assert "Cermelli" in (folder / "mine.bbl").read_text()
