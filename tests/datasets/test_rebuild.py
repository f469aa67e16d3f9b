"""Tables rebuilt from raw ones: the coding on a table made by hand, and those of scikit-learn."""

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_wine

from convexlib import cli, datasets
from convexlib.datasets import manifest, rebuild
from convexlib.datasets.rebuild import Recipe
from convexlib.errors import DataError
from tests.helpers.datafiles import RAW_RECIPE, RAW_TABLE, REBUILT, sha256

INSTALLED = dict(rebuild.INSTALLED)
SHIPPED = {"breast-cancer-wisc-diag": load_breast_cancer, "wine": load_wine}


@pytest.fixture(autouse=True)
def installed(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is scikit-learn, but no mirror, cache or network."""
    monkeypatch.setattr(rebuild, "INSTALLED", INSTALLED)


def in_package(path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let scikit-learn's file for wine have another content."""
    (path / "datasets" / "data").mkdir(parents=True)
    (path / "datasets" / "data" / "wine_data.csv").write_text(text)
    elsewhere = SimpleNamespace(origin=str(path / "__init__.py"))
    monkeypatch.setattr(rebuild, "find_spec", lambda _: elsewhere)


def test_a_table_is_coded_standardised_and_written() -> None:
    assert rebuild.rebuild(RAW_RECIPE, RAW_TABLE) == REBUILT


@pytest.mark.parametrize(
    ("cells", "options", "expected"),
    [
        (["10", "9", "10", "2"], {}, [2, 1, 2, 0]),
        (["8", "9", "10", "11"], {"bins": (9, 11)}, [0, 1, 1, 2]),
        (["b", "a"], {"classes": ("b", "a")}, [0, 1]),
    ],
)
def test_classes_are_numbered(cells: list[str], options: dict, expected: list[int]) -> None:
    assert rebuild.labels(cells, Recipe(("p", ""), "f", **options)) == expected


@pytest.mark.parametrize("name", SHIPPED)
def test_scikit_learn_gives_the_table_of_the_manifest(name: str) -> None:
    with (manifest.data_dir() / "uci_manifest.csv").open(newline="") as stream:
        row = next(row for row in csv.DictReader(stream) if row["name"] == name)
    entry = datasets.catalogue()[name]
    label, path = datasets.locate(entry)
    assert label == "scikit-learn"
    content = datasets.read(entry, (label, path))
    assert (sha256(content), len(content)) == (row["sha256"], int(row["raw_bytes"]))
    X, labels = datasets.load_uci(name)
    raw = SHIPPED[name]()
    expected = (raw.data - raw.data.mean(axis=0)) / raw.data.std(axis=0, ddof=1)
    np.testing.assert_allclose(X, expected, rtol=1e-5, atol=1e-5)  # the table has six digits
    np.testing.assert_array_equal(labels if name == "wine" else 1 - labels, raw.target)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda text: text.replace("14.23", "14.24"), "gives a table of sha256 [0-9a-f]{64}"),
        (lambda text: text.replace("14.23", "x"), "is not the table it is taken for .ValueError"),
        (lambda text: "", "is not the table it is taken for .IndexError"),
    ],
    ids=["another value", "no number", "empty"],
)
def test_another_version_of_scikit_learn_is_refused(
    change, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = datasets.catalogue()["wine"]
    in_package(tmp_path / "sklearn", change(rebuild.installed("wine").read_text()), monkeypatch)
    pattern = (
        rf"wine_data\.csv of scikit-learn [0-9.]+ {problem}.*; expected wine_R\.dat of sha256 "
        rf"{entry.sha256}\. Download the table with `convexlib data fetch wine`, or set CONVEXLIB"
    )
    with pytest.raises(DataError, match=pattern):
        datasets.load_uci("wine")
    with pytest.raises(DataError, match="could not be downloaded"):  # fetch goes on to the network
        datasets.fetch(entry)


def test_without_its_file_scikit_learn_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(rebuild, "find_spec", lambda _: elsewhere)
    assert datasets.locate(datasets.catalogue()["wine"]) is None


def test_the_command_line_names_scikit_learn(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "list", "wine", "glass"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines[1:]] == ["scikit-learn", "-"]
    assert cli.main(["data", "verify", "wine"]) == 0
    assert capsys.readouterr().out.startswith("wine: intact, ")
    assert cli.main(["data", "fetch", "wine"]) == 0
    assert capsys.readouterr().out.startswith("wine: scikit-learn, ")
