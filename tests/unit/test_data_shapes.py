"""Rendered scenes with VOC's classes: what they hold, that they stay what they are, and are as hard as they claim."""

from dataclasses import replace
from hashlib import sha256
from itertools import product

import numpy as np
import pytest
import torch

from bench.data import rendering, shapes, voc_scenes
from bench.data.base import open_data
from bench.data.voc_scenes import DIFFICULTY, GENERATOR, appearance, render
from protocols import InputError, dataset


@pytest.fixture(scope="module")
def masks() -> np.ndarray:
    data = open_data("shapes", "val", val_images=300)
    return np.stack([data.load(i)[1].numpy() for i in range(len(data))])


def test_an_item_is_an_image_and_a_mask_of_voc_class_ids() -> None:
    data = open_data("shapes", "train", train_images=5, image_size=48)
    image, mask = data.load(3)
    assert (image.shape, image.dtype) == ((3, 48, 48), torch.uint8)
    assert (mask.shape, mask.dtype) == ((48, 48), torch.uint8)
    assert len(data) == 5 and len(set(data.ids)) == 5
    assert (data.name, data.label_space, data.split) == ("shapes", "voc", "train")


def test_scenes_are_the_same_bits_everywhere() -> None:
    """Stored results depend on these pixels: if a scene has to change, raise GENERATOR and pin the new digest."""
    digest = sha256()
    for split, index, size in product(("train", "val"), range(0, 400, 10), (48, 64)):
        for array in render(split, index, size):
            digest.update(array.tobytes())
    assert (GENERATOR, digest.hexdigest()[:16]) == (1, "3a4838312010d406")


def test_a_scene_depends_on_split_and_index_alone() -> None:
    few = open_data("shapes", "val", val_images=3).load(2)
    many = open_data("shapes", "val", val_images=300).load(2)
    assert torch.equal(few[0], many[0]) and torch.equal(few[1], many[1])
    first = {split: render(split, 2, 64)[0] for split in ("train", "val")}
    assert not np.array_equal(first["train"], first["val"])
    assert not np.array_equal(first["val"], render("val", 3, 64)[0])


def test_a_split_too_large_for_memory_is_rendered_at_every_load(monkeypatch: pytest.MonkeyPatch) -> None:
    data = open_data("shapes", "val", val_images=4)
    kept = data.load(1)
    monkeypatch.setattr(shapes, "CACHE_BYTES", 0)
    rendered = data.load(1)
    assert torch.equal(kept[0], rendered[0]) and torch.equal(kept[1], rendered[1])


def test_a_scene_looks_alike_at_every_size() -> None:
    agreement = [(render("val", index, 128)[1][::2, ::2] == render("val", index, 64)[1]).mean() for index in range(20)]
    assert np.mean(agreement) > 0.97


def test_shape_and_texture_together_name_the_class_but_neither_alone() -> None:
    looks = [appearance(class_id) for class_id in range(1, 21)]
    assert len({(shape, texture) for shape, texture, _ in looks}) == 20
    assert {shape for shape, _, _ in looks} == set(range(5))
    assert {texture for _, texture, _ in looks} == set(range(4))


def test_hues_of_neighbouring_classes_overlap() -> None:
    hues = np.sort([appearance(class_id)[2] for class_id in range(1, 21)])
    assert np.allclose(np.diff(hues), 1 / 20)
    assert 2 * DIFFICULTY.hue_noise > 1 / 20


def test_every_class_of_voc_occurs_and_person_most_often(masks: np.ndarray) -> None:
    images = [(masks == class_id).any(axis=(1, 2)).sum() for class_id in range(21)]
    assert len(images) == len(dataset("voc").class_names)
    assert min(images[1:]) >= 8
    assert images[15] == max(images[1:]) > 1.5 * np.median(images[1:])
    assert set(np.unique(masks)) == set(range(21))


def test_scenes_hold_several_objects_on_much_background(masks: np.ndarray) -> None:
    classes = [len(np.unique(mask)) - 1 for mask in masks]
    assert min(classes) >= 1 and max(classes) >= 4 and 1.5 < np.mean(classes) < 3
    assert 0.6 < (masks == 0).mean() < 0.9


