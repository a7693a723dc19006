"""Augmentation: geometry of image and labels together, padding, and where randomness comes from."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from bench.data.transforms import EvalTransform, ResizedCropTransform, TrainTransform
from protocols import InputError

IDENTITY = np.arange(256, dtype=np.uint8)


def fixed(*draws: float) -> np.random.Generator:
    """A generator whose next four draws are scale, down, across, mirror as given."""

    class Fixed:
        def random(self, count: int) -> np.ndarray:
            assert count == len(draws)
            return np.array(draws)

    return Fixed()


def coordinates(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """An image whose first two channels grow down and across, and the mask that equals the first."""
    down = torch.arange(height)[:, None].expand(height, width)
    across = torch.arange(width)[None, :].expand(height, width)
    image = torch.stack([down, across, torch.zeros_like(down)]).to(torch.uint8)
    return image, down.to(torch.uint8).contiguous()


def test_no_scaling_and_no_flip_is_the_image_itself() -> None:
    image, mask = coordinates(32, 32)
    out, labels = TrainTransform(32, scale=(1, 1), flip=0)(image, mask, IDENTITY, fixed(0.5, 0.5, 0.5, 0.5))
    assert torch.equal(out, image) and torch.equal(labels, mask)


def test_flip_mirrors_image_and_labels_left_to_right() -> None:
    image, _ = coordinates(32, 32)
    mask = image[1].clone()
    out, labels = TrainTransform(32, scale=(1, 1), flip=0.5)(image, mask, IDENTITY, fixed(0, 0, 0, 0.49))
    assert torch.equal(out, image.flip(-1)) and torch.equal(labels, mask.flip(-1))
    out, labels = TrainTransform(32, scale=(1, 1), flip=0.5)(image, mask, IDENTITY, fixed(0, 0, 0, 0.5))
    assert torch.equal(out, image) and torch.equal(labels, mask)


def test_the_shorter_side_is_what_scale_refers_to() -> None:
    """Scale 1 of a 32 x 48 image at crop 32 cuts a 32 x 32 window, its place drawn across only."""
    image, mask = coordinates(32, 48)
    cut = TrainTransform(32, scale=(1, 1), flip=0)
    assert torch.equal(cut(image, mask, IDENTITY, fixed(0, 0.9, 0, 0))[0], image[:, :, :32])
    assert torch.equal(cut(image, mask, IDENTITY, fixed(0, 0.9, 0.9999, 0))[0], image[:, :, 16:])


def test_scale_two_shows_a_quarter_of_the_image() -> None:
    image, mask = coordinates(32, 32)
    out, labels = TrainTransform(32, flip=0)(image, mask, IDENTITY, fixed(1 - 1e-9, 0.9999, 0, 0))
    assert labels.unique().tolist() == list(range(16, 32))
    assert (labels == out[0]).float().mean() > 0.4  # bilinear against nearest: equal up to rounding
    assert (labels.int() - out[0].int()).abs().max() <= 1
    assert out[1].max() <= 16


@pytest.mark.parametrize(("padding", "label"), [("ignore", 255), ("background", 0)])
def test_scale_one_half_lies_somewhere_over_grey(padding: str, label: int) -> None:
    image, mask = torch.full((3, 32, 32), 9, dtype=torch.uint8), torch.full((32, 32), 7, dtype=torch.uint8)
    table = IDENTITY.copy()
    table[7] = 3
    shrink = TrainTransform(32, flip=0, padding=padding)
    out, labels = shrink(image, mask, table, fixed(0, 0.9999, 0, 0))
    assert (labels[16:, :16] == 3).all() and (labels == 3).sum() == 256
    assert (labels == label).sum() == 32 * 32 - 256
    assert (out[:, 16:, :16] == 9).all()
    assert out[:, 0, 0].tolist() == [124, 116, 104]


def test_padding_is_ignored_even_where_void_is_trained_as_background() -> None:
    table = IDENTITY.copy()
    table[255] = 0
    mask = torch.full((32, 32), 255, dtype=torch.uint8)
    shrink = TrainTransform(32, flip=0)
    _, labels = shrink(torch.zeros(3, 32, 32, dtype=torch.uint8), mask, table, fixed(0, 0, 0, 0))
    assert (labels[:16, :16] == 0).all() and (labels[16:] == 255).all()


def test_an_unknown_padding_is_refused() -> None:
    with pytest.raises(InputError, match="unknown padding 'mirror'.*ignore"):
        TrainTransform(32, padding="mirror")


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 90), width=st.integers(1, 90), crop=st.integers(1, 80), seed=st.integers(0, 2**32))
def test_any_image_gives_a_full_crop_of_known_labels(height: int, width: int, crop: int, seed: int) -> None:
    image, mask = coordinates(height, width)
    before = image.clone(), mask.clone()
    out, labels = TrainTransform(crop)(image, mask, IDENTITY, np.random.default_rng(seed))
    assert (tuple(out.shape), tuple(labels.shape)) == ((3, crop, crop), (crop, crop))
    assert out.dtype == labels.dtype == torch.uint8
    assert set(labels.unique().tolist()) <= {*range(height), 255}
    assert torch.equal(image, before[0]) and torch.equal(mask, before[1])


def test_channels_stay_apart_in_a_result_one_pixel_wide() -> None:
    image = torch.tensor([10, 100, 200], dtype=torch.uint8)[:, None, None].repeat(1, 90, 3)
    mask = torch.zeros(90, 3, dtype=torch.uint8)
    out, labels = TrainTransform(2, scale=(0.5, 0.5), flip=0)(image, mask, IDENTITY, fixed(0, 0, 0, 0))
    assert out[:, :, 0].T.tolist() == [[10, 100, 200]] * 2
    assert labels.tolist() == [[0, 255], [0, 255]]


def test_scale_place_and_flip_all_vary() -> None:
    image, _ = coordinates(64, 64)
    mask = image[1].clone()
    generator = np.random.default_rng(0)
    outcomes = [TrainTransform(64)(image, mask, IDENTITY, generator)[1] for _ in range(200)]
    known = [labels[labels != 255].reshape(-1) for labels in outcomes]
    spans = torch.tensor([float(labels.max() - labels.min()) for labels in known])
    assert spans.min() < 36 and spans.max() == 63
    padded = sum(bool((labels == 255).any()) for labels in outcomes)
    assert 40 < padded < 95  # scale below 1: a third of the draws
    flipped = sum(
        bool(labels[32, labels[32] != 255].int().diff().sum() < 0) for labels in outcomes if (labels[32] != 255).any()
    )
    assert 60 < flipped < 140


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (31, 57), (33, 33), (100, 77)])
@pytest.mark.parametrize("size", [16, 32])
def test_evaluation_resizes_and_crops_as_torchvision_does(shape: tuple[int, int], size: int) -> None:
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8))
    mask = torch.from_numpy(np.random.default_rng(1).integers(0, 21, shape, dtype=np.uint8))
    out, labels = EvalTransform(size)(image, mask, IDENTITY)
    expected = functional.resize(tv_tensors.Image(image), [size], antialias=True)
    expected_labels = functional.resize(mask[None], [size], interpolation=InterpolationMode.NEAREST_EXACT)
    assert (out.int() - functional.center_crop(expected, [size, size]).int()).abs().max() <= 1
    assert torch.equal(labels, functional.center_crop(expected_labels, [size, size])[0])


def test_evaluation_of_whole_images_changes_labels_only() -> None:
    image, mask = coordinates(20, 30)
    table = np.roll(IDENTITY, 1)
    out, labels = EvalTransform(None)(image, mask, table)
    assert torch.equal(out, image)
    assert labels.tolist() == table[mask.numpy()].tolist()


def test_resized_crops_hold_windows_of_the_drawn_area_and_ratio() -> None:
    """On an image whose pixels say where they are, the window can be read off the result."""
    height, width = 90, 120
    down, across = torch.arange(height)[:, None].expand(height, width), torch.arange(width).expand(height, width)
    image = torch.stack([down, across])
    image = torch.cat([image, torch.zeros(1, height, width, dtype=torch.int64)]).to(torch.uint8)
    mask = (torch.arange(height)[:, None] + torch.zeros(width)).to(torch.uint8)
    transform, areas = ResizedCropTransform(64, scale=(0.2, 0.6), flip=0.0), []
    table = np.arange(256, dtype=np.uint8)
    for seed in range(60):
        out, labels = transform(image, mask, table, np.random.default_rng(seed))
        assert out.shape == (3, 64, 64) and labels.shape == (64, 64) and labels.max() < height
        rows = float(labels[-1, 0]) - float(labels[0, 0]) + 1
        columns = float(out[1, 0, -1]) - float(out[1, 0, 0]) + 1
        assert 0.7 < columns / rows < 1.4
        assert (out[0, :, 0].int() - labels[:, 0].int()).abs().max() <= 2  # image and labels agree
        areas.append(rows * columns / (height * width))
    assert 0.15 < min(areas) < 0.3 and 0.5 < max(areas) < 0.65


def test_resized_crops_never_pad_and_fall_back_to_the_centre() -> None:
    image, mask = torch.full((3, 30, 90), 200, dtype=torch.uint8), torch.full((30, 90), 7, dtype=torch.uint8)
    transform = ResizedCropTransform(16, scale=(3.0, 3.0), flip=0.0)  # no window of that area fits
    out, labels = transform(image, mask, np.arange(256, dtype=np.uint8), np.random.default_rng(0))
    assert (out == 200).all() and (labels == 7).all()
    assert transform._window(30, 90, np.random.default_rng(0)) == (0, 25, 30, 40)
