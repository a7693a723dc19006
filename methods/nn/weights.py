"""Initial weights of the encoders: from the cache, the hub or the user's own file, and never random in silence."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

import open_clip
import timm
from huggingface_hub import constants, hf_hub_download
from open_clip.convert import convert_state_dict
from open_clip.factory import load_state_dict as open_clip_state
from open_clip.model import convert_to_custom_text_state_dict, resize_pos_embed
from timm.models import load_state_dict
from torch import Tensor, nn

from protocols.errors import InputError
from protocols.files import expanded, file_digest

CLASSIFIERS = ("fc.", "head.")  # of image classification: the encoders have none
OPENAI_CLIP = "ViT-B-16-quickgelu/openai"  # open_clip's name and tag of OpenAI's ViT-B/16: both towers in one file

Published = Callable[[], Path]  # finds or downloads a file of published weights; raises InputError if it cannot


def initial_file(published: Published | None, pretrained: str) -> Path | None:
    """The file of initial weights, or None for random ones.

    published: finds the published weights, None where there are none; pretrained: "default" (the published
    weights, downloaded once), "none", or the path of a file. Raises InputError for a file that is neither there
    nor to be had.
    """
    if pretrained == "none" or (pretrained == "default" and published is None):
        return None
    if pretrained == "default":
        return published()
    path = expanded(pretrained)
    if not path.is_file():
        raise InputError(f"network.pretrained={pretrained}: no such file; give a weights file, 'default' or 'none'")
    return path


def timm_file(name: str) -> Published:
    """The weights that timm publishes under that name, in the local cache of the hub or downloaded there."""
    return partial(_timm_file, name)


def open_clip_file(model: str, tag: str) -> Published:
    """The weights of both towers that open_clip lists under that model and tag, cached or downloaded."""
    return partial(_open_clip_file, model, tag)


def packaged(path: Path) -> Published:
    """Weights that this package ships."""
    return lambda: path


@lru_cache
def _timm_file(name: str) -> Path:
    repository = timm.get_pretrained_cfg(name).hf_hub_id
    _stay_offline_without_network()
    try:
        return Path(hf_hub_download(repository, "model.safetensors"))
    except OSError as error:  # what the hub client raises offline, and over HTTP
        raise _not_to_be_had(name, f"model.safetensors from huggingface.co/{repository}") from error


@lru_cache
def _open_clip_file(model: str, tag: str) -> Path:
    config = open_clip.get_pretrained_cfg(model, tag)
    _stay_offline_without_network()
    try:
        return Path(open_clip.download_pretrained(config))
    except OSError as error:
        source = f"huggingface.co/{config['hf_hub'].strip('/')}" if config.get("hf_hub") else config.get("url")
        raise _not_to_be_had(f"{model}/{tag} of open_clip", f"its file from {source}") from error


@lru_cache
def _stay_offline_without_network() -> None:
    """Where the hub cannot even be found, tells its client to look into its cache alone: it would try every file for
    half a minute, and say so line by line."""
    if getproxies():  # they find it, not this machine
        return
    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        constants.HF_HUB_OFFLINE = True


def _not_to_be_had(name: str, file: str) -> InputError:
    return InputError(
        f"no initial weights: {name} is not cached in {constants.HF_HUB_CACHE} and cannot be downloaded; go online "
        f"once, or get {file} and give network.pretrained=/path/to/it, or start from random weights with "
        "network.pretrained=none"
    )


def load(encoder: nn.Module, path: Path, adapt: Callable[[dict, nn.Module], dict] | None = None) -> None:
    """Loads a file of timm weights (safetensors or PyTorch) into an encoder; a classifier in the file is left out.

    adapt: brings the file's tensors to the encoder's names and shapes. Raises InputError if the file cannot
    be read, or leaves any weight of the encoder without a value.
    """
    with _explained(path):
        state = _in_float32(load_state_dict(str(path), weights_only=True))
        state = adapt(state, encoder) if adapt else state
        state = {key: value for key, value in state.items() if not key.startswith(CLASSIFIERS)}
        missing = encoder.load_state_dict(state, strict=False).missing_keys
    _all_there(missing, path)


def load_open_clip(model: nn.Module, path: Path) -> None:
    """Loads both towers from a file in open_clip's layout; position embeddings are resampled to the model's grid.

    Raises InputError if the file cannot be read, or leaves any weight without a value: a file of the image tower alone.
    """
    with _explained(path):
        state = convert_state_dict(model, _in_float32(open_clip_state(str(path), weights_only=True)))
        if hasattr(model, "text") and "positional_embedding" in state:
            state = convert_to_custom_text_state_dict(state)
        resize_pos_embed(state, model)
        missing = model.load_state_dict(state, strict=False).missing_keys
    _all_there(missing, path)


def _in_float32(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Half-precision files in full: position embeddings cannot be resampled in half precision."""
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # each file format fails in its own way, and so do wrong shapes
        reason = str(error).strip().splitlines()
        raise InputError(
            f"initial weights {path} cannot be loaded: {reason[-1].strip() if reason else error!r}"
        ) from error


def _all_there(missing: list[str], path: Path) -> None:
    if missing:
        raise InputError(
            f"initial weights {path} do not fit the network: {len(missing)} tensors are missing, "
            f"the first is {missing[0]}"
        )


def digest(path: Path) -> str:
    """sha256 of a file, in hex."""
    stat = path.stat()
    return _digest(path, stat.st_size, stat.st_mtime_ns)


@lru_cache
def _digest(path: Path, size: int, modified: int) -> str:
    """Cached by size and time of change: the files are large, and every step asks for their digest."""
    return file_digest(path)
