r"""The alternating direction method of multipliers, for gated and ReLU problems.

The program is split between outputs and blocks, :math:`\min L(f) + \beta\Omega(v)` over v in the
cones, with a third variable that ties them: :math:`f = \tau A w,\; v = w` (in the units in which
:math:`\tau A` has norm about one). With :math:`\rho` the penalty, one iteration is

.. math::
   w &\leftarrow \arg\min_w \|\tau A w - f + s\|^2 + \|w - v + t\|^2 \\
   f &\leftarrow \mathrm{prox}_{L/\rho}(\tau A w + s), \qquad
   v \leftarrow \mathrm{prox}_{\beta\Omega/\rho}(w + t) \\
   s &\leftarrow s + \tau A w - f, \qquad t \leftarrow t + w - v .

The first line is a least-squares problem of n unknowns, whose matrix :math:`I + \tau^2 A A^\top` is
factored once; v lies in the cones exactly, and :math:`z = \rho s` is the dual point of f. Source:
Boyd, Parikh, Chu, Peleato & Eckstein (2011); :math:`\rho` follows their rule of balanced residuals.
"""

from __future__ import annotations

import torch
from torch import Tensor

from convexlib.errors import SolverError
from convexlib.problems.base import Problem
from convexlib.result import Result, Status
from convexlib.solvers.base import Tracker, need_linear_program
from convexlib.validation import check_positive_int

MAX_SAMPLES = 10_000  # beyond this the factor of the (n, n) matrix is out of proportion
_RELAXATION = 1.6
_IMBALANCE = 3.0  # of the residuals, beyond which rho changes


def admm(
    problem: Problem, *, tol: float = 1e-6, max_iter: int = 50_000, check_every: int = 20
) -> Result:
    """Solve a problem with given patterns; the gap is measured every `check_every` iterations.

    Raises
    ------
    SolverError
        For more than 10,000 samples.
    """
    problem = need_linear_program(problem, "admm")
    check_positive_int(max_iter, "max_iter")
    n = len(problem.y)
    if n > MAX_SAMPLES:
        raise SolverError(
            f"admm factors a matrix of {n} x {n}; expected at most {MAX_SAMPLES} samples. Use "
            "method='auto'."
        )
    tracker = Tracker(problem, "admm")
    prox, y, loss, beta = problem.proximal_map(), problem.y, problem.loss, problem.beta
    gram = problem.gram()
    weight = float(gram.trace())
    if weight == 0.0:  # X = 0 or no active pattern: every output is zero
        zero = problem.zeros()
        tracker.update(0, zero, problem.dual_scaling(loss.dual_point(problem.fitted(zero), y)))
        return tracker.result(Status.CONVERGED, 0, arrangements=problem.arrangements)
    scale = n / weight  # tau^2
    system = scale * gram
    system.diagonal().add_(1.0)
    factor = torch.linalg.cholesky(system)
    rho = loss.gradient_lipschitz / scale
    v = t = problem.zeros()
    f = s = torch.zeros_like(y)
    for iteration in range(1, max_iter + 1):
        base = v - t
        image = problem.fitted(base)
        q = scale * _solve(factor, f - s - image)
        w = base + problem.correlations(q)
        image = image + gram @ q  # A w
        w = _RELAXATION * w + (1.0 - _RELAXATION) * v
        image = _RELAXATION * image + (1.0 - _RELAXATION) * f
        before = f, v
        f, v = loss.prox(image + s, y, 1.0 / (rho * scale)), prox(w + t, beta / rho)
        s, t = s + image - f, t + w - v
        if iteration % check_every and iteration > 1:
            continue
        z = loss.dual_point(f, y)
        if tracker.update(iteration, v, problem.dual_scaling(z)) <= tol:
            return tracker.result(Status.CONVERGED, iteration, arrangements=problem.arrangements)
        primal = _size(image - f, w - v, scale) / max(_size(f, v, scale), 1e-300)
        moved = scale * problem.correlations(f - before[0]) + v - before[1]
        dual = float(torch.linalg.norm(moved)) / max(float(torch.linalg.norm(t)), 1e-300)
        change = 2.0 if primal > _IMBALANCE * dual else 0.5 if dual > _IMBALANCE * primal else 1.0
        rho, s, t = rho * change, s / change, t / change
    return tracker.result(Status.MAX_ITER, max_iter, arrangements=problem.arrangements)


def _solve(factor: Tensor, right: Tensor) -> Tensor:
    """Solve for (n,) or (n, c)."""
    return torch.cholesky_solve(right.reshape(len(right), -1), factor).reshape(right.shape)


def _size(outputs: Tensor, blocks: Tensor, scale: float) -> float:
    """Length of a pair, the outputs weighed by tau."""
    return (scale * float((outputs**2).sum()) + float((blocks**2).sum())) ** 0.5
