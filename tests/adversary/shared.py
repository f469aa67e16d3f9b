"""What the attacks on several chapters share: solves, programs, best neurons and cones."""

import itertools
import warnings
from math import comb

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog, nnls
from torch import nn

import convexlib as cl
from convexlib.errors import ConvergenceWarning
from convexlib.problems.base import Problem
from tests.adversary.search import Draw, Floats
from tests.helpers.checks import best_in_cone

Masks = NDArray[np.bool_]
PRECISE = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10}


def relu(values: Floats) -> Floats:
    """Positive parts."""
    return np.maximum(values, 0.0)


def unit(v: Floats) -> Floats:
    """The vector divided by its length."""
    return v / np.linalg.norm(v)


def solved(problem: Problem, tol: float = 1e-8) -> cl.Result:
    """What the library finds; an attack reckons with the gap that it leaves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return cl.solve(problem, tol=tol)


def at_part(draw: Draw, problem: Problem, low: float, high: float) -> Problem:
    """The problem with beta a part of beta_max; 1 where that is nothing."""
    return problem.with_beta(draw.power(low, high) * problem.beta_max() or 1.0)


def network(draw: Draw, X: Floats, most: int) -> tuple[Floats, Floats]:
    """Weights of up to so many neurons."""
    m = draw.size(1, most)
    return draw.weights(m, X.shape[1]), draw.weights(m)


def weights_of(network: nn.Module, *names: str) -> list[Floats]:
    """Parameters as arrays; U and alpha if none is named."""
    return [getattr(network, name).detach().numpy() for name in names or ("U", "alpha")]


def scaled(z: Floats, largest: float, beta: float) -> Floats:
    """z, shorter where its largest correlation is above beta."""
    return z * min(1.0, beta / largest) if largest > 0 else z


def dual(z: Floats, y: Floats) -> float:
    """d(z) of the squared loss."""
    return float((y * z).sum() - 0.5 * (z**2).sum())


def loss_at(name: str, f: Floats, y: Floats) -> float:
    """The loss of outputs; "mixed" is strongly convex with the constant 1 and has kinks."""
    if name == "logistic":
        return float(np.logaddexp(0.0, -y * f).sum())
    e, m = f - y, relu(1 - y * f)
    values = {
        "squared": 0.5 * e @ e,
        "absolute": np.abs(e).sum(),
        "hinge": m.sum(),
        "squared hinge": 0.5 * m @ m,
        "mixed": 0.5 * e @ e + np.abs(e).sum(),
    }
    return float(values[name])


def convex_loss(name: str, outputs: cp.Expression, y: Floats) -> cp.Expression:
    """The same for CVXPY."""
    e, m = outputs - y, cp.pos(1 - cp.multiply(y, outputs))
    values = {
        "squared": cp.sum_squares(e) / 2,
        "absolute": cp.norm(e, 1),
        "hinge": cp.sum(m),
        "squared hinge": cp.sum(cp.square(m)) / 2,
        "mixed": cp.sum_squares(e) / 2 + cp.norm(e, 1),
    }
    return values[name]


def objective(
    X: Floats, y: Floats, beta: float, U: Floats, alpha: Floats, loss: str = "squared"
) -> float:
    """The training objective of a network."""
    decay = 0.5 * beta * ((U**2).sum() + (alpha**2).sum())
    return loss_at(loss, relu(X @ U.T) @ alpha, y) + float(decay)


# --- programs ----------------------------------------------------------------------------------


def interior_point(program: cp.Problem) -> float:
    """The optimum by Clarabel, which may end a little short of such tolerances, and says so."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Solution may be inaccurate")
        value = float(program.solve(solver=cp.CLARABEL, **PRECISE))
    assert program.status in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE)
    return value


class Blocks:
    """CVXPY's variables V and W in the cones of some masks, with outputs and the sum of norms."""

    def __init__(self, X: Floats, masks: Masks, w_sign: int = 1) -> None:
        D, shape = masks.astype(float), (len(masks), X.shape[1])
        self.V, self.W = cp.Variable(shape), cp.Variable(shape)
        self.outputs = cp.sum(cp.multiply(D.T, X @ (self.V - self.W).T), axis=1)
        self.price = sum(cp.sum(cp.norm(block, 2, axis=1)) for block in (self.V, self.W))
        self.cones = [
            cp.multiply(2 * D - 1, self.V @ X.T) >= 0,
            w_sign * cp.multiply(2 * D - 1, self.W @ X.T) >= 0,
        ]

    def neurons(self) -> tuple[Floats, Floats]:
        """The blocks of a solution, and the signs of their outputs."""
        signs = np.repeat([1.0, -1.0], self.V.shape[0])
        return np.concatenate([self.V.value, self.W.value]), signs


