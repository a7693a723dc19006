"""Nothing is trained twice: fifteen runs train the steps that a plan promises, and not one more."""

from results.schema import read_runs
from tests.e2e.conftest import SMALL

FIFTEEN = [
    "--methods", "finetune,lwf,ilt,mib,plop", "--protocol", "voc_15-5,voc_15-1,voc_10-1", *SMALL[2:], "--track",
    "unified", "--data", "shapes", "network.name=deeplab-tiny", "network.pretrained=none", "train.batch=2",
    "train.base.iterations=2", "train.increment.iterations=1", "data.train_images=60", "data.val_images=2",
]  # fmt: skip


def test_fifteen_runs_train_the_least_number_of_steps(bench, tmp_path):
    out = bench("plan", *FIFTEEN)[1]
    assert "95 steps: 82 to train (84 iterations), 13 cached or shared" in out  # two bases of 2, 80 increments of 1
    code, _, err = bench("run", *FIFTEEN)
    assert code == 0
    assert len(list((tmp_path / "runs" / "cache" / "steps").iterdir())) == 82
    assert err.count(": 2 iterations on") == 2 and err.count(": 1 iterations on") == 80
    rows = [row for run in read_runs(tmp_path / "runs")[0] for row in run.manifest["steps"]]
    assert [row["cache"] for row in rows].count("miss") == 82 and len(rows) == 95
    assert "95 steps: 0 to train (0 iterations), 95 cached or shared" in bench("plan", *FIFTEEN)[1]
