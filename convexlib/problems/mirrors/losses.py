r"""The quantile (pinball) loss with the pieces of its dual, and Lasso programs for CVXPY."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog
from torch import Tensor

from convexlib.errors import SolverError
from convexlib.losses import Loss
from convexlib.problems.base import CvxpyProgram


@dataclass(frozen=True)
class QuantileLoss(Loss):
    r""":math:`L(f) = \sum_i \rho_\tau(y_i - f_i)`, :math:`\rho_\tau(r) = \max(\tau r, (\tau-1) r)`.

    Its best constant is a tau-quantile of y; tau = 1/2 is half the absolute deviation. The dual
    point is a subgradient with entries in :math:`[\tau - 1, \tau]`.
    """

    name: str = "quantile"
    tau: float = 0.5

    def value(self, fitted: Tensor, y: Tensor) -> float:
        residual = y - fitted
        return float(torch.maximum(self.tau * residual, (self.tau - 1.0) * residual).sum())

    def dual_point(self, fitted: Tensor, y: Tensor) -> Tensor:
        """Return a z with -z in the subdifferential of L at f; 0 where f_i = y_i."""
        residual = y - fitted
        low = torch.full_like(y, self.tau - 1.0)
        z = torch.where(residual > 0, torch.full_like(y, self.tau), low)
        return torch.where(residual == 0, torch.zeros_like(y), z)

    def dual_value(self, z: Tensor, y: Tensor) -> float:
        r""":math:`-L^*(-z) = y^\top z` if every z_i is in :math:`[\tau - 1, \tau]`, else -inf."""
        slack = 1e-12
        if bool((z > self.tau + slack).any()) or bool((z < self.tau - 1.0 - slack).any()):
            return -float("inf")
        return float(y @ z)

    def restrict(self, z: Tensor, y: Tensor) -> Tensor:
        r"""Return the entries clipped to :math:`[\tau - 1, \tau]`."""
        return z.clamp(self.tau - 1.0, self.tau)

    def best_scale(self, z: Tensor, y: Tensor, limit: float) -> float:
        if float(y @ z) <= 0.0:
            return 0.0
        bounds = torch.where(z > 0, self.tau / z, (self.tau - 1.0) / z)
        bounds = bounds[z != 0]
        return min(limit, float(bounds.min())) if len(bounds) else 0.0


def best_constant(loss: Loss, y: Tensor) -> float:
    """Return the constant with the least loss: the mean of y, or its (observed) quantile."""
    if not isinstance(loss, QuantileLoss):
        return float(y.mean())
    place = int(np.ceil(loss.tau * len(y) - 1e-9)) - 1
    return float(torch.sort(y).values[min(max(place, 0), len(y) - 1)])


def flattest_subgradient(
    y: NDArray[np.float64],
    constant: float,
    tau: float,
    correlations: Callable[[Tensor], NDArray[np.float64]],
    columns: Callable[[Any], Tensor],
) -> float:
    r"""Return the least :math:`\max_j |A_j^\top z|` over the dual points z of a best constant.

    They have the entry tau above the constant and tau - 1 below it; where y equals it the entries
    are free in between, with sum zero in all. Found by cutting planes.
    """
    tied = np.flatnonzero(y == constant)
    z = np.where(y > constant, tau, tau - 1.0)
    z[tied] = 0.0
    z[tied] = -z.sum() / len(tied)
    known: list[int] = []
    bound = 0.0
    while True:
        found = np.abs(correlations(torch.from_numpy(z)))
        worst = int(np.argmax(found))
        # One tied sample leaves no freedom. Otherwise the program over the known columns bounds
        # the answer from below, and is the answer once no other column exceeds it.
        if len(tied) == 1 or worst in known or found[worst] <= bound * (1.0 + 1e-9):
            return float(found[worst])
        known.append(worst)
        A = columns(known).numpy()  # (n, k)
        fixed = np.where(np.isin(np.arange(len(y)), tied), 0.0, z)
        rows = np.vstack([A[tied].T, -A[tied].T])
        rows = np.hstack([rows, -np.ones((len(rows), 1))])
        solution = linprog(
            np.append(np.zeros(len(tied)), 1.0),
            A_ub=rows,
            b_ub=np.concatenate([-(fixed @ A), fixed @ A]),
            A_eq=np.append(np.ones(len(tied)), 0.0)[None],
            b_eq=[-fixed.sum()],
            bounds=[(tau - 1.0, tau)] * len(tied) + [(0.0, None)],
        )
        if solution.status != 0:
            raise SolverError(
                f"HiGHS ended with status {solution.status} in beta_max: {solution.message} "
                "Expected an optimum. Rescale x and y."
            )
        z[tied], bound = solution.x[:-1], solution.x[-1]


def cvxpy_lasso(A: NDArray[np.float64], y: Tensor, beta: float, loss: Loss) -> CvxpyProgram:
    r"""Return :math:`\min L(Az + \xi \mathbf 1) + \beta \|z\|_1` for CVXPY."""
    targets = y.double().cpu().numpy()
    z, bias, fitted = cp.Variable(A.shape[1]), cp.Variable(), cp.Variable(len(targets))
    link = fitted == A @ z + bias
    residual = targets - fitted
    if isinstance(loss, QuantileLoss):
        fit = cp.sum(cp.maximum(loss.tau * residual, (loss.tau - 1.0) * residual))
    else:
        fit = 0.5 * cp.sum_squares(residual)
    program = cp.Problem(cp.Minimize(fit + beta * cp.norm1(z)), [link])

    def read_weights() -> Tensor:
        return torch.as_tensor([*np.asarray(z.value), float(np.asarray(bias.value))]).to(y)

    return CvxpyProgram(program, read_weights, link, y)
