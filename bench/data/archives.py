"""Unpacking archives that one has not made oneself."""

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from protocols.errors import InputError

MOST_FILES = 500_000
MOST_BYTES = 20 * 10**9  # unpacked, of all files together
MOST_OF_A_NAME = 2**16  # bytes of a long name or of other words about a member, which tarfile reads at once
SLOWLY = 100  # files between two calls of a progress callback


@dataclass(frozen=True)
class Member:
    """One entry of an archive. kind: "file", "folder" or "other" (links, devices). open: the content of a file."""

    name: str
    kind: str
    size: int
    open: Callable[[], IO[bytes]]


def unpack(
    archive: Path,
    folder: Path,
    wanted: tuple[str, ...],
    progress: Callable[[int, int | None], None],
    most_files: int = MOST_FILES,
    most_bytes: int = MOST_BYTES,
) -> None:
    """Unpacks those files of a tar or zip archive into `folder` whose path begins with one of `wanted`.

    wanted: such as ("VOCdevkit/VOC2012/",). progress: called with the files unpacked, and the entries of the archive
    where it tells. Raises InputError for an archive that is damaged, holds nothing wanted, a name that leads out of
    the folder, a wanted link or device, or more files or bytes than the limits; what was unpacked before that stays
    in `folder`, so give one that is thrown away.
    """
    files = size = unpacked = 0
    with _members(archive) as (members, total):
        for member in members:
            path = _inside(archive, member.name)
            files, size = files + 1, size + member.size
            if files > most_files or size > most_bytes:
                raise InputError(
                    f"{archive} is refused: it unpacks to more than {most_files:,} files or {most_bytes:,} bytes"
                )
            if member.kind == "folder" or not path.as_posix().startswith(wanted):
                continue
            if member.kind == "other":
                raise InputError(f"{archive} is refused: {member.name} in it is a link or a device")
            _write(member, folder / path)
            unpacked += 1
            if unpacked % SLOWLY == 0:
                progress(unpacked, total)
    if not unpacked:
        raise InputError(f"{archive} holds no {wanted[0]}: it is another archive")


def _inside(archive: Path, name: str) -> PurePosixPath:
    """The name as a path that cannot leave the folder that it is joined to."""
    path, windows = PurePosixPath(name), PureWindowsPath(name)
    if path.is_absolute() or windows.drive or windows.root or ".." in windows.parts or "\0" in name:
        raise InputError(f"{archive} is refused: {name!r} in it leads out of the folder")
    return path


def _write(member: Member, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with member.open() as source, open(path, "wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    except OSError as error:
        if error.errno is None:  # not of the file system, but of what tarfile makes of damage
            raise
        raise InputError(
            f"cannot write {path} ({error.strerror}): mend that, and the same command goes on from there"
        ) from error


@contextmanager
def _members(archive: Path) -> Iterator[tuple[Iterator[Member], int | None]]:
    """The entries in order, to be read in that order, and how many there are where that is known."""
    damage = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as file:
                entries = file.infolist()
                yield (_of_zip(file, entry) for entry in entries), len(entries)
        else:
            with tarfile.open(archive, "r|*", tarinfo=_TarHeader) as file:
                yield (_of_tar(file, entry) for entry in file), None
    except damage as error:
        raise InputError(f"{archive} is damaged, or no archive ({error}): get it again") from error


class _TarHeader(tarfile.TarInfo):
    """A header of a tar archive; one that announces an absurd name is refused before the name is read."""

    ABOUT_ANOTHER = (
        *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.GNUTYPE_SPARSE),
        *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    )

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> "tarfile.TarInfo":
        header = super().frombuf(buf, encoding, errors)
        if header.type in cls.ABOUT_ANOTHER and header.size > MOST_OF_A_NAME:
            raise tarfile.ReadError(f"a name of {header.size:,} bytes")
        return header


def _of_zip(file: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Member:
    mode = entry.external_attr >> 16
    plain = stat.S_IFMT(mode) in (0, stat.S_IFREG)
    kind = "folder" if entry.is_dir() else "file" if plain else "other"
    return Member(entry.filename, kind, entry.file_size, lambda: file.open(entry))


def _of_tar(file: tarfile.TarFile, entry: tarfile.TarInfo) -> Member:
    kind = "folder" if entry.isdir() else "file" if entry.isreg() else "other"
    return Member(entry.name, kind, entry.size, lambda: file.extractfile(entry))
