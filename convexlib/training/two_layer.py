r"""The baselines: SGD, Adam and L-BFGS on the non-convex training problem.

.. math:: F(U, \alpha) = L\Big(\sum_j (X u_j)_+ \alpha_j^\top\Big)
          + \tfrac\beta2 \sum_j \left(\|u_j\|^2 + \|\alpha_j\|^2\right)

is what the convex programs solve, with the same beta and no 1/n. All learning rates and seeds are
trained at once, see `convexlib.training.descent`. L-BFGS uses curvature; the objective has kinks,
where its theory ends, and in practice it gets far in few steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from convexlib.checks import check_beta, check_positive_int
from convexlib.errors import InputError
from convexlib.losses import SmoothLoss
from convexlib.training.descent import (
    Recorder,
    Training,
    as_columns,
    check_grid,
    check_limits,
    check_seeds,
    check_task,
    descend,
    initial_weights,
    now,
    objectives,
)


def train(
    X: Any,
    y: Any,
    *,
    beta: float,
    width: int,
    optimizer: str = "adam",
    rates: Sequence[float] = (1e-1, 1e-2, 1e-3),
    seeds: Sequence[int] = (0, 1, 2),
    n_steps: int | None = None,
    seconds: float | None = None,
    batch_size: int | None = None,
    n_records: int = 100,
    loss: str = "squared",
    progress: bool = False,
) -> Training:
    r"""Train a two-layer ReLU network for every pair of a learning rate and a seed.

    Parameters
    ----------
    X : array (n, d)
        Data; device and dtype are kept.
    y : array (n,) or (n, c)
        Targets; with two axes the network has c outputs, which share its neurons.
    beta : float
        Weight of the regulariser in F above, where it is part of the gradient (for Adam too).
    width : int
        Neurons m.
    optimizer : str
        ``"sgd"`` or ``"adam"`` with a constant rate; ``"-cosine"`` appended lowers it to 0 over
        the run along half a cosine, ``"-step"`` halves it 19 times at equal intervals.
    rates, seeds : sequences
        The grid. The seed draws the initial weights and the batches.
    n_steps, seconds : int, float
        The run ends with whichever comes first; at least one is needed. On a CPU the seconds are
        processor time, which other programs do not lengthen. With `seconds` the number of steps
        depends on the machine; with `n_steps` alone a run is deterministic.
    batch_size : int, optional
        Samples per step, drawn without replacement in each epoch; all of them by default.
    n_records : int
        How often the objective is recorded, at moments that are denser in the beginning.
    loss : {"squared", "logistic", "squared_hinge"}
        As for `TwoLayer`.
    progress : bool
        Show a progress bar on a terminal.

    Returns
    -------
    Training

    Raises
    ------
    InputError
        For unusable data, grids or limits, and targets that do not suit the loss.

    Notes
    -----
    Initial weights are normal with variance 2/d in the first layer and 2/m in the second (He et
    al., 2015). A batch's gradient of the loss is scaled by n / batch_size, hence unbiased. SGD
    steps along the gradient of F / n, so that a rate means what it means for a mean loss; the
    minimiser is the same. A ConvergenceWarning is given if no run improves on its start. Checked
    by ``tests/training/test_two_layer.py``.

    Examples
    --------
    >>> import numpy as np
    >>> from convexlib import training
    >>> X, y = np.array([[-1.0, 1.0], [1.0, 1.0]]), np.array([1.0, 0.0])
    >>> run = training.train(X, y, beta=0.1, width=4, rates=[0.1], seeds=[0], n_steps=50)
    >>> bool(run.best_objective < run.objective[0, 0, 0]), run.best_network.n_neurons
    (True, 4)
    """
    X, y, chosen = check_task(X, y, loss)
    beta, width = check_beta(beta), check_positive_int(width, "width")
    if beta > torch.finfo(X.dtype).max:
        raise InputError(f"beta is {beta:g}, more than {X.dtype} holds; expected a smaller one.")
    grid = check_grid(len(X), optimizer, rates, seeds, n_steps, seconds, batch_size, n_records)
    U, alpha = initial_weights(grid.seeds, len(grid.rates), width, X, tuple(y.shape[1:]))
    record = Recorder(X, y, beta, chosen)

    def slopes(batch_X: Tensor, batch_y: Tensor) -> tuple[Tensor, Tensor]:
        scale = len(X) / batch_y.shape[1]
        return gradients(batch_X, batch_y, U, alpha, beta, scale, chosen)

    descend(grid, X, y, (U, alpha), slopes, record, progress)
    return record.training(optimizer, grid.rates, grid.seeds)


def gradients(
    X: Tensor, y: Tensor, U: Tensor, alpha: Tensor, beta: float, scale: float, loss: SmoothLoss
) -> tuple[Tensor, Tensor]:
    """Gradients of `scale` times the loss plus the regulariser, in U and in alpha.

    X (S, b, d) and y (S, b) or (S, b, c) hold a batch for each seed; U (S, R, m, d) and alpha
    (S, R, m) or (S, R, m, c).
    """
    targets, last = as_columns(y, alpha)  # (S, b, c), (S, R, m, c)
    inputs = X[:, None]  # (S, 1, b, d)
    hidden = torch.matmul(inputs, U.transpose(2, 3)).relu_()  # (S, R, b, m)
    slope = loss.dual_point(hidden @ last, targets[:, None]).mul_(-scale)  # (S, R, b, c)
    by_alpha = (hidden.transpose(2, 3) @ slope).reshape(alpha.shape)
    back = (hidden > 0) * (slope @ last.transpose(2, 3))  # (S, R, b, m)
    by_U = torch.matmul(back.transpose(2, 3), inputs)
    return by_U.add_(U, alpha=beta), by_alpha.add_(alpha, alpha=beta)


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

    The objective and the initial weights are those of `convexlib.training.train`.

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
