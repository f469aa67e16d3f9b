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

    More blocks than samples have dependent outputs. Along a null vector the fit stays and the
    penalty, which is linear while all multiples are positive, does not rise in one direction; the
    first block to reach zero leaves (Caratheodory's argument).
    """
    norms = problem.norms(weights)
    if not norms.any():
        return weights
    side, index = norms.nonzero(as_tuple=True)
    chosen = index.cpu().numpy()
    heights = norms[side, index].double().cpu().numpy().copy()
    outputs = problem.maps(chosen)[0].reshape(len(problem.y), len(chosen), -1)
    blocks = weights[side, index].flatten(1).double().cpu().numpy()
    signs = np.where(side.cpu().numpy() == 0, 1.0, -1.0)
    parts = np.einsum("tka,ka->tk", outputs, blocks) * (signs / heights)  # (n, B)
    left = np.arange(len(chosen))
    start = heights.copy()
    while len(left) > len(parts):
        null = np.linalg.svd(parts[:, left])[2][-1]
        null = null if null.sum() >= 0 else -null
        if not (null > 0).any():
            break
        ratios = np.where(null > 0, heights[left] / np.where(null > 0, null, 1.0), np.inf)
        first = int(np.argmin(ratios))
        heights[left] = np.maximum(heights[left] - ratios[first] * null, 0.0)
        heights[left[first]] = 0.0
        left = left[heights[left] > 0]
    factors = torch.from_numpy(np.where(heights > 0, heights / start, 0.0)).to(weights)
    pruned = problem.zeros()
    pruned[side, index] = weights[side, index] * factors[:, None, None]
    return pruned
