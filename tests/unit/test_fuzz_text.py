"""Protocol names and files, published numbers, archives and manifests of any content: one line, in bounded memory."""

import csv
import io
import json
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import protocols
from bench.listing import print_runs
from protocols import InputError
from protocols.errors import LONGEST
from protocols.integrity import Damaged, npz_bytes, read_npz
from results import published_numbers
from results.render import report
from results.schema import read_runs, write_run
from tests.unit.test_schema import SLOTS, STEP_0, STEP_1, manifest


def in_a_folder(examples: int = 50) -> settings:
    """All examples write into the one folder of their test."""
    return settings(max_examples=examples, suppress_health_check=[HealthCheck.function_scoped_fixture])


NAMES = st.one_of(
    st.text(max_size=30),
    st.from_regex(r"(voc|ade|coco)_[0-9]{1,9}-[0-9]{1,9}(_[a-z]{0,9}:?[0-9]{0,30})?", fullmatch=True),
    st.sampled_from(
        ["voc_" + "1" * 5000 + "-1", "voc_10-1_random:" + "9" * 5000, "\0.yaml", "~nobody/x.yaml", "x" * 9999]
    ),
)


def line_of(call) -> str | None:
    """The line with which a call refuses its input; None if it does not."""
    try:
        call()
    except InputError as refusal:
        assert str(refusal).isprintable() and 0 < len(str(refusal)) < LONGEST + 50
        return str(refusal)
    return None


@settings(max_examples=100)
@given(
    NAMES,
    st.one_of(st.sampled_from(protocols.SETTINGS), st.text(max_size=9)),
    st.one_of(st.none(), st.text(max_size=9)),
)
def test_protocol_names(name, setting, order):
    if line_of(lambda: protocols.load(name, setting, order)) is None:
        protocol = protocols.load(name, setting, order)
        assert sorted(protocol.order) == list(range(1, len(protocol.order) + 1)) and len(protocol.name) < 60


JSON = st.recursive(
    st.one_of(
        *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9)),
        st.sampled_from(["../../evil", "\\input{secret}", "</script>", "\x1b[31m", "voc", "b", 10**400, [15, 5]]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=8,
)


@in_a_folder()
@given(
    st.dictionaries(st.sampled_from(["name", "dataset", "classes_per_step", "order", "setting", "images", "x"]), JSON)
)
def test_protocol_files_of_any_values(tmp_path, fields):
    path = tmp_path / "own.yaml"
    path.write_text(json.dumps({"dataset": "voc", "classes_per_step": [15, 5]} | fields), encoding="utf-8")
    line = line_of(lambda: protocols.load(path))
    assert line is None or "own.yaml" in line


BOMB = "\n".join(["a: &a [x, x]"] + [f"b{i}: &b{i} [*{'a' if i == 0 else f'b{i - 1}'}, *a]" for i in range(60)])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 9000, "too deeply nested"),
        (BOMB, "the alias"),
        ("&a [*a]", "the alias"),
        ("dataset: 2001-99-99", "month must be"),
        ("dataset: !!int abc", "abc"),
        ("classes_per_step: [" + "9" * 5000 + "]", "digits"),
        ("? [a]\n: b", "line 1"),
        ("dataset: !!python/name:os.system", "line 1"),
        ("a: \0", "YAML"),
        ("x" * 2**21, "more than the"),
        ("dataset: voc\nclasses_per_step: [20]\nimages: ['/dev/zero']", "not a regular file"),
        ("dataset: voc\nclasses_per_step: [20]\nimages: ['a\\0b']", "dataset"),
        ('dataset: voc\nclasses_per_step: [20]\nimages: ["a\\0b.npy"]', "null character"),
        ("name: " + "x" * 300, "is missing"),
        ("name: " + "x" * 300 + "\ndataset: voc\nclasses_per_step: [20]", "up to 64"),
    ],
)
def test_protocol_files_that_mean_harm(tmp_path, text, words):
    path = tmp_path / "own.yaml"
    path.write_text(text)
    if words == "dataset":  # in single quotes \0 is a name of two characters more, of a file that is not there
        words = "no such file"
    line = line_of(lambda: protocols.load(path))
    assert line is not None and words in line and "own.yaml" in line


@in_a_folder()
@given(st.binary(max_size=200))
def test_protocol_files_of_any_bytes(tmp_path, content):
    (tmp_path / "own.yaml").write_bytes(content)
    assert "own.yaml" in line_of(lambda: protocols.load(tmp_path / "own.yaml"))


@in_a_folder(100)
@given(st.data())
def test_archives_of_any_bytes_are_damaged_or_the_same(tmp_path, data):
    arrays = {"counts": STEP_0, "slot_ids": np.array(SLOTS)}
    content = bytearray(npz_bytes(arrays))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.sampled_from([0, 1, 4, 9999]))] = data.draw(st.binary(max_size=4))
        if not content:
            break
    (tmp_path / "a.npz").write_bytes(content)
    try:
        found = read_npz(tmp_path / "a.npz", 2**20)
    except Damaged:
        return
    assert found.keys() <= arrays.keys() and all(np.array_equal(found[name], arrays[name]) for name in found)


