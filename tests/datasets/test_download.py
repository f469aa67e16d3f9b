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
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from convexlib import datasets
from convexlib.datasets import files
from convexlib.datasets.manifest import Entry, Source
from convexlib.errors import DataError
from tests.helpers.datafiles import LOADERS, SHIPPED, TABLE, flip, point_sources_at, sha256

pytestmark = pytest.mark.usefixtures("folders")
Serve = Callable[[str, bytes], str]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Serve files on this machine: a function from a name and a content to the address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    folder = tmp_path / "served"
    folder.mkdir()

    def offer(name: str, content: bytes) -> str:
        (folder / name).write_bytes(content)
        return f"http://127.0.0.1:{running.server_port}/{name}"

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield offer
        running.shutdown()
        thread.join()


def one_source(name: str, url: str, **fields: object) -> Entry:
    """Return an entry that has one source."""
    entry = datasets.catalogue()[name]
    default = Source(url, entry.size, entry.sha256)
    return dataclasses.replace(entry, sources=(dataclasses.replace(default, **fields),))


def test_a_table_is_downloaded_once(folders: Path, tmp_path: Path, serve) -> None:
    address = serve("tiny_R.dat", TABLE.encode())
    point_sources_at(folders, address.rpartition("/")[0])
    for _ in range(2):
        X, _ = datasets.load_uci("tiny")
        assert X.shape == (3, 2)
        serve("tiny_R.dat", b"another file")
    place = datasets.locate(datasets.catalogue()["tiny"])
    assert place == ("cache", tmp_path / "cache/uci/tiny_R.dat")


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("damage", [flip, Path.unlink])
def test_fetch_puts_back_a_file_that_ships(name: str, damage: Any, folders: Path, serve) -> None:
    path = folders / SHIPPED[name]
    intact = path.read_bytes()
    content = lzma.decompress(intact) if path.suffix == ".xz" else intact
    entry = one_source(name, serve("content", content))
    damage(path)
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
def test_one_member_is_read_from_an_archive(kind: str, folders: Path, serve) -> None:
    content = (folders / "ecg.dat").read_bytes()
    stream = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(stream, "w") as opened:
            opened.writestr("../escape", b"x")
            opened.writestr("some/ecg.dat", content)
    else:
        with tarfile.open(fileobj=stream, mode="w:gz") as opened:
            for member, data in (("../../escape", b"x"), ("top/some/ecg.dat", content)):
                info = tarfile.TarInfo(member)
                info.size = len(data)
                opened.addfile(info, io.BytesIO(data))
    flip(folders / "ecg.dat", 0)
    raw = stream.getvalue()
    fields = {"size": len(raw), "sha256": sha256(raw), "member": "some/ecg.dat"}
    entry = one_source("ecg", serve("archive", raw), **fields)
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
    content: bytes | None, fields: dict, reason: str, serve
) -> None:
    address = serve("file", content or b"")
    entry = one_source("tiny", address + ("" if content else "/absent"), **fields)
    with pytest.raises(DataError, match=reason):
        datasets.fetch(entry)
    assert [path for path in files.cache_dir().rglob("*") if path.is_file()] == []


def test_an_archive_without_the_member_is_refused(serve) -> None:
    """It stays, as one that holds other tables, and the cure is said."""
    with zipfile.ZipFile(stream := io.BytesIO(), "w") as opened:
        opened.writestr("other", b"x")
    address = serve("file", stream.getvalue())
    kept = files.cache_dir() / "archives" / "file"
    for member, problem in (("a", "the archive has no member a"), ("other", "other has sha256 ")):
        entry = one_source("tiny", address, size=10**4, sha256=None, member=member)
        with pytest.raises(DataError, match=f"{problem}.*; delete {kept} to have it downloaded"):
            datasets.fetch(entry)
    kept.unlink()
    with zipfile.ZipFile(stream := io.BytesIO(), "w") as opened:
        opened.writestr("other", TABLE.encode())
    serve("file", stream.getvalue())
    assert datasets.read(entry, datasets.fetch(entry)) == TABLE.encode()


def test_the_next_source_is_tried(serve) -> None:
    good = one_source("tiny", serve("good", TABLE.encode()))
    bad = one_source("tiny", serve("bad", b"another file"))
    entry = dataclasses.replace(good, sources=bad.sources + good.sources)
    assert datasets.read(entry, datasets.fetch(entry)) == TABLE.encode()


def test_without_a_network_every_source_is_named() -> None:
    with pytest.raises(DataError) as caught:
        datasets.load_uci("wine")
    message = str(caught.value)
    assert message.count("http://127.0.0.1:1/") == 2
    assert "Connection refused" in message
    assert "set CONVEXLIB_MIRROR to a folder that holds uci/wine_R.dat.xz" in message
    assert "`convexlib data fetch wine`" in message


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, serve) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    with pytest.raises(DataError, match=r"tiny_R\.dat cannot be written .*XDG_CACHE_HOME"):
        datasets.fetch(one_source("tiny", serve("file", TABLE.encode())))


def test_a_full_disk_is_named(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="No space left on device.*Free some space"):
        datasets.fetch(one_source("tiny", serve("file", TABLE.encode())))
    assert [path for path in files.cache_dir().rglob("*") if path.is_file()] == []


def test_a_damaged_file_that_cannot_be_replaced_is_named(
    folders: Path, serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = one_source("ecg", serve("ecg.dat", (folders / "ecg.dat").read_bytes()))
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
