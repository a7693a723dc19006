"""Protocols: names, orders, steps, look-up tables, digests, and a user's own YAML files."""

import copy
import dataclasses
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import protocols
from protocols import InputError, orders


def write(path, text):
    path.write_text(text)
    return path


def test_voc_10_1_steps():
    protocol = protocols.load("voc_10-1")
    assert len(protocol.steps) == 11
    base, last = protocol.steps[0], protocol.steps[-1]
    assert (base.index, base.new, base.old) == (0, tuple(range(1, 11)), ())
    assert base.future == tuple(range(11, 21))
    assert (last.index, last.new, last.old, last.future) == (10, (20,), tuple(range(1, 20)), ())
    assert protocol.steps[5].new == (15,) and protocol.steps[5].names[15] == "person"
    assert 16 not in protocol.steps[5].names
    assert (protocol.steps[1].n_old_slots, protocol.steps[1].n_slots) == (11, 12)
    assert (protocol.dataset, protocol.setting, protocol.name) == ("voc", "overlapped", "voc_10-1")
    assert protocol.class_names[0] == "background" and len(protocol.class_names) == 21


@pytest.mark.parametrize("name", protocols.names())
def test_usual_protocols_learn_every_class_once(name):
    protocol = protocols.load(name)
    base, increment = map(int, name.split("_")[1].split("-"))
    assert [len(step.new) for step in protocol.steps[:2]] == [base, increment]
    learned = [id for step in protocol.steps for id in step.new]
    assert tuple(learned) == protocol.order == tuple(range(1, len(protocol.class_names)))
    for step in protocol.steps:
        assert step.seen + step.future == protocol.order
        assert set(step.names) == set(step.seen)
    assert protocol.slot_ids == (0, *protocol.order)


def test_names_hold_the_usual_protocols():
    voc = "19-1 15-5 15-1 10-10 10-5 10-1 5-5 5-3 5-1 2-2 2-1 1-1"
    ade = "100-50 100-10 100-5 50-50 50-20"
    expected = {f"voc_{pair}" for pair in voc.split()} | {f"ade_{pair}" for pair in ade.split()}
    assert set(protocols.names()) == expected


@given(base=st.integers(1, 25), increment=st.integers(1, 25))
@settings(max_examples=60, deadline=None)
def test_a_name_is_valid_exactly_when_its_numbers_divide_the_classes(base, increment):
    name = f"voc_{base}-{increment}"
    if base < 20 and (20 - base) % increment == 0:
        sizes = [len(step.new) for step in protocols.load(name).steps]
        assert sizes[0] == base and set(sizes[1:]) == {increment} and sum(sizes) == 20
    else:
        with pytest.raises(InputError, match=name):
            protocols.load(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("voc_15-2", "voc_15-1, voc_15-5, voc_14-2 or voc_16-2"),
        ("ade_100-7", "ade_100-5"),
        ("voc_20-1", "none to learn later; did you mean voc_19-1"),
        ("voc_15-5s", "did you mean voc_15-1?"),
        ("15-1", "did you mean voc_15-1"),
        ("VOC_15-1", "voc_15-1"),
        ("voc_15-01", "voc_15-1"),
        ("vco_15-1", "did you mean 'voc'"),
        ("voc_15-1_zz", "class order of voc 'zz'"),
        ("voc_15-1_", "<dataset>_<base>-<increment>"),
        ("", "<dataset>_<base>-<increment>"),
    ],
)
def test_wrong_names_are_refused_with_valid_ones_nearby(name, said):
    with pytest.raises(InputError) as caught:
        protocols.load(name)
    message = str(caught.value)
    assert said in message and "\n" not in message


def test_wrong_setting_is_refused():
    with pytest.raises(InputError, match="unknown setting 'overlaped': did you mean 'overlapped'"):
        protocols.load("voc_15-1", setting="overlaped")


def test_unknown_names_the_nearest_choices():
    error = protocols.unknown("method", "mbi", ["finetune", "joint", "mib"])
    assert str(error) == "unknown method 'mbi': did you mean 'mib'? (finetune, joint, mib)"
    assert isinstance(error, ValueError)
    assert str(protocols.unknown("thing", "zzz", ["abc"])) == "unknown thing 'zzz': choose one of (abc)"


def test_a_method_sees_nothing_of_the_future():
    step = protocols.load("voc_15-1").steps[2]
    visible = step.visible()
    assert {field.name for field in dataclasses.fields(visible)} == {"index", "new", "old", "names"}
    assert not hasattr(visible, "future")
    assert (visible.index, visible.new, visible.old) == (2, (17,), tuple(range(1, 17)))
    visible.names[20] = "spoilt"
    assert 20 not in step.names
    with pytest.raises(dataclasses.FrozenInstanceError):
        visible.index = 3


