"""`bench data get`, from small archives of the published layout behind a server of our own."""

import hashlib
import os
import shutil
import zipfile
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat

from bench.data import aug_masks, download, getting, sources
from bench.data.sources import Archive
from tests import trees
from tests.http_files import Files
from tests.small_archives import ADE, ADE_ZIP, SBD_TGZ, VOC, VOC_TAR, assert_voc, names


def test_voc_is_fetched_merged_and_found_by_the_next_commands(bench, server: Files, tmp_path: Path) -> None:
    code, out, err = bench("data", "get", "voc")
    assert code == 0 and "data/VOCdevkit/VOC2012 is ready; next: bench data check voc data.root=data" in out
    assert "train_aug.txt: 5 images; SegmentationClassAug: 7 masks" in err
    assert_voc(tmp_path / "data" / "VOCdevkit" / "VOC2012")
    assert [name for name in names(tmp_path / "data") if not name.startswith(".bench")] == ["VOCdevkit"]
    assert bench("data", "check", "voc", "--subset")[0] == 0
    code, out, _ = bench("data", "index", "voc")
    assert code == 0 and "voc train: 5 images, indexed before" in out
    asked = len(server.asked)
    code, out, err = bench("data", "get", "voc")
    assert code == 0 and "nothing to do" in err and len(server.asked) == asked == 2


def test_ade_is_fetched_and_found(bench, server: Files, tmp_path: Path) -> None:
    code, out, _ = bench("data", "get", "ade", "data.root=here")
    assert code == 0 and "next: bench data check ade data.root=here" in out
    assert names(tmp_path / "here" / "ADEChallengeData2016" / "images" / "training") == [f"{n}.jpg" for n in ADE[0]]
    assert bench("data", "check", "ade", "--subset", "data.root=here")[0] == 0
    assert "nothing to do" in bench("data", "get", "ade", "data.root=here")[2] and len(server.asked) == 1


def test_a_server_that_breaks_off_is_gone_on_with(bench, server: Files, tmp_path: Path) -> None:
    server.breaks = 2
    code, _, err = bench("data", "get", "voc")
    assert code == 0 and err.count("the connection broke at") == 2
    assert [asked is not None for asked in server.asked] == [False, True, True, False]
    assert_voc(tmp_path / "data" / "VOCdevkit" / "VOC2012")


