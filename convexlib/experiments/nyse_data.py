r"""The NYSE task: the log volume of a trading day from the days before, in three parts of time.

The days flagged for training are split in time into a *fit* part and a *validation* part; the rest
are the *test* part. Everything is in standard units of all flagged days.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from convexlib.datasets import load_nyse

__all__ = ["COLUMNS", "PARTS", "Task", "load_task", "mean_pinball", "mean_square", "scores"]

COLUMNS = ("DJ_return", "log_volume", "log_volatility")
TARGET = "log_volume"
PARTS = ("fit", "validation", "test")


@dataclass(frozen=True, eq=False)
class Task:
    """Rows in the order of time; column ``3 (k - 1) + j`` is COLUMNS[j] k days ago, the last is 1.

    Attributes
    ----------
    X, y : Tensor (n, 3 lags + 1), (n,)
        All rows, in standard units.
    parts : dict
        The slice of rows of each of PARTS.
    """

    X: Tensor
    y: Tensor
    parts: dict[str, slice]

    def part(self, name: str) -> tuple[Tensor, Tensor]:
        """Return the data of a part."""
        rows = self.parts[name]
        return self.X[rows], self.y[rows]

    @property
    def flagged(self) -> tuple[Tensor, Tensor]:
        """All data before the test part."""
        rows = slice(self.parts["fit"].start, self.parts["validation"].stop)
        return self.X[rows], self.y[rows]

    def yesterday(self) -> Task:
        """The same days with a single input, the target of the day before; no column of ones."""
        column = COLUMNS.index(TARGET)
        return replace(self, X=self.X[:, column : column + 1])


def load_task(
    lags: int = 5, share: float = 0.8, n_fit: int | None = None, device: str = "cpu"
) -> Task:
    """Return the prediction of `log_volume` from `lags` days.

    The first `share` of the flagged rows is the fit part, or its last `n_fit` rows.
    """
    table = load_nyse()
    flags = table["train"].to_numpy(dtype=bool)
    values = table[list(COLUMNS)].to_numpy(dtype=np.float64)
    values = (values - values[flags].mean(axis=0)) / values[flags].std(axis=0)
    n = len(values)
    columns = [values[lags - k : n - k] for k in range(1, lags + 1)]
    X = np.column_stack([*columns, np.ones(n - lags)])
    y = values[lags:, COLUMNS.index(TARGET)].copy()
    n_flagged = int(flags[lags:].sum())
    stop = round(share * n_flagged)
    start = 0 if n_fit is None else stop - n_fit
    parts = {
        "fit": slice(start, stop),
        "validation": slice(stop, n_flagged),
        "test": slice(n_flagged, n - lags),
    }
    return Task(torch.from_numpy(X).to(device), torch.from_numpy(y).to(device), parts)


def mean_square(y: Tensor, fitted: Tensor) -> float:
    """Mean squared error."""
    return float(((y - fitted) ** 2).mean())


def mean_pinball(y: Tensor, fitted: Tensor, quantile: float) -> float:
    """Mean pinball loss."""
    errors = y - fitted
    return float(torch.maximum(quantile * errors, (quantile - 1.0) * errors).mean())


def scores(
    task: Task,
    predict: Callable[[Tensor], Tensor],
    measure: Callable[[Tensor, Tensor], float] = mean_square,
) -> dict[str, float]:
    """Score a prediction on every part."""
    found = {}
    with torch.no_grad():
        for name in PARTS:
            X, y = task.part(name)
            found[name] = measure(y, predict(X))
    return found
