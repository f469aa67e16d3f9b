"""Copies of data/ that tests may damage, and sources that never leave this machine."""

import hashlib
import re
import shutil
from pathlib import Path

import pytest

from convexlib.store import files, manifest

SHIPPED = {"ecg": "ecg.dat", "nyse": "nyse.csv.xz"}
TABLE = "\tf1\tf2\tclase\n1\t-0.5\t0.25\t1\n2\t1.5\t-0.125\t0\n3\t0\t2\t2\n"
NOWHERE = "http://127.0.0.1:1"


def isolate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use a copy of data/, no mirror, an empty cache, sources that do not answer."""
    copy = tmp_path / "data"
    shutil.copytree(manifest.data_dir(), copy)
    monkeypatch.setattr(manifest, "data_dir", lambda: copy)
    monkeypatch.setattr(files, "cache_dir", lambda: tmp_path / "cache")
    monkeypatch.delenv("CONVEXLIB_MIRROR", raising=False)
    point_sources_at(copy, NOWHERE)
    return copy


def add_tiny(data: Path) -> None:
    """Add TABLE, as the UCI table "tiny", to a copy of the manifest."""
    with (data / "uci_manifest.csv").open("a") as stream:
        stream.write(f"tiny,3,2,3,tiny_R.dat,{len(TABLE)},{sha256(TABLE.encode())},0\n")


def point_sources_at(data: Path, address: str) -> None:
    """Replace the folder of every address in a copy of the manifest."""
    path = data / "manifest.toml"
    path.write_text(re.sub(r'url = "\w+://[^"]*/', f'url = "{address}/', path.read_text()))


def sha256(content: bytes) -> str:
    """Return the sha256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def flip(path: Path, position: int = 0) -> bytes:
    """Change one byte of a file and return its new content."""
    raw = bytearray(path.read_bytes())
    raw[position] ^= 0x20
    path.write_bytes(raw)
    return bytes(raw)
