"""A data file is looked for in four places, and refused where it is not intact."""

import lzma
from pathlib import Path

import pytest

from convexlib import datasets
from convexlib.datasets import rebuild
from convexlib.errors import DataError, InputError

INSTALLED = dict(rebuild.INSTALLED)
pytestmark = pytest.mark.usefixtures("folders")


@pytest.mark.parametrize("content", ["not toml", "[uci]", '[ecg]\nfile = "x"\n'], ids=range(3))
def test_a_broken_manifest_is_refused(content: str, folders: Path) -> None:
    (folders / "manifest.toml").write_text(content)
    with pytest.raises(DataError, match="the manifest in .* cannot be read"):
        datasets.load_ecg()


def test_the_places_are_searched_in_order(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mirror := tmp_path / "mirror").mkdir()
    monkeypatch.setenv("CONVEXLIB_MIRROR", str(mirror))
    monkeypatch.setattr(rebuild, "INSTALLED", INSTALLED)
    entry = datasets.catalogue()["wine"]
    label, _ = datasets.locate(entry)
    assert label == "scikit-learn"
    for label, folder in (("cache", tmp_path / "cache"), ("mirror", mirror), ("data", folders)):
        path = folder / "uci" / "wine_R.dat"
        path.parent.mkdir(parents=True)
        path.touch()
        assert datasets.locate(entry) == (label, path)
        path.rename(path.with_name("wine_R.dat.xz"))  # one that is compressed counts as well
        assert datasets.locate(entry) == (label, path.with_name("wine_R.dat.xz"))


def test_a_name_is_no_entry() -> None:
    for call in (
        datasets.locate,
        datasets.fetch,
        datasets.missing,
        lambda name: datasets.read(name, ("data", Path("ecg.dat"))),
    ):
        with pytest.raises(InputError, match=r"entry is 'ecg'; expected .*catalogue\(\)\['ecg'\]"):
            call("ecg")


@pytest.mark.parametrize(
    "content",
    [b"no xz", lzma.compress(b"another table"), lzma.compress(bytes(10**7))],
    ids=["no xz", "another table", "expands without end"],
)
def test_a_wrong_file_in_the_mirror_is_refused_before_any_other(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVEXLIB_MIRROR", str(tmp_path))
    path = tmp_path / "uci" / "tiny_R.dat.xz"
    path.parent.mkdir()
    path.write_bytes(content)
    for load in (datasets.load_uci, lambda name: datasets.fetch(datasets.catalogue()[name])):
        with pytest.raises(DataError, match="Replace it in the mirror, or unset CONVEXLIB_MIRROR"):
            load("tiny")
    assert path.read_bytes() == content


def test_a_mirror_that_is_no_folder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVEXLIB_MIRROR", "/no/such/folder")
    with pytest.raises(DataError, match="CONVEXLIB_MIRROR is '/no/such/folder', which is no fol"):
        datasets.load_uci("wine")