def test_slots_follow_the_order_learned():
    step = protocols.load("voc_15-1", order="b").steps[1]
    assert step.new == (17,) and step.slots[17] == 16 == step.n_old_slots
    assert step.slots[12] == 1 and 0 not in step.slots


@pytest.mark.parametrize("dataset", ["voc", "ade"])
def test_published_orders_are_permutations(dataset):
    known = orders.published(dataset)
    assert set(known) == set("bcdefghijklmnopqrstuvw" if dataset == "voc" else "bc")
    for ids in known.values():
        assert sorted(ids) == list(range(1, protocols.dataset(dataset).n_classes + 1))
    assert len(set(known.values())) == len(known)


def test_published_orders_give_the_steps_of_their_source():
    b = protocols.load("voc_15-1_b")
    assert [step.new for step in b.steps[1:]] == [(17,), (3,), (6,), (18,), (10,)]
    w = protocols.load("voc_15-1_w")
    assert [step.new for step in w.steps[1:]] == [(3,), (15,), (6,), (5,), (17,)]
    ade = protocols.load("ade_100-10_b")
    assert set(ade.steps[1].new) == {11, 16, 50, 64, 66, 73, 89, 92, 145, 146}
    assert set(ade.steps[5].new) == {17, 20, 59, 68, 83, 94, 102, 122, 127, 137}
    assert {1, 3, 5, 6, 8, 150} < set(ade.steps[0].new) and 2 not in ade.steps[0].new
    assert set(protocols.load("ade_50-50_c").steps[0].new) >= {5, 10, 11, 147} and 1 not in ade.steps[1].new


def test_every_spelling_of_an_order_gives_the_same_protocol():
    natural = protocols.load("voc_15-1")
    assert protocols.load("voc_15-1", order=range(1, 21)) == natural
    b = protocols.load("voc_15-1_b")
    assert b == protocols.load("voc_15-1", order="b") == protocols.load("voc_15-1", order=list(b.order))
    assert b.name == "voc_15-1_b" and b.digest != natural.digest
    random = protocols.load("voc_15-1", order="random:3")
    assert random.name == "voc_15-1_random3"
    assert random == protocols.load(random.name) == protocols.load("voc_15-1_random:3")
    reverse = protocols.load("voc_15-1", order=np.arange(20, 0, -1))
    assert reverse.order == tuple(range(20, 0, -1)) and reverse.name.startswith("voc_15-1_custom-")
    assert all(type(id) is int for id in reverse.order)


def test_random_orders_are_fixed_for_ever():
    order = (20, 7, 16, 3, 11, 10, 2, 5, 18, 19, 17, 12, 15, 8, 13, 1, 14, 9, 4, 6)
    assert protocols.load("voc_15-1", order="random:3").order == order
    assert protocols.load("voc_10-1", order="random:3").order == order
    assert len({protocols.load("voc_10-1", order=f"random:{seed}").order for seed in range(20)}) == 20


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ([1, 2, 3], "missing 4, 5"),
        ([*range(1, 20), 19], "missing 20; repeated 19"),
        ([0, *range(1, 21)], "unknown 0"),
        ([*range(1, 20), "x"], "class ids"),
        ([1.5] * 20, "class ids"),
        ("alphabetical", "random:<seed>"),
    ],
)
def test_wrong_orders_are_refused(order, said):
    with pytest.raises(InputError, match=said):
        protocols.load("voc_15-1", order=order)


def test_two_orders_are_refused():
    with pytest.raises(InputError, match="drop the order 'c'"):
        protocols.load("voc_15-1_b", order="c")


def test_training_table_shows_only_the_new_classes():
    protocol = protocols.load("voc_15-5")
    table = protocol.training_table(protocol.steps[1])
    assert table.shape == (256,) and table.dtype == np.uint8
    expected = np.full(256, 255)
    expected[:16] = 0
    expected[16:21] = [16, 17, 18, 19, 20]
    np.testing.assert_array_equal(table, expected)


def test_training_table_of_step_0_hides_the_future():
    protocol = protocols.load("voc_15-5", setting="disjoint")
    table = protocol.training_table(protocol.steps[0])
    np.testing.assert_array_equal(table[:21], [*range(16), 0, 0, 0, 0, 0])


