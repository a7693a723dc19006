"""Where VOC, SBD and ADE20K are published, and how their archives are known to be whole."""

from dataclasses import dataclass
from pathlib import Path

from protocols.errors import InputError
from protocols.files import expanded

GB = 10**9


@dataclass(frozen=True)
class Archive:
    """A published archive.

    urls: tried in turn. algorithm, digest: the name of its checksum in hashlib, and the checksum in hex. size,
    unpacked: about how many bytes it has, and has what is kept of it.
    """

    file: str
    urls: tuple[str, ...]
    algorithm: str
    digest: str
    size: int
    unpacked: int


def voc_archive() -> Archive:
    """VOC 2012 trainval: address and MD5 are torchvision's."""
    from torchvision.datasets.voc import DATASET_YEAR_DICT

    known = DATASET_YEAR_DICT["2012"]
    mirror = f"http://host.robots.ox.ac.uk/pascal/VOC/voc2012/{known['filename']}"
    return Archive(known["filename"], (known["url"], mirror), "md5", known["md5"], 2 * GB, int(2.2 * GB))


def sbd_archive() -> Archive:
    """SBD: address and MD5 are torchvision's.

    torchvision's own split without VOC's val images (train_noval.txt) is not used: its server refuses it at times
    (pytorch/vision issue 8471), and it leaves out SBD's val images, which train_aug holds.
    """
    from torchvision.datasets import SBDataset

    return Archive(SBDataset.filename, (SBDataset.url,), "md5", SBDataset.md5, int(1.5 * GB), int(0.6 * GB))


def ade_archive() -> Archive:
    """ADEChallengeData2016."""
    file = "ADEChallengeData2016.zip"
    url = f"http://data.csail.mit.edu/places/ADEchallenge/{file}"
    return Archive(file, (url,), "sha1", "219e1696abb36c8ba3a3afe7fb2f4b4606a897c7", GB, int(1.2 * GB))


def places(archive: Archive, place: str | None) -> tuple[str, ...] | Path:
    """The URLs at which an archive is to be tried, or where it lies already.

    place: None for the official servers; a URL, below which it lies under its published name; a folder that holds it;
    or the URL or path of one archive by its published name (others come from the official servers). Raises
    InputError where it is not at `place`.
    """
    if place is None:
        return archive.urls
    if "://" in place:
        file = place.rpartition("/")[2]
        if file == archive.file:
            return (place,)
        if any(file == other().file for other in (voc_archive, sbd_archive, ade_archive)):
            return archive.urls
        return (f"{place.rstrip('/')}/{archive.file}",)
    path = expanded(place)
    if path.is_dir():
        path = path / archive.file
    elif path.is_file() and path.name != archive.file:
        return archive.urls
    if not path.is_file():
        raise InputError(f"there is no {path}: --from takes a URL, a folder with {archive.file}, or that file")
    return path
