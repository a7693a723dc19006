"""The example of a third party's method keeps the contract."""

from pathlib import Path

import pytest

import methods
from bench.contract import CHECKS, Trial, explain

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "lgkd.py"


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_the_example_keeps_the_contract(check):
    fault = explain(check, Trial(methods.get(f"{EXAMPLE}:Lgkd"), "deeplab"))
    assert fault is None, fault