def test_companions_occur_together_more_often_than_others(masks: np.ndarray) -> None:
    present = np.stack([(masks == class_id).any(axis=(1, 2)) for class_id in range(21)]).astype(float)
    together = present @ present.T
    by_chance = np.outer(present.sum(axis=1), present.sum(axis=1)) / len(masks)
    companions = np.zeros((21, 21), dtype=bool)
    for class_id, others in voc_scenes.COMPANIONS.items():
        companions[class_id, list(others)] = companions[list(others), class_id] = True
    strangers = ~companions & ~np.eye(21, dtype=bool)
    strangers[0] = strangers[:, 0] = False  # background is everywhere
    lift = [together[pairs].sum() / by_chance[pairs].sum() for pairs in (companions, strangers)]
    assert lift[0] > 1.0 and lift[0] > 2 * lift[1]


def test_objects_hide_parts_of_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is painted later wins the pixel, and with crowding below 1 that happens."""
    drawn: list[int] = []
    paint = rendering.Canvas.paint

    def counting(canvas: rendering.Canvas, brush: rendering.Brush) -> None:
        before = canvas.mask.copy()
        paint(canvas, brush)
        if brush.label is not None:
            drawn.append(int(((before > 0) & (before != canvas.mask)).sum()))

    monkeypatch.setattr(rendering.Canvas, "paint", counting)
    for index in range(60):
        render("val", index, 64)
    assert sum(pixels > 10 for pixels in drawn) >= 5


def test_difficulty_changes_scenes_and_the_stamp(monkeypatch: pytest.MonkeyPatch) -> None:
    data = open_data("shapes", "val", val_images=3)
    before = data.fingerprint()
    other = replace(DIFFICULTY, grain=0.0)
    assert not np.array_equal(render("val", 0, 64)[0], render("val", 0, 64, other)[0])
    monkeypatch.setattr(voc_scenes, "DIFFICULTY", other)
    assert data.fingerprint() != before


def test_fingerprints_differ_with_everything_that_scenes_depend_on() -> None:
    stamps = {
        open_data("shapes", "train").fingerprint(),
        open_data("shapes", "val").fingerprint(),
        open_data("shapes", "val", val_images=4).fingerprint(),
        open_data("shapes", "val", image_size=96).fingerprint(),
        open_data("shapes", "val", label_space="ade").fingerprint(),
    }
    assert len(stamps) == 5
    assert open_data("shapes", "val").fingerprint() in stamps


@pytest.mark.parametrize("field", (*rendering.SHAPES, rendering.dome))
def test_shapes_stay_within_the_window_they_are_painted_in(field: rendering.Field) -> None:
    side = np.linspace(-2, 2, 401, dtype=np.float32)
    x, y = np.meshgrid(side, side)
    inside = field(x, y) < 0
    assert inside.any()
    assert max(np.abs(x[inside]).max(), np.abs(y[inside]).max()) <= rendering.REACH


@pytest.mark.parametrize("field", (*rendering.TEXTURES[1:], rendering.grid, rendering.zigzag))
def test_textures_repeat_every_period_and_use_both_tones(field: rendering.Field) -> None:
    side = np.linspace(0, 1, 64, endpoint=False, dtype=np.float32)
    x, y = np.meshgrid(side, side)
    tone = field(x, y)
    assert tone.min() == 0 and tone.max() == 1 and 0.2 < tone.mean() < 0.6
    assert np.allclose(tone, field(x + 1, y - 2), atol=1e-4)


def test_colours_are_those_of_the_colour_wheel() -> None:
    assert np.allclose(rendering.colour(0.0, 1.0, 1.0), (1, 0, 0))
    assert np.allclose(rendering.colour(1 / 3, 1.0, 0.5), (0, 0.5, 0), atol=1e-6)
    assert np.allclose(rendering.colour(-1 / 3, 0.5, 1.0), (0.5, 0.5, 1), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_space": "pets"}, "voc and ade protocols, not for pets"),
        ({"val_images": 0}, "at least 1 scene"),
        ({"image_size": 8}, "16 pixels a side"),
    ],
)
def test_impossible_scenes_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_data("shapes", "val", **options)
