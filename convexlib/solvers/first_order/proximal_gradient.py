r"""Proximal gradient descent, for gated problems: the plainest solver that the text teaches.

.. math:: w^{k+1} = \mathrm{prox}_{\beta\Omega/\ell}\left(w^k
          - \tfrac1\ell A^\top \nabla L(A w^k)\right)

The step :math:`1/\ell` is one over the Lipschitz constant of :math:`A^\top \nabla L(A\,\cdot)`, so
the objective falls in every iteration, and as 1/k (Beck & Teboulle, 2009). A stop on the duality
gap.
"""

from __future__ import annotations

from convexlib.problems.base import Problem
from convexlib.result import Result, Status
from convexlib.solvers.base import Tracker, need_unconstrained
from convexlib.validation import check_positive_int


def proximal_gradient(
    problem: Problem, *, tol: float = 1e-6, max_iter: int = 100_000, check_every: int = 20
) -> Result:
    """Solve a gated problem; the gap is measured every `check_every` iterations.

    Raises
    ------
    SolverError
        For a problem with cone constraints.
    """
    problem = need_unconstrained(problem, "proximal_gradient")
    check_positive_int(max_iter, "max_iter")
    tracker = Tracker(problem, "proximal_gradient")
    prox, y, loss = problem.proximal_map(), problem.y, problem.loss
    steepness = loss.gradient_lipschitz * problem.lipschitz()
    w = problem.zeros()
    for iteration in range(max_iter + 1):
        z = loss.dual_point(problem.fitted(w), y)  # minus the gradient of the loss
        if iteration % check_every == 0 or iteration == 1:
            gap = tracker.update(iteration, w, problem.dual_scaling(z))
            # Without a slope every output is zero, and so is the solution.
            if gap <= tol or steepness == 0.0:
                status = Status.CONVERGED
                return tracker.result(status, iteration, arrangements=problem.arrangements)
        w = prox(w + problem.correlations(z) / steepness, problem.beta / steepness)
    return tracker.result(Status.MAX_ITER, max_iter, arrangements=problem.arrangements)
