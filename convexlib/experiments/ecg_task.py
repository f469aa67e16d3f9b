r"""ECG: the autoregression data, how a network is scored, and the linear model beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convexlib.datasets import autoregression, load_ecg, load_ecg_beats
from convexlib.errors import InputError
from convexlib.networks import TwoLayerGatedReLU, TwoLayerReLU, outputs

__all__ = ["Task", "fit_linear", "load_task", "mean_square", "scores", "stored_network"]

LIVE = 1e-4  # a neuron counts if its |alpha| ||u|| exceeds this part of the largest
SIGNALS = {208: lambda: load_ecg(), 100: lambda: load_ecg_beats()[:2]}


@dataclass(frozen=True, eq=False)
class Task:
    """Autoregression data: the last column of X is the constant 1.

    Attributes
    ----------
    X, y : Tensor (n, k + 1), (n,)
        Training data, in standard units.
    X_test, y_test : Tensor
        The samples that follow, in the same units.
    mean, scale : float
        Signal in mV = mean + scale * standard units.
    rate : float
        Samples per second.
    """

    X: Tensor
    y: Tensor
    X_test: Tensor
    y_test: Tensor
    mean: float
    scale: float
    rate: float


def load_task(
    lags: int, n_train: int = 2000, n_test: int = 10_000, device: str = "cpu", record: int = 208
) -> Task:
    """Return the prediction of a sample from `lags` earlier ones; the first n_train rows train.

    Record 208 is the ECG of `load_ecg`, record 100 the one with annotated beats.
    """
    if record not in SIGNALS:
        raise InputError(f"record is {record!r}; expected one of {sorted(SIGNALS)}.")
    signal, rate = SIGNALS[record]()
    seen = signal[: n_train + lags]
    mean, scale = float(seen.mean()), float(seen.std())
    X, y = autoregression((signal[: n_train + n_test + lags] - mean) / scale, lags)
    X = np.column_stack([X, np.ones(len(X))])
    data = [torch.from_numpy(part).to(device) for part in (X, y)]
    X_train, y_train = (part[:n_train] for part in data)
    X_test, y_test = (part[n_train:] for part in data)
    return Task(X_train, y_train, X_test, y_test, mean, scale, rate)


def scores(task: Task, network: TwoLayerReLU | TwoLayerGatedReLU) -> dict[str, Any]:
    """Score a network: mean squared errors in standard units, and its live neurons."""
    sizes = torch.linalg.vector_norm(network.U, dim=1) * network.alpha.abs()
    return {
        "train_mse": mean_square(task.y - outputs(network, task.X)),
        "test_mse": mean_square(task.y_test - outputs(network, task.X_test)),
        "neurons": int((sizes > LIVE * sizes.max()).sum()) if len(sizes) else 0,
    }


def fit_linear(task: Task) -> dict[str, Any]:
    """Fit the linear autoregression by least squares."""
    coefficients = torch.linalg.lstsq(task.X, task.y[:, None]).solution[:, 0]
    return {
        "coefficients": coefficients.tolist(),
        "train_mse": mean_square(task.y - task.X @ coefficients),
        "test_mse": mean_square(task.y_test - task.X_test @ coefficients),
    }


def stored_network(report: dict[str, Any]) -> TwoLayerReLU:
    """Return the network whose weights a report holds."""
    parts = (torch.tensor(report[name], dtype=torch.float64) for name in ("U", "alpha"))
    return TwoLayerReLU(*parts)


def mean_square(errors: Tensor) -> float:
    """Return the mean of the squares."""
    return float((errors**2).mean())
