"""Copies of data/ that tests may damage, and sources that never leave this machine."""

import hashlib
import re
import shutil
from pathlib import Path

import pytest

from convexlib import datasets
from convexlib.datasets import files, manifest, rebuild
from convexlib.datasets.rebuild import Recipe

SHIPPED = {"ecg": "ecg.dat", "nyse": "nyse.csv.xz", "ecg_beats": "ecg_beats.csv.xz"}
LOADERS = {
    "ecg": datasets.load_ecg,
    "nyse": datasets.load_nyse,
    "ecg_beats": datasets.load_ecg_beats,
}
TABLE = "\tf1\tf2\tclase\n1\t-0.5\t0.25\t1\n2\t1.5\t-0.125\t0\n3\t0\t2\t2\n"
RAW_TABLE = "# a comment\nred,1,7,?,yes\nblue,2,7,3,no\ngreen,3,7,3,yes\n"
RAW_RECIPE = Recipe(
    ("made-up", "folder/"),
    "table.csv",
    classes=("no", "yes"),
    nominal={0: ("red", "green", "blue")},
    skip=1,
)
# red, green, blue are -1, 0, 1; the constant column goes; ?, 3, 3 are 0, 3, 3: mean 2, deviation
# sqrt(3), hence -2/sqrt(3), 1/sqrt(3), 1/sqrt(3).
REBUILT = b"\tf1\tf2\tf3\tclase\n1\t-1\t-1\t-1.1547\t1\n2\t1\t0\t0.57735\t0\n3\t0\t1\t0.57735\t1\n"
NOWHERE = "http://127.0.0.1:1"


def isolate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use a copy of data/, no mirror, package or cache, sources that do not answer."""
    copy = tmp_path / "data"
    shutil.copytree(manifest.data_dir(), copy)
    monkeypatch.setattr(manifest, "data_dir", lambda: copy)
    monkeypatch.setattr(files, "cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setattr(rebuild, "INSTALLED", {})
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


def flipped(raw: bytes, position: int) -> bytes:
    """The same bytes but for one."""
    changed = bytearray(raw)
    changed[position] ^= 0x20
    return bytes(changed)


def flip(path: Path, position: int = 0) -> bytes:
    """Change one byte of a file and return its new content."""
    raw = flipped(path.read_bytes(), position)
    path.write_bytes(raw)
    return raw
