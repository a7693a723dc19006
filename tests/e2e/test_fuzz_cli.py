"""Command lines of any content: a plan, or one line and exit code 2."""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bench.config import register
from tests.e2e.conftest import SMALL

KEYS = register()
SCENES = [text for text in SMALL if not text.startswith("data.")] + ["data.train_images=4", "data.val_images=2"]
VALUES = st.one_of(
    st.text(max_size=12).filter(lambda text: not text.startswith("-")),
    st.sampled_from(
        [
            *("", "0", "-1", "1.5", "1e400", "nan", "inf", "null", "true", "[]", "{}", "[1", "{a:b}", "'x", '"', "\\"),
            *("${oc.env:HOME}", "${nope}", "???", "a,b", "range(1,3)", "glob(*)", "interval(0,1)", "sort(1)", "@:"),
            *("9" * 400, "9" * 5000, "\0", "\x1b[31m", "\udc80", "~nobody/x", "/dev/zero", "x" * 3000, "=", "[2,1]"),
        ]
    ),
)
OVERRIDES = st.builds(
    "{}{}={}".format, st.sampled_from(["", "", "", "+", "++", "~", "@"]), st.sampled_from(KEYS), VALUES
)
OPTIONS = st.tuples(
    st.sampled_from(["--methods", "--protocol", "--setting", "--seeds", "--track", "--backbone", "--data"]), VALUES
)


def check(result: tuple[int, str, str]) -> None:
    """Done, or refused in one line of text."""
    code, _, err = result
    assert code in (0, 1, 2)
    if code == 2:
        (line,) = err.splitlines()
        assert line.startswith("bench: ") and line.isprintable() and len(line) < 4100


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(OVERRIDES.map(lambda override: [override]), OPTIONS.map(list)))
@example(["train.base.epochs=glob(*)"])
@example(["mbs.label_guided=interval(0,1)"])
@example(["@mbs.selective=1"])
@example(["train.encoder_lr=" + "9" * 400])
@example(["ilt.kd=" + "9" * 5000])
@example(["--protocol", "\udc80.yaml"])
def test_values_of_any_kind_are_a_plan_or_one_line(bench, arguments):
    check(bench("plan", "--methods", "finetune", "--protocol", "voc_10-5", *SCENES, *arguments))


@pytest.mark.parametrize("text", ["", "\0", "x" * 3000, "~nobody/x", "\udc80", "/dev/null", "-1", "a\nb"])
@pytest.mark.parametrize(
    "command",
    [
        ("cache", "list", "--store"),
        ("cache", "verify", "--store"),
        ("cache", "gc", "--dry-run", "--store"),
        ("report", "--store"),
        ("report", "--protocol"),
        ("list", "runs", "--store"),
        ("predict", "nothing", "--out"),
        ("predict", "--out", "maps"),
        ("score", ".", "--protocol", "voc_10-5", "--data", "shapes", "--name"),
        ("score", "--protocol", "voc_10-5", "--data", "shapes", "--name", "x"),
        ("check",),
        ("check", "own.py:"),
    ],
    ids=" ".join,
)
def test_paths_and_names_of_any_kind(bench, tmp_path, command, text):
    check(bench(*command, text))
    assert {path.name for path in tmp_path.iterdir()} <= {"runs"}


def test_links_that_run_in_circles(bench, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    for command in (
        ("cache", "list", "--store", "loop"),
        ("report", "--store", "loop"),
        ("plan", "--methods", "finetune", "--protocol", "loop/own.yaml", *SCENES),
        ("plan", "--methods", "loop/own.py:Own", "--protocol", "voc_10-5", *SCENES),
        ("plan", "--methods", "finetune", "--protocol", "voc_10-5", *SCENES, "network.pretrained=loop"),
        ("plan", "--methods", "finetune", "--protocol", "voc_10-5", *SCENES, "--data", "voc", "data.root=loop"),
        ("run", "--methods", "finetune", "--protocol", "voc_10-5", *SCENES, "store=loop"),
        ("predict", "loop", "--out", "maps"),
    ):
        check(bench(*command))
