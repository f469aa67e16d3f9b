r"""Semismooth-Newton augmented Lagrangian on the dual, for gated and ReLU problems.

The dual :math:`\min_z \tfrac12\|z - y\|^2` subject to
:math:`\|\mathrm{Proj}_{K_b}(A_b^\top z)\| \le \beta` has the blocks u of the primal as
multipliers. For a penalty :math:`\sigma` its augmented Lagrangian

.. math:: \psi(z) = \tfrac12\|z - y\|^2 + \tfrac1{2\sigma} \sum_b
          \left\|\mathrm{prox}_{\sigma\beta}(u_b + \sigma A_b^\top z)\right\|^2

is once differentiable and strongly convex, and its minimiser gives the next multipliers
:math:`u_b \leftarrow \mathrm{prox}_{\sigma\beta}(u_b + \sigma A_b^\top z)`, which lie in their
cones exactly. The gradient is piecewise smooth, so Newton's method with a generalised Jacobian
converges in a few steps. With P the projection onto the face of the cone that holds the projected
block, :math:`w` its direction and :math:`c = \sigma\beta/\|\mathrm{Proj}\|`, that Jacobian is

.. math:: I + \sigma \sum_{b \in \mathrm{active}}
          A_b \left((1-c) P_b + c\, w_b w_b^\top\right) A_b^\top

of low rank, since few blocks are active and most of their faces are small.
Source: Li, Sun & Toh (2018) for the Lasso; the cones and their faces are this library's.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from convexlib.cones import ConeProjector
from convexlib.errors import SolverError
from convexlib.problems.base import Problem
from convexlib.problems.two_layer import TwoLayer
from convexlib.prox import shrink_into_cones
from convexlib.result import Result, Status
from convexlib.solvers.base import Tracker, need_two_layer
from convexlib.validation import check_positive_int

_GROWTH = 4.0  # of sigma, per outer iteration
_NEWTON_STEPS = 50


class _Subproblem:
    """The augmented Lagrangian at fixed multipliers and penalty."""

    def __init__(
        self, problem: TwoLayer, projector: ConeProjector | None, u: Tensor, sigma: float
    ) -> None:
        self.problem, self.projector, self.u, self.sigma = problem, projector, u, sigma

    def evaluate(self, z: Tensor, correlations: Tensor) -> tuple[float, Tensor, Tensor]:
        """psi(z), the proximal point and the projection before thresholding, both (S, P, d)."""
        threshold = self.sigma * self.problem.beta
        projected = shrink_into_cones(self.u + self.sigma * correlations, None)
        if self.projector is not None:
            flat = projected.reshape(-1, projected.shape[-1])
            projected = self.projector(flat, threshold).reshape(projected.shape)
        norms = torch.linalg.vector_norm(projected, dim=2)
        point = projected * (1.0 - threshold / norms.clamp(min=1e-300)).clamp(min=0.0)[..., None]
        residual = z - self.problem.y
        value = 0.5 * float(residual @ residual) + 0.5 / self.sigma * float((point**2).sum())
        return value, point, projected

    def newton_step(self, gradient: Tensor, projected: Tensor) -> Tensor:
        """Solve (I + sigma B B^T) step = -gradient."""
        columns = self._jacobian_columns(projected)
        if columns is None:
            return -gradient
        n, rank = columns.shape
        if rank < n:
            small = self.sigma * (columns.T @ columns)
            small.diagonal().add_(1.0)
            inner = torch.cholesky_solve((columns.T @ gradient)[:, None], _cholesky(small))
            return -(gradient - self.sigma * (columns @ inner[:, 0]))
        full = self.sigma * (columns @ columns.T)
        full.diagonal().add_(1.0)
        return -torch.cholesky_solve(gradient[:, None], _cholesky(full))[:, 0]

    def _jacobian_columns(self, projected: Tensor) -> Tensor | None:
        """B (n, rank) with B B^T the sum over active blocks of the module's text."""
        threshold = self.sigma * self.problem.beta
        n_patterns, d = projected.shape[1:]
        norms = torch.linalg.vector_norm(projected, dim=2).reshape(-1)
        active = (norms > threshold).nonzero().ravel()  # blocks, sign-major
        if not len(active):
            return None
        directions = projected.reshape(-1, d)[active] / norms[active, None]
        ratios = threshold / norms[active]  # c
        roots = (1.0 - ratios).clamp(min=0.0).sqrt()
        pieces = []
        for chosen, faces in self._faces(active, directions):
            # L = V sqrt(1-c) + (1 - sqrt(1-c)) w (V^T w)^T has L L^T = (1-c) V V^T + c w w^T,
            # since w lies in the face.
            w, root = directions[chosen], roots[chosen]
            along = torch.einsum("bd,bdk->bk", w, faces)
            factor = faces * root[:, None, None]
            factor = factor + (1.0 - root)[:, None, None] * w[:, :, None] * along[:, None, :]
            masks = self.problem.masks[active[chosen] % n_patterns]  # (b, n)
            images = torch.einsum("nd,bdk->nbk", self.problem.X, factor)
            pieces.append((images * masks.T[:, :, None]).reshape(len(masks.T), -1))
        return torch.cat(pieces, dim=1)

    def _faces(self, active: Tensor, directions: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Orthonormal bases (b, d, k) of the faces, grouped by their dimension k."""
        d = directions.shape[1]
        if self.projector is None:
            eye = torch.eye(d, dtype=directions.dtype, device=directions.device)
            return [(torch.arange(len(active)), eye.expand(len(active), d, d))]
        blocks = active.cpu().numpy()
        sizes = torch.from_numpy(self.projector.sizes[blocks])
        groups = []
        for size in sizes.unique().tolist():
            chosen = (sizes == size).nonzero().ravel()
            normals = torch.from_numpy(self.projector.bases[blocks[chosen.numpy()], :size])
            if size >= d - 1:
                faces = directions[chosen][:, :, None]
            elif size == 0:
                faces = torch.eye(d, dtype=torch.float64).expand(len(chosen), d, d)
            else:
                complete, _ = torch.linalg.qr(normals.transpose(1, 2), mode="complete")
                faces = complete[:, :, size:]
            groups.append((chosen.to(active.device), faces.to(directions)))
        return groups


def _cholesky(matrix: Tensor) -> Tensor:
    """Cholesky factor of I + sigma B B^T, regularised when rounding has eaten the identity."""
    jitter = torch.finfo(matrix.dtype).eps * float(matrix.diagonal().max())
    for _ in range(16):
        factor, failed = torch.linalg.cholesky_ex(matrix)
        if not int(failed):
            return factor
        matrix.diagonal().add_(jitter)
        jitter *= 10.0
    raise SolverError(
        "the Newton matrix of ssnal cannot be factored: the data are too badly scaled. Divide the "
        "columns of X by their norms."
    )


def ssnal(
    problem: Problem,
    *,
    tol: float = 1e-6,
    max_iter: int = 60,
    start: Tensor | None = None,
    start_z: Tensor | None = None,
) -> Result:
    """Solve a TwoLayer problem with given patterns.

    Parameters
    ----------
    problem : TwoLayer
        Gated or ReLU.
    tol : float
        Relative duality gap at which to stop.
    max_iter : int
        Outer iterations.
    start, start_z : Tensor
        Weights (S, P, d) and a dual point (n,) to start from.
    """
    problem = need_two_layer(problem, "ssnal")
    check_positive_int(max_iter, "max_iter")
    tracker = Tracker(problem, "ssnal")
    projector, certifier = problem.projector(), problem.projector()
    u = problem.zeros() if start is None else start
    z = problem.y if start_z is None else start_z
    scale = float((problem.X**2).sum())
    if scale == 0.0 or not bool(problem.y.any()):
        tracker.update(0, problem.zeros(), _feasible(problem, certifier, problem.y))
        return tracker.result(Status.CONVERGED, 0, arrangements=problem.arrangements)
    z = _feasible(problem, certifier, z)
    sigma = 3.0 * problem.X.shape[1] / scale  # makes sigma X^T X of order one per column
    if start is not None:
        sigma *= _GROWTH**3  # multipliers that are nearly right bear a larger penalty
    floor = 1e-14 * float(torch.linalg.vector_norm(problem.y))
    steps, stalled = 0, 0
    for iteration in range(1, max_iter + 1):
        sub = _Subproblem(problem, projector, u, sigma)
        correlations = problem.correlations(z)
        value, point, projected = sub.evaluate(z, correlations)
        for inner in range(_NEWTON_STEPS):
            gradient = z - problem.y + problem.fitted(point)
            size = float(torch.linalg.vector_norm(gradient))
            moved = float(torch.linalg.vector_norm(point - u)) / math.sqrt(sigma)
            if size <= max(0.2 * moved / iteration, floor) and (inner > 0 or iteration > 1):
                break
            if size <= floor:
                break
            step = sub.newton_step(gradient, projected)
            steps += 1
            slope = float(gradient @ step)
            change = problem.correlations(step)
            length = 1.0
            for _ in range(30):
                trial = sub.evaluate(z + length * step, correlations + length * change)
                if trial[0] <= value + 1e-4 * length * slope + 1e-14 * abs(value):
                    break
                length *= 0.5
            else:
                break  # rounding hides all descent
            z, correlations = z + length * step, correlations + length * change
            value, point, projected = trial
        previous = tracker.gap
        gap = tracker.update(iteration, point, _feasible(problem, certifier, z))
        if gap <= tol:
            return tracker.result(Status.CONVERGED, steps, arrangements=problem.arrangements)
        stalled = stalled + 1 if gap > 0.9 * previous and iteration > 3 else 0
        if stalled >= 12:
            return tracker.result(Status.STALLED, steps, arrangements=problem.arrangements)
        u = point
        sigma *= _GROWTH
    return tracker.result(Status.MAX_ITER, steps, arrangements=problem.arrangements)


def _feasible(problem: TwoLayer, certifier: ConeProjector | None, z: Tensor) -> Tensor:
    """`Problem.dual_scaling` with a warm-started projector."""
    blocks = problem.correlations(z).reshape(-1, problem.X.shape[1])
    if certifier is not None:
        blocks = certifier(blocks, problem.beta)
    norm = float(torch.linalg.vector_norm(blocks, dim=1).max())
    limit = problem.beta / norm if norm > problem.beta else 1.0
    return problem.loss.best_scale(z, problem.y, limit) * z
