"""A CLIP small enough for a laptop: what stands to the rendered scenes as OpenAI's CLIP stands to photographs.

An open_clip model of the usual form (ViT and text transformer into one joint space), trained by `python -m
bench.tiny_clip` on captioned windows of rendered scenes. Its vocabulary is what its captions need: the words of the
templates below and of VOC's class names. Like the large one it has met every class, future ones too, in its own
training: what it knows of a class when that class's step comes is what its captions taught it.
"""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import open_clip
import torch
from torch import Tensor

from protocols.dataset_info import dataset
from protocols.errors import InputError

FILE = Path(__file__).with_name("tiny_clip.safetensors")
CONTEXT_LENGTH = 32  # tokens
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)

TEMPLATES = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a picture of a {}.",
    "a drawing of a {}.",
    "an image of the {}.",
    "a small {}.",
    "a large {}.",
    "a dark photo of a {}.",
    "a bright photo of a {}.",
    "a cropped photo of the {}.",
    "there is a {} in the scene.",
    "this is one {} in the scene.",
)
GENERIC, NOTHING = "object", "background"  # names of any one thing, and of a window without things


@cache
def vocabulary() -> dict[str, int]:
    """Word -> row of the token table. Row 0 pads; the last two rows start and end a text."""
    texts = (*TEMPLATES, *dataset("voc").class_names, GENERIC, NOTHING, "and")
    words = sorted({word for text in texts for word in _words(text)})
    return {word: row for row, word in enumerate(words, 1)}


def unreadable(texts: Sequence[str]) -> str | None:
    """Why some of the texts cannot be read: the words that the vocabulary lacks; None where there are none."""
    strange = list(dict.fromkeys(word for text in texts for word in _words(text) if word not in vocabulary()))
    if not strange:
        return None
    others = f" nor {len(strange) - 1} others" if strange[1:] else ""
    return (
        f"the tiny CLIP has no word {strange[0]!r}{others}: it knows VOC's class names and its templates; use a voc "
        "protocol, or another network"
    )


def tokenise(texts: Sequence[str]) -> Tensor:
    """Texts -> token rows, int64 (n, CONTEXT_LENGTH). Raises InputError for a word that the vocabulary lacks."""
    rows = torch.zeros(len(texts), CONTEXT_LENGTH, dtype=torch.int64)
    start = len(vocabulary()) + 1
    for row, text in zip(rows, texts, strict=True):
        reason = unreadable([text])
        if reason is not None:
            raise InputError(reason)
        words = _words(text)
        if len(words) + 2 > CONTEXT_LENGTH:
            raise InputError(f"{text!r} is too long for the tiny CLIP: at most {CONTEXT_LENGTH - 2} words")
        tokens = [start, *(vocabulary()[word] for word in words), start + 1]  # the end has the highest row
        row[: len(tokens)] = torch.tensor(tokens)
    return rows


def make_model(image_size: int) -> open_clip.CLIP:
    """The untrained model for images of image_size pixels a side, drawn from PyTorch's global generator."""
    return open_clip.CLIP(
        embed_dim=128,
        vision_cfg={
            "image_size": image_size,
            "patch_size": 4,
            "width": 128,
            "layers": 4,
            "head_width": 32,
            "pool_type": "avg",
        },
        text_cfg={
            "context_length": CONTEXT_LENGTH,
            "vocab_size": len(vocabulary()) + 3,
            "width": 128,
            "heads": 4,
            "layers": 2,
        },
    )


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+|\.", text.lower().replace("{}", " "))
