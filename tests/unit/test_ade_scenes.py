"""Rendered scenes with the classes of ADE20K: what fills the frame, how often classes come, what each step gets."""

from hashlib import sha256
from itertools import product

import numpy as np
import pytest
import torch

import protocols
from bench.config import configurations
from bench.data import rendering, voc_scenes
from bench.data.ade_scenes import CLASSES, GENERATOR, OBJECTS, OUTDOORS, STUFF, appearance, render
from bench.data.base import open_data
from bench.spec import resolve


@pytest.fixture(scope="module")
def masks() -> np.ndarray:
    return np.stack([render("train", index, 64)[1] for index in range(600)])


@pytest.fixture(scope="module")
def presence(masks: np.ndarray) -> np.ndarray:
    return np.stack([np.bincount(mask.ravel(), minlength=CLASSES + 1) > 0 for mask in masks])


def test_an_item_is_an_image_and_a_mask_of_ade_class_ids() -> None:
    data = open_data("shapes", "val", label_space="ade", val_images=3, image_size=48)
    image, mask = data.load(2)
    assert (image.shape, image.dtype) == ((3, 48, 48), torch.uint8)
    assert (mask.shape, mask.dtype) == ((48, 48), torch.uint8)
    assert (data.name, data.label_space, len(data)) == ("shapes", "ade", 3)
    assert np.array_equal(render("val", 2, 48)[1], mask.numpy())


def test_scenes_are_the_same_bits_everywhere() -> None:
    """Stored results depend on these pixels: if a scene has to change, raise GENERATOR and pin the new digest."""
    digest = sha256()
    for split, index, size in product(("train", "val"), range(0, 200, 10), (48, 64)):
        for array in render(split, index, size):
            digest.update(array.tobytes())
    assert (GENERATOR, digest.hexdigest()[:16]) == (1, "5ea159948be110ae")


def test_splits_and_label_spaces_share_no_scene() -> None:
    scenes = [render("train", 0, 64)[0], render("val", 0, 64)[0], voc_scenes.render("train", 0, 64)[0]]
    assert not any(np.array_equal(one, two) for one, two in ((scenes[0], scenes[1]), (scenes[0], scenes[2])))


def test_a_scene_looks_alike_at_every_size() -> None:
    agreement = [(render("val", index, 128)[1][::2, ::2] == render("val", index, 64)[1]).mean() for index in range(20)]
    assert np.mean(agreement) > 0.95


def test_every_class_has_a_look_of_its_own_whose_parts_it_shares() -> None:
    looks = [appearance(class_id) for class_id in range(1, CLASSES + 1)]
    assert len(set(looks)) == CLASSES == len(protocols.dataset("ade").class_names) - 1
    shapes, textures = ([look[part] for look in looks] for part in (0, 1))
    assert min(shapes.count(shape) for shape in set(shapes)) >= 19  # each of six, and stuff
    assert min(textures.count(texture) for texture in set(textures)) >= 5
    pairs = [look[:2] for look in looks]
    assert {pairs.count(pair) for pair in pairs if pair[0]} == {3, 4}  # shape and texture leave that many objects


def test_classes_of_one_shape_and_texture_differ_in_hue_by_more_than_its_noise() -> None:
    looks: dict[tuple, list[float]] = {}
    for class_id in range(1, CLASSES + 1):
        shape, texture, hue = appearance(class_id)
        looks.setdefault((shape, texture), []).append(hue % 1.0)
    for hues in looks.values():
        around = np.sort(hues)
        gaps = np.diff(np.append(around, around[0] + 1.0))
        assert gaps.min() > 1 / 6 - 1e-9 > 2 * 0.05


def test_stuff_fills_the_frame_and_objects_stand_on_it(masks: np.ndarray, presence: np.ndarray) -> None:
    shares = np.bincount(masks.ravel(), minlength=CLASSES + 1) / masks.size
    assert shares[list(STUFF)].sum() > 0.65 and 0.15 < shares[list(OBJECTS)].sum() < 0.35
    assert shares[0] < 0.02 and presence[:, 0].mean() < 0.35  # "other" is rare
    assert 7 < presence[:, 1:].sum(axis=1).mean() < 10  # ADE20K: 8.2


def test_rooms_and_streets_hold_what_belongs_there(presence: np.ndarray) -> None:
    indoors, outdoors = presence[:, 1], presence[:, 3]  # a wall; the sky
    assert (indoors ^ outdoors).mean() > 0.98
    assert not presence[indoors & ~outdoors][:, list(OUTDOORS)].any()


def test_class_frequencies_fall_as_those_of_ade_do(presence: np.ndarray) -> None:
    """The share of ADE20K's training images with class c falls like (c + 2)^-1.13; here it does among objects."""
    bins = np.array_split(np.array([class_id for class_id in OBJECTS]), 6)
    shares = [presence[:, list(part)].sum(axis=1).mean() / len(part) for part in bins]
    middles = [np.log(part + 2.0).mean() for part in bins]
    slope = np.polyfit(middles, np.log(shares), 1)[0]
    assert -1.5 < slope < -0.8


@pytest.fixture(scope="module")
def demo() -> dict[str, np.ndarray]:
    """Presence of classes in the scenes of the demo recipe, rendered small: bool (N, 151) by split."""
    (config,) = configurations(["method=mib", "protocol=ade_100-10", "track=demo"])
    section = resolve(config).config.data
    counts = {"train": section.train_images, "val": section.val_images}
    return {
        split: np.stack(
            [np.bincount(render(split, i, 32)[1].ravel(), minlength=CLASSES + 1) > 0 for i in range(counts[split])]
        )
        for split in counts
    }


def test_every_step_has_images_and_every_class_is_evaluated(demo: dict[str, np.ndarray]) -> None:
    assert demo["val"][:, 1:].any(axis=0).all()
    assert demo["train"][:, 1:].sum(axis=0).min() >= 10
    for name in ("ade_100-50", "ade_100-10", "ade_100-5", "ade_50-50", "ade_50-20"):
        for setting in ("overlapped", "disjoint"):
            protocol = protocols.load(name, setting)
            images = [len(protocols.step_images(demo["train"], step, setting)) for step in protocol.steps]
            assert min(images) >= 150, (name, setting, images)


@pytest.mark.parametrize("outline", [rendering.level, rendering.rolling, rendering.stepped])
def test_outlines_fill_what_is_below_and_nothing_far_above(outline: rendering.Field) -> None:
    x, y = np.linspace(-1, 1, 101, dtype=np.float32)[None, :], np.linspace(-1, 1, 101, dtype=np.float32)[:, None]
    inside = outline(x, y) < 0
    assert inside[51:].all() and not inside[:30].any()
    assert (rendering.everywhere(x, y) < 0).all() and rendering.everywhere(x, y).shape == (101, 101)
