r"""Lasso with a free intercept, exactly: active sets on a growing set of columns.

The outer loop asks the dictionary for the columns whose correlation with the residual exceeds beta
and adds the worst of them to a working set; the inner loop (`active_set`) solves the Lasso on the
working set to rounding. Nothing depends on a step size, so that tiny beta is only more
columns, not less accuracy. The pinball loss is a linear program on the working set.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convexlib.arrays import Floats
from convexlib.errors import SolverError
from convexlib.problems.base import Problem, weights_of
from convexlib.problems.mirrors import Mirrors
from convexlib.problems.mirrors.losses import QuantileLoss
from convexlib.result import Result, Status
from convexlib.solvers.base import Tracker
from convexlib.solvers.lasso.active_set import SLACK, ActiveSet, stages
from convexlib.solvers.lasso.linear_programs import pinball
from convexlib.validation import check_positive_int, check_tol

Ints = NDArray[np.intp]
BATCH = 32  # columns added at a time


def lasso(
    problem: Problem,
    *,
    tol: float = 1e-6,
    max_iter: int = 1_000,
    start: Result | Tensor | None = None,
) -> Result:
    r"""Solve a `Mirrors` program, to rounding whatever `tol`.

    Parameters
    ----------
    problem : Mirrors
        With the squared or the quantile loss.
    tol : float
        Relative duality gap for ``CONVERGED``.
    max_iter : int
        Rounds of pricing.
    start : Result or Tensor, optional
        A solution for another beta or y; its features are the first working set.

    Returns
    -------
    Result
        ``weights`` (p + 1,); the nonzero coefficients have independent columns, so that there are
        fewer than n of them.

    Raises
    ------
    SolverError
        If the problem is not a `Mirrors`.

    Notes
    -----
    Checked by ``tests/solvers/lasso/test_mirrors.py``.
    """
    problem = need_mirrors(problem, "lasso")
    tol = check_tol(tol)
    check_positive_int(max_iter, "max_iter")
    tracker = Tracker(problem, "lasso")
    index, values = _start(problem, start)
    quantile = isinstance(problem.loss, QuantileLoss)
    inner: Squared | Pinball = Pinball(problem) if quantile else Squared(problem)
    inner.add(index, values)
    n_iter, finished = 0, False
    warm = start is not None or quantile  # the quantile program is linear, and solved as one
    betas = [problem.beta] if warm else stages(problem.beta_max(), problem.beta)
    for beta in betas:
        finished = False
        inner.beta = beta
        while n_iter < max_iter and not finished:
            n_iter += 1
            z = inner.solve()
            if beta == problem.beta:
                tracker.update(n_iter, inner.weights(), problem.dual_scaling(z))
            worst = worst_columns(problem, z, inner.index, beta)
            inner.add(worst, np.zeros(len(worst)))
            finished = not len(worst)
    if tracker.gap <= tol:
        return tracker.result(Status.CONVERGED, n_iter)
    return tracker.result(Status.STALLED if finished else Status.MAX_ITER, n_iter)


def worst_columns(problem: Mirrors, z: Tensor, known: Ints, beta: float) -> Ints:
    """Return the columns that most exceed beta at z, at most `BATCH`, none of the known ones.

    Neighbours in the dictionary are alike: only local maxima of the excess are taken.
    """
    if problem.n_features == 0:
        return np.zeros(0, dtype=np.intp)
    excess = np.abs(problem.correlations(z)) - beta * (1.0 + SLACK)
    excess[known] = -1.0
    padded = np.concatenate([[-1.0], excess, [-1.0]])
    excess[(excess < padded[:-2]) | (excess < padded[2:])] = -1.0
    count = min(BATCH, len(excess))
    worst = np.argpartition(-excess, count - 1)[:count]
    worst = worst[np.argsort(-excess[worst], kind="stable")]
    return worst[excess[worst] > 0.0]


class Squared:
    """The squared loss on a working set, with repeated inputs merged into weighted points."""

    def __init__(self, problem: Mirrors) -> None:
        self.problem = problem
        y = problem.y.double().cpu().numpy()
        self.counts = np.bincount(problem.row, minlength=len(problem.x)).astype(np.float64)
        self.means = np.bincount(problem.row, y, minlength=len(problem.x)) / self.counts
        self.within = y - self.means[problem.row]  # (n,): no network can fit it
        self.centre = float(y.mean())
        self.roots = np.sqrt(self.counts)
        self.beta = problem.beta
        self.active = ActiveSet(self.roots * (self.means - self.centre), problem.beta)
        self.index: Ints = np.zeros(0, dtype=np.intp)
        self.offsets = np.zeros(0)  # means of the columns

    def add(self, index: Ints, values: Floats) -> None:
        """Take columns into the working set, with coefficients to start from."""
        columns = self.problem.dictionary.columns(index)
        offsets = self.counts @ columns / self.counts.sum()
        first = len(self.index)
        self.index = np.concatenate([self.index, index])
        self.offsets = np.concatenate([self.offsets, offsets])
        self.active.add_columns(self.roots[:, None] * (columns - offsets))
        self.active.warm_start(first + np.flatnonzero(values), values[values != 0])

    def solve(self) -> Tensor:
        """Solve on the working set and return the dual point (n,)."""
        self.active.beta = self.beta
        self.active.solve(max_steps=200 + 20 * sum(self.active.F.shape))
        return self.to_rows(self.active.residual()) + torch.from_numpy(self.within).to(
            self.problem.X.device
        )

    def to_rows(self, values: Floats) -> Tensor:
        """Turn weighted values of the points (N,) into values of the samples (n,)."""
        rows = (values / self.roots)[self.problem.row]
        return torch.from_numpy(rows).to(self.problem.X.device)

    def weights(self) -> Tensor:
        """Return the present weights (p + 1,)."""
        coefficients = self.active.coefficients()
        weights = self.problem.X.new_zeros(self.problem.n_features + 1)
        weights[torch.from_numpy(self.index)] = torch.from_numpy(coefficients).to(weights)
        weights[-1] = self.centre - float(self.offsets @ coefficients)
        return weights


class Pinball:
    """The quantile loss on a working set: a linear program."""

    def __init__(self, problem: Mirrors) -> None:
        self.problem = problem
        self.beta = problem.beta
        self.index: Ints = np.zeros(0, dtype=np.intp)
        self.solution, self.bias = np.zeros(0), problem.best_constant()
        self.value = float("inf")

    def add(self, index: Ints, values: Floats) -> None:
        """Take columns into the working set."""
        self.index = np.concatenate([self.index, index])

    def solve(self) -> Tensor:
        """Solve on the working set and return the dual point (n,)."""
        problem = self.problem
        assert isinstance(problem.loss, QuantileLoss)
        columns = problem.matrix(self.index).numpy()
        y = problem.y.double().cpu().numpy()
        self.solution, self.bias, z = pinball(columns, y, problem.beta, problem.loss.tau)
        value = float(y @ z)
        if value < self.value:
            # Columns with slack in the dual are dropped; the bound falls, so that none can cycle.
            tight = np.abs(z @ columns) >= problem.beta * (1.0 - 1e-6)
            self.index, self.solution = self.index[tight], self.solution[tight]
        self.value = min(value, self.value)
        return torch.from_numpy(z).to(problem.X.device)

    def weights(self) -> Tensor:
        """Return the present weights (p + 1,)."""
        weights = self.problem.X.new_zeros(self.problem.n_features + 1)
        weights[torch.from_numpy(self.index)] = torch.from_numpy(self.solution).to(weights)
        weights[-1] = self.bias
        return weights


def _start(problem: Mirrors, start: Result | Tensor | None) -> tuple[Ints, Floats]:
    """Return the columns and coefficients of a starting point."""
    if start is None:
        return np.zeros(0, dtype=np.intp), np.zeros(0)
    given = weights_of(start, (problem.n_features + 1,))[:-1].double().cpu().numpy()
    index = np.flatnonzero(given)
    return index, given[index]


def need_mirrors(problem: Problem, method: str) -> Mirrors:
    """Refuse a problem that is not a `Mirrors`."""
    if not isinstance(problem, Mirrors):
        raise SolverError(
            f'{method} solves Mirrors programs; got {type(problem).__name__}. Use method="auto".'
        )
    return problem
