r"""The Lasso over a dictionary, exactly: active sets on a growing set of columns.

The outer loop asks the dictionary for the columns whose correlation with the residual exceeds beta
and adds the worst of them to a working set; the inner loop (`active_set`) solves the Lasso on the
working set to rounding. Nothing depends on a step size, so that tiny beta is only more
columns, not less accuracy. The pinball loss is a linear program on the working set.

`optimal_set` gives all optima at one beta, `lasso_path` those at all. Between two kinks of the path
the support S and the signs s are constant, and

.. math:: z_S(\beta) = a - \beta d, \qquad r(\beta) = r_0 + \beta r_1

are affine: the next kink is the largest beta at which a coefficient vanishes or a correlation
:math:`A_j^\top r(\beta)` reaches :math:`\pm\beta`. Behind it the active set is found again by the
solver, so that ties need no special care. Columns that are nearly parallel (inputs that differ by
1e-4 of their range) may enter late, by up to 1e-4 of beta.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog
from torch import Tensor

from convexlib.arrays import Floats
from convexlib.checks import check_beta, check_positive_int, check_real, check_tol
from convexlib.errors import InputError, SolverError
from convexlib.losses.piecewise import QuantileLoss
from convexlib.problems.base import Problem, weights_of
from convexlib.problems.dictionary import DictionaryLasso
from convexlib.problems.mirrors import Mirrors
from convexlib.result import Result, Status
from convexlib.solvers.base import Tracker, down_the_path, need
from convexlib.solvers.lasso.active_set import SLACK, ActiveSet, pinball, stages

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
    return _solve(need(problem, Mirrors, "lasso"), "lasso", tol, max_iter, start)


def wedge(problem: Problem, *, tol: float = 1e-6, max_iter: int = 2_000) -> Result:
    r"""Solve a `WedgeLasso` or a `ReflectionLasso`, to rounding whatever `tol`.

    Parameters
    ----------
    problem : WedgeLasso or ReflectionLasso
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
        If the problem is neither.

    Notes
    -----
    Checked by ``tests/problems/test_wedges.py`` and ``tests/problems/test_looking_glass.py``.
    """
    return _solve(need(problem, DictionaryLasso, "wedge"), "wedge", tol, max_iter, None)


def _solve(
    problem: DictionaryLasso, method: str, tol: float, max_iter: int, start: Result | Tensor | None
) -> Result:
    """Solve on a working set, add the columns that are missing, and again until there are none."""
    tol = check_tol(tol)
    check_positive_int(max_iter, "max_iter")
    tracker = Tracker(problem, method, tol)
    problem = tracker.problem
    quantile = isinstance(problem.loss, QuantileLoss)
    inner: Squared | Pinball = Pinball(problem) if quantile else Squared(problem)
    inner.add(*_start(problem, start))
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
    return tracker.result(Status.STALLED if finished else Status.MAX_ITER, n_iter)


def worst_columns(problem: DictionaryLasso, z: Tensor, known: Ints, beta: float) -> Ints:
    """Return the columns that most exceed beta at z, at most `BATCH`, none of the known ones.

    Where neighbours in the dictionary are alike only local maxima of the excess are taken.
    """
    if problem.n_features == 0:
        return np.zeros(0, dtype=np.intp)
    excess = np.abs(problem.correlations(z)) - beta * (1.0 + SLACK)
    excess[known] = -1.0
    if problem.neighbours_alike:
        padded = np.concatenate([[-1.0], excess, [-1.0]])
        excess[(excess < padded[:-2]) | (excess < padded[2:])] = -1.0
    count = min(BATCH, len(excess))
    worst = np.argpartition(-excess, count - 1)[:count]
    worst = worst[np.argsort(-excess[worst], kind="stable")]
    return worst[excess[worst] > 0.0]


class Squared:
    """The squared loss on a working set, with repeated inputs merged into weighted points."""

    def __init__(self, problem: DictionaryLasso) -> None:
        self.problem = problem
        y = problem.y.double().cpu().numpy()
        self.counts = np.bincount(problem.row).astype(np.float64)
        self.means = np.bincount(problem.row, y) / self.counts
        self.within = y - self.means[problem.row]  # (n,): no network can fit it
        self.centre = problem.best_constant()
        self.roots = np.sqrt(self.counts)
        self.beta = problem.beta
        self.active = ActiveSet(self.roots * (self.means - self.centre), problem.beta)
        self.index: Ints = np.zeros(0, dtype=np.intp)
        self.offsets = np.zeros(0)  # means of the columns

    def add(self, index: Ints, values: Floats) -> None:
        """Take columns into the working set, with coefficients to start from."""
        columns = self.problem.columns(index)
        offsets = self.counts @ columns / self.counts.sum() * self.problem.bias
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
        """Return the present weights."""
        coefficients = self.active.coefficients()
        constant = self.centre - float(self.offsets @ coefficients)
        return self.problem.joined(self.index, coefficients, constant)


class Pinball:
    """The quantile loss on a working set: a linear program."""

    def __init__(self, problem: DictionaryLasso) -> None:
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
        """Return the present weights."""
        return self.problem.joined(self.index, self.solution, self.bias)


def _start(problem: DictionaryLasso, start: Result | Tensor | None) -> tuple[Ints, Floats]:
    """Return the columns and coefficients of a starting point."""
    if start is None:
        return np.zeros(0, dtype=np.intp), np.zeros(0)
    given = problem.split(weights_of(start, problem.zeros().shape))[0].numpy()
    index = np.flatnonzero(given)
    return index, given[index]


@dataclass(frozen=True, eq=False)
class OptimalSet:
    """All optimal coefficients at one beta: a polytope.

    Attributes
    ----------
    index, signs : ndarray (k,)
        The columns that some optimum may use, and the sign that every optimum gives them.
    low, high : ndarray (k,)
        The range of each coefficient over the polytope.
    dimension : int
        The number of columns in `index` minus their rank: at least that of the polytope. 0 means
        that the optimum is unique.
    ends : Tensor (2, p + 1)
        Two optimal weights: of least and of greatest total over the odd-numbered columns of
        `index`, each a vertex. The two ends of a segment.
    """

    index: Ints
    signs: Floats
    low: Floats
    high: Floats
    dimension: int
    ends: Tensor

    @property
    def unique(self) -> bool:
        """Whether there is one optimum because the columns in `index` are independent."""
        return self.dimension == 0


def optimal_set(problem: Problem, result: Result, *, slack: float = 1e-7) -> OptimalSet:
    r"""Describe every optimum of a solved problem with the squared loss.

    Fitted values and the dual point z are unique; the optima are all coefficients with the same
    fit that live on the columns with :math:`|A_j^\top z| = \beta` and have the signs of these
    correlations.

    Parameters
    ----------
    problem : Mirrors
        The problem.
    result : Result
        Its solution, with a gap near rounding.
    slack : float
        Relative distance from beta at which a correlation counts as equal to it.
    """
    problem = need(problem, Mirrors, "lasso", caller="optimal_set")
    slack = check_real(slack, "slack")
    if isinstance(problem.loss, QuantileLoss) or result.gap > slack:
        raise InputError(
            f"loss={problem.loss.name!r} with a gap of {result.gap:.1e}; expected the squared loss "
            f"and a gap of at most {slack:.0e}. Solve with a smaller tol."
        )
    weights = weights_of(result, (problem.n_features + 1,)).double().cpu()
    correlations = problem.correlations(result.z)
    used = weights[:-1].numpy() != 0
    index = np.flatnonzero((np.abs(correlations) >= problem.beta * (1.0 - slack)) | used)
    signs = np.sign(correlations[index])
    columns = problem.dictionary.columns(index)
    centred = columns - columns.mean(axis=0)
    lengths = np.linalg.norm(centred, axis=0)
    rank = int(np.linalg.matrix_rank(centred / lengths, tol=1e-9)) if len(index) else 0
    fitted = centred @ weights[:-1].numpy()[index]
    k = len(index)
    low, high = np.zeros(k), np.zeros(k)
    if rank == k:
        low = high = weights[:-1].numpy()[index]
        return OptimalSet(index, signs, low, high, 0, torch.stack([weights, weights]))
    scale = float(np.abs(fitted).max())
    system = (signs * centred, fitted / scale)
    for j in range(k):
        ends = [_extreme(system, sense * (np.arange(k) == j))[j] for sense in (1.0, -1.0)]
        low[j], high[j] = sorted(scale * signs[j] * end for end in ends)
    weights_of_ends = []
    for sense in (1.0, -1.0):
        point = torch.zeros_like(weights)
        costs = (sense * (np.arange(k) % 2)).astype(np.float64)
        part = scale * signs * _extreme(system, costs)
        point[torch.from_numpy(index)] = torch.from_numpy(part)
        difference = problem.fitted(point.to(problem.X.device)).cpu() - problem.y.double().cpu()
        point[-1] = -float(difference.mean())
        weights_of_ends.append(point)
    return OptimalSet(index, signs, low, high, k - rank, torch.stack(weights_of_ends))


def _extreme(system: tuple[Floats, Floats], costs: Floats) -> Floats:
    """Return a vertex of {t >= 0 : A t = b} with the least cost."""
    solution = linprog(costs, A_eq=system[0], b_eq=system[1], method="highs-ds")
    if solution.status != 0:
        raise SolverError(
            f"HiGHS ended with status {solution.status} on the set of optima: {solution.message} "
            "Expected an optimum. Solve with a smaller tol."
        )
    point: Floats = solution.x
    return point


STEP = 1e-7  # relative step past a kink


def solve_path(problem: Problem, betas: Sequence[float], *, tol: float = 1e-6) -> list[Result]:
    """Solve for several beta, from the largest down, each from the one before.

    Parameters
    ----------
    problem : Mirrors
        Its own beta does not matter.
    betas : sequence of float
        In any order; the results come in the same order.
    tol : float
        As in `solve`.
    """
    problem = need(problem, Mirrors, "lasso", caller="solve_path")
    return down_the_path(
        betas, lambda beta, last: lasso(problem.with_beta(beta), tol=tol, start=last)
    )


@dataclass(frozen=True, eq=False)
class Segment:
    r"""A piece of the path: for low <= beta <= high, :math:`z_S = a - \beta d`.

    Attributes
    ----------
    high, low : float
        Its ends; both are kinks of the path, except a last low.
    index : ndarray (|S|,)
        The columns of the support; none on the first segment.
    constant, slope : ndarray (|S|,)
        a and d.
    """

    high: float
    low: float
    index: Ints
    constant: Floats
    slope: Floats

    def coefficients(self, beta: float) -> Floats:
        """Return the coefficients (|S|,) at beta."""
        return self.constant - beta * self.slope


def lasso_path(problem: Problem, *, smallest: float, max_kinks: int = 10_000) -> list[Segment]:
    """Return the segments of the path from `beta_max` down to `smallest`.

    Parameters
    ----------
    problem : Mirrors
        With the squared loss; its own beta does not matter.
    smallest : float
        Where to stop, > 0.
    max_kinks : int
        Limit on the segments.

    Raises
    ------
    SolverError
        If the problem is not a `Mirrors` with the squared loss, or has more kinks than max_kinks.
    """
    problem = need(problem, Mirrors, "lasso", caller="lasso_path")
    if isinstance(problem.loss, QuantileLoss):
        raise SolverError(
            "lasso_path follows squared-loss problems; got loss='quantile', whose path is not "
            "piecewise affine in this way. Use solve_path(problem, betas)."
        )
    smallest = check_beta(smallest)
    check_positive_int(max_kinks, "max_kinks")
    return list(_segments(problem, smallest, max_kinks))


def _segments(problem: Mirrors, smallest: float, max_kinks: int) -> Iterator[Segment]:
    inner = Squared(problem)
    high = problem.beta_max()
    for _ in range(max_kinks):
        if high <= smallest:
            return
        inner.beta = high * (1.0 - STEP)
        while True:
            worst = worst_columns(problem, inner.solve(), inner.index, inner.beta)
            if not len(worst):
                break
            inner.add(worst, np.zeros(len(worst)))
        segment = _segment(problem, inner, high, smallest)
        yield segment
        high = segment.low
    raise SolverError(
        f"the path has more than max_kinks={max_kinks} kinks above {smallest:g}. Raise max_kinks "
        "or smallest."
    )


def _segment(problem: Mirrors, inner: Squared, high: float, smallest: float) -> Segment:
    """Extend the present support down to the next kink."""
    constant, slope, fixed, moving = inner.active.affine()
    index = inner.index[inner.active.support]
    below = inner.beta
    with np.errstate(divide="ignore", invalid="ignore"):
        leaving = constant / slope
        at_zero = problem.correlations(inner.to_rows(fixed))
        rate = problem.correlations(inner.to_rows(moving))
        entering = np.concatenate([at_zero / (1.0 - rate), -at_zero / (1.0 + rate)])
    outside = np.ones(problem.n_features, dtype=bool)
    outside[index] = False
    events = np.concatenate([leaving, entering[np.concatenate([outside, outside])]])
    events = events[np.isfinite(events) & (events < below)]
    low = max(float(events.max(initial=0.0)), smallest)
    return Segment(high, low, index, constant, slope)
