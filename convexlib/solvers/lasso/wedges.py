r"""The Lasso over wedge features, exactly: active sets on a growing set of columns.

The dictionary is evaluated a block at a time to find the features whose correlation with the
residual exceeds beta most; `active_set` solves on those found so far, to rounding.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from convexlib.checks import check_positive_int
from convexlib.problems.base import Problem
from convexlib.problems.wedges import WedgeLasso
from convexlib.result import Result, Status
from convexlib.solvers.base import Tracker, need
from convexlib.solvers.lasso.active_set import SLACK, ActiveSet, stages

BATCH = 16  # columns added at a time


def wedge(problem: Problem, *, tol: float = 1e-6, max_iter: int = 2_000) -> Result:
    r"""Solve a `WedgeLasso`, to rounding whatever `tol`.

    Parameters
    ----------
    problem : WedgeLasso
    tol : float
        Relative duality gap for ``CONVERGED``.
    max_iter : int
        Rounds of pricing.

    Returns
    -------
    Result
        ``scope`` is ``"network"`` for an exact dictionary: the bound holds for all networks.

    Raises
    ------
    SolverError
        If the problem is not a `WedgeLasso`.

    Notes
    -----
    Checked by ``tests/problems/test_wedges.py``.
    """
    problem = need(problem, WedgeLasso, "wedge")
    check_positive_int(max_iter, "max_iter")
    tracker = Tracker(problem, "wedge")
    y = problem.y.double().cpu()
    active = ActiveSet(problem.centred(y).numpy(), problem.beta)
    index, offsets = np.zeros(0, dtype=np.intp), np.zeros(0)
    n_iter, finished = 0, False
    for beta in stages(problem.beta_max(), problem.beta):
        active.beta, finished = beta, False
        # Pricing over all wedges, solving over few: a batch of the most violated enters at a time.
        while n_iter < max_iter and not finished:
            n_iter += 1
            active.solve(max_steps=200 + 20 * sum(active.F.shape))
            z = torch.from_numpy(active.residual())
            excess = np.abs(problem.correlations(z)) - beta * (1.0 + SLACK)
            excess[index] = -1.0
            worst = np.argsort(-excess, kind="stable")[:BATCH]
            worst = worst[excess[worst] > 0.0]
            columns = problem.matrix(worst).numpy()
            means = columns.mean(axis=0) if problem.bias else np.zeros(len(worst))
            active.add_columns(columns - means)
            index, offsets = np.append(index, worst), np.append(offsets, means)
            finished = not len(worst)
            if beta == problem.beta:
                weights = _weights(problem, index, active.coefficients(), offsets)
                tracker.update(n_iter, weights, problem.dual_scaling(z).to(problem.y))
    if tracker.gap <= tol:
        return tracker.result(Status.CONVERGED, n_iter)
    return tracker.result(Status.STALLED if finished else Status.MAX_ITER, n_iter)


def _weights(
    problem: WedgeLasso, index: np.ndarray, coefficients: np.ndarray, offsets: np.ndarray
) -> Tensor:
    """Return the weights that belong to coefficients of some features."""
    weights = problem.X.new_zeros(problem.n_features + problem.bias)
    weights[torch.from_numpy(index)] = torch.from_numpy(coefficients).to(weights)
    if problem.bias:
        mean = float(problem.y.double().mean())
        weights[-1] = mean - float(offsets @ coefficients)
    return weights
