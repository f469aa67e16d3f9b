r"""A good dual point for a certificate, found from the neurons of a given network."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from convexlib.errors import ConvergenceWarning
from convexlib.problems.two_layer import TwoLayer
from convexlib.solvers.generate import generate

_TOL = 1e-7
_LOOSE, _ROUNDS = 1e-3, 10  # where nothing can be proved
_BIAS_STEPS = 15  # solves at most to find the output bias


def refine_dual(
    X: Tensor, y: Tensor, beta: float, U: Tensor, bias: float | None = None, prove: bool = True
) -> Tensor:
    r"""The dual point (n,) of the two-layer program, to be bounded by the caller.

    An output bias b, decayed like every weight, is one more number to minimise over. The
    derivative of :math:`p^*(y - b) + \tfrac\beta2 b^2` is :math:`h = \beta b - 1^\top z_b`; it
    increases with slopes between :math:`\beta` and :math:`\beta + n`, and :math:`h^2/(2\beta)` is
    what z_b loses as a dual point. Its root is found by a bracketed secant method.

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
    prove : bool
        Search for violated neurons until none is left, which ends for ranks up to about 5.
    """
    directions = U[torch.linalg.vector_norm(U, dim=1) > 0]
    shift, low, high = bias or 0.0, -math.inf, math.inf
    last: tuple[float, float] | None = None
    for _ in range(_BIAS_STEPS):
        problem = TwoLayer(X, y - shift, beta=beta, arrangements="generate")
        z, value, neurons = _solve(problem, directions, prove)
        slope = beta * shift - float(z.sum())
        if bias is None or slope**2 <= 2.0 * beta * 3.0 * _TOL * value:
            break
        near, far = shift - slope / (beta + len(y)), shift - slope / beta
        low, high = max(low, min(near, far)), min(high, max(near, far))
        guess = near
        if last is not None and slope != last[1]:
            guess = shift - slope * (shift - last[0]) / (slope - last[1])
        last = shift, slope
        shift = min(max(guess, low), high)
        directions = neurons if len(neurons) else directions
    return z


def _solve(problem: TwoLayer, directions: Tensor, prove: bool) -> tuple[Tensor, float, Tensor]:
    """Dual point, value and neurons of a problem; nothing here needs to have converged."""
    # Where nothing can be proved the bound is too loose for more than a few rounds to matter.
    tol, rounds, nodes = (_TOL, 40, None) if prove else (_LOOSE, _ROUNDS, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        result = generate(problem, tol=tol, max_iter=rounds, directions=directions, max_nodes=nodes)
    neurons = result.weights[torch.linalg.vector_norm(result.weights, dim=2) > 0]
    return result.z, result.value, neurons