def zip_of(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def npy_header(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<i8", "fortran_order": False, "shape": shape})
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (zip_of("counts.npy", npy_header((2**24,)) + bytes(2**27)), "at most 1048576 are expected"),
        (zip_of("counts.npy", npy_header((2**60,))), "no bytes for"),
        (zip_of("counts.npy", npy_header((-1, 3))), "negative"),
        (zip_of("../../evil.npy", b"x"), "magic"),
        (b"PK\x05\x06" + bytes(18) + b"x" * 2**21, "more than the 1048576 allowed"),
    ],
)
def test_archives_that_mean_harm_take_no_memory(tmp_path, content, words):
    (tmp_path / "a.npz").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(Damaged, match=words):
            read_npz(tmp_path / "a.npz", 2**20)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()
    assert list(tmp_path.parent.parent.rglob("evil*")) == []


STEP_ROW = {"index": 0, "key": "a", "base_key": None, "counts_key": "c", "iterations": 3, "images": 5, "seconds": 1.0}
FULL = json.loads(json.dumps(manifest(steps=[STEP_ROW, STEP_ROW | {"index": 1}], config={"train": {"batch": 4}})))


@st.composite
def some_manifest(draw) -> dict:
    """A manifest in which one to three values are of any kind, at the top or within."""
    made = json.loads(json.dumps(FULL))
    for _ in range(draw(st.integers(1, 3))):
        key = draw(st.sampled_from(sorted(made)))
        value = made[key]
        if isinstance(value, list) and value and draw(st.booleans()):
            place = draw(st.integers(0, len(value) - 1))
            inner = value[place]
            if isinstance(inner, dict) and draw(st.booleans()):
                inner[draw(st.sampled_from(sorted(inner)))] = draw(JSON)
            else:
                value[place] = draw(JSON)
        else:
            made[key] = draw(JSON)
    return made


@in_a_folder(25)
@given(some_manifest())
def test_manifests_of_any_values_are_left_out_or_reported(tmp_path, capsys, content):
    """Beside a sound run, through every reader: nothing raises but an InputError, nothing is written elsewhere."""
    store = tmp_path / "store"
    for name, seed in (("sound", 0), ("any", 1)):
        write_run(store / name, FULL | {"run": name, "seed": seed}, SLOTS, {0: STEP_0, 1: STEP_1})
    (store / "any" / "manifest.json").write_text(json.dumps(content))
    runs, problems = read_runs(store)
    assert len(runs) + len(problems) == 2 and all("manifest.json" in problem for problem in problems)
    text = report(store, formats=("terminal", "md", "csv", "latex"), out=store / "reports").text
    print_runs(str(store))
    assert "\x1b[31m" not in text + capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"store"}


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "1" * 5000, "NaN", "{}", "\ud800".encode("utf-8", "surrogatepass")]
)
def test_manifests_that_mean_harm(tmp_path, text):
    write_run(tmp_path / "run", manifest(), SLOTS, {0: STEP_0, 1: STEP_1})
    (tmp_path / "run" / "manifest.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    runs, (problem,) = read_runs(tmp_path)
    assert runs == [] and "manifest.json" in problem


@in_a_folder()
@given(st.one_of(st.binary(max_size=300), st.text(max_size=300).map(str.encode)))
def test_published_numbers_of_any_bytes(tmp_path, content):
    (tmp_path / "numbers.csv").write_bytes(content)
    line = line_of_published(tmp_path)
    assert line is not None and "numbers.csv" in line


SOUND = dict.fromkeys(published_numbers.COLUMNS, "") | {
    "method": "MiB", "protocol": "voc_15-1", "setting": "overlapped", "regime": "standard", "metric": "all",
    "value": "32.2", "source": "a table",
}  # fmt: skip


@in_a_folder()
@given(
    st.sampled_from([name for name in SOUND if name in ("mark", "regime", "metric", "value")]),
    st.one_of(st.text(max_size=20), st.floats().map(str), st.sampled_from(["nan", "inf", "-5", "100.1", "1e400"])),
)
def test_published_numbers_of_any_values(tmp_path, column, value):
    with open(tmp_path / "numbers.csv", "w", newline="") as file:
        table = csv.DictWriter(file, SOUND)
        table.writeheader()
        table.writerows([SOUND, SOUND | {column: value}])
    line = line_of_published(tmp_path)
    if line is None:
        known = {"mark": published_numbers.MARKS, "regime": published_numbers.REGIMES}
        known["metric"] = published_numbers.METRICS
        assert value in known[column] if column != "value" else 0 <= float(value) <= 100
    else:
        assert "numbers.csv" in line


@pytest.mark.parametrize(
    ("column", "value"), [("value", "nan"), ("value", "-5"), ("metric", "mIoU"), ("regime", "x"), ("source", "")]
)
def test_a_published_number_that_is_none_is_named_with_its_line(tmp_path, column, value):
    rows = [SOUND, SOUND | {column: value}]
    lines = [",".join(SOUND), *(",".join(row.values()) for row in rows)]
    (tmp_path / "numbers.csv").write_text("\n".join(lines) + "\n")
    line = line_of_published(tmp_path)
    assert line is not None and "its line 3 is no percentage with a source" in line


def line_of_published(folder):
    """What is said of the published numbers in a folder; None if they are read."""
    published_numbers._everything.cache_clear()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(published_numbers, "FOLDER", folder)
            return line_of(published_numbers.published_numbers)
    finally:
        published_numbers._everything.cache_clear()
