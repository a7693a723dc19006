"""Archives of others: unpacked where they should be, and refused whole where they try something else."""

import gzip
import io
import stat
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from bench.data.archives import unpack
from protocols import InputError

FILES = {"top/a.txt": b"alpha", "top/deep/b.bin": bytes(range(256)) * 40, "other/c.txt": b"not wanted"}


def tar_of(path: Path, files: dict[str, bytes], *more: tarfile.TarInfo, kind: str = "w:gz") -> Path:
    with tarfile.open(path, kind) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in more:
            archive.addfile(info)
    return path


def zip_of(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("top")
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def entry(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def files_under(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(archive: Path, folder: Path, **limits: int) -> None:
    unpack(archive, folder, ("top/",), lambda done, total: None, **limits)


def refusal(archive: Path, folder: Path, **limits: int) -> str:
    with pytest.raises(InputError) as caught:
        run(archive, folder, **limits)
    assert "\n" not in str(caught.value) and str(archive) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["w", "w:gz", "zip"])
def test_only_what_is_wanted_comes_out_byte_for_byte(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "archive"
    zip_of(path, FILES) if kind == "zip" else tar_of(path, FILES, kind=kind)
    run(path, tmp_path / "out")
    assert files_under(tmp_path / "out") == {name: FILES[name] for name in ("top/a.txt", "top/deep/b.bin")}


@pytest.mark.parametrize("name", ["top/../../evil", "../evil", "/evil", "top\\..\\..\\evil", "C:\\evil", "C:evil"])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / "sub" / "archive"
    path.parent.mkdir()
    (tar_of if kind == "tar" else zip_of)(path, {"top/a.txt": b"", name: b"evil"})
    before = set(tmp_path.rglob("*"))
    assert "leads out of the folder" in refusal(path, tmp_path / "sub" / "out")
    made = {one for one in tmp_path.rglob("*") if one not in before and one.is_file()}
    assert made == {tmp_path / "sub" / "out" / "top" / "a.txt"}


@pytest.mark.parametrize(
    "hostile",
    [
        entry("top/link", tarfile.SYMTYPE, "/etc/passwd"),
        entry("top/link", tarfile.LNKTYPE, "../../etc/passwd"),
        entry("top/device", tarfile.CHRTYPE),
        entry("top/pipe", tarfile.FIFOTYPE),
    ],
    ids=["symlink", "hard link", "device", "pipe"],
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, hostile: tarfile.TarInfo) -> None:
    assert "is a link or a device" in refusal(tar_of(tmp_path / "archive", {}, hostile), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_symlink_in_a_zip_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("top/link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "archive", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    assert "is a link or a device" in refusal(tmp_path / "archive", tmp_path / "out")


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_name_that_is_a_bomb_is_refused_before_it_is_read(tmp_path: Path, kind: bytes) -> None:
    """64 MiB of a name, in 65 kB."""
    header = entry("././@LongLink", kind)
    header.size = 2**26
    with gzip.open(tmp_path / "archive", "wb") as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT) + bytes(header.size))
    tracemalloc.start()
    try:
        assert "a name of 67,108,864 bytes" in refusal(tmp_path / "archive", tmp_path / "out")
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_a_bomb_is_refused_before_it_is_written(tmp_path: Path, pack) -> None:
    path = pack(tmp_path / "archive", {"top/bomb": bytes(10**6)})
    assert path.stat().st_size < 5000
    assert "more than 500,000 files or 999,999 bytes" in refusal(path, tmp_path / "out", most_bytes=999_999)
    assert not (tmp_path / "out").exists()
    run(path, tmp_path / "out", most_bytes=10**6)


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "archive", {f"top/{number}": b"" for number in range(6)})
    assert "more than 5 files" in refusal(path, tmp_path / "out", most_files=5)


def test_a_zip_that_declares_less_than_it_holds_is_refused(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "archive", {"top/bomb": bytes(10**6)})
    honest = (10**6).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(honest, (10).to_bytes(4, "little")))
    assert "damaged" in refusal(path, tmp_path / "out", most_bytes=1000)
    assert sum(map(len, files_under(tmp_path / "out").values())) <= 10


@pytest.mark.parametrize("kind", ["w", "w:gz", "zip"])
def test_a_damaged_archive_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "archive"
    zip_of(path, FILES) if kind == "zip" else tar_of(path, FILES, kind=kind)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 3])
    assert "damaged, or no archive" in refusal(path, tmp_path / "out")


def test_what_is_no_archive_or_another_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page").write_text("<html>blocked</html>")
    assert "no archive" in refusal(tmp_path / "page", tmp_path / "out")
    other = tar_of(tmp_path / "archive", {"other/c.txt": b"c"})
    assert "holds no top/: it is another archive" in refusal(other, tmp_path / "out")
