"""The program over a few units, solved exactly, and its solution with few blocks."""

from __future__ import annotations

import clarabel
import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from convexlib.errors import SolverError
from convexlib.losses.piecewise import PiecewiseLoss
from convexlib.networks.prune import independent
from convexlib.problems.parallel import UnitProgram

_ACCURACY = 1e-10  # of the interior-point method, relative to the scaled program


def restricted(problem: UnitProgram, blocks: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Solve the program over some blocks: feasible weights, and the multiplier of the outputs."""
    K, m, d = problem.shape[1:]
    index, sign = blocks % K, np.where(blocks < K, 1.0, -1.0)
    A, walls = problem.maps(index)
    # Data and targets of size one, as the accuracy is absolute: variables U * spread / height.
    y = problem.y.double().cpu().numpy()
    piecewise = isinstance(problem.loss, PiecewiseLoss)
    height = 1.0 if problem.loss.name == "hinge" else float(np.linalg.norm(y)) or 1.0
    spread = float(np.linalg.norm(problem.cones.X, axis=1).max()) or 1.0
    beta = problem.beta / (spread if piecewise else spread * height)
    A = A * np.repeat(sign, m * d) / spread
    n, size = len(y), A.shape[1]
    groups, length = (len(index) * m, d) if problem.by_sum else (len(index), m * d)
    # Variables: outputs f (n), blocks (size), norms (groups), losses (n, piecewise linear only).
    tail = n if piecewise else 0
    total = n + size + groups + tail
    quadratic = np.zeros(total)
    linear = np.zeros(total)
    linear[n + size : n + size + groups] = beta
    rows = [sp.hstack([sp.eye(n), sp.csc_matrix(-A), sp.csc_matrix((n, groups + tail))])]
    right = [np.zeros(n)]
    cones = [clarabel.ZeroConeT(n)]
    if isinstance(problem.loss, PiecewiseLoss):
        linear[-n:] = 1.0
        for slope, offset in problem.loss.pieces(problem.y):
            slopes = sp.diags(slope.double().cpu().numpy())
            rows.append(sp.hstack([slopes, sp.csc_matrix((n, size + groups)), -sp.eye(n)]))
            right.append(-offset.double().cpu().numpy() / height)
            cones.append(clarabel.NonnegativeConeT(n))
    else:
        quadratic[:n], linear[:n] = 1.0, -y / height
    if walls.shape[0]:
        left = sp.csc_matrix((walls.shape[0], n))
        rows.append(sp.hstack([left, -walls, sp.csc_matrix((walls.shape[0], groups + tail))]))
        right.append(np.zeros(walls.shape[0]))
        cones.append(clarabel.NonnegativeConeT(walls.shape[0]))
    # (t, u) in the second-order cone for every group.
    group = np.arange(groups)
    entries = np.arange(size)
    place = np.concatenate([group * (length + 1), entries + entries // length + 1])
    column = np.concatenate([n + size + group, n + entries])
    shape = (groups * (length + 1), total)
    rows.append(sp.csc_matrix((-np.ones(len(place)), (place, column)), shape=shape))
    right.append(np.zeros(shape[0]))
    cones += [clarabel.SecondOrderConeT(length + 1)] * groups
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = _ACCURACY
    solution = clarabel.DefaultSolver(
        sp.diags(quadratic, format="csc"),
        linear,
        sp.vstack(rows, format="csc"),
        np.concatenate(right),
        cones,
        settings,
    ).solve()
    # Close to the limits of rounding the method stops short of its accuracy; the gap then decides.
    if str(solution.status) not in ("Solved", "AlmostSolved", "InsufficientProgress"):
        raise SolverError(
            f"Clarabel ended with status {solution.status}; expected Solved. Rescale X and y."
        )
    values = np.array(solution.x)[n : n + size].reshape(-1, m, d) * (height / spread)
    multiplier = np.array(solution.z)[:n] * (1.0 if piecewise else height)
    weights = problem.zeros()
    weights[(np.where(sign > 0, 0, 1), index)] = torch.from_numpy(values).to(weights)
    sizes = problem.norms(weights)
    weights = torch.where((sizes > 1e-8 * sizes.max())[..., None, None], weights, 0.0)
    return problem.project(weights), torch.from_numpy(multiplier).to(problem.y)


def pruned(problem: UnitProgram, weights: Tensor) -> Tensor:
    """The same outputs from at most n blocks, at no larger penalty.

    For the same reason as for neurons, see `convexlib.networks.prune`: outputs and norms of blocks
    are positively homogeneous, too.
    """
    side, index = problem.norms(weights).nonzero(as_tuple=True)
    if not len(index):
        return weights
    chosen = index.cpu().numpy()
    outputs = problem.maps(chosen)[0].reshape(len(problem.y), len(chosen), -1)
    blocks = weights[side, index].flatten(1).double().cpu().numpy()
    images = torch.from_numpy(np.einsum("tka,ka->tk", outputs, blocks)).to(weights.device)
    images = images * (1.0 - 2.0 * side)  # (n, B)
    live = images.any(dim=0)
    side, index = side[live], index[live]
    costs = problem.norms(weights)[side, index].double()
    factors = independent(images[:, live], costs).to(weights)
    left = problem.zeros()
    left[side, index] = weights[side, index] * factors[:, None, None]
    return left
