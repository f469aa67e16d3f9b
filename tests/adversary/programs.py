"""Solves, losses and objectives of two layers, and their programs by CVXPY."""

import warnings

import cvxpy as cp
import numpy as np
from torch import nn

import convexlib as cl
from convexlib.errors import ConvergenceWarning
from convexlib.problems.base import Problem
from tests.adversary.cells import Masks, all_masks, relu
from tests.adversary.search import Draw, Floats

PRECISE = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10}


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


def dual_of_loss(name: str, z: Floats, y: Floats) -> float:
    """inf over f of L(f) + z^T f."""
    a = y * z
    if name == "squared":
        return dual(z, y)
    if name == "absolute":
        return float(a.sum()) if np.abs(z).max() <= 1 else -np.inf
    if name == "mixed":  # (e^2)/2 + |e| + z e is least at e = -sign(z) (|z| - 1)_+
        return float(a.sum() - 0.5 * (relu(np.abs(z) - 1) ** 2).sum())
    if a.min() < 0 or (name != "squared hinge" and a.max() > 1):
        return -np.inf
    if name == "logistic":
        parts = np.concatenate([a, 1 - a])
        parts = parts[parts > 0]
        return float(-(parts * np.log(parts)).sum())
    return float(a.sum() - (0.0 if name == "hinge" else 0.5 * a @ a))


def objective(
    X: Floats, y: Floats, beta: float, U: Floats, alpha: Floats, loss: str = "squared"
) -> float:
    """The training objective of a network."""
    decay = 0.5 * beta * ((U**2).sum() + (alpha**2).sum())
    return loss_at(loss, relu(X @ U.T) @ alpha, y) + float(decay)


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


class Program:
    """The convex program by CVXPY, in units in which samples and targets are of size one."""

    def __init__(
        self,
        X: Floats,
        y: Floats,
        beta: float,
        masks: Masks,
        loss: str = "squared",
        w_sign: int = 1,
    ) -> None:
        size = np.abs(X).max() or 1.0
        height = (np.abs(y).max() or 1.0) if loss == "squared" else 1.0
        blocks, outputs = Blocks(X / size, masks, w_sign), cp.Variable(len(X))
        link = outputs == blocks.outputs
        cost = convex_loss(loss, outputs, y / height) + beta / (size * height) * blocks.price
        program = cp.Problem(cp.Minimize(cost), [link, *blocks.cones])
        self.value = interior_point(program) * height**2
        self.z = np.asarray(link.dual_value) * height
        self.blocks, self.signs = blocks.neurons()
        self.blocks *= height / size

    def network(self) -> tuple[Floats, Floats]:
        """One balanced neuron for each block."""
        roots = np.sqrt(np.linalg.norm(self.blocks, axis=1))
        return self.blocks / np.where(roots > 0, roots, 1.0)[:, None], self.signs * roots
