"""The step cache and the rolling checkpoint: whole or not at all, damage found, training goes on exactly."""

import json
import multiprocessing
import os
import socket
import time

import numpy as np
import pytest
import torch

from bench import rolling
from bench.cache import LOG, META, WEIGHTS, CorruptEntry, StepCache
from bench.rolling import Position
from protocols import InputError
from protocols.files import aside_of

KEY = "ab" * 32


@pytest.fixture
def cache(tmp_path):
    return StepCache(tmp_path / "cache")


def publish(cache, key=KEY):
    tensors = {"network.weight": torch.arange(6.0).view(2, 3), "network.count": torch.tensor(7)}
    cache.publish(key, tensors, {"images": 3}, [{"iteration": 20, "ce": 0.5}, {"iteration": 40, "ce": 0.25, "kd": 1.0}])
    return tensors


def test_what_is_published_comes_back(cache):
    assert not cache.has(KEY)
    tensors = publish(cache)
    assert cache.has(KEY)
    cache.verify_or_quarantine(KEY)
    loaded = cache.load(KEY)
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    assert cache.meta(KEY)["images"] == 3
    assert [row["kd"] for row in cache.log(KEY)] == ["", "1.0"]
    assert cache.keys() == [KEY]


def test_publishing_leaves_nothing_but_the_entry_and_removes_the_rolling_checkpoint(cache):
    cache.rolling_path(KEY).parent.mkdir(parents=True)
    cache.rolling_path(KEY).write_bytes(b"half a step")
    gone = multiprocessing.Process()
    gone.start()
    gone.join()
    aside = aside_of(cache.rolling_path(KEY))
    aside.with_name(aside.name.removesuffix(str(os.getpid())) + str(gone.pid)).write_bytes(b"half a checkpoint")
    publish(cache)
    assert not list((cache.root / "rolling").iterdir())
    assert [path.name for path in (cache.root / "steps").iterdir()] == [KEY]


def test_a_failing_publish_leaves_nothing(cache, monkeypatch):
    monkeypatch.setattr("bench.cache.csv_text", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(InputError, match="disk full"):
        publish(cache)
    assert list((cache.root / "steps").iterdir()) == []


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "garbled record"])
def test_damage_is_found_and_put_aside(cache, damage):
    publish(cache)
    weights = cache.step_folder(KEY) / WEIGHTS
    if damage == "flip":
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    elif damage == "truncate":
        weights.write_bytes(weights.read_bytes()[:-4])
    elif damage == "remove":
        weights.unlink()
    else:
        (cache.step_folder(KEY) / META).write_text("{")
    with pytest.raises(CorruptEntry):
        cache.verify_or_quarantine(KEY)
    assert not cache.has(KEY) and cache.keys() == [] and cache.metas() == {}
    assert len(list((cache.root / "quarantine").iterdir())) == 1
    publish(cache)
    cache.verify(KEY)


def test_an_entry_that_lost_its_record_gives_way_to_a_new_one(cache):
    publish(cache)
    (cache.step_folder(KEY) / META).unlink()
    assert not cache.has(KEY)
    publish(cache)
    cache.verify(KEY)


def test_what_a_killed_process_was_writing_goes_with_the_next_publish(cache):
    left = cache.root / "steps" / f".{KEY}.{socket.gethostname()}-{2**22 + 1}"  # no system has that process
    left.mkdir(parents=True)
    (left / WEIGHTS).write_bytes(b"half")
    publish(cache)
    assert [path.name for path in (cache.root / "steps").iterdir()] == [KEY]


