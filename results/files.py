"""Tables as files: raw numbers (CSV), Markdown, LaTeX, and with all else HTML. Every file is replaced as a whole."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from results import citations, latex
from results.groups import distinct
from results.html import Section, to_html
from results.markdown import to_markdown
from results.naming import as_in_papers
from results.schema import csv_text, write_atomically
from results.table import Table


def write_csv(tables: Sequence[Table], folder: Path) -> list[Path]:
    """A file for each table: percent, unrounded; every line with its provenance. Returns the paths."""
    return _write({f"{stem}.csv": csv_text(table.records()) for stem, table in _with_stems(tables)}, folder)


def write_markdown(tables: Sequence[Table], folder: Path, name: str, problems: Iterable[str] = ()) -> list[Path]:
    """All tables as one document, NAME.md, methods named as in papers. Returns its path."""
    return _write({f"{name}.md": to_markdown([as_in_papers(table) for table in tables], problems)}, folder)


def write_latex(tables: Sequence[Table], folder: Path, name: str) -> list[Path]:
    """For each table a bare tabular to \\input; NAME.tex, which has all of them and compiles as it is; and NAME.bib.

    Methods are named as in papers. Returns the paths.
    """
    pages = [page for table in tables for page in latex.pages(as_in_papers(table))]
    files = {f"tabular-{stem}.tex": latex.tabular(page) for stem, page in _with_stems(pages)}
    files[f"{name}.tex"] = latex.document(pages)
    files[f"{name}.bib"] = citations.bibliography(latex.cited_papers(pages))
    return _write(files, folder)


def write_html(
    sections: Sequence[Section],
    across: Sequence[Table],
    folder: Path,
    name: str,
    convention: str = "default",
    problems: Iterable[str] = (),
) -> Path:
    """Everything as one page that needs no other file, NAME.html. Returns its path."""
    (path,) = _write({f"{name}.html": to_html(sections, across, convention, problems)}, folder)
    return path


def _with_stems(tables: Sequence[Table]) -> list[tuple[str, Table]]:
    """Each table with a file name of its own."""
    return list(zip(distinct(table.stem for table in tables), tables, strict=True))


def _write(files: dict[str, str], folder: Path) -> list[Path]:
    for name, content in files.items():
        write_atomically(folder / name, content.encode())
    return [folder / name for name in files]
