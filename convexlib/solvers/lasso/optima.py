"""The set of all optima of a Lasso at one beta."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

from convexlib.arrays import Floats
from convexlib.errors import InputError, SolverError
from convexlib.problems.base import Problem, weights_of
from convexlib.problems.mirrors.losses import QuantileLoss
from convexlib.result import Result
from convexlib.solvers.lasso.mirrors import Ints, need_mirrors
from convexlib.validation import check_real


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
    problem = need_mirrors(problem, "optimal_set")
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
