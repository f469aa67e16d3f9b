"""A baseline that uses curvature: L-BFGS on the non-convex training problem, from several starts.

The objective has kinks, where the method's theory ends; in practice it gets far in few steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from convexlib.losses import SmoothLoss
from convexlib.solvers.descent.training import (
    Recorder,
    Training,
    check_limits,
    check_seeds,
    check_task,
    initial_weights,
    now,
    objectives,
)
from convexlib.solvers.descent.two_layer import gradients
from convexlib.validation import check_beta, check_positive_int


def lbfgs(
    X: Any,
    y: Any,
    *,
    beta: float,
    width: int,
    seeds: Sequence[int] = (0, 1, 2),
    n_steps: int | None = None,
    seconds: float | None = None,
    n_records: int = 100,
    loss: str = "squared",
) -> Training:
    """Train a two-layer ReLU network with SciPy's L-BFGS-B, once for every seed.

    The objective and the initial weights are those of `convexlib.solvers.descent.train`.

    Parameters
    ----------
    X, y, beta, width, loss
        As for `train`.
    seeds : sequence of int
        The runs, one after the other; **each** has the whole budget.
    n_steps, seconds : int, float
        The budget; whichever is used up first ends a run, and so does a line search that finds
        nothing better.
    n_records : int
        How many moments the curves keep.

    Returns
    -------
    Training
        With one column for the rate, which is 1. Every run's curve stays at its last value after
        its end; `seconds` counts from the start of each run.

    Raises
    ------
    InputError
        For unusable data, seeds or limits.
    """
    X, y, chosen = check_task(X, y, loss)
    beta, width = check_beta(beta), check_positive_int(width, "width")
    seeds, n_records = check_seeds(seeds), check_positive_int(n_records, "n_records")
    steps_limit, time_limit = check_limits(n_steps, seconds)
    runs = [_run(X, y, beta, width, seed, steps_limit, time_limit, chosen) for seed in seeds]
    end = max(times[-1] for times, _ in runs)
    moments = end * (np.arange(n_records + 1) / n_records) ** 2
    record = Recorder(X, y, beta, chosen)
    for moment in moments:
        latest = [np.searchsorted(times, moment, side="right") - 1 for times, _ in runs]
        current = torch.stack([path[at] for at, (_, path) in zip(latest, runs, strict=True)])
        U, alpha = _split(current, width, y)
        record(int(max(latest)), float(moment), U[:, None], alpha[:, None])
    return record.training("lbfgs", (1.0,), seeds)


def _run(
    X: Tensor,
    y: Tensor,
    beta: float,
    width: int,
    seed: int,
    steps: float,
    seconds: float,
    loss: SmoothLoss,
) -> tuple[list[float], list[Tensor]]:
    """Return the times and the weights (p,) after every step of one run."""
    U, alpha = initial_weights([seed], 1, width, X, tuple(y.shape[1:]))
    start = torch.cat([U.ravel(), alpha.ravel()])
    times, path = [0.0], [start]
    began = now(X)

    def evaluate(values: np.ndarray) -> tuple[float, np.ndarray]:
        U, alpha = _split(torch.from_numpy(values).to(X)[None], width, y)
        U, alpha = U[:, None], alpha[:, None]
        slopes = gradients(X[None], y[None], U, alpha, beta, 1.0, loss)
        slope = torch.cat([part.ravel() for part in slopes])
        value = float(objectives(X, y, U, alpha, beta, loss))
        return value, slope.double().cpu().numpy()

    def keep(values: np.ndarray) -> None:
        times.append(now(X) - began)
        path.append(torch.from_numpy(values.copy()).to(X))
        if times[-1] >= seconds or len(path) > steps:
            raise StopIteration

    options = {"maxiter": 2**31 - 1, "maxfun": 2**31 - 1, "maxcor": 20, "ftol": 0.0, "gtol": 0.0}
    x0 = start.double().cpu().numpy()
    minimize(evaluate, x0, jac=True, method="L-BFGS-B", callback=keep, options=options)
    return times, path


def _split(weights: Tensor, width: int, y: Tensor) -> tuple[Tensor, Tensor]:
    """Read weights (S, p) as U (S, m, d) and alpha (S, m) or (S, m, c)."""
    outputs = tuple(y.shape[1:])
    last = width * math.prod(outputs)
    U = weights[:, :-last].reshape(len(weights), width, -1)
    return U, weights[:, -last:].reshape(len(weights), width, *outputs)