def test_counts_come_back_and_damaged_ones_are_put_aside(cache):
    counts = np.arange(3 * 4 * 2, dtype=np.int64).reshape(3, 4, 2)
    assert cache.load_counts(KEY) is None
    cache.publish_counts(KEY, counts)
    assert np.array_equal(cache.load_counts(KEY), counts)
    path = cache.root / "counts" / f"{KEY}.npz"
    sound = path.read_bytes()
    path.write_bytes(sound[:40])
    with pytest.raises(CorruptEntry, match=KEY):
        cache.load_counts(KEY)
    assert not path.exists() and cache.counts_keys() == []
    (entry,) = (cache.root / "quarantine").glob("*/entry")
    assert entry.read_bytes() == sound[:40]
    assert cache.load_counts(KEY) is None


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :]


def test_a_flipped_byte_of_counts_is_found_or_does_no_harm(cache):
    counts = np.arange(3 * 4 * 2, dtype=np.int64).reshape(3, 4, 2)
    cache.publish_counts(KEY, counts)
    path = cache.root / "counts" / f"{KEY}.npz"
    sound, found = path.read_bytes(), 0
    for place in range(len(sound)):
        path.write_bytes(flipped(sound, place))
        try:
            assert np.array_equal(cache.verify_counts(KEY), counts)  # a byte that says nothing, such as a date
        except CorruptEntry:
            found += 1
    assert found > len(sound) / 2


def content(meta):
    """A record without its digests: the name of one may be what was damaged."""
    return {name: value for name, value in meta.items() if name != "sha256"}


def test_every_flipped_byte_of_a_step_is_found_or_does_no_harm(cache):
    """Of its weights, its log and its record: in all three, or the record says the same as before."""
    publish(cache)
    expected, found, total = content(cache.verify(KEY)), 0, 0
    for path in cache.step_folder(KEY).iterdir():
        sound = path.read_bytes()
        total += len(sound)
        for place in range(len(sound)):
            path.write_bytes(flipped(sound, place))
            try:
                assert content(cache.verify(KEY)) == expected and path.name == META, f"byte {place} of {path.name}"
            except CorruptEntry:
                found += 1
        path.write_bytes(sound)
    assert found > 0.98 * total  # the rest is blank space
    cache.verify(KEY)


def test_a_damaged_log_or_record_is_found_where_it_is_read_without_the_weights(cache):
    for name, number, read in ((LOG, "20", cache.log), (META, "3", cache.meta)):
        publish(cache)
        path = cache.step_folder(KEY) / name
        path.write_text(path.read_text().replace(number, "4", 1))
        with pytest.raises(CorruptEntry, match=name):
            read(KEY)
        assert not cache.has(KEY)


def test_entries_from_before_there_were_digests_are_used_as_they_are(cache):
    publish(cache)
    path = cache.step_folder(KEY) / META
    meta = json.loads(path.read_text())
    del meta["sha256"]["record"]
    path.write_text(json.dumps(meta))
    assert cache.verify(KEY)["images"] == 3
    (cache.root / "counts").mkdir()
    np.savez_compressed(cache.root / "counts" / f"{KEY}.npz", counts=np.arange(4))
    assert cache.load_counts(KEY).tolist() == [0, 1, 2, 3]


def hold(root, held, release):
    with StepCache(root).lock(KEY, lambda: None):
        held.set()
        release.wait(30)


def test_a_second_process_waits_for_the_lock_and_says_so(cache):
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    process = context.Process(target=hold, args=(cache.root, held, release))
    process.start()
    assert held.wait(60)
    said = []

    def waiting():
        said.append(time.monotonic())
        release.set()

    with cache.lock(KEY, waiting):
        process.join(30)
    assert len(said) == 1


def learner(optimiser_class, **options):
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(5, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1)
    )
    return model, optimiser_class(model.parameters(), lr=0.1, **options)


def advance(model, optimiser, iterations):
    for i in iterations:
        inputs = torch.randn(8, 5, generator=torch.Generator().manual_seed(i))
        model(inputs).pow(2).mean().backward()  # dropout draws from the global generator
        optimiser.step()
        optimiser.zero_grad()