@pytest.mark.parametrize("moment", ["download", "unpacking", "masks"])
def test_an_interrupted_get_leaves_no_half_and_goes_on(
    bench, server: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        where = {
            "download": (download, "verify"),
            "unpacking": (getting, "_publish"),
            "masks": (aug_masks, "write_map"),
        }
        patch.setattr(*where[moment], interrupt)
        code, _, err = bench("data", "get", "voc")
        assert code == 130 and "the same command goes on from here" in err
    kept = {"download": {"downloads"}, "unpacking": {"downloads"}, "masks": {"downloads", "VOCdevkit"}}[moment]
    assert {name for name in names(tmp_path / "data") if not name.startswith(".bench")} == kept
    voc = tmp_path / "data" / "VOCdevkit" / "VOC2012"
    if moment == "masks":
        assert names(voc) == ["ImageSets", "JPEGImages", "SegmentationClass"]
    asked = len(server.asked)
    assert bench("data", "get", "voc")[0] == 0
    assert_voc(voc)
    fetched = server.asked[asked:]
    assert (
        fetched
        == {"download": [f"bytes={len(server.files['/' + VOC_TAR])}-", None], "unpacking": [None], "masks": []}[moment]
    )


def test_voc_without_sbd_gets_what_it_lacks(bench, server: Files, archives: Path, tmp_path: Path) -> None:
    shutil.unpack_archive(archives / VOC_TAR, tmp_path / "mine")
    code, out, _ = bench("data", "check", "voc", "data.root=mine")
    assert code == 2 and "SBD missing" in out
    assert bench("data", "get", "voc", "data.root=mine/VOCdevkit")[0] == 0
    assert_voc(tmp_path / "mine" / "VOCdevkit" / "VOC2012")
    assert server.asked == [None]


def test_voc_with_other_images_is_not_ready_when_sbd_is_merged(bench, server: Files, whole) -> None:
    images = whole[0] / "JPEGImages"
    (images / "2008_000006.jpg").rename(images / "other.jpg")
    code, out, err = bench("data", "get", "voc")
    assert code == 2 and not out and "(1 of 5 train images are not in" in err and f"move {VOC} away" in err


def test_own_masks_must_be_there(bench, server: Files, archives: Path, tmp_path: Path) -> None:
    shutil.unpack_archive(archives / VOC_TAR, tmp_path / "mine")
    (tmp_path / "mine/VOCdevkit/VOC2012/SegmentationClass/2007_000003.png").unlink()
    code, _, err = bench("data", "get", "voc", "data.root=mine")
    assert code == 2 and "lacks 1 of the 4 masks of VOC itself" in err and not server.asked


@pytest.mark.parametrize("kind", ["folder", "url", "file", "url of one"])
def test_archives_from_elsewhere(bench, server: Files, archives: Path, tmp_path: Path, kind: str) -> None:
    mirror = f"{server.url}/mirror"
    elsewhere = {"folder": archives, "url": mirror, "file": archives / VOC_TAR, "url of one": f"{mirror}/{VOC_TAR}"}[
        kind
    ]
    server.files |= {f"/mirror{name}": content for name, content in server.files.items()}
    before = names(archives)
    assert bench("data", "get", "voc", "--from", elsewhere)[0] == 0
    assert_voc(tmp_path / "data" / "VOCdevkit" / "VOC2012")
    assert names(archives) == before
    assert len(server.asked) == {"folder": 0, "url": 2, "file": 1, "url of one": 2}[kind]


@pytest.mark.parametrize("local", [False, True])
def test_a_damaged_archive_is_refused_before_it_is_unpacked(
    bench, server: Files, archives: Path, tmp_path: Path, local: bool
) -> None:
    content = server.files[f"/{ADE_ZIP}"]
    server.files[f"/{ADE_ZIP}"] = content[:100] + bytes([content[100] ^ 1]) + content[101:]
    (archives / ADE_ZIP).write_bytes(server.files[f"/{ADE_ZIP}"])
    code, _, err = bench("data", "get", "ade", *(["--from", archives] if local else []))
    assert code == 2 and f"is not the published {ADE_ZIP}" in err and err.count("\n") <= 2
    assert not (tmp_path / "data" / "ADEChallengeData2016").exists()
    if not local:
        server.files[f"/{ADE_ZIP}"] = content
        assert bench("data", "get", "ade")[0] == 0


def leave(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    """A disk with so many bytes left."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 10**12 - free, free))


def test_too_little_room_is_said_before_anything_is_fetched(bench, server, tmp_path, monkeypatch) -> None:
    leave(monkeypatch, 10**6)
    code, _, err = bench("data", "get", "voc")
    assert code == 2 and "0.0 GB left and 0.0 GB are needed" in err and not server.asked
    for name, archive in (("voc_archive", 2.0), ("sbd_archive", 1.5)):
        monkeypatch.setattr(sources, name, lambda size=archive: Archive("a", ("u",), "md5", "", int(size * 1e9), 10**9))
    code, _, err = bench("data", "get", "voc")
    assert code == 2 and "3.5 GB are needed: make room, or choose another disk with data.root=PATH" in err


@pytest.mark.parametrize("ending", ["", ".part"])
def test_what_is_downloaded_needs_no_room_again(bench, server: Files, tmp_path: Path, monkeypatch, ending: str) -> None:
    archive, content = sources.ade_archive(), server.files[f"/{ADE_ZIP}"]
    leave(monkeypatch, archive.unpacked + 10)
    code, _, err = bench("data", "get", "ade")
    assert code == 2 and "are needed" in err
    (tmp_path / "data/downloads").mkdir()
    (tmp_path / f"data/downloads/{ADE_ZIP}{ending}").write_bytes(content[:-10] if ending else content)
    assert bench("data", "get", "ade")[0] == 0
    assert server.asked == ([f"bytes={len(content) - 10}-"] if ending else [])


def test_sbd_alone_needs_no_room_for_voc(bench, server: Files, whole, tmp_path: Path, monkeypatch) -> None:
    sbd = sources.sbd_archive()
    leave(monkeypatch, sbd.unpacked + sbd.size)
    assert bench("data", "get", "voc")[0] == 0
    assert_voc(whole[0])


def test_two_calls_do_not_meet(bench, server: Files, tmp_path: Path) -> None:
    from filelock import FileLock

    (tmp_path / "data").mkdir()
    with FileLock(tmp_path / "data" / ".bench-data.lock"):
        code, _, err = bench("data", "get", "voc")
    assert code == 2 and "another `bench data get` is at work" in err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(bench, server: Files, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o500)
    code, _, err = bench("data", "get", "voc")
    assert code == 2 and "choose another folder with data.root=PATH" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["data", "get", "vok"], "vok"),
        (["data", "get", "voc", "data.rot=x"], "unknown key 'data.rot': did you mean 'data.root'?"),
        (["data", "get", "voc", "data.root="], "write data.root=PATH"),
        (["data", "index", "ade", "--processes", "0"], "give at least 1"),
        (["data", "index", "ade", "data.root=nowhere"], "`bench data get ade` fetches it"),
        (["data"], "ACTION"),
    ],
)
def test_wrong_arguments_are_said_in_one_line(bench, arguments: list[str], words: str) -> None:
    code, _, err = bench(*arguments)
    assert code == 2 and words in err and err.count("\n") == 1


def test_help_teaches(bench, capsys) -> None:
    for arguments, words in (
        (["data"], "bench data get voc"),
        (["data", "get"], "--from"),
        (["data", "check"], "mend"),
    ):
        with pytest.raises(SystemExit):
            bench(*arguments, "--help")
        assert words in capsys.readouterr().out


def test_the_published_archives_are_torchvisions() -> None:
    voc, sbd, ade = sources.voc_archive(), sources.sbd_archive(), sources.ade_archive()
    assert (voc.file, voc.digest) == (VOC_TAR, "6cd6e144f989b92b3379bac3b3de84fd") and VOC_TAR in voc.urls[0]
    assert (sbd.file, sbd.digest) == (SBD_TGZ, "82b4d87ceb2ed10f6038a1cba92111cb") and SBD_TGZ in sbd.urls[0]
    assert (ade.file, ade.digest) == (ADE_ZIP, "219e1696abb36c8ba3a3afe7fb2f4b4606a897c7")
    assert len(ade.digest) == 2 * hashlib.new(ade.algorithm).digest_size


def test_a_mat_file_is_read_as_scipy_reads_it(tmp_path: Path) -> None:
    ids = np.array([[0, 20, 3], [1, 1, 0]], dtype=np.uint8)
    (tmp_path / "a.mat").write_bytes(trees.sbd_mat(ids))
    assert loadmat(tmp_path / "a.mat")["GTcls"].shape == (1, 1)  # the struct of the published files
    np.testing.assert_array_equal(aug_masks.read_sbd(tmp_path / "a.mat"), ids)
    for content, words in ((b"no mat file", "is no mask of SBD"), (trees.sbd_mat(ids + 1), "no map of 0 to 20")):
        (tmp_path / "a.mat").write_bytes(content)
        with pytest.raises(ValueError, match=f"a.mat {words}|a.mat is {words}"):
            aug_masks.read_sbd(tmp_path / "a.mat")
    with pytest.raises(ValueError, match="SBD has no mask b.mat"):
        aug_masks.read_sbd(tmp_path / "b.mat")


@pytest.mark.parametrize("name", ["ADEChallengeData2016/../../evil", "/evil"])
def test_a_hostile_archive_is_refused_whatever_its_checksum(
    bench, server: Files, archives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with zipfile.ZipFile(archives / ADE_ZIP, "a") as archive:
        archive.writestr(name, "evil")
    digest = hashlib.md5((archives / ADE_ZIP).read_bytes()).hexdigest()
    hostile = replace(sources.ade_archive(), digest=digest)
    monkeypatch.setattr(sources, "ade_archive", lambda: hostile)
    code, _, err = bench("data", "get", "ade", "--from", archives)
    assert code == 2 and "is refused" in err and "leads out of the folder" in err
    assert [one for one in names(tmp_path / "data") if not one.startswith(".bench")] == []
    assert not list(tmp_path.rglob("evil"))
