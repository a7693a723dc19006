"""Which images belong to which step: by hand, as properties, and against the lists of VOC and ADE20K."""

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import protocols
from protocols import InputError, step_counts
from protocols.split import protocol_images, step_images

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "mib"


def presence_of(*images: set[int], n_classes: int = 20) -> np.ndarray:
    """A presence matrix of images given by their class ids; every image holds background."""
    presence = np.zeros((len(images), n_classes + 1), dtype=bool)
    presence[:, 0] = True
    for row, ids in enumerate(images):
        presence[row, list(ids)] = True
    return presence


# 0: base only, 1: base and a future class, 2: step 1 only, 3: steps 1 and 2, 4: the last class, 5: nothing,
# 6: a base class and the last one
IMAGES = presence_of({1, 2}, {3, 16}, {16}, {16, 17}, {20}, set(), {15, 20})


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("overlapped", [[0, 1, 6], [1, 2, 3], [3], [], [], [4, 6]]),
        ("disjoint", [[0], [1, 2], [3], [], [], [4, 6]]),
        ("sequential", [[0], [1, 2], [3], [], [], [4, 6]]),
    ],
)
def test_voc_15_1_by_hand(setting, expected):
    protocol = protocols.load("voc_15-1", setting=setting)
    found = [step_images(IMAGES, step, setting) for step in protocol.steps]
    assert [images.tolist() for images in found] == expected
    assert all(images.dtype == np.int64 for images in found)


def test_the_class_order_decides():
    protocol = protocols.load("voc_15-1", order=[16, 17, 18, 19, 20, *range(1, 16)])
    assert step_images(IMAGES, protocol.steps[0], "disjoint").tolist() == [0, 1, 2, 3, 4]
    assert step_images(IMAGES, protocol.steps[0], "overlapped").tolist() == [0, 1, 2, 3, 4, 6]
    assert step_images(IMAGES, protocol.steps[5], "overlapped").tolist() == [6]


def test_joint_step_takes_every_image_with_a_class():
    step = protocols.load("voc_15-1").joint_step()
    for setting in protocols.SETTINGS:
        assert step_images(IMAGES, step, setting).tolist() == [0, 1, 2, 3, 4, 6]


@given(
    rows=st.lists(st.sets(st.integers(1, 20)), max_size=30),
    name=st.sampled_from(["voc_15-1", "voc_10-5", "voc_5-3_d", "voc_2-2_random7", "voc_1-1"]),
)
@hypothesis_settings(max_examples=60, deadline=None)
def test_settings_keep_their_promises(rows, name):
    presence = presence_of(*rows) if rows else np.zeros((0, 21), dtype=bool)
    protocol = protocols.load(name)
    overlapped = [set(step_images(presence, step, "overlapped").tolist()) for step in protocol.steps]
    disjoint = [step_images(presence, step, "disjoint").tolist() for step in protocol.steps]
    labelled = {row for row, ids in enumerate(rows) if ids}
    # disjoint: a partition of the labelled images, each at the step of its latest class
    assert sorted(row for images in disjoint for row in images) == sorted(labelled)
    for step, images in zip(protocol.steps, disjoint, strict=True):
        for row in images:
            assert rows[row] & set(step.new) and not rows[row] & set(step.future)
    # overlapped: an image comes back at every step of one of its classes
    for step, images in zip(protocol.steps, overlapped, strict=True):
        assert images == {row for row, ids in enumerate(rows) if ids & set(step.new)}
    assert overlapped[-1] == set(disjoint[-1])


def test_wrong_arguments_are_refused():
    step = protocols.load("voc_15-1").steps[0]
    with pytest.raises(InputError, match="unknown setting 'joint'"):
        step_images(IMAGES, step, "joint")
    with pytest.raises(ValueError, match=r"\(N, 21\)"):
        step_images(IMAGES[:, 1:], step, "overlapped")
    with pytest.raises(ValueError, match=r"\(N, 21\)"):
        step_images(IMAGES[0], step, "overlapped")


def own_protocol(tmp_path, images: str) -> protocols.Protocol:
    path = tmp_path / "mine.yaml"
    path.write_text(f"dataset: voc\nclasses_per_step: [15, 5]\nimages: {images}\n")
    return protocols.load(path)


def test_own_image_lists_replace_the_rule(tmp_path):
    ids = [f"2007_{row:06}" for row in range(len(IMAGES))]
    by_name = own_protocol(tmp_path, "[[2007_000005, 2007_000000], [2007_000003]]")
    by_index = own_protocol(tmp_path, "[[5, 0], [3]]")
    for protocol in (by_name, by_index):
        found = [protocol_images(protocol, step, IMAGES, ids) for step in protocol.steps]
        assert [images.tolist() for images in found] == [[0, 5], [3]]
        assert found[0].dtype == np.int64
        assert protocol_images(protocol, protocol.joint_step(), IMAGES, ids).tolist() == [0, 3, 5]
    usual = protocols.load("voc_15-5", setting="disjoint")
    assert protocol_images(usual, usual.steps[0], IMAGES, ids).tolist() == [0]


