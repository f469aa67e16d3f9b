"""Downloads: verified, limited in size, complete or not there at all."""

import dataclasses
import errno
import io
import lzma
import os
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from convexlib import datasets
from convexlib.datasets import files
from convexlib.datasets.manifest import Entry, Source
from convexlib.errors import DataError
from tests.helpers.datafiles import (
    LOADERS,
    SHIPPED,
    TABLE,
    flip,
    point_sources_at,
    sha256,
)

pytestmark = pytest.mark.usefixtures("folders")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Serve a folder on this machine; return its address and path."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", folder
        running.shutdown()
        thread.join()


def one_source(name: str, url: str, **fields: object) -> Entry:
    """Return an entry that has one source."""
    entry = datasets.catalogue()[name]
    default = Source(url, entry.size, entry.sha256)
    return dataclasses.replace(entry, sources=(dataclasses.replace(default, **fields),))


def test_a_table_is_downloaded_once(folders: Path, tmp_path: Path, server) -> None:
    address, served = server
    point_sources_at(folders, address)
    (served / "tiny_R.dat").write_text(TABLE)
    for _ in range(2):
        X, _ = datasets.load_uci("tiny")
        assert X.shape == (3, 2)
        (served / "tiny_R.dat").unlink(missing_ok=True)
    assert datasets.locate(datasets.catalogue()["tiny"]) == (
        "cache",
        tmp_path / "cache/uci/tiny_R.dat",
    )


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_fetch_puts_back_a_file_that_ships(name: str, damage: str, folders: Path, server) -> None:
    address, served = server
    path = folders / SHIPPED[name]
    intact = path.read_bytes()
    entry = one_source(name, f"{address}/content")
    content = lzma.decompress(intact) if path.suffix == ".xz" else intact
    (served / "content").write_bytes(content)
    if damage == "flipped":
        flip(path, 100)
    else:
        path.unlink()
    assert datasets.fetch(entry) == ("data", path)
    assert datasets.read(entry, ("data", path)) == content
    LOADERS[name]()


@pytest.mark.parametrize("damage", [flip, Path.unlink, Path.exists])
def test_fetch_puts_back_a_file_from_the_cache(damage: Any, folders: Path, tmp_path: Path) -> None:
    here, cached = folders / "ecg.dat", tmp_path / "cache" / "ecg.dat"
    cached.parent.mkdir()
    shutil.copy(here, cached)
    before = here.stat().st_mtime_ns
    damage(here)
    assert datasets.fetch(datasets.catalogue()["ecg"]) == ("data", here)
    assert here.read_bytes() == cached.read_bytes()
    # One that is intact is left alone.
    assert (here.stat().st_mtime_ns == before) == (damage is Path.exists)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_one_member_is_read_from_an_archive(kind: str, folders: Path, server) -> None:
    address, served = server
    content = (folders / "ecg.dat").read_bytes()
    archive = served / "archive"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as opened:
            opened.writestr("../escape", b"x")
            opened.writestr("some/ecg.dat", content)
    else:
        with tarfile.open(archive, "w:gz") as opened:
            for member, data in (("../../escape", b"x"), ("top/some/ecg.dat", content)):
                info = tarfile.TarInfo(member)
                info.size = len(data)
                opened.addfile(info, io.BytesIO(data))
    flip(folders / "ecg.dat", 0)
    raw = archive.read_bytes()
    entry = one_source(
        "ecg", f"{address}/archive", size=len(raw), sha256=sha256(raw), member="some/ecg.dat"
    )
    assert datasets.fetch(entry) == ("data", folders / "ecg.dat")
    assert (folders / "ecg.dat").read_bytes() == content
    assert not list(folders.parent.rglob("escape"))
    assert not list(files.cache_dir().rglob("archive"))  # it has served its purpose


@pytest.mark.parametrize(
    ("content", "fields", "reason"),
    [
        (TABLE.replace("2", "3").encode(), {}, "expected sha256:[0-9a-f]{64} but got [0-9a-f]{64}"),
        (TABLE.encode() + bytes(10**6), {}, "sends more than the expected 50 bytes"),
        (None, {}, "404 Client Error"),
        (b"junk", {"member": "a", "sha256": None}, "the archive is damaged"),
    ],
    ids=["wrong", "endless", "absent", "no archive"],
)
def test_a_bad_download_leaves_nothing_behind(
    content: bytes | None, fields: dict, reason: str, server
) -> None:
    address, served = server
    if content is not None:
        (served / "file").write_bytes(content)
    entry = one_source("tiny", f"{address}/file", **fields)
    with pytest.raises(DataError, match=reason):
        datasets.fetch(entry)
    assert [path for path in files.cache_dir().rglob("*") if path.is_file()] == []


def test_an_archive_without_the_member_is_refused(server) -> None:
    address, served = server
    with zipfile.ZipFile(served / "file", "w") as opened:
        opened.writestr("other", b"x")
    entry = one_source("tiny", f"{address}/file", size=10**4, sha256=None, member="a")
    with pytest.raises(DataError, match="the archive has no member a"):
        datasets.fetch(entry)


def test_the_next_source_is_tried_and_all_are_named(server) -> None:
    address, served = server
    (served / "good").write_text(TABLE)
    first, second = (one_source("tiny", f"{address}/{name}").sources[0] for name in ("bad", "good"))
    entry = dataclasses.replace(datasets.catalogue()["tiny"], sources=(first, second))
    assert datasets.read(entry, datasets.fetch(entry)) == TABLE.encode()


def test_without_a_network_every_source_is_named() -> None:
    with pytest.raises(DataError) as caught:
        datasets.load_uci("wine")
    message = str(caught.value)
    assert message.count("http://127.0.0.1:1/") == 2
    assert "Connection refused" in message
    assert "set CONVEXLIB_MIRROR to a folder that holds uci/wine_R.dat.xz" in message
    assert "`convexlib data fetch wine`" in message


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, server) -> None:
    address, served = server
    (served / "file").write_text(TABLE)
    (tmp_path / "cache").write_text("a file, not a folder")
    with pytest.raises(DataError, match=r"tiny_R\.dat cannot be written .*XDG_CACHE_HOME"):
        datasets.fetch(one_source("tiny", f"{address}/file"))


def test_a_full_disk_is_named(server, monkeypatch: pytest.MonkeyPatch) -> None:
    address, served = server
    (served / "file").write_text(TABLE)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="No space left on device.*Free some space"):
        datasets.fetch(one_source("tiny", f"{address}/file"))
    assert [path for path in files.cache_dir().rglob("*") if path.is_file()] == []


def test_a_damaged_file_that_cannot_be_replaced_is_named(
    folders: Path, server, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, served = server
    shutil.copy(folders / "ecg.dat", served)
    entry = one_source("ecg", f"{address}/ecg.dat")
    raw = flip(folders / "ecg.dat", 0)

    replace = Path.replace

    def refuse(part: Path, path: Path) -> None:
        if path.parent == folders:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        replace(part, path)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(DataError, match=f"ecg.dat cannot be written .*sha256 is {sha256(raw)}"):
        datasets.fetch(entry)
    assert not list(folders.glob("*.part"))
    (folders / "ecg.dat").unlink()  # nothing hides the copy in the cache any more
    flip(files.cache_dir() / "ecg.dat", 0)
    assert datasets.fetch(entry) == ("cache", files.cache_dir() / "ecg.dat")
    assert datasets.load_ecg()[0].shape == (108_000,)
