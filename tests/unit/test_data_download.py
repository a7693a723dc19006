"""Downloads from a server that misbehaves: resumed where they can be, and whole or not there at all."""

import hashlib
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.data import download, sources
from bench.data.download import fetch
from bench.data.sources import Archive, places
from protocols import InputError
from tests.http_files import Files, serving

CONTENT = bytes(range(251)) * 400  # 100,400 bytes without a short period of a power of two
HALF = len(CONTENT) // 2


@pytest.fixture
def server() -> Iterator[Files]:
    with serving({"a.tar": CONTENT, "mirror/a.tar": CONTENT, "wrong/a.tar": CONTENT[:-1] + b"x"}) as files:
        yield files


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSE", 0.0)
    monkeypatch.setattr(download, "BLOCK", 1000)


def archive(*urls: str) -> Archive:
    return Archive("a.tar", urls, "md5", hashlib.md5(CONTENT).hexdigest(), len(CONTENT), 0)


def get(path: Path, *urls: str, progress=lambda done, total: None) -> list[str]:
    said: list[str] = []
    fetch(archive(*urls), urls, path, progress, said.append)
    assert path.read_bytes() == CONTENT and list(path.parent.iterdir()) == [path]
    return said


def test_a_download_is_whole_and_a_second_call_asks_for_nothing(server: Files, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    assert get(tmp_path / "new" / "a.tar", f"{server.url}/a.tar", progress=lambda *now: seen.append(now)) == []
    assert seen[0] == (1000, len(CONTENT)) and seen[-1] == (len(CONTENT), len(CONTENT))
    get(tmp_path / "new" / "a.tar", f"{server.url}/a.tar")
    assert server.asked == [None]


def test_a_connection_that_breaks_is_gone_on_with(server: Files, tmp_path: Path) -> None:
    server.breaks = 2
    said = get(tmp_path / "a.tar", f"{server.url}/a.tar")
    assert server.asked == [None, f"bytes={HALF}-", f"bytes={HALF + HALF // 2}-"]
    assert len(said) == 2 and f"at {HALF:,} bytes; going on from there" in said[0]


def test_a_connection_that_breaks_often_is_gone_on_with_while_it_brings_something(
    server: Files, tmp_path: Path
) -> None:
    server.breaks = 2 * download.ATTEMPTS
    assert len(get(tmp_path / "a.tar", f"{server.url}/a.tar")) == 2 * download.ATTEMPTS


def test_no_connection_is_waited_for_without_end(
    server: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, urlopen = [], urllib.request.urlopen

    def noted(request: urllib.request.Request, timeout: float | None = None):
        waits.append(timeout)
        return urlopen(request, timeout=timeout)

    monkeypatch.setattr(urllib.request, "urlopen", noted)
    get(tmp_path / "a.tar", f"{server.url}/a.tar")
    assert waits == [download.PATIENCE] and 0 < download.PATIENCE < 120


def test_a_file_that_lies_there_is_taken_for_nothing_but_what_its_checksum_says(server: Files, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(CONTENT[:-1] + b"x")
    get(tmp_path / "a.tar", f"{server.url}/a.tar")
    assert server.asked == [None]


def test_an_interrupted_call_goes_on_at_the_next(server: Files, tmp_path: Path) -> None:
    def interrupt(done: int, total: int | None) -> None:
        if done >= 30_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(tmp_path / "a.tar", f"{server.url}/a.tar", progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.part"]
    get(tmp_path / "a.tar", f"{server.url}/a.tar")
    assert server.asked == [None, "bytes=30000-"]


def test_a_server_without_ranges_sends_everything_again(server: Files, tmp_path: Path) -> None:
    server.ranges, server.breaks = False, 1
    get(tmp_path / "a.tar", f"{server.url}/a.tar")
    assert server.asked == [None, f"bytes={HALF}-"]


def test_a_server_that_begins_too_early_costs_nothing(server: Files, tmp_path: Path) -> None:
    server.begins = 100
    (tmp_path / "a.tar.part").write_bytes(CONTENT[:HALF])
    get(tmp_path / "a.tar", f"{server.url}/a.tar")
    assert server.asked == [f"bytes={HALF}-"]


@pytest.mark.parametrize("begins", [HALF + 1, -1])
def test_a_server_that_begins_too_late_or_anywhere_is_left(server: Files, tmp_path: Path, begins: int) -> None:
    server.begins = begins
    (tmp_path / "a.tar.part").write_bytes(CONTENT[:HALF])
    with pytest.raises(InputError, match=r"a.tar sends another part of the file than was asked for: .*--from FOLDER"):
        get(tmp_path / "a.tar", f"{server.url}/a.tar")
    assert (tmp_path / "a.tar.part").read_bytes() == CONTENT[:HALF]


@pytest.mark.parametrize("have", [0, 95_000])
@pytest.mark.parametrize(
    ("kind", "lengths", "words"),
    [
        ("text/html; charset=utf-8", False, "sends a web page, which is not that file"),
        ("text/plain", True, "sends 5 bytes, which is not that file"),
    ],
)
def test_a_login_page_instead_of_the_file_costs_nothing_of_what_is_there(
    server: Files, tmp_path: Path, have: int, kind: str, lengths: bool, words: str
) -> None:
    (tmp_path / "a.tar.part").write_bytes(CONTENT[:have])
    server.files["/a.tar"], server.ranges, server.lengths, server.kind = b"login", False, lengths, kind
    with pytest.raises(InputError, match=words):
        get(tmp_path / "a.tar", f"{server.url}/a.tar")
    assert (tmp_path / "a.tar.part").read_bytes() == CONTENT[:have] and len(server.asked) == 1


def test_a_mirror_with_the_first_bytes_alone_costs_nothing_of_what_is_there(server: Files, tmp_path: Path) -> None:
    server.files["/short/a.tar"] = CONTENT[:1000]
    (tmp_path / "a.tar.part").write_bytes(CONTENT[:HALF])
    said = get(tmp_path / "a.tar", f"{server.url}/short/a.tar", f"{server.url}/a.tar")
    assert len(said) == 1 and "cannot be had (416" in said[0] and server.asked[1:] == [f"bytes={HALF}-"]


@pytest.mark.parametrize("ranges", [True, False])
def test_an_early_end_without_a_length_is_a_broken_connection(server: Files, tmp_path: Path, ranges: bool) -> None:
    server.lengths, server.ranges, server.breaks = False, ranges, 1
    said = get(tmp_path / "a.tar", f"{server.url}/a.tar")
    assert len(said) == 1 and server.asked == [None, f"bytes={HALF}-"]


def test_an_answer_that_ends_before_what_is_there_costs_nothing_of_it(server: Files, tmp_path: Path) -> None:
    server.lengths, server.ranges, server.breaks = False, False, download.ATTEMPTS
    (tmp_path / "a.tar.part").write_bytes(CONTENT[:95_000])
    with pytest.raises(InputError, match="the connection broke"):
        get(tmp_path / "a.tar", f"{server.url}/a.tar")
    get(tmp_path / "a.tar", f"{server.url}/a.tar")
    assert server.asked == (download.ATTEMPTS + 1) * ["bytes=95000-"]


def test_a_whole_part_is_only_verified(server: Files, tmp_path: Path) -> None:
    (tmp_path / "a.tar.part").write_bytes(CONTENT)
    get(tmp_path / "a.tar", f"{server.url}/a.tar")
    assert server.asked == [f"bytes={len(CONTENT)}-"]


def test_a_wrong_checksum_leaves_nothing_and_is_fetched_anew(server: Files, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"wrong/a.tar is not the published a.tar: its md5 is .* instead of .*--from"):
        get(tmp_path / "a.tar", f"{server.url}/wrong/a.tar")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a.tar.part").write_bytes(b"damage" + CONTENT[6:500])
    with pytest.raises(InputError, match="the same command fetches it anew"):
        get(tmp_path / "a.tar", f"{server.url}/a.tar")
    get(tmp_path / "a.tar", f"{server.url}/a.tar")
    assert server.asked[-2:] == ["bytes=500-", None]


@pytest.mark.parametrize("first", ["missing", "wrong"])
def test_mirrors_are_tried_in_turn(server: Files, tmp_path: Path, first: str) -> None:
    said = get(tmp_path / "a.tar", f"{server.url}/{first}/a.tar", f"{server.url}/mirror/a.tar")
    assert len(said) == 1 and said[0].endswith(f"trying {server.url}/mirror/a.tar")


@pytest.mark.parametrize(("status", "requests"), [(403, 1), (404, 1), (503, 5)])
def test_a_server_that_refuses_is_named(server: Files, tmp_path: Path, status: int, requests: int) -> None:
    server.status = status
    with pytest.raises(InputError, match=f"{server.url}/a.tar cannot be (had|reached) .*{status}.*--from FOLDER"):
        get(tmp_path / "a.tar", f"{server.url}/a.tar")
    assert len(server.asked) == requests


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with serving({}) as files:
        url = files.url
    with pytest.raises(InputError, match=r"cannot be reached \(.*refused.*\): the same command goes on later"):
        get(tmp_path / "a.tar", f"{url}/a.tar")


def test_a_server_that_sends_far_too_much_is_cut_off(server: Files, tmp_path: Path) -> None:
    server.files["/a.tar"] = CONTENT * 5
    with pytest.raises(InputError, match="sends more than 200,800 bytes"):
        get(tmp_path / "a.tar", f"{server.url}/a.tar")


def test_the_url_of_one_archive_is_no_folder_of_the_others() -> None:
    for own in (sources.voc_archive(), sources.sbd_archive(), sources.ade_archive()):
        for other in (sources.voc_archive(), sources.sbd_archive(), sources.ade_archive()):
            url = f"http://mirror/x/{other.file}"
            assert places(own, url) == (own.urls if own != other else (url,))


def test_archives_are_found_where_from_says(tmp_path: Path) -> None:
    own = archive("http://official/a.tar")
    assert places(own, None) == ("http://official/a.tar",)
    assert places(own, "http://mirror/x/") == ("http://mirror/x/a.tar",)
    assert places(own, "http://mirror/x/a.tar") == ("http://mirror/x/a.tar",)
    (tmp_path / "a.tar").write_bytes(b"")
    (tmp_path / "b.tar").write_bytes(b"")
    assert places(own, str(tmp_path)) == places(own, str(tmp_path / "a.tar")) == tmp_path / "a.tar"
    assert places(own, str(tmp_path / "b.tar")) == ("http://official/a.tar",)
    with pytest.raises(InputError, match="there is no .*nowhere"):
        places(own, str(tmp_path / "nowhere"))
