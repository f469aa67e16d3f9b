"""The manifest: the name, size, sha256, shape and sources of every data file."""

from __future__ import annotations

import csv
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convexlib.errors import DataError


@dataclass(frozen=True)
class Source:
    """An address: of the file itself or, with `member`, of an archive that holds it."""

    url: str
    size: int
    sha256: str | None
    member: str | None = None


@dataclass(frozen=True)
class Entry:
    """One file of the manifest; `sha256` and `size` are of its uncompressed content.

    Examples
    --------
    >>> from convexlib import datasets
    >>> entry = datasets.catalogue()["ecg"]
    >>> entry.file, entry.size, entry.ships
    ('ecg.dat', 119035, True)
    """

    name: str
    file: str
    stored: str
    size: int
    sha256: str
    ships: bool
    shape: tuple[int, ...]
    sources: tuple[Source, ...]
    stored_sha256: str | None = None
    classes: int | None = None


def data_dir() -> Path:
    """Return the folder `data/`: inside an installed package, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "data", package.parent / "data"):
        if (folder / "manifest.toml").is_file():
            return folder
    raise DataError(
        f"manifest.toml was found neither in {package / 'data'} nor in {package.parent / 'data'}; "
        "expected one of them. Reinstall convexlib or, in a checkout, run `git checkout -- data`."
    )


def catalogue() -> dict[str, Entry]:
    """Return the entries of the manifest by name, the 73 UCI tables last.

    Raises
    ------
    DataError
        If the manifest is missing or cannot be read.

    Examples
    --------
    >>> from convexlib import datasets
    >>> entries = datasets.catalogue()
    >>> [name for name in entries if entries[name].ships]
    ['ecg', 'nyse', 'ecg_beats']
    """
    folder = data_dir()
    try:
        manifest = tomllib.loads((folder / "manifest.toml").read_text("utf-8"))
        uci = manifest.pop("uci")
        with (folder / uci["table"]).open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        entries = {name: _entry(name, table) for name, table in manifest.items()}
        return entries | {row["name"]: _uci_entry(row, uci) for row in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"the manifest in {folder} cannot be read ({error!r}); expected manifest.toml and "
            "uci_manifest.csv. Reinstall convexlib or, in a checkout, run `git checkout -- data`."
        ) from error


def _entry(name: str, table: dict[str, Any]) -> Entry:
    return Entry(
        name=name,
        file=table["file"],
        stored=table["stored"],
        size=table["bytes"],
        sha256=table["sha256"],
        ships=table["ships"],
        shape=tuple(table["shape"]),
        sources=tuple(_source(s, table["bytes"], table["sha256"]) for s in table["sources"]),
        stored_sha256=table.get("stored_sha256"),
    )


def _uci_entry(row: dict[str, str], uci: dict[str, Any]) -> Entry:
    size, sha256 = int(row["raw_bytes"]), row["sha256"]
    return Entry(
        name=row["name"],
        file=row["file"],
        stored=f"{uci['folder']}/{row['file']}.xz",
        size=size,
        sha256=sha256,
        ships=row["ships"] == "1",
        shape=(int(row["n"]), int(row["d"])),
        sources=tuple(_source(s, size, sha256, row) for s in uci["sources"]),
        classes=int(row["classes"]),
    )


def _source(
    table: dict[str, Any], size: int, sha256: str, row: dict[str, str] | None = None
) -> Source:
    """Return a source, its address completed from the row's name and file."""
    url = table["url"].format_map(row or {})
    if "member" not in table:
        return Source(url, size, sha256)
    member = table["member"].format_map(row or {})
    return Source(url, table["bytes"], table.get("sha256"), member)
