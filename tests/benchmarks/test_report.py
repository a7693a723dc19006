"""What tables cost beside reading the counts that they are made from."""

from functools import partial

import numpy as np
import pytest

from results.groups import group_runs
from results.measures import matrix, mean_iou
from results.render import report
from results.schema import read_runs
from tests.made_up import make


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Seven methods, three seeds."""
    store = tmp_path_factory.mktemp("store")
    for seed in range(3):
        for number, method in enumerate(("finetune", "lwf", "ilt", "mib", "plop", "mbs", "lbd")):
            make(store, method, seed, hits=((90, 80), (60 + number, 40, 50), (30, 20 + seed, 10, 40)), recipe=method)
    return store


@pytest.mark.benchmark(group="report: 21 runs")
def test_reading_runs_beside_reading_their_files(beside, store):
    files = [path for run in store.iterdir() for path in run.iterdir() if path.suffix in (".npz", ".json")]
    beside(
        "read and check 21 runs, beside their bytes",
        lambda: read_runs(store),
        lambda: [file.read_bytes() for file in files],
    )


@pytest.mark.benchmark(group="report: 21 runs")
def test_tables_beside_the_means_alone(beside, store):
    """The floor reads the counts with NumPy and takes the mean IoU of every step, which is what tables print."""
    assert len(group_runs(read_runs(store)[0])) == 1

    def floor():
        for folder in store.iterdir():
            with np.load(folder / "counts.npz") as counts:
                for name in counts.files:
                    if name.startswith("step_"):
                        mean_iou(matrix(counts[name]))

    tables = partial(report, store, None, ["terminal"])
    beside("the report of 21 runs in the terminal, beside the means alone", tables, floor)
