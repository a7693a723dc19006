"""Two hundred steps in one process: neither memory nor open files grow, and the logs stay small."""

from tests.e2e.test_long_run import check_flat


def test_200_steps_in_one_process(bench, monkeypatch, tmp_path):
    check_flat(bench, monkeypatch, tmp_path, runs=10)
