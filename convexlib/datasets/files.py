"""Find a data file: in `data/`, the mirror, the cache or scikit-learn; read it only if intact."""

from __future__ import annotations

import hashlib
import lzma
import os
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

from convexlib.datasets import atomic, manifest, rebuild
from convexlib.datasets.manifest import Entry
from convexlib.errors import DataError

MIRROR = "CONVEXLIB_MIRROR"
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


def locate(entry: Entry) -> Place | None:
    """Return the place of the first copy there is, not verified; None where there is none.

    Examples
    --------
    >>> from convexlib import datasets
    >>> where, path = datasets.locate(datasets.catalogue()["nyse"])
    >>> where, path.name
    ('data', 'nyse.csv.xz')
    """
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

    Examples
    --------
    >>> from convexlib import datasets
    >>> entry = datasets.catalogue()["ecg"]
    >>> len(datasets.read(entry, datasets.locate(entry))) == entry.size
    True
    """
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

    Examples
    --------
    >>> from convexlib import datasets
    >>> error = datasets.missing(datasets.catalogue()["ecg"])
    >>> type(error).__name__
    'DataError'
    """
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