def relu_norm(X: Floats, y: Floats) -> tuple[float, Blocks]:
    """The least sum of norms of ReLU networks with outputs y."""
    blocks = Blocks(X, all_masks(len(X)))
    goal = cp.Problem(cp.Minimize(blocks.price), [blocks.outputs == y, *blocks.cones])
    return interior_point(goal), blocks


# --- patterns and neurons ----------------------------------------------------------------------


def all_masks(n: int) -> Masks:
    """All 0-1 vectors (2^n, n): with cones every one of them is harmless."""
    return np.array(list(itertools.product([False, True], repeat=n)))


def rows_of(masks: Masks) -> set[tuple[bool, ...]]:
    """Masks as a set."""
    return {tuple(mask) for mask in masks.tolist()}


def bound_on_cells(n: int, r: int) -> int:
    """Cover's B(n, r)."""
    return 2 * sum(comb(n - 1, k) for k in range(r))


def best_neuron(X: Floats, z: Floats) -> float:
    """max |z^T (Xu)_+| over the ball: the cones of all masks cover it, whatever the cells are."""
    pairs = itertools.product(all_masks(len(X)), (1.0, -1.0))
    return max(best_in_cone(sign * X.T @ (mask * z), X, mask) for mask, sign in pairs)


def places(X: Floats, z: Floats) -> Floats:
    """Unit vectors among which +-z^T (Xu)_+ is largest, for one or two features, from all arcs."""
    if X.shape[1] == 1:
        return np.array([[1.0], [-1.0]])
    angles = np.arctan2(X[:, 0], -X[:, 1])
    cuts = np.sort(np.concatenate([angles, angles + np.pi]) % (2 * np.pi))
    middles = 0.5 * (cuts + np.append(cuts[1:], cuts[0] + 2 * np.pi))
    ends, inside = (np.stack([np.cos(t), np.sin(t)], axis=1) for t in (cuts, middles))
    slopes = ((inside @ X.T > 0) * z) @ X
    found = np.concatenate([ends, inside, slopes, -slopes])
    sizes = np.linalg.norm(found, axis=1, keepdims=True)
    return found[sizes[:, 0] > 0] / sizes[sizes[:, 0] > 0]


# --- cones -------------------------------------------------------------------------------------


def sided(mask: Masks, X: Floats) -> Floats:
    """The normals of the cone of the neurons with this pattern."""
    return np.where(mask, 1.0, -1.0)[:, None] * X


def projected(N: Floats, c: Floats) -> Floats:
    """The projection onto {u : N u >= 0}: c + N^T m with the best m >= 0 (Moreau)."""
    size, lengths = float(np.linalg.norm(c)), np.linalg.norm(N, axis=1)
    rows = N[lengths > 0] / lengths[lengths > 0, None]
    if size == 0.0 or not len(rows):
        return c
    return c + size * (rows.T @ nnls(rows.T, -c / size)[0])


def depth_of_cone(N: Floats) -> float:
    """The largest t with N u >= t over the box: positive where {u : N u >= 0} has an interior."""
    n, d = N.shape
    program = linprog(
        np.append(np.zeros(d), -1.0),
        A_ub=np.hstack([-N, np.ones((n, 1))]),
        b_ub=np.zeros(n),
        bounds=[(-1, 1)] * d + [(0, 1)],
    )
    assert program.status == 0
    return float(-program.fun)


def hull_distance(rays: Floats) -> float:
    """The distance of 0 from the hull of unit vectors, by nonnegative least squares."""
    # The nearest point of the hull, from min |R^T m|^2 + (sum m - 1)^2 over m >= 0.
    stacked = np.vstack([rays.T, np.ones(len(rays))])
    m, _ = nnls(stacked, np.append(np.zeros(rays.shape[1]), 1.0))
    return float(np.linalg.norm(rays.T @ m) / m.sum())
