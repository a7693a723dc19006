"""Files from the network: fetched with resume, and never taken for whole before their checksum says so."""

import hashlib
import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from bench.data.sources import Archive
from protocols.errors import InputError
from protocols.files import fsync_file

BLOCK = 1 << 20  # bytes read at a time
PATIENCE = 30.0  # seconds without a byte before a connection is given up
ATTEMPTS = 5  # connections in a row that bring nothing
PAUSE = 1.0  # seconds before a second attempt, twice as many before each further one
LEAST, MOST = 0.75, 2  # of an archive's size, which is rounded: what has fewer or more bytes is another file

_ELSEWHERE = "get it elsewhere and give --from FOLDER, or --from URL of a mirror"

Progress = Callable[[int, int | None], None]  # bytes done, bytes in all where they are known


def fetch(archive: Archive, urls: tuple[str, ...], path: Path, progress: Progress, say: Callable[[str], None]) -> None:
    """Leaves the archive, whole and verified, at `path`; what an earlier call left in `path`.part is gone on with.

    say: gets a line about whatever does not go as planned. Raises InputError where no URL gives the right file.
    """
    if path.is_file() and digest_of(path, archive.algorithm) == archive.digest:
        return
    part = path.with_name(path.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    for number, url in enumerate(urls, start=1):
        try:
            _download(url, part, archive.size, progress, say)
            verify(part, archive, url)
            fsync_file(part)
            part.replace(path)
            return
        except InputError as fault:
            if number == len(urls):
                raise
            say(f"{fault}; trying {urls[number]}")


def verify(path: Path, archive: Archive, source: object) -> None:
    """Raises InputError, and removes a `.part` file, unless `path` holds the archive."""
    found = digest_of(path, archive.algorithm)
    if found == archive.digest:
        return
    size, fetched = path.stat().st_size, path.suffix == ".part"
    if fetched:
        path.unlink()
    again = "the same command fetches it anew; if that does not help, " if fetched else ""
    raise InputError(
        f"{source} is not the published {archive.file}: its {archive.algorithm} is {found} ({size:,} bytes) instead of "
        f"{archive.digest}: {again}{_ELSEWHERE}"
    )


def digest_of(path: Path, algorithm: str) -> str:
    """The checksum of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _download(url: str, part: Path, size: int, progress: Progress, say: Callable[[str], None]) -> None:
    """Appends to `part` until the server says that it is whole. Connections that break are made again; one that brought
    something starts the count of attempts anew. size: about how many bytes the file has."""
    failures = 0
    while True:
        before = _size(part)
        try:
            if _continue(url, part, size, progress):
                return
            reason = "the connection broke"
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise InputError(f"{url} cannot be had ({error.code} {error.reason}): {_ELSEWHERE}") from error
            reason = f"{error.code} {error.reason}"
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        failures = 1 if _size(part) > before else failures + 1
        if failures == ATTEMPTS:
            raise InputError(f"{url} cannot be reached ({reason}): the same command goes on later, or {_ELSEWHERE}")
        say(f"{url}: {reason} at {_size(part):,} bytes; going on from there")
        time.sleep(PAUSE * 2 ** (failures - 1))


def _continue(url: str, part: Path, size: int, progress: Progress) -> bool:
    """One connection: asks for the bytes that `part` lacks. True: now it has all that the server has.

    `part` only grows: who answers with something else, such as a login page, costs nothing of it.
    """
    have = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=PATIENCE)
    except urllib.error.HTTPError as error:
        if have >= LEAST * size and error.code == 416:  # nothing lies behind what we have
            return True
        raise
    with answer:
        at, total = _span(answer)
        if answer.headers.get_content_type() == "text/html":  # of a network that wants a login, or of a moved file
            raise InputError(f"{url} sends a web page, which is not that file: {_ELSEWHERE}")
        if at is None or at > have:
            raise InputError(f"{url} sends another part of the file than was asked for: {_ELSEWHERE}")
        if total is not None and total < LEAST * size:
            raise InputError(f"{url} sends {total:,} bytes, which is not that file: {_ELSEWHERE}")
        while block := answer.read(BLOCK):
            if at + len(block) > MOST * size:
                raise InputError(f"{url} sends more than {MOST * size:,} bytes, which is not that file: {_ELSEWHERE}")
            _append(part, block[max(0, have - at) :])  # a server that knows no ranges sends the whole file
            at += len(block)
            progress(at, total)
    return at >= (LEAST * size if total is None else total)


def _span(answer: http.client.HTTPResponse) -> tuple[int | None, int | None]:
    """Where in the file an answer begins, and how many bytes the file has. None: the server does not say."""
    if answer.status != 206:
        return 0, answer.length
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
    if span is None:
        return None, None
    return int(span[1]), None if span[2] == "*" else int(span[2])


def _append(part: Path, block: bytes) -> None:
    try:
        with open(part, "ab") as file:
            file.write(block)
    except OSError as error:
        raise InputError(
            f"cannot write {part} ({error.strerror}): mend that, and the same command goes on from there"
        ) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
