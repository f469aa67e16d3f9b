"""A series as data: what came before, and what comes next."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from convexlib.checks import as_tensor, check_finite, check_positive_int
from convexlib.errors import InputError


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
