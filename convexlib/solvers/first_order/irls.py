r"""Kernel learning by reweighted least squares, for gated problems.

For weights :math:`\eta_i > 0` of the kernels :math:`K_i = D_i X X^\top D_i`,

.. math:: \beta \sum_i \|v_i\| \le \tfrac\beta2 \sum_i \left(\|v_i\|^2/\eta_i + \eta_i\right),

with equality for :math:`\eta_i = \|v_i\|`. With :math:`\eta` fixed the right side is kernel ridge
regression with :math:`K = \sum_i \eta_i K_i`: the dual point is
:math:`z = \beta (K + \beta I)^{-1} y` and :math:`v_i = \eta_i X^\top D_i z / \beta`. So one step is

.. math:: \eta_i \leftarrow \eta_i \|X^\top D_i z\| / \beta ,

which never raises the objective. Equal weights are the neural tangent kernel of the gated network;
the fixed points are the optima of the group Lasso. Source: Dwaraknath, Ergen & Pilanci (2023).
"""

from __future__ import annotations

import torch
from torch import Tensor

from convexlib.errors import InputError, SolverError
from convexlib.problems.base import Problem
from convexlib.result import Result, Status
from convexlib.solvers.base import Tracker, need_two_layer
from convexlib.validation import check_positive_int


def irls(
    problem: Problem,
    *,
    tol: float = 1e-6,
    max_iter: int = 20_000,
    check_every: int = 10,
    start: Tensor | None = None,
) -> Result:
    """Solve a gated problem with squared loss; the gap is measured every `check_every` steps.

    `start` are the kernels' weights (P,), all > 0; by default equal ones. The first line of the
    history is kernel ridge regression with the best multiple of them.

    Raises
    ------
    SolverError
        For cones or another loss: the steps are no kernel regressions then.
    InputError
        For a start that does not fit.
    """
    problem = need_two_layer(problem, "irls")
    check_positive_int(max_iter, "max_iter")
    if problem.constrained or problem.loss.name != "squared":
        raise SolverError(
            f"irls needs a gated program with squared loss; got {problem}. Use method='auto'."
        )
    shares = problem.y.new_ones(problem.n_patterns) if start is None else start.to(problem.y)
    if shares.shape != (problem.n_patterns,) or not bool((shares > 0).all()):
        raise InputError(f"start has shape {tuple(shares.shape)}; expected (P,), all > 0.")
    tracker = Tracker(problem, "irls")
    masks, products = problem.masks, problem.X @ problem.X.T
    eta = best_multiple(products * (masks.T @ (shares[:, None] * masks)), shares, problem)
    for iteration in range(1, max_iter + 1):
        kernel = products * (masks.T @ (eta[:, None] * masks))  # (n, n)
        kernel.diagonal().add_(problem.beta)
        z = (
            problem.beta
            * torch.cholesky_solve(problem.y[:, None], torch.linalg.cholesky(kernel)).ravel()
        )
        blocks = problem.correlations(z)[0] * (eta / problem.beta)[:, None]  # (P, d)
        if iteration == 1 or iteration % check_every == 0:
            gap = tracker.update(iteration, blocks[None], problem.dual_scaling(z))
            if gap <= tol:
                return tracker.result(
                    Status.CONVERGED, iteration, arrangements=problem.arrangements
                )
        eta = torch.linalg.vector_norm(blocks, dim=1)
    return tracker.result(Status.MAX_ITER, max_iter, arrangements=problem.arrangements)


def best_multiple(kernel: Tensor, shares: Tensor, problem: Problem) -> Tensor:
    r"""The multiple t of the weights with the least majorant.

    Its value is :math:`\tfrac\beta2 (y^\top (tK + \beta I)^{-1} y + t \sum_i \eta_i)`, convex in t.
    """
    values, vectors = torch.linalg.eigh(kernel)
    parts, total = (vectors.T @ problem.y) ** 2, float(shares.sum())
    values = values.clamp(min=0.0)

    def slope(t: float) -> float:
        return total - float((values * parts / (t * values + problem.beta) ** 2).sum())

    low, high = 0.0, 1.0 / total
    while slope(high) < 0:
        high *= 2.0
    for _ in range(100):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return high * shares
