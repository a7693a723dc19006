"""Trains the tiny CLIP of the demo track: `python -m bench.tiny_clip` writes the file that the package ships.

Images are windows of rendered scenes that no run ever sees (the splits `pretrain` and `pretrain_val`); the caption of a
window names what it shows, in one of the templates. The loss is CLIP's, symmetric InfoNCE over the batch (Radford et
al., ICML 2021), with every caption that is true of a window as a positive. The windows are half as wide as a scene, as
CLIP's images are smaller than a crop, and the position embedding is resampled just as CLIP's is.
"""

import argparse
import json
import math
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import track
from safetensors.torch import save
from torch import Tensor

from bench.data.voc_scenes import CLASSES, render
from methods.nn import tiny_clip
from methods.nn.clip import DenseClip, ImageTower
from methods.nn.tiny_clip import GENERIC, MEAN, NOTHING, STD, TEMPLATES
from protocols.dataset_info import dataset
from protocols.files import replacing

SCENE, WINDOW = 64, 32  # pixels a side
SHOWN = 0.05  # least share of a window that a class covers to be named in the caption
CLEAR = 0.10  # least share of the one class of a window that accuracy is measured on
GENERIC_SHARE = 0.15  # of the captions of single things that say "object" instead of the name
NAMES = dataset("voc").class_names


