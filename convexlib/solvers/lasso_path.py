r"""The whole Lasso path, and the set of all optima at one beta.

Between two kinks of the path the support S and the signs s are constant, and

.. math:: z_S(\beta) = a - \beta d, \qquad r(\beta) = r_0 + \beta r_1

are affine: the next kink is the largest beta at which a coefficient vanishes or a correlation
:math:`A_j^\top r(\beta)` reaches :math:`\pm\beta`. Behind it the active set is found again by the
solver, so that ties need no special care.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

from convexlib.errors import InputError, SolverError
from convexlib.problems.base import Problem, weights_of
from convexlib.problems.mirrors import Mirrors
from convexlib.problems.mirrors.losses import QuantileLoss
from convexlib.result import Result
from convexlib.solvers.active_set import Floats
from convexlib.solvers.lasso import Ints, Squared, lasso, need_mirrors, worst_columns
from convexlib.validation import check_beta

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
    problem = need_mirrors(problem, "solve_path")
    values = [check_beta(beta) for beta in betas]
    results: dict[int, Result] = {}
    last: Result | None = None
    for place in sorted(range(len(values)), key=lambda i: -values[i]):
        last = lasso(problem.with_beta(values[place]), tol=tol, start=last)
        results[place] = last
    return [results[place] for place in range(len(values))]


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
    problem = need_mirrors(problem, "lasso_path")
    if isinstance(problem.loss, QuantileLoss):
        raise SolverError(
            "lasso_path follows squared-loss problems; got loss='quantile', whose path is not "
            "piecewise affine in this way. Use solve_path(problem, betas)."
        )
    smallest = check_beta(smallest)
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
        Of the polytope; 0 where the optimum is unique, 1 where it is a segment.
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
        """Whether there is one optimum."""
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
    problem = need_mirrors(problem, "optimal_set")
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
