r"""The whole Lasso path.

Between two kinks of the path the support S and the signs s are constant, and

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

from convexlib.arrays import Floats
from convexlib.errors import SolverError
from convexlib.problems.base import Problem
from convexlib.problems.mirrors import Mirrors
from convexlib.problems.mirrors.losses import QuantileLoss
from convexlib.result import Result
from convexlib.solvers.lasso.mirrors import Ints, Squared, lasso, need_mirrors, worst_columns
from convexlib.validation import check_beta, check_betas, check_positive_int

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
    values = check_betas(betas)
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
