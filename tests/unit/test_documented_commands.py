"""Every `bench` command in README and docs can be given as it stands there."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from bench.cli import parse
from bench.commands import arguments as grammar
from bench.config import expand
from protocols.errors import InputError

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "results" / "hardware" / "README.md"]
PAGES += [*sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "methods").rglob("*.md"))]
COMMAND = re.compile(r"^\s*(?:\$ |srun (?:\S+ )*?|\S*/)?bench ([a-z].*)$")
ELLIPSIS = re.compile(r"(^|\s)\.\.\.(\s|$)")


def commands(text: str) -> list[str]:
    """The arguments of each command in the code blocks of a page, on one line, without comments; those that are cut
    short by an ellipsis are left out."""
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in re.sub(r"\\\n\s*", "", block).splitlines()]
    found = [re.sub(r"\s# .*", "", match[1]) for line in lines if (match := COMMAND.match(line))]
    return [command for command in found if not ELLIPSIS.search(command)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_commands_of_a_page_are_understood(page):
    for command in commands(page.read_text()):
        words = [re.sub(r"\$\{?\w+[^}\s]*\}?", "1", word) for word in shlex.split(command)]
        try:
            given = parse(words)
            if hasattr(given, "methods") and hasattr(given, "seeds"):
                expand(grammar.overrides(given))
        except InputError as fault:
            pytest.fail(f"{page.name}: bench {command}: {fault}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_scripts_of_a_page_are_shell(page):
    for script in re.findall(r"^```bash\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE):
        checked = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
        assert not checked.stderr, checked.stderr


def test_commands_are_found_where_they_stand():
    page = """
bench in a sentence
```
$ bench plan --seeds 0,1 \\
    data.root=~/x   # why
bench run ... store=y
.venv/bin/bench data get voc
srun --cpus-per-task=4 bench report
bench: an answer
```
"""
    assert commands(page) == ["plan --seeds 0,1 data.root=~/x  ", "data get voc", "report"]
    assert sum(len(commands(page.read_text())) for page in PAGES) > 40
