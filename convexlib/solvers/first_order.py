r"""Plain iterations over given patterns: what the text teaches, and what others are checked by.

**Proximal gradient descent**, for gated problems, the plainest of all:

.. math:: w^{k+1} = \mathrm{prox}_{\beta\Omega/\ell}\left(w^k
          - \tfrac1\ell A^\top \nabla L(A w^k)\right)

The step :math:`1/\ell` is one over the Lipschitz constant of :math:`A^\top \nabla L(A\,\cdot)`, so
the objective falls in every iteration, and as 1/k (Beck & Teboulle, 2009). A stop on the duality
gap.

**FISTA**: accelerated proximal gradient with restart, for gated problems,

.. math:: w^{k+1} = \mathrm{prox}_{\beta\Omega/\ell}\left(v^k
          - \tfrac1\ell A^\top \nabla L(A v^k)\right),
          \qquad v^{k+1} = w^{k+1} + \tfrac{t_k - 1}{t_{k+1}} (w^{k+1} - w^k)

(Beck & Teboulle, 2009), with the momentum dropped whenever it points uphill (O'Donoghue & Candès,
2015) and a stop on the duality gap.

**ADMM**, the alternating direction method of multipliers, for gated and ReLU problems. The program
is split between outputs and blocks, :math:`\min L(f) + \beta\Omega(v)` over v in the cones, with a
third variable that ties them: :math:`f = \tau A w,\; v = w` (in the units in which :math:`\tau A`
has norm about one). With :math:`\rho` the penalty, one iteration is

.. math::
   w &\leftarrow \arg\min_w \|\tau A w - f + s\|^2 + \|w - v + t\|^2 \\
   f &\leftarrow \mathrm{prox}_{L/\rho}(\tau A w + s), \qquad
   v \leftarrow \mathrm{prox}_{\beta\Omega/\rho}(w + t) \\
   s &\leftarrow s + \tau A w - f, \qquad t \leftarrow t + w - v .

The first line is a least-squares problem of n unknowns, whose matrix :math:`I + \tau^2 A A^\top` is
factored once; v lies in the cones exactly, and :math:`z = \rho s` is the dual point of f. Source:
Boyd, Parikh, Chu, Peleato & Eckstein (2011); :math:`\rho` follows their rule of balanced residuals.

**Kernel learning** by reweighted least squares (IRLS), for gated problems. For weights
:math:`\eta_i > 0` of the kernels :math:`K_i = D_i X X^\top D_i`,

.. math:: \beta \sum_i \|v_i\| \le \tfrac\beta2 \sum_i \left(\|v_i\|^2/\eta_i + \eta_i\right),

with equality for :math:`\eta_i = \|v_i\|`. With :math:`\eta` fixed the right side is kernel ridge
regression with :math:`K = \sum_i \eta_i K_i`: the dual point is
:math:`z = \beta (K + \beta I)^{-1} y` and :math:`v_i = \eta_i X^\top D_i z / \beta`. So one step is

.. math:: \eta_i \leftarrow \eta_i \|X^\top D_i z\| / \beta ,

which never raises the objective. Equal weights are the neural tangent kernel of the gated network;
the fixed points are the optima of the group Lasso. Source: Dwaraknath, Ergen & Pilanci (2023).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from convexlib.checks import check_positive_int
from convexlib.errors import InputError
from convexlib.problems.base import LinearProgram, Problem
from convexlib.problems.two_layer import GroupLasso
from convexlib.result import Result, Status
from convexlib.solvers.base import Tracker, check_start, need


def proximal_gradient(
    problem: Problem, *, tol: float = 1e-6, max_iter: int = 100_000, check_every: int = 20
) -> Result:
    """Solve a gated problem; the gap is measured every `check_every` iterations.

    Raises
    ------
    SolverError
        For a problem with cone constraints.
    """
    return _descend(problem, "proximal_gradient", tol, max_iter, check_every)


def fista(
    problem: Problem, *, tol: float = 1e-6, max_iter: int = 20_000, check_every: int = 10
) -> Result:
    """Solve a gated problem; the gap is measured every `check_every` iterations.

    Raises
    ------
    SolverError
        For a problem with cone constraints.
    """
    return _descend(problem, "fista", tol, max_iter, check_every)


def _descend(problem: Problem, method: str, tol: float, max_iter: int, check_every: int) -> Result:
    """Proximal gradient steps; FISTA is the same with momentum."""
    problem = need(problem, LinearProgram, method)
    check_positive_int(max_iter, "max_iter")
    check_positive_int(check_every, "check_every")
    tracker = Tracker(problem, method, tol)
    problem = tracker.problem
    prox, y, loss = problem.proximal_map(), problem.y, problem.loss
    steepness = loss.gradient_lipschitz * problem.lipschitz()
    w = v = problem.zeros()
    t = 1.0
    for iteration in range(max_iter + 1):
        if iteration % check_every == 0 or iteration == 1:
            z = loss.dual_point(problem.fitted(w), y)
            gap = tracker.update(iteration, w, problem.dual_scaling(z))
            # Without a slope every output is zero, and so is the solution.
            if gap <= tol or steepness == 0.0:
                return tracker.result(Status.CONVERGED, iteration)
        z = loss.dual_point(problem.fitted(v), y)  # minus the gradient of the loss
        new = prox(v + problem.correlations(z) / steepness, problem.beta / steepness)
        uphill = float(((v - new) * (new - w)).sum()) > 0
        if uphill or method != "fista":
            t = 1.0
        t_next = 0.5 * (1.0 + math.sqrt(1.0 + 4.0 * t * t))
        v = new + (t - 1.0) / t_next * (new - w)
        w, t = new, t_next
    return tracker.result(Status.MAX_ITER, max_iter)


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
    problem = need(problem, LinearProgram, "admm")
    check_positive_int(max_iter, "max_iter")
    check_positive_int(check_every, "check_every")
    tracker = Tracker(problem, "admm", tol)
    problem = tracker.problem
    n = len(problem.y)
    prox, y, loss, beta = problem.proximal_map(), problem.y, problem.loss, problem.beta
    gram = problem.gram()
    weight = float(gram.trace())
    if weight == 0.0:  # X = 0 or no active pattern: every output is zero
        zero = problem.zeros()
        tracker.update(0, zero, problem.dual_scaling(loss.dual_point(problem.fitted(zero), y)))
        return tracker.result(Status.CONVERGED, 0)
    scale = n / weight  # tau^2
    system = scale * gram
    system.diagonal().add_(1.0)
    factor = torch.linalg.cholesky(system)
    rho = loss.gradient_lipschitz / scale
    v = t = problem.zeros()
    f = s = torch.zeros_like(y)
    for iteration in range(1, max_iter + 1):
        # Project (v - t, f - s) onto the graph of A, to w and image = A w: one (n, n) system.
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
            return tracker.result(Status.CONVERGED, iteration)
        primal = _size(image - f, w - v, scale) / max(_size(f, v, scale), 1e-300)
        moved = scale * problem.correlations(f - before[0]) + v - before[1]
        dual = float(torch.linalg.norm(moved)) / max(float(torch.linalg.norm(t)), 1e-300)
        # Residual balancing: a larger penalty closes the primal residual faster, a smaller one the
        # dual. The scaled multipliers are divided by it.
        change = 2.0 if primal > _IMBALANCE * dual else 0.5 if dual > _IMBALANCE * primal else 1.0
        rho, s, t = rho * change, s / change, t / change
    return tracker.result(Status.MAX_ITER, max_iter)


def _solve(factor: Tensor, right: Tensor) -> Tensor:
    """Solve for (n,) or (n, c)."""
    return torch.cholesky_solve(right.reshape(len(right), -1), factor).reshape(right.shape)


def _size(outputs: Tensor, blocks: Tensor, scale: float) -> float:
    """Length of a pair, the outputs weighed by tau."""
    return (scale * float((outputs**2).sum()) + float((blocks**2).sum())) ** 0.5


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
    problem = need(problem, GroupLasso, "irls")
    check_positive_int(max_iter, "max_iter")
    check_positive_int(check_every, "check_every")
    tracker = Tracker(problem, "irls", tol)
    problem = tracker.problem
    shares = problem.y.new_ones(problem.n_patterns)
    if start is not None:
        shares = check_start(start, (problem.n_patterns,), "start").to(problem.y)
    if not bool((shares > 0).all()):
        raise InputError(f"start has the entry {float(shares.min()):g}; expected all > 0.")
    masks, products = problem.masks, problem.X @ problem.X.T
    eta = best_multiple(products * (masks.T @ (shares[:, None] * masks)), shares, problem)
    for iteration in range(1, max_iter + 1):
        kernel = products * (masks.T @ (eta[:, None] * masks))  # (n, n)
        kernel.diagonal().add_(problem.beta)
        z = problem.beta * _solve(torch.linalg.cholesky(kernel), problem.y)
        blocks = problem.correlations(z)[0] * (eta / problem.beta)[:, None]  # (P, d)
        if iteration == 1 or iteration % check_every == 0:
            gap = tracker.update(iteration, blocks[None], problem.dual_scaling(z))
            if gap <= tol:
                return tracker.result(Status.CONVERGED, iteration)
        eta = torch.linalg.vector_norm(blocks, dim=1)
    return tracker.result(Status.MAX_ITER, max_iter)


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
