r"""Minimum-norm interpolation over given patterns: the limit of the program as beta falls to 0."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from convexlib.errors import ProblemError, SolverError
from convexlib.problems.base import Problem
from convexlib.problems.two_layer import TwoLayer
from convexlib.result import Result, Status, relative_gap
from convexlib.validation import check_positive_int, check_real

__all__ = ["pursue"]

_CHECK = 20  # iterations between two looks at the bounds
_RANK = 1e-10  # relative eigenvalue of the Gram matrix below which targets may be out of reach
_RELAXED = 1.6  # over-relaxation of Douglas and Rachford's map; it converges below 2


def pursue(
    problem: Problem,
    *,
    tol: float = 1e-8,
    max_iter: int = 20_000,
    below: float | None = None,
) -> Result:
    r"""Minimise the sum of norms over all weights that fit the targets exactly.

    .. math:: \min_{u_i} \sum_i \|u_i\| \quad\text{s.t.}\quad \sum_i D_i X u_i = y ,

    for a gated problem: basis pursuit over groups. Its dual is :math:`\max_z y^\top z` subject to
    :math:`\|X^\top D_i z\| \le 1`. Solved by Douglas and Rachford's splitting: one projection onto
    the interpolating weights and one soft-thresholding of the groups in turn. Every projection is
    feasible, so the value is an upper bound at every iteration, and the multiplier of the
    projection, scaled into the dual's feasible set, gives a lower one.

    Parameters
    ----------
    problem : TwoLayer
        Gated, with patterns. Its beta does not matter. The gate 0 is active on all samples:
        it is a linear skip connection.
    tol : float
        Relative duality gap for ``CONVERGED``.
    max_iter : int
        Iterations, each two products with the patterns.
    below : float, optional
        Stop as soon as an interpolant of norm less than this is found, whatever the gap; the status
        is then ``INTERRUPTED``.

    Returns
    -------
    Result
        The best feasible weights (1, P, d), their norm, the best dual point and its value.

    Raises
    ------
    SolverError
        If the problem is not a gated `TwoLayer` with the squared loss.
    ProblemError
        If no weights fit the targets.

    Notes
    -----
    Checked against CVXPY by ``tests/solvers/interpolation/test_two_layer.py``.
    """
    if not isinstance(problem, TwoLayer) or not problem.gated or problem.loss.name != "squared":
        raise SolverError(
            f"pursue needs a gated TwoLayer with the squared loss; got {problem!r}. For networks "
            "of one input use interpolate; with cones solve with a small beta."
        )
    tol = check_real(tol, "tol")
    below = None if below is None else check_real(below, "below")
    check_positive_int(max_iter, "max_iter")
    began = time.perf_counter()
    y = problem.y
    inverse = _inverse(problem)
    point = problem.correlations(inverse @ y)  # the interpolant of least Euclidean norm
    blocks = torch.linalg.vector_norm(point, dim=2)
    # One threshold for all groups, of the size that a group of the solution may have.
    threshold = float(blocks.max()) or 1.0
    value, dual, n_iter = float("inf"), 0.0, 0
    weights, certificate = point, torch.zeros_like(y)
    while n_iter < max_iter:
        n_iter += 1
        residual = inverse @ (problem.fitted(point) - y)  # (n,)
        feasible = point - problem.correlations(residual)
        reflected = 2.0 * feasible - point
        norms = torch.linalg.vector_norm(reflected, dim=2, keepdim=True)
        shrunk = reflected * (1.0 - threshold / norms.clamp(min=threshold))
        if n_iter % _CHECK == 0 or n_iter == 1:
            found = problem.penalty(feasible)
            if found < value:
                value, weights = found, feasible
            z = -residual / threshold
            size = problem.dual_norm(z)
            if float(y @ z) > dual * size:
                dual, certificate = float(y @ z) / size, z / size
            if relative_gap(value, dual) <= tol or (below is not None and value < below):
                break
        point = point + _RELAXED * (shrunk - feasible)
    gap = relative_gap(value, dual)
    if gap <= tol:
        status = Status.CONVERGED
    else:
        status = Status.MAX_ITER if n_iter == max_iter else Status.INTERRUPTED
    return Result(
        weights=weights,
        value=value,
        dual=dual,
        gap=gap,
        z=certificate,
        status=status,
        method="pursue",
        n_iter=n_iter,
        seconds=time.perf_counter() - began,
    )


def _inverse(problem: TwoLayer) -> Tensor:
    """Invert the Gram matrix of all groups, or say that it has no inverse."""
    gram = problem.gram()
    values, vectors = torch.linalg.eigh(gram)
    if values[0] <= _RANK * values[-1]:
        raise ProblemError(
            f"the patterns' outputs span fewer than {len(gram)} dimensions; expected all targets "
            "to be within reach. Add patterns, or drop samples that repeat."
        )
    return (vectors / values) @ vectors.T