def test_an_empty_list_is_an_empty_step(tmp_path):
    protocol = own_protocol(tmp_path, "[[1], []]")
    found = protocol_images(protocol, protocol.steps[1], IMAGES, ["x"] * len(IMAGES))
    assert found.shape == (0,) and found.dtype == np.int64


@pytest.mark.parametrize(("images", "said"), [("[[0], [7]]", "image 7"), ("[[a], [zebra]]", "image 'zebra'")])
def test_listed_images_must_exist(tmp_path, images, said):
    protocol = own_protocol(tmp_path, images)
    with pytest.raises(InputError, match=f"mine lists {said}, which is not among the 7 training images"):
        protocol_images(protocol, protocol.steps[1], IMAGES, list("abcdefg"))


def test_pinned_step_counts():
    assert step_counts("voc_15-1") == (9568, 487, 299, 491, 500, 548)
    assert step_counts("voc_10-1", "disjoint") == (3706, 188, 868, 227, 201, 3247, 378, 299, 420, 500, 548)
    assert step_counts("ade_100-50") == (20192, 9390)
    assert step_counts("voc_15-1_b") is None
    assert step_counts("voc_15-1", "sequential") == step_counts("voc_15-1", "disjoint")


@pytest.mark.parametrize("name", protocols.names())
def test_pinned_step_counts_are_consistent(name):
    """Disjoint steps partition the images that hold a class; the last step is the same in both settings."""
    overlapped, disjoint = step_counts(name), step_counts(name, "disjoint")
    assert len(overlapped) == len(disjoint) == len(protocols.load(name).steps)
    assert sum(disjoint) == {"voc": 10582, "ade": 20196}[name[:3]]
    assert overlapped[-1] == disjoint[-1]
    assert all(o >= d for o, d in zip(overlapped, disjoint, strict=True))


@pytest.fixture(scope="module")
def real_presence(shared):
    """Presence matrices of VOC train_aug and ADE20K training, from their image-level class lists."""
    matrices = {}
    for dataset in ("voc", "ade"):
        lines = (shared / "lists" / f"{dataset}_train_classes.txt").read_text().splitlines()
        rows = [{int(number) + 1 for number in line.split()[1:]} for line in lines]
        matrices[dataset] = presence_of(*rows, n_classes=protocols.dataset(dataset).n_classes)
    return matrices


def test_every_step_of_every_usual_protocol_has_its_images(shared, real_presence):
    assert {name: matrix.shape for name, matrix in real_presence.items()} == {
        "voc": (10582, 21),
        "ade": (20210, 151),
    }
    listed = defaultdict(list)
    with (shared / "lists" / "steps.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            listed[row["protocol"], row["setting"]].append((int(row["step"]), int(row["train_images"])))
    assert {name for name, _ in listed} == set(protocols.names()) and len(listed) == 2 * len(protocols.names())
    for (name, setting), steps in listed.items():
        protocol = protocols.load(name, setting)
        counts = [len(step_images(real_presence[protocol.dataset], step, setting)) for step in protocol.steps]
        assert list(enumerate(counts)) == steps, (name, setting)
        assert step_counts(name, setting) == tuple(counts), (name, setting)


MIB = {  # protocol -> images of each step, and the folders of MiB's repository whose lists it names
    "ade_100-50-mib": ([13452, 6744], ("100-50",)),
    "ade_100-10-mib": ([13452, 1130, 1200, 1366, 1550, 1498], ("100-50", "100-10")),
    "ade_50-50-mib": ([8219, 6384, 5593], ("50",)),
}


@pytest.mark.parametrize("name", MIB)
def test_mib_partition_of_ade_runs_as_a_ready_protocol(shared, real_presence, tmp_path, name):
    sizes, folders = MIB[name]
    path = tmp_path / f"{name}.yaml"
    path.write_text((EXAMPLES / path.name).read_text())
    with pytest.raises(InputError, match=rf"{name}.yaml.*images of step 0 .*MiB/data/ade/.*no such file; put the list"):
        protocols.load(path)
    for folder in folders:  # as MiB's repository has them
        for listed in (shared / "lists" / "ade_mib_partition").glob(f"{folder}_train-*.npy"):
            place = tmp_path / "MiB" / "data" / "ade" / folder / listed.name.removeprefix(f"{folder}_")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(listed.read_bytes())
    protocol = protocols.load(path)
    assert (protocol.name, protocol.dataset, protocol.setting) == (name, "ade", "overlapped")
    presence = real_presence["ade"]
    ids = [f"ADE_train_{number:08}" for number in range(1, 20211)]
    steps = [protocol_images(protocol, step, presence, ids) for step in protocol.steps]
    assert [len(images) for images in steps] == sizes and sum(sizes) == 20196
    joint = protocol_images(protocol, protocol.joint_step(), presence, ids)
    np.testing.assert_array_equal(joint, step_images(presence, protocol.joint_step(), "overlapped"))
    for step, images in zip(protocol.steps, steps, strict=True):
        assert presence[images][:, list(step.new)].any(axis=1).all()
    with pytest.raises(InputError, match="which is not among the 1000 training images"):
        protocol_images(protocol, protocol.steps[0], presence[:1000], ids[:1000])