@dataclass(frozen=True)
class Scenes:
    """Rendered scenes: uint8 (N, 3, SCENE, SCENE) and class ids (N, SCENE, SCENE)."""

    images: Tensor
    masks: Tensor

    @classmethod
    def of(cls, split: str, n: int) -> "Scenes":
        pairs = [render(split, index, SCENE) for index in track(range(n), f"rendering {split}", disable=_quiet())]
        images, masks = (torch.from_numpy(np.stack(parts)) for parts in zip(*pairs, strict=True))
        return cls(images.permute(0, 3, 1, 2).contiguous(), masks)

    def windows(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """n random windows, flipped at random: normalised images (n, 3, WINDOW, WINDOW) and the share of the window
        that each class id covers, (n, CLASSES + 1)."""
        draw = partial(torch.randint, generator=generator)
        scene = draw(len(self.images), (n,))[:, None, None]
        offsets = torch.arange(WINDOW)
        rows = draw(SCENE - WINDOW + 1, (n, 1)) + offsets
        columns = draw(SCENE - WINDOW + 1, (n, 1)) + offsets
        columns = torch.where(draw(2, (n, 1)) == 1, columns.flip(1), columns)
        images = self.images.permute(0, 2, 3, 1)[scene, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)
        masks = self.masks[scene, rows[:, :, None], columns[:, None]]
        return normalise(images), F.one_hot(masks.long(), CLASSES + 1).float().mean((1, 2))


def normalise(images: Tensor) -> Tensor:
    """uint8 (N, 3, H, W) -> float32, as the networks expect it."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return (images / 255 - mean) / std


def captions(shown: Tensor, generator: torch.Generator) -> tuple[list[str], Tensor, Tensor]:
    """One true caption for each window, and which of them say "object".

    shown: bool (n, CLASSES + 1), the classes that are named. Returns texts; bool (n,); n x n, whether caption j is true
    of window i.
    """
    draw = partial(torch.randint, generator=generator)
    single = shown[:, 1:].sum(1) == 1
    generic = single & (torch.rand(len(shown), generator=generator) < GENERIC_SHARE)
    texts = []
    for row, is_generic, template in zip(shown, generic, draw(len(TEMPLATES), (len(shown),)), strict=True):
        classes = row[1:].nonzero()[:, 0] + 1
        names = [NAMES[c] for c in classes[torch.randperm(len(classes), generator=generator)]]
        said = GENERIC if is_generic else " and a ".join(names) if names else NOTHING
        texts.append(TEMPLATES[template].format(said))
    same = (shown[:, None, 1:] == shown[None, :, 1:]).all(2)
    true = torch.where(generic[None, :], single[:, None], same)
    return texts, generic, true


def contrastive_loss(images: Tensor, texts: Tensor, scale: Tensor, true: Tensor) -> Tensor:
    """Symmetric InfoNCE; the target of a row or column is uniform over its positives.

    images, texts (n, D), unit norm; scale: inverse temperature; true (n, n) bool. Returns a scalar in nats.
    """
    logits = scale * images @ texts.T
    targets = true.float()
    by_image = F.cross_entropy(logits, targets / targets.sum(1, keepdim=True))
    by_text = F.cross_entropy(logits.T, targets.T / targets.T.sum(1, keepdim=True))
    return (by_image + by_text) / 2


def train(model, scenes: Scenes, iterations: int, batch: int, lr: float, generator: torch.Generator) -> None:
    """AdamW, linear warm-up of 5 %, then cosine; bfloat16 autocast."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed}, {"params": rest, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=lr, weight_decay=0.1, betas=(0.9, 0.98))
    warm = max(1, iterations // 20)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda i: min((i + 1) / warm, 0.5 + 0.5 * math.cos(math.pi * max(0, i - warm) / (iterations - warm)))
    )
    model.train()
    tower = ImageTower(model.visual)
    mean = torch.zeros(())
    for i in track(range(iterations), "training", disable=_quiet()):
        images, shares = scenes.windows(batch, generator)
        texts, _, true = captions(shares >= SHOWN, generator)
        with torch.autocast("cpu", torch.bfloat16):
            image_features = tower.pooled(images)
            text_features = model.encode_text(tiny_clip.tokenise(texts), normalize=True)
        loss = contrastive_loss(image_features, text_features.float(), model.logit_scale.exp(), true)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        rate.step()
        optimiser.zero_grad()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        mean += loss.detach()
        if (i + 1) % 500 == 0:
            print(f"iteration {i + 1}: loss {mean.item() / 500:.3f}", file=sys.stderr, flush=True)
            mean.zero_()


@torch.no_grad()
def accuracy(clip: DenseClip, scenes: Scenes, windows: int, generator: torch.Generator) -> dict[str, float]:
    """Zero-shot accuracy among the 20 classes, on windows with one clear class and on whole scenes.

    A whole scene counts as right when its best class is one that it shows.
    """
    text = clip.text.templates(NAMES[1:])  # (CLASSES, D)
    images, shares = scenes.windows(windows, generator)
    visible = shares[:, 1:] > 0
    clear = (visible.sum(1) == 1) & (shares[:, 1:].amax(1) >= CLEAR)
    truth = shares[clear, 1:].argmax(1)
    right = (_best(clip, images[clear], text) == truth).float()
    by_class = [right[truth == c].mean().item() for c in truth.unique()]
    shown = F.one_hot(scenes.masks.long(), CLASSES + 1).float().mean((1, 2))[:, 1:] >= SHOWN / 4
    some = shown.any(1)
    best = _best(clip, normalise(scenes.images[some]), text)
    return {
        "val_windows": int(clear.sum()),
        "windows_accuracy": round(right.mean().item(), 4),
        "worst_class": round(min(by_class), 4),
        "val_scenes": int(some.sum()),
        "scenes_accuracy": round(shown[some].gather(1, best[:, None]).float().mean().item(), 4),
    }


def _best(clip: DenseClip, images: Tensor, text: Tensor) -> Tensor:
    features = torch.cat([clip.pooled(part) for part in images.split(250)])
    return (features @ text.T).argmax(1)


def _quiet() -> bool:
    return not sys.stderr.isatty()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.tiny_clip", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--out", type=Path, default=tiny_clip.FILE, help="default: the file of the package")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenes", type=int, default=16384)
    parser.add_argument("--val-scenes", type=int, default=2000, help="for the accuracy that is printed; default: 2000")
    parser.add_argument("--iterations", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    given = parser.parse_args()
    torch.manual_seed(given.seed)
    generator = torch.Generator().manual_seed(given.seed)
    model = tiny_clip.make_model(WINDOW)
    train(model, Scenes.of("pretrain", given.scenes), given.iterations, given.batch, given.lr, generator)
    state = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    settings = {name: value for name, value in vars(given).items() if name not in ("out", "val_scenes")}
    with replacing(given.out) as aside:
        aside.write_bytes(save(state, {"settings": json.dumps(settings)}))
    clip = DenseClip.of("clip-tiny", WINDOW, given.out)
    print(
        json.dumps(
            {**settings, **accuracy(clip, Scenes.of("pretrain_val", given.val_scenes), 5 * given.val_scenes, generator)}
        )
    )


if __name__ == "__main__":
    main()
