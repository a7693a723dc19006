"""Initial weights of the encoders: from the cache, the hub or the user's own file, and never random in silence."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import timm
from huggingface_hub import hf_hub_download
from huggingface_hub.constants import HF_HUB_CACHE
from timm.models import load_state_dict
from torch import nn

from protocols.errors import InputError
from protocols.files import file_digest

CLASSIFIERS = ("fc.", "head.")  # of image classification: the encoders have none


def initial_file(published: str | None, pretrained: str) -> Path | None:
    """The file of initial weights, or None for random ones.

    published: timm name of the published weights, None where there are none; pretrained: "default" (the
    published weights, downloaded once), "none", or the path of a file. Raises InputError for a file that is
    neither there nor to be had.
    """
    if pretrained == "none" or (pretrained == "default" and published is None):
        return None
    if pretrained == "default":
        return _published_file(published)
    path = Path(pretrained).expanduser()
    if not path.is_file():
        raise InputError(f"network.pretrained={pretrained}: no such file; give a weights file, 'default' or 'none'")
    return path


@lru_cache
def _published_file(published: str) -> Path:
    """The published file in the local cache of the hub, downloaded there if it is missing."""
    repository = timm.get_pretrained_cfg(published).hf_hub_id
    try:
        return Path(hf_hub_download(repository, "model.safetensors"))
    except OSError as error:  # what the hub client raises offline, and over HTTP
        raise InputError(
            f"no initial weights: {published} is not cached in {HF_HUB_CACHE} and cannot be downloaded; "
            f"go online once, or get model.safetensors from huggingface.co/{repository} and give "
            "network.pretrained=/path/to/model.safetensors, or start from random weights with network.pretrained=none"
        ) from error


def load(encoder: nn.Module, path: Path, adapt: Callable[[dict, nn.Module], dict] | None = None) -> None:
    """Loads a file of timm weights (safetensors or PyTorch) into an encoder; a classifier in the file is left out.

    adapt: brings the file's tensors to the encoder's names and shapes. Raises InputError if the file cannot
    be read, or leaves any weight of the encoder without a value.
    """
    try:
        state = load_state_dict(str(path))
        state = adapt(state, encoder) if adapt else state
        state = {key: value for key, value in state.items() if not key.startswith(CLASSIFIERS)}
        missing = encoder.load_state_dict(state, strict=False).missing_keys
    except Exception as error:  # each file format fails in its own way, and so do wrong shapes
        reason = str(error).strip().splitlines()
        raise InputError(
            f"initial weights {path} cannot be loaded: {reason[-1].strip() if reason else error!r}"
        ) from error
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
