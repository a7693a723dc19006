"""`bench measure` on tiny networks."""

import csv

import pytest

from tests.e2e.conftest import SMALL


def test_speed_memory_and_operations_of_each_method(bench, tmp_path):
    arguments = ["measure", "--methods", "finetune,mib", "--protocol", "voc_10-5", "--iterations", "3", *SMALL]
    code, out, _ = bench(*arguments, "--out", "speed.csv")
    assert code == 0 and "MFU" in out
    with open(tmp_path / "speed.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["step"], row["slots"]) for row in rows] == [
        ("finetune", "0", "11"), ("finetune", "1", "16"), ("mib", "0", "11"), ("mib", "1", "16"),
    ]  # fmt: skip
    for row in rows:
        assert float(row["images_per_second"]) * float(row["seconds_per_iteration"]) == pytest.approx(4, rel=0.02)
        assert row["mfu"] == ""  # nobody knows the peak of this processor
    plain, increment, first, taught = (float(row["tflop_per_iteration"]) for row in rows)
    assert first == plain  # the same step
    # a teacher adds one forward to a forward and the two of a backward; the classifier's new slots add next to nothing
    assert 1.2 < taught / increment < 1.4
    assert not list((tmp_path / "runs").glob("*_voc_10-5_*")) and not (tmp_path / "runs" / "cache" / "steps").exists()


def test_one_iteration_cannot_be_timed(bench):
    code, _, errors = bench("measure", "--methods", "mib", "--protocol", "voc_10-5", "--iterations", "1", *SMALL)
    assert code == 2 and "give at least 2" in errors
