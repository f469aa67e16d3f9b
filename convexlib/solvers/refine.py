r"""The convex program started from a given network: a good dual point, and a better network."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from convexlib.errors import ConvergenceWarning
from convexlib.losses import ShiftedLoss, SmoothLoss, get_loss
from convexlib.problems.two_layer import TwoLayer
from convexlib.solvers.column_generation import generate
from convexlib.solvers.pattern_set import patterns_of
from convexlib.solvers.ssnal import ssnal

_TOL = 1e-7
_LOOSE, _ROUNDS = 1e-3, 10  # where nothing can be proved
_BIAS_STEPS = 15  # solves at most to find the output bias


@dataclass(frozen=True, eq=False)
class Refined:
    r"""What the convex program makes of a network.

    Attributes
    ----------
    z : Tensor (n,)
        A dual point, to be bounded by the caller.
    value : float
        The objective of the network below.
    vectors, signs : Tensor (m, d), (m,)
        Its neurons :math:`|\alpha_j| u_j`, none of them zero, and the signs of their outputs.
    bias : float
        Its output bias; 0 without one.
    """

    z: Tensor
    value: float
    vectors: Tensor
    signs: Tensor
    bias: float


# A convex program and neurons to start from -> its dual point, value, neurons and their signs.
Solve = Callable[[TwoLayer, Tensor], tuple[Tensor, float, Tensor, Tensor]]


def refine_dual(
    X: Tensor,
    y: Tensor,
    beta: float,
    U: Tensor,
    bias: float | None = None,
    prove: bool = True,
    loss: str = "squared",
) -> Tensor:
    """The dual point (n,) of the two-layer program, to be bounded by the caller.

    Parameters
    ----------
    X, y, beta, U, bias, loss
        As for `refine`.
    prove : bool
        Search for violated neurons until none is left, which ends for ranks up to about 5.
    """
    # Where nothing can be proved the bound is too loose for more than a few rounds to matter.
    rounds, tol, nodes = (40, _TOL, None) if prove else (_ROUNDS, _LOOSE, 0)
    return refine(X, y, beta, U, bias, loss=loss, rounds=rounds, tol=tol, max_nodes=nodes).z


def refine(
    X: Tensor,
    y: Tensor,
    beta: float,
    U: Tensor,
    bias: float | None = None,
    *,
    loss: str = "squared",
    rounds: int,
    tol: float,
    max_nodes: int | None = None,
) -> Refined:
    r"""Solve the two-layer program from the neurons of a network, with its output bias.

    An output bias b, decayed like every weight, is one more number to minimise over. The
    derivative of :math:`p^*(y - b) + \tfrac\beta2 b^2` is :math:`h = \beta b - 1^\top z_b`; it
    increases with slopes between :math:`\beta` and :math:`\beta + n` (times the Lipschitz constant
    of the loss's gradient), and :math:`h^2/(2\beta)` is what z_b loses as a dual point. Its root is
    found by a bracketed secant method. Losses of classes take f + b in place of y - b.

    Parameters
    ----------
    X, y : Tensor (n, d), (n,)
        Data, float64.
    beta : float
        Regularisation.
    U : Tensor (m, d)
        The network's neurons.
    bias : float, optional
        The network's output bias; None if it has no such parameter.
    loss : {"squared", "logistic", "squared_hinge"}
        See `TwoLayer`.
    rounds : int
        Of column generation, which adds patterns that the network lacks; 0 stays with its own.
    tol : float
        Relative gap at which to stop.
    max_nodes : int, optional
        See `generate`.

    Notes
    -----
    Checked by ``tests/certify/test_two_layer.py`` and ``tests/certify/test_polish.py``.
    """
    kind = get_loss(loss)
    solve = _over_all(rounds, tol, max_nodes) if rounds else _over_own(tol)
    start = U[torch.linalg.vector_norm(U, dim=1) > 0]
    shift, low, high = bias or 0.0, -math.inf, math.inf
    last: tuple[float, float] | None = None
    best: Refined | None = None
    for _ in range(_BIAS_STEPS):
        z, value, vectors, signs = solve(_at_bias(X, y, beta, kind, shift), start)
        whole = value + 0.5 * beta * shift**2
        if best is None or whole <= best.value:
            best = Refined(z, whole, vectors, signs, shift)
        slope = beta * shift - float(z.sum())
        if bias is None or slope**2 <= 2.0 * beta * 3.0 * _TOL * value:
            break
        steepest = beta + kind.gradient_lipschitz * len(y)
        near, far = shift - slope / steepest, shift - slope / beta
        low, high = max(low, min(near, far)), min(high, max(near, far))
        guess = near
        if last is not None and slope != last[1]:
            guess = shift - slope * (shift - last[0]) / (slope - last[1])
        last = shift, slope
        shift = min(max(guess, low), high)
        # With other patterns allowed, the old ones need not be carried along.
        if rounds and len(vectors):
            start = vectors
    assert best is not None  # there is at least one step
    return Refined(z, best.value, best.vectors, best.signs, best.bias)


def _at_bias(X: Tensor, y: Tensor, beta: float, loss: SmoothLoss, bias: float) -> TwoLayer:
    """The program without the bias, held fixed."""
    if loss.name == "squared":
        return TwoLayer(X, y - bias, beta=beta, arrangements="generate")
    shifted = ShiftedLoss(loss, bias) if bias else loss
    return TwoLayer(X, y, beta=beta, arrangements="generate", loss=shifted)


def _over_all(rounds: int, tol: float, max_nodes: int | None) -> Solve:
    """Column generation; nothing here needs to have converged."""

    def solve(problem: TwoLayer, start: Tensor) -> tuple[Tensor, float, Tensor, Tensor]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the caller bounds z
            result = generate(
                problem, tol=tol, max_iter=rounds, directions=start, max_nodes=max_nodes
            )
        return result.z, result.value, *_neurons(result.weights)

    return solve


def _over_own(tol: float) -> Solve:
    """The patterns of the neurons at hand."""

    def solve(problem: TwoLayer, start: Tensor) -> tuple[Tensor, float, Tensor, Tensor]:
        if not len(start):
            start = problem.X.new_ones(1, problem.X.shape[1])  # any direction will do
        own = problem.with_arrangements(patterns_of(problem.X, start))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the caller bounds z
            result = ssnal(own, tol=tol)
        return result.z, result.value, *_neurons(result.weights)

    return solve


def _neurons(weights: Tensor) -> tuple[Tensor, Tensor]:
    """The nonzero blocks (m, d) and their signs (m,)."""
    side, pattern = torch.linalg.vector_norm(weights, dim=2).nonzero(as_tuple=True)
    return weights[side, pattern], 1.0 - 2.0 * side.to(weights)
