"""What a batch costs beside what cannot be avoided: decoding, resampling one window, copying bytes."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from bench.data.base import open_data
from bench.data.transforms import ResizedCropTransform, TrainTransform
from bench.data.views import make_loader, random_stream, step_view
from bench.data.voc import VocData
from methods.base import Batch, MethodConfig, cross_entropy
from methods.finetune import Finetune
from methods.nn.network import NetworkConfig, build
from protocols import load

HEIGHT, WIDTH, CROP, IMAGES = 375, 500, 512, 24
TABLE = load("voc_10-1").training_table(load("voc_10-1").steps[1])


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    """A folder like VOC's with noisy pixels and blocks of labels, 500 x 375, about 75 KB an image as in VOC."""
    root = tmp_path_factory.mktemp("voc")
    for folder in ("JPEGImages", "SegmentationClassAug", "ImageSets"):
        (root / folder).mkdir()
    generator = torch.Generator().manual_seed(0)
    for name in range(IMAGES):
        coarse = torch.rand(1, 3, 24, 32, generator=generator) * 255
        pixels = interpolate(coarse, (HEIGHT, WIDTH), mode="bicubic", antialias=True)[0]
        pixels = (pixels + 5 * torch.randn(1, HEIGHT, WIDTH, generator=generator)).clamp(0, 255).byte()
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(root / "JPEGImages" / f"{name}.jpg", quality=92)
        blocks = torch.randint(21, (HEIGHT // 25, WIDTH // 25), generator=generator).byte()
        mask = Image.fromarray(blocks.repeat_interleave(25, 0).repeat_interleave(25, 1).numpy(), "P")
        mask.putpalette([(37 * i) % 256 for i in range(768)])
        mask.save(root / "SegmentationClassAug" / f"{name}.png")
    (root / "ImageSets" / "train_aug.txt").write_text("\n".join(map(str, range(IMAGES))))
    return VocData("train", root)


def decode(path) -> np.ndarray:
    return np.array(Image.open(BytesIO(path.read_bytes())))


@pytest.mark.benchmark(group="data: 500 x 375 photographs")
def test_loading_beside_decoding(beside, voc):
    image, mask = voc._image_path(0), voc._mask_path(0)
    beside("load an image and its mask, beside PIL", lambda: voc.load(0), lambda: (decode(image), decode(mask)))


@pytest.mark.benchmark(group="data: 500 x 375 photographs")
@pytest.mark.parametrize("transform", [TrainTransform(CROP), ResizedCropTransform(CROP)], ids=["scale", "resized"])
def test_augmentation_beside_one_resampling(beside, voc, transform):
    image, mask = voc.load(0)
    window = image[None, :, :256, :256].contiguous()
    draws = iter(range(10**9))
    beside(
        f"{type(transform).__name__} to {CROP} x {CROP}, beside resampling one window",
        lambda: transform(image, mask, TABLE, random_stream(0, "benchmark", next(draws))),
        lambda: interpolate(window, (CROP, CROP), mode="bilinear", antialias=True),
    )


@pytest.mark.benchmark(group="data: 500 x 375 photographs")
def test_the_index_of_classes_beside_decoding(beside, voc):
    masks = [voc._mask_path(index) for index in range(IMAGES)]
    beside(
        "inspect images and masks for the index, beside decoding the masks",
        lambda: [voc.inspect(index) for index in range(IMAGES)],
        lambda: [decode(path) for path in masks],
    )


@pytest.mark.benchmark(group="data: 500 x 375 photographs")
def test_two_loading_processes_beside_one(benchmark, beside, voc):
    batches = 10 if benchmark.enabled else 1
    view = step_view(voc, np.arange(IMAGES), TABLE, "benchmark")

    def load_with(workers: int) -> list:
        return list(make_loader(view, TrainTransform(CROP), 0, IMAGES, 0, batches, workers))

    name = f"{batches * IMAGES} crops of {CROP} x {CROP} by two loading processes, beside one"
    beside(name, lambda: load_with(2), lambda: load_with(1), rounds=5)


@pytest.mark.benchmark(group="data: labels")
def test_labels_by_look_up_beside_a_copy(beside):
    ids = np.random.default_rng(0).integers(0, 21, (24, CROP, CROP), dtype=np.uint8)
    beside("24 label maps of 512 x 512 by look-up, beside a copy", lambda: TABLE.take(ids), lambda: ids.copy())


@pytest.mark.benchmark(group="data: scenes")
def test_batches_of_scenes_beside_the_step_that_eats_them(beside):
    data = open_data("shapes", "train", train_images=64)
    step = load("voc_10-1").steps[0]
    view = step_view(data, np.arange(len(data)), load("voc_10-1").training_table(step), "benchmark")
    method = Finetune(MethodConfig(), build(NetworkConfig("segmenter-tiny", "none", 64)))
    method.begin_step(step.visible())
    batch = Batch(torch.rand(16, 3, 64, 64), torch.randint(11, (16, 64, 64)), ("",) * 16)
    list(make_loader(view, TrainTransform(64), 0, 16, 0, 4, 0))  # renders the scenes

    def floor():
        for _ in range(4):
            cross_entropy(method.logits(batch.images), batch.labels).value.backward()

    beside(
        "4 batches of 16 scenes, beside the steps that eat them (below 1: they wait for nothing)",
        lambda: list(make_loader(view, TrainTransform(64), 0, 16, 0, 4, 0)),
        floor,
    )
