r"""Accelerated proximal gradient with restart, for gated problems.

.. math:: w^{k+1} = \mathrm{prox}_{\beta\Omega/\ell}\left(v^k
          - \tfrac1\ell A^\top \nabla L(A v^k)\right),
          \qquad v^{k+1} = w^{k+1} + \tfrac{t_k - 1}{t_{k+1}} (w^{k+1} - w^k)

(Beck & Teboulle, 2009), with the momentum dropped whenever it points uphill (O'Donoghue & Candès,
2015) and a stop on the duality gap. Small and plain: the solver that the text teaches after
`convexlib.solvers.first_order.proximal_gradient`.
"""

from __future__ import annotations

import math

from convexlib.problems.base import Problem
from convexlib.result import Result, Status
from convexlib.solvers.base import Tracker, need_unconstrained
from convexlib.validation import check_positive_int


def fista(
    problem: Problem, *, tol: float = 1e-6, max_iter: int = 20_000, check_every: int = 10
) -> Result:
    """Solve a gated problem; the gap is measured every `check_every` iterations.

    Raises
    ------
    SolverError
        For a problem with cone constraints.
    """
    problem = need_unconstrained(problem, "fista")
    check_positive_int(max_iter, "max_iter")
    tracker = Tracker(problem, "fista")
    prox, y, loss = problem.proximal_map(), problem.y, problem.loss
    steepness = loss.gradient_lipschitz * problem.lipschitz()
    w = v = problem.zeros()
    if steepness == 0.0:  # X = 0 or no active pattern: every output is zero
        tracker.update(0, w, problem.dual_scaling(loss.dual_point(problem.fitted(w), y)))
        return tracker.result(Status.CONVERGED, 0, arrangements=problem.arrangements)
    t = 1.0
    for iteration in range(1, max_iter + 1):
        slope = -problem.correlations(loss.dual_point(problem.fitted(v), y))
        new = prox(v - slope / steepness, problem.beta / steepness)
        if float(((v - new) * (new - w)).sum()) > 0:  # momentum points uphill
            t = 1.0
        t_next = 0.5 * (1.0 + math.sqrt(1.0 + 4.0 * t * t))
        v = new + (t - 1.0) / t_next * (new - w)
        w, t = new, t_next
        if iteration % check_every == 0 or iteration == 1:
            z = loss.dual_point(problem.fitted(w), y)
            if tracker.update(iteration, w, problem.dual_scaling(z)) <= tol:
                status = Status.CONVERGED
                return tracker.result(status, iteration, arrangements=problem.arrangements)
    return tracker.result(Status.MAX_ITER, max_iter, arrangements=problem.arrangements)