def test_sequential_training_keeps_the_labels_of_old_classes():
    protocol = protocols.load("voc_10-5", setting="sequential")
    table = protocol.training_table(protocol.steps[1])
    np.testing.assert_array_equal(table[:21], [*range(16), 0, 0, 0, 0, 0])


def test_training_table_in_another_class_order():
    protocol = protocols.load("voc_15-1_b")
    table = protocol.training_table(protocol.steps[2])  # learns 3 after sixteen others
    assert table[3] == 17 and np.count_nonzero(table[:21]) == 1
    mask = np.array([[0, 3, 17], [10, 255, 3]], dtype=np.uint8)
    np.testing.assert_array_equal(table[mask], [[0, 17, 0], [0, 255, 17]])


def test_void_may_become_background():
    protocol = protocols.load("voc_15-5")
    table = protocol.training_table(protocol.steps[0], void="background")
    assert table[255] == 0
    assert (table[21:255] == 255).all()  # labels that VOC does not have stay out of training
    with pytest.raises(InputError, match="void rule"):
        protocol.training_table(protocol.steps[0], void="zero")


def test_evaluation_table_is_the_inverse_of_slot_ids():
    protocol = protocols.load("ade_100-50", order="random:0")
    table = protocol.evaluation_table()
    assert table.dtype == np.uint8
    assert [int(table[id]) for id in protocol.slot_ids] == list(range(151))
    assert (table[151:] == 255).all()


def test_joint_step_learns_everything_at_once():
    protocol = protocols.load("voc_15-1_b", setting="disjoint")
    step = protocol.joint_step()
    assert (step.index, step.new, step.old, step.future) == (0, protocol.order, (), ())
    np.testing.assert_array_equal(
        protocol.training_table(step)[:21],
        protocol.evaluation_table()[:21],
    )
    assert step.n_slots == 21 and set(step.names) == set(protocol.order)


def test_digest_covers_what_matters_and_no_more():
    digest = protocols.load("voc_15-1").digest
    assert digest == "3d30995c4a7e773a65f033c83c60be1d9f886835a002d676c755ee48e70625b1"
    others = [
        protocols.load("voc_15-1", setting="disjoint"),
        protocols.load("voc_15-5"),
        protocols.load("voc_15-1_b"),
        dataclasses.replace(protocols.load("voc_15-1"), image_lists=((0, 1), (), (), (), (), ())),
        dataclasses.replace(protocols.load("voc_15-1"), image_lists=((0, 2), (), (), (), (), ())),
    ]
    assert len({digest, *(other.digest for other in others)}) == 6
    assert dataclasses.replace(protocols.load("voc_15-1"), name="another name").digest == digest


def test_protocols_travel_between_processes():
    protocol = protocols.load("voc_15-1_b")
    assert pickle.loads(pickle.dumps(protocol)) == protocol
    assert copy.deepcopy(protocol).digest == protocol.digest
    assert len({protocol.steps[0], copy.deepcopy(protocol.steps[0])}) == 1


def test_datasets():
    voc, ade = protocols.dataset("voc"), protocols.dataset("ade")
    assert protocols.datasets() == ("ade", "voc")
    assert (voc.n_classes, ade.n_classes) == (20, 150)
    assert (voc.has_void, ade.has_void) == (True, False)
    assert (voc.background_counted, ade.background_counted) == (True, False)
    assert (voc.class_names[1], voc.class_names[15], voc.class_names[20]) == (
        "aeroplane",
        "person",
        "tv monitor",
    )
    assert (ade.class_names[1], ade.class_names[13], ade.class_names[150]) == ("wall", "person", "flag")
    for info in (voc, ade):
        assert len(set(info.class_names)) == info.n_classes + 1
        assert all(isinstance(name, str) and name == name.strip() for name in info.class_names)
    with pytest.raises(InputError, match="unknown dataset 'coco'"):
        protocols.dataset("coco")


OWN = "dataset: voc\nclasses_per_step: [12, 5, 3]\n"


def test_own_protocol_from_yaml(tmp_path):
    path = write(tmp_path / "mine.yaml", OWN + "order: b\nsetting: disjoint\n")
    protocol = protocols.load(path)
    assert (protocol.name, protocol.setting) == ("mine", "disjoint")
    assert [len(step.new) for step in protocol.steps] == [12, 5, 3]
    assert protocol.order == protocols.load("voc_15-1_b").order
    assert protocol.image_lists is None
    assert protocols.load(str(path)) == protocol


