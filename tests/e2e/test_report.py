"""The command that makes the committed results, as the Makefile has it, on made-up runs."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from results.render import FORMATS
from tests.made_up import JOINT, make

ROOT = Path(__file__).resolve().parents[2]


def commands() -> list[list[str]]:
    """What `make results-demo` calls the command line with."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    dry = ["make", "--dry-run", "--no-print-directory", "-C", str(ROOT), "results-demo", "STORE=here"]
    lines = subprocess.run(dry, check=True, capture_output=True, text=True).stdout.splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith(".venv/bin/bench ")]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_committed_results_come_from_one_command_and_come_out_the_same_again(bench, tmp_path):
    run, made = commands()
    assert run[0] == "run" and "store=here" in run and run[run.index("--protocol") + 1] == "voc_10-1"
    for seed in (0, 1):
        make(tmp_path / "here", seed=seed, protocol="voc_10-1", command="/some/where/bench run --methods mib")
    make(tmp_path / "here", "joint", hits=JOINT, protocol="voc_10-1")
    make(tmp_path / "here", "plop", protocol="pets_2-1")  # is not asked for
    code, out, err = bench(*made)
    assert code == 0, err
    files = contents(tmp_path / "results" / "demo")
    assert {"report.md", "report.tex", "report.bib", "report.html"} < files.keys()
    kinds = {name.split("-")[0] for name in files if name.endswith(".csv")}
    assert kinds == {"main", "steps", "classes"}
    figures = {name.split("/")[1] for name in files if name.startswith("figures-voc_10-1_")}
    assert {"miou.png", "miou.pdf", "heat-map.png"} < figures
    assert out.count("written: results/demo/") == len(files)
    assert not [name for name, content in files.items() if b"PLOP" in content or b"/some/where" in content]
    shutil.rmtree(tmp_path / "results")
    assert bench(*made)[0] == 0 and contents(tmp_path / "results" / "demo") == files


def test_help_names_every_format(bench, capsys):
    with pytest.raises(SystemExit):
        bench("report", "--help")
    said = capsys.readouterr().out
    assert all(f"{name}" in said.split("--format")[2] for name in FORMATS)
