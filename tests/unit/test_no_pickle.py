"""No pickle is ever loaded: a search of the code, and attempts with malicious files."""

import ast
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

import protocols
from bench.cache import CorruptEntry, StepCache
from bench.data.base import open_data
from bench.data.presence import presence
from methods.nn import weights
from protocols import InputError
from protocols.integrity import Damaged, npy_array, read_npz
from results.schema import read_run, write_run
from tests.unit.test_schema import SLOTS, STEP_0, STEP_1, manifest

ROOT = Path(__file__).resolve().parents[2]
FILES = [path for package in ("bench", "methods", "protocols", "results") for path in (ROOT / package).rglob("*.py")]
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
# Between the processes of one run, of what they have just made themselves; nothing that was stored.
APART = {"bench/distributed.py": ["pickle"]}
READERS = {"read_pickle", "unsafe_load", "full_load"}


def faults(source: str) -> list[str]:
    """What in a module might load a pickle or run what it reads."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            found += [name for name in names if name.split(".")[0] in MODULES]
            if getattr(node, "module", None) in ("torch", "torch.serialization", "numpy"):
                found += [name for name in names if name == "load"]
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if called.startswith(("np.load", "numpy.load")) or called.endswith("read_array"):
            found += [] if given.get("allow_pickle") == "False" else [called]
        if called == "torch.load" or called in ("load_state_dict", "open_clip_state"):  # the latter are torch.load
            found += [] if given.get("weights_only") == "True" else [called]
        if called in ("yaml.load", "load_all", "yaml.load_all"):
            found += [] if given.get("Loader") == "_Loader" else [called]
        if called in ("eval", "exec", "os.system", "os.popen", "torch.hub.load") or called.split(".")[-1] in READERS:
            found.append(called)
        if given.get("shell") == "True":
            found.append(called)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_can_load_a_pickle(path):
    assert faults(path.read_text(encoding="utf-8")) == APART.get(path.relative_to(ROOT).as_posix(), [])


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "from torch import load",
        "from numpy import array, load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "load_state_dict(str(path))",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.lib.format.read_array(file)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.unsafe_load(text)",
        "pd.read_pickle(path)",
        "eval(text)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_the_search_finds_what_it_is_for(source):
    assert faults(source)


def test_our_yaml_loader_is_safe():
    import yaml

    from protocols.yaml_file import _Loader

    assert issubclass(_Loader, yaml.SafeLoader)


class Malicious:
    """Unpickled, it makes a file."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path):
    """A file that must not be there in the end."""
    mark = tmp_path / "unpickled"
    Malicious(mark)
    pickle.loads(pickle.dumps(Malicious(mark)))
    assert mark.exists()  # it does what it is for
    mark.unlink()
    yield mark
    assert not mark.exists()


def object_array(mark):
    array = np.empty(1, dtype=object)
    array[0] = Malicious(mark)
    return array


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("write", [torch.save, lambda what, path: path.write_bytes(pickle.dumps(what))])
@pytest.mark.parametrize("name", ["weights.pth", "weights.bin", "weights.safetensors"])
def test_initial_weights(tmp_path, mark, write, name):
    path = tmp_path / name
    write({"state_dict": {"weight": torch.zeros(1), "bad": Malicious(mark)}}, path)
    for load in (weights.load, weights.load_open_clip):
        with pytest.raises(InputError, match=name):
            load(torch.nn.Linear(1, 1), path)


def test_counts_of_a_run(tmp_path, mark):
    write_run(tmp_path / "run", manifest(), SLOTS, {0: STEP_0, 1: STEP_1})
    np.savez(tmp_path / "run" / "counts.npz", slot_ids=object_array(mark), step_00=object_array(mark))
    with pytest.raises(InputError, match="counts.npz is corrupt"):
        read_run(tmp_path / "run")
    (tmp_path / "run" / "counts.npz").write_bytes(pickle.dumps(Malicious(mark)))
    with pytest.raises(InputError, match="counts.npz is corrupt"):
        read_run(tmp_path / "run")


def test_the_cache(tmp_path, mark):
    cache = StepCache(tmp_path / "cache")
    (tmp_path / "cache" / "counts").mkdir(parents=True)
    np.savez(tmp_path / "cache" / "counts" / "key.npz", counts=object_array(mark))
    with pytest.raises(CorruptEntry):
        cache.load_counts("key")
    cache.publish("key", {"w": torch.zeros(1)}, {}, [])
    (cache.step_folder("key") / "weights.safetensors").write_bytes(pickle.dumps(Malicious(mark)))
    with pytest.raises(CorruptEntry):
        cache.verify_or_quarantine("key")


def test_presence_of_classes(tmp_path, mark):
    data = open_data("shapes", "val", val_images=2)
    presence(data, tmp_path / "cache")
    (path,) = (tmp_path / "cache").iterdir()
    np.savez(path, matrix=object_array(mark), digest="x", check="x")
    assert presence(data, tmp_path / "cache").matrix.dtype == bool


def test_image_lists_of_a_protocol(tmp_path, mark):
    np.save(tmp_path / "list.npy", object_array(mark), allow_pickle=True)
    (tmp_path / "own.yaml").write_text("dataset: voc\nclasses_per_step: [20]\nimages: [list.npy]\n")
    with pytest.raises(InputError, match="not a readable .npy file"):
        protocols.load(tmp_path / "own.yaml")
    (tmp_path / "own.yaml").write_text(
        f"dataset: voc\nclasses_per_step: !!python/object/apply:pathlib.Path.touch [{mark}]\n"
    )
    with pytest.raises(InputError, match="not valid YAML"):
        protocols.load(tmp_path / "own.yaml")


def test_arrays_by_themselves(tmp_path, mark):
    np.savez(tmp_path / "a.npz", a=object_array(mark))
    with pytest.raises(Damaged):
        read_npz(tmp_path / "a.npz", 2**20)
    np.save(tmp_path / "a.npy", object_array(mark), allow_pickle=True)
    with pytest.raises(Damaged):
        npy_array((tmp_path / "a.npy").read_bytes())