def test_own_protocol_equal_to_a_usual_one_has_its_digest(tmp_path):
    path = write(tmp_path / "mine.yml", "dataset: voc\nclasses_per_step: [15, 5]\nname: my-split\n")
    protocol = protocols.load(path, setting="disjoint")
    assert protocol.name == "my-split"
    assert protocol.digest == protocols.load("voc_15-5", setting="disjoint").digest
    assert protocols.load(path, order="c").order == protocols.load("voc_15-5_c").order


def test_image_lists_of_every_form(tmp_path):
    write(tmp_path / "one.txt", "2008_000002\n\n2007_000032\n")
    np.save(tmp_path / "two.npy", np.array(["b", "a"]))
    own = OWN + "images:\n  - [2007_000033, 2007_000061]\n  - one.txt\n  - two.npy\n"
    lists = protocols.load(write(tmp_path / "mine.yaml", own)).image_lists
    # YAML 1.1 alone would read 2007_000033 as the number 2007000033.
    assert lists == (("2007_000033", "2007_000061"), ("2007_000032", "2008_000002"), ("a", "b"))

    write(tmp_path / "one.txt", "7\n0\n")
    np.save(tmp_path / "two.npy", np.array([9, 4], dtype=np.int32))
    own = OWN + f"images:\n  - [3, 1, 2]\n  - one.txt\n  - {tmp_path / 'two.npy'}\n"
    protocol = protocols.load(write(tmp_path / "mine.yaml", own))
    assert protocol.image_lists == ((1, 2, 3), (0, 7), (4, 9))
    inline = OWN + "images: [[1, 2, 3], [0, 7], [4, 9]]\n"
    assert protocols.load(write(tmp_path / "inline.yaml", inline)).digest == protocol.digest


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dataset: voc\n", "classes_per_step is missing"),
        ("classes_per_step: [20]\n", "dataset is missing"),
        ("- voc\n", "expected keys and values"),
        ("dataset: [voc\n", "not valid YAML in line"),
        (OWN + "ordr: b\n", "unknown key 'ordr': did you mean 'order'"),
        ("dataset: vok\nclasses_per_step: [20]\n", "unknown dataset 'vok'"),
        ("dataset: voc\nclasses_per_step: [15, 1]\n", "add up to 16, but voc has 20"),
        ("dataset: voc\nclasses_per_step: [15, 0, 5]\n", "at least one"),
        ("dataset: voc\nclasses_per_step: 15-5\n", "whole numbers"),
        ("dataset: voc\nclasses_per_step: [15, yes, 4]\n", "whole numbers"),
        (OWN + "order: [1, 2]\n", "missing 3, 4"),
        (OWN + "order: 7\n", "class ids"),
        (OWN + "setting: both\n", "unknown setting 'both'"),
        (OWN + "name: voc_12-1\n", "built-in protocol"),
        (OWN + "name: a/b\n", "letters, digits"),
        (OWN + "images: [[1], [2]]\n", "one entry per step (3), not 2 entries"),
        (OWN + "images: all.txt\n", "one entry per step"),
        (OWN + "images: [[1], [2], none.txt]\n", "none.txt): no such file"),
        (OWN + "images: [[1], [2], none.npy]\n", "none.npy): no such file"),
        (OWN + "images: [[1], [2], bad.npy]\n", "not a readable .npy"),
        (OWN + "images: [[1], [2], square.npy]\n", "float64 of shape (2, 2)"),
        (OWN + "images: [[1], [2], [3, 3]]\n", "image 3 is listed twice"),
        (OWN + "images: [[1], [2], [-3]]\n", "0-based"),
        (OWN + "images: [[1], [2], [3, a]]\n", "names only or 0-based indices only"),
        (OWN + "images: [[1], [2], 3]\n", "images of step 2"),
    ],
)
def test_faults_of_a_file_are_named(tmp_path, text, said):
    write(tmp_path / "bad.npy", "no array")
    np.save(tmp_path / "square.npy", np.zeros((2, 2)))
    path = write(tmp_path / "mine.yaml", text)
    with pytest.raises(InputError) as caught:
        protocols.load(path)
    message = str(caught.value)
    assert said in message and "mine.yaml" in message and "\n" not in message


def test_contradictions_between_file_and_command_are_refused(tmp_path):
    path = write(tmp_path / "mine.yaml", OWN + "order: b\nsetting: disjoint\n")
    with pytest.raises(InputError, match="setting disjoint, the command sequential"):
        protocols.load(path, setting="sequential")
    with pytest.raises(InputError, match="drop one of them"):
        protocols.load(path, order="c")
    with pytest.raises(InputError, match="no such file"):
        protocols.load(tmp_path / "none.yaml")
