r"""Two layers with several outputs: one certificate for all of them together.

A network :math:`f(X) = \sum_j (X u_j)_+ a_j^\top + 1 b^\top` has the objective :math:`L(f(X)) +
\tfrac\beta2 (\sum_j \|u_j\|^2 + \|a_j\|^2 + \|b\|^2)`, where L sums over all entries of Y. Neurons
are shared: each feeds all outputs, and costs :math:`\|u_j\| \|a_j\|` once it is balanced. So any
Z with :math:`\|Z^\top (Xu)_+\| \le \beta` for all unit u has

.. math:: L(f) + \beta \sum_j \|u_j\| \|a_j\| + \tfrac\beta2 \|b\|^2
          \ge L(f) + \langle Z, f \rangle - \langle Z, 1 b^\top \rangle + \tfrac\beta2 \|b\|^2
          \ge -L^*(-Z) - \tfrac1{2\beta} \|Z^\top 1\|^2 ,

since :math:`\langle Z, (Xu)_+ a^\top \rangle = a^\top Z^\top (Xu)_+ \le \beta \|a\|`. The maximum
that makes Z feasible is that of `convexlib.pricing.joint`.

No convex program over patterns is solved for a better Z, since its penalty is NP-hard to evaluate
(see `VectorOutput`). Instead the network itself is improved, as in fully corrective Frank-Wolfe
methods for measures: L-BFGS on all weights, which ends where neurons meet the kinks of samples;
L-BFGS with directions that stay, which is smooth, and solves a group Lasso; and new neurons where
the residual is infeasible, until none is found. The residual is then feasible up to what local
search misses, and the proof does not rest on that.

Where its bound leaves a gap, as it does above rank 5 and for many outputs, dual points are chosen
for a bound that sees all outputs at once (`convexlib.pricing.joint_relaxation`).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from convexlib.arrays import Floats
from convexlib.certify.certificate import CLOSED, Candidates, Certificate, Report, unheard
from convexlib.certify.two_layer import BRANCHING_RANK, GLANCE, Standing, penalty
from convexlib.errors import InputError
from convexlib.losses import SmoothLoss
from convexlib.networks.two_layer import read_outputs
from convexlib.pricing.best_neuron import LARGEST_RANK
from convexlib.pricing.condense import row_space
from convexlib.pricing.joint import FEW, best_neurons, price_outputs
from convexlib.pricing.joint_relaxation import jointly_relaxed
from convexlib.runtime import check_time

_ROUNDS, _STEPS = 20, 500  # of new neurons, and of L-BFGS in each
_OVER = 5e-5  # part of beta by which a neuron may exceed it
_ADDED = 10  # neurons in a round
_LEAST = 1e-3  # part of the largest weight there may be
_SMALL = 1e-3  # weights of a new neuron, against the largest


def certify_outputs(
    network: nn.Module,
    X: Tensor,
    Y: Tensor,
    beta: float,
    *,
    loss: str = "squared",
    regularizer: str = "weight decay",
    refine: bool = True,
    max_nodes: int = 5_000_000,
    max_seconds: float = 0.0,
    z: Tensor | None = None,
    report: Report = unheard,
) -> Certificate:
    """See `convexlib.certify.certify`; X, Y (n, c) and z (n, c) are checked."""
    parts = read_outputs(network)
    if len(parts) != Y.shape[1]:
        raise InputError(
            f"the network has {len(parts)} outputs but y has shape {tuple(Y.shape)}; expected "
            f"(n, {len(parts)}), a column for each output."
        )
    states = [Standing.of(part, X, y, loss) for part, y in zip(parts, Y.T, strict=True)]
    data, kind, bias = states[0].data, states[0].loss, parts[0].output_bias is not None
    targets = torch.stack([state.y for state in states], dim=1)
    fitted = torch.stack([state.fitted for state in states], dim=1)
    primal = kind.value(fitted, targets) + beta * penalty(parts, regularizer)

    found = Candidates(
        primal, targets, beta, regularizer=regularizer, output_bias=bias, loss=loss, report=report
    )

    def search(point: Tensor, nodes: int) -> float:
        """Add a point, with so many cones for its best neuron; the seconds it took."""

        def bound(Z: Tensor, level: float) -> tuple[float, bool, str]:
            priced = price_outputs(data, Z, target=max(beta, level), max_nodes=nodes)
            return priced.upper, True, priced.method

        return found.add(point, bound)

    rank = row_space(data)[0].shape[1]
    # Above that rank millions of cones come last.
    first = min(max_nodes, GLANCE) if max_seconds and rank > BRANCHING_RANK else max_nodes
    took = 0.0
    if z is not None:
        took = search(z.double().cpu(), first)
        if not (refine or max_seconds) or found.best.relative_gap <= CLOSED:
            return found.best
    U, A = parts[0].U.cpu(), torch.stack([part.alpha.cpu() for part in parts], dim=1)
    point, optimum = kind.dual_point(fitted, targets), primal
    if refine or not found.all:
        took = search(point, first)
    if refine:
        b = torch.tensor([part.output_bias for part in parts]).double() if bias else None
        U, A, point, value = improved(data, targets, beta, kind, U, A, b, first)
        optimum = min(optimum, value)
        took = search(point, first)

    if max_seconds and found.is_open(optimum):
        mass = torch.linalg.vector_norm(A, dim=1) / torch.linalg.vector_norm(U, dim=1)
        moment = (U.T * mass.nan_to_num(0.0, 0.0, 0.0)) @ U
        chosen = jointly_relaxed(
            data, targets, beta, kind, point, moment, output_bias=bias, max_seconds=max_seconds
        )
        found.add_while_open(chosen, optimum)
    if first < max_nodes and rank <= LARGEST_RANK and found.is_open(optimum):
        nodes = min(first * max_seconds / max(took, 1e-9), max_nodes)
        search(point, int(nodes))
    return found.best


def improved(
    data: Tensor,
    Y: Tensor,
    beta: float,
    loss: SmoothLoss,
    U: Tensor,
    A: Tensor,
    b: Tensor | None,
    max_nodes: int,
) -> tuple[Tensor, Tensor, Tensor, float]:
    """A better network U (m, d), A (m, c) than a given one, its dual point and its objective."""
    lengths = [torch.linalg.vector_norm(part, dim=1) for part in (U, A)]
    live = (lengths[0] > 0) & (lengths[1] > 0)
    balance = (lengths[1][live] / lengths[0][live]).sqrt()[:, None]
    U, A = U[live] * balance, A[live] / balance
    # No weight of an optimal network is larger than the root; neurons that were silent from the
    # start decay to nothing, and new ones may not be as small.
    zero = loss.value(torch.zeros_like(Y), Y)
    least = _LEAST * math.sqrt(2.0 * zero / beta)
    for _ in range(_ROUNDS):
        check_time()
        U, A, b, _ = _descend(data, Y, beta, loss, U, A, b)
        U, A, b, Z = _descend(data, Y, beta, loss, U, A, b, turning=False)
        heights, units = best_neurons(data, Z, U)
        order = heights.argsort(descending=True)[:_ADDED]
        units = units[order[heights[order] > (1.0 + _OVER) * beta]]
        if not len(units):  # climbing found nothing: search everywhere, if that is not in vain
            if Y.shape[1] > FEW:
                break
            priced = price_outputs(data, Z, target=beta, max_nodes=max_nodes)
            if priced.lower <= (1.0 + 2.0 * _OVER) * beta:
                break
            units = priced.direction[None]
        outputs = torch.relu(data @ units.T).T @ Z  # along which each of them gains most
        outputs = outputs / torch.linalg.vector_norm(outputs, dim=1, keepdim=True)
        strongest = float(torch.linalg.vector_norm(A, dim=1).max()) if len(A) else 0.0
        size = _SMALL * max(strongest, least)
        U, A = torch.cat([U, size * units]), torch.cat([A, size * outputs])
    hidden = torch.relu(data @ U.T) @ A + (0.0 if b is None else b)
    biases = 0.0 if b is None else float(b @ b)
    value = loss.value(hidden, Y) + 0.5 * beta * (float((U**2).sum() + (A**2).sum()) + biases)
    return U, A, Z, value


def _descend(
    X: Tensor,
    Y: Tensor,
    beta: float,
    loss: SmoothLoss,
    U: Tensor,
    A: Tensor,
    b: Tensor | None,
    turning: bool = True,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Weights after L-BFGS on the objective, and the dual point of their outputs.

    Neurons may turn, or keep their directions: the objective is then smooth.
    """
    m, d, c = len(U), X.shape[1], Y.shape[1]
    lengths = torch.linalg.vector_norm(U, dim=1, keepdim=True)
    units = U / lengths.clamp(min=1e-300)
    first = U if turning else lengths
    sizes = [first.numel(), m * c, 0 if b is None else c]

    def unpacked(values: Floats) -> tuple[Tensor, Tensor, Tensor]:
        first, A, b = torch.from_numpy(values).split(sizes)
        first = first.view(m, d if turning else 1)
        return first if turning else first * units, A.view(m, c), b

    def outputs(U: Tensor, A: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.relu(X @ U.T)  # (n, m)
        return hidden, hidden @ A + (b if len(b) else 0.0)

    def evaluate(values: Floats) -> tuple[float, Floats]:
        U, A, b = unpacked(values)
        hidden, fitted = outputs(U, A, b)
        Z = loss.dual_point(fitted, Y)
        inner = (Z @ A.T) * (hidden > 0)  # (n, m)
        slope = beta * U - inner.T @ X
        slopes = [slope if turning else (slope * units).sum(dim=1), beta * A - hidden.T @ Z]
        slopes += [beta * b - Z.sum(dim=0)] if len(b) else []
        value = loss.value(fitted, Y) + 0.5 * beta * float(values @ values)
        return value, torch.cat([slope.ravel() for slope in slopes]).numpy()

    start = torch.cat([first.ravel(), A.ravel(), *([] if b is None else [b])]).numpy()
    options = {"maxiter": _STEPS, "maxcor": 30, "ftol": 1e-15, "gtol": 1e-9 * beta}
    values = start
    if len(start):
        done = minimize(evaluate, start, jac=True, method="L-BFGS-B", options=options)
        values = np.ascontiguousarray(done.x)
    U, A, free = unpacked(values)
    Z = loss.dual_point(outputs(U, A, free)[1], Y)
    return U, A, None if b is None else free, Z