@pytest.mark.parametrize(
    ("optimiser_class", "options"),
    [
        (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        (torch.optim.AdamW, {"weight_decay": 0.1}),
        (torch.optim.SGD, {}),
    ],
)
def test_training_goes_on_from_a_rolling_checkpoint_bit_for_bit(tmp_path, optimiser_class, options):
    model, optimiser = learner(optimiser_class, **options)
    advance(model, optimiser, range(10))
    expected = {name: value.clone() for name, value in model.state_dict().items()}

    model, optimiser = learner(optimiser_class, **options)
    advance(model, optimiser, range(4))
    position = Position(4, [{"iteration": 4, "ce": 0.1 + 0.2}], 1.5)
    rolling.save(tmp_path / "at.safetensors", model, optimiser, position)
    advance(model, optimiser, range(50, 55))  # leaves every state changed

    model, optimiser = learner(optimiser_class, **options)
    torch.manual_seed(99)
    assert rolling.load(tmp_path / "at.safetensors", model, optimiser) == position
    advance(model, optimiser, range(4, 10))
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_optimiser_state_comes_back_in_the_layout_of_its_parameters(tmp_path):
    """Fused optimisers on CUDA refuse another one."""

    def make():
        model = torch.nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last)
        return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    model, optimiser = make()
    model(torch.randn(2, 4, 5, 5)).sum().backward()
    optimiser.step()
    rolling.save(tmp_path / "at.safetensors", model, optimiser, Position(1))
    model, optimiser = make()
    rolling.load(tmp_path / "at.safetensors", model, optimiser)
    assert optimiser.state[model.weight]["momentum_buffer"].stride() == model.weight.stride()


@pytest.mark.parametrize("fused", [True, False])
def test_an_optimiser_stays_fused_or_not_whatever_the_checkpoint_was(tmp_path, fused):
    """A step may begin on a CPU and go on on a GPU."""
    model, optimiser = learner(torch.optim.AdamW, fused=not fused, weight_decay=0.1)
    advance(model, optimiser, range(2))
    rolling.save(tmp_path / "at.safetensors", model, optimiser, Position(2))
    model, optimiser = learner(torch.optim.AdamW, fused=fused, weight_decay=0.2)
    restored = []  # what PyTorch goes by when it chooses where the optimiser's steps are kept
    optimiser.register_load_state_dict_pre_hook(lambda _, state: restored.append(state["param_groups"][0]["fused"]))
    rolling.load(tmp_path / "at.safetensors", model, optimiser)
    assert [(group["fused"], group["weight_decay"]) for group in optimiser.param_groups] == [(fused, 0.1)]
    assert restored == [fused]
    advance(model, optimiser, range(2, 4))
    assert all(state["step"] == 4 for state in optimiser.state.values())


def test_every_flipped_byte_of_a_checkpoint_is_found_or_does_no_harm(tmp_path, capsys):
    path = tmp_path / "at.safetensors"
    model, optimiser = learner(torch.optim.SGD, momentum=0.9)
    advance(model, optimiser, range(2))
    rolling.save(path, model, optimiser, Position(2, [{"ce": 0.5}], 1.0))
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    sound, found = path.read_bytes(), 0
    for place in range(0, len(sound), 23):
        path.write_bytes(flipped(sound, place))
        position = rolling.load(path, model, optimiser)
        assert position in (Position(), Position(2, [{"ce": 0.5}], 1.0))
        assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
        found += position == Position()
    said = capsys.readouterr().err.splitlines()
    assert len(said) == found > 0.95 * len(sound) / 23 and all("at.safetensors is damaged" in line for line in said)


@pytest.mark.parametrize("content", [None, b"", b"not a checkpoint", json.dumps({"a": 1}).encode()])
def test_without_a_readable_checkpoint_training_starts_at_the_start(tmp_path, content):
    model, optimiser = learner(torch.optim.SGD)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    if content is not None:
        (tmp_path / "at.safetensors").write_bytes(content)
    assert rolling.load(tmp_path / "at.safetensors", model, optimiser) == Position()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
