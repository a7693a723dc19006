"""Writing files so that a reader sees the old or the new content, never a part, whatever happens in between."""

import errno
import glob
import hashlib
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from protocols.errors import InputError

# Errors that say that something else lies where a file should be; all others may pass.
NOT_THE_FILE = (errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.EFBIG, errno.ELOOP)


def aside_of(path: Path) -> Path:
    """A hidden name beside `path` for this process to write at; what killed processes left for it there is removed.

    The name says host and process, so that nothing is taken from a process that still writes, here or elsewhere.
    """
    remove_left(path)
    return path.with_name(f"{_aside_stem(path)}{os.getpid()}")


def remove_left(path: Path) -> None:
    """Removes what killed processes of this host left half-written of `path`."""
    stem = _aside_stem(path)
    for left in path.parent.glob(f"{glob.escape(stem)}*"):
        process = left.name.removeprefix(stem)
        if process.isdigit() and not _runs(int(process)):
            remove(left)


def _aside_stem(path: Path) -> str:
    return f".{path.name}.{socket.gethostname()}-"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a path to write a file at, and moves it over `path` once the block ends without an error."""
    with replacing_all(path) as (aside,):
        yield aside


@contextmanager
def replacing_all(*paths: Path) -> Iterator[list[Path]]:
    """As `replacing`, for files that belong together: all are durable before the first is moved, one after
    the other as given."""
    for folder in {path.parent for path in paths}:
        folder.mkdir(parents=True, exist_ok=True)
    folders = [aside_of(path) for path in paths]  # of their own: libraries write aside in their turn, beside the file
    asides = [folder / path.name for folder, path in zip(folders, paths, strict=True)]
    try:
        for folder in folders:
            folder.mkdir(exist_ok=True)
        yield asides
        for aside in asides:
            fsync_file(aside)
        for aside, path in zip(asides, paths, strict=True):
            os.replace(aside, path)
        for folder in {path.parent for path in paths}:
            fsync_folder(folder)
    finally:
        for folder in folders:
            remove(folder)


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Turns the OSError of a block that writes at `path` into the InputError that names it and the fix."""
    try:
        yield
    except OSError as fault:
        reason = fault.strerror or str(fault)
        full = fault.errno in (errno.ENOSPC, errno.EDQUOT)
        fix = "make room; the same command goes on from here" if full else "name another folder: store=PATH, --out PATH"
        raise InputError(f"cannot write {path} ({reason}): {fix}") from fault


def remove(path: Path) -> None:
    """Removes a file or a whole folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def read_bytes(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes.

    OSError, as for any file that cannot be read, also for a larger one, and for a pipe or device, which might never
    end.
    """
    if "\0" in str(path):
        raise OSError(errno.EINVAL, "a null character in its name", str(path))
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:  # a pipe opens without a writer
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if status.st_size > limit:
            raise OSError(errno.EFBIG, f"{status.st_size} bytes, more than the {limit} allowed", str(path))
        return file.read(status.st_size)  # all at once: without a size it would be read in pieces


def expanded(path: str | Path) -> Path:
    """The path with `~` replaced by the home folder where there is one."""
    return Path(os.path.expanduser(path))


def file_digest(path: Path) -> str:
    """The sha256 of a file's content, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync_file(path: Path) -> None:
    """Makes the content of a file durable."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def fsync_folder(folder: Path) -> None:
    """Makes renames inside `folder` durable (nothing happens on systems that cannot open folders)."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs, as somebody else
        return True
    return True
