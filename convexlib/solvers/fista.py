r"""Accelerated proximal gradient with restart, for gated problems.

.. math:: u^{k+1} = \mathrm{prox}_{\beta/L \|\cdot\|}\left(v^k - \tfrac1L A^\top(A v^k - y)\right),
          \qquad v^{k+1} = u^{k+1} + \tfrac{t_k - 1}{t_{k+1}} (u^{k+1} - u^k)

(Beck & Teboulle, 2009), with the momentum dropped whenever it points uphill (O'Donoghue & Candès,
2015) and a stop on the duality gap. Small and plain: the solver that the text teaches.
"""

from __future__ import annotations

import math

import torch

from convexlib.errors import SolverError
from convexlib.problems.base import Problem
from convexlib.problems.two_layer import TwoLayer
from convexlib.prox import group_soft_threshold
from convexlib.result import Result, Status
from convexlib.solvers.base import Tracker, need_two_layer
from convexlib.validation import check_positive_int


def lipschitz(problem: TwoLayer, n_iter: int = 100, margin: float = 1.02) -> float:
    """The largest eigenvalue of A A^T by power iteration, with a margin for its error."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(len(problem.y), generator=generator, dtype=torch.float64).to(problem.y)
    largest = 0.0
    for _ in range(n_iter):
        z = z / torch.linalg.vector_norm(z)
        z = problem.fitted(problem.correlations(z))
        previous, largest = largest, float(torch.linalg.vector_norm(z))
        if abs(largest - previous) <= 1e-4 * largest:
            break
    return margin * largest


def fista(
    problem: Problem, *, tol: float = 1e-6, max_iter: int = 20_000, check_every: int = 10
) -> Result:
    """Solve a gated problem; the gap is measured every `check_every` iterations.

    Raises
    ------
    SolverError
        For a problem with cone constraints.
    """
    problem = need_two_layer(problem, "fista")
    check_positive_int(max_iter, "max_iter")
    if not problem.gated:
        raise SolverError(
            "fista needs an unconstrained program; TwoLayer(gated=False) has cone constraints. "
            "Use method='ssnal' or 'auto'."
        )
    tracker = Tracker(problem, "fista")
    step = lipschitz(problem)
    u = v = problem.zeros()
    if step == 0.0:  # X = 0 or no active pattern: every output is zero
        tracker.update(0, u, problem.dual_scaling(problem.y))
        return tracker.result(Status.CONVERGED, 0, arrangements=problem.arrangements)
    t = 1.0
    for iteration in range(1, max_iter + 1):
        gradient = -problem.correlations(problem.y - problem.fitted(v))
        new = group_soft_threshold(v - gradient / step, problem.beta / step)
        if float(((v - new) * (new - u)).sum()) > 0:  # momentum points uphill
            t = 1.0
        t_next = 0.5 * (1.0 + math.sqrt(1.0 + 4.0 * t * t))
        v = new + (t - 1.0) / t_next * (new - u)
        u, t = new, t_next
        if iteration % check_every == 0 or iteration == 1:
            z = problem.loss.dual_point(problem.fitted(u), problem.y)
            if tracker.update(iteration, u, problem.dual_scaling(z)) <= tol:
                return tracker.result(
                    Status.CONVERGED, iteration, arrangements=problem.arrangements
                )
    return tracker.result(Status.MAX_ITER, max_iter, arrangements=problem.arrangements)
