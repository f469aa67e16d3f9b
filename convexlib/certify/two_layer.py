r"""How far a given network is from the global optimum: a proof, from the network alone.

For **every** dual point z with :math:`|z^\top (Xu)_+| \le \beta` for all :math:`\|u\| \le 1`, the
training objective of every two-layer network, of any width, is at least

.. math:: d(z) = y^\top z - \tfrac12 \|z\|^2 .

(For one neuron, :math:`z^\top (Xu)_+ \alpha \le \beta \|u\| |\alpha| \le \tfrac\beta2 (\|u\|^2 +
\alpha^2)`; sum over neurons and use :math:`\tfrac12\|f - y\|^2 \ge z^\top (y - f) - \tfrac12
\|z\|^2`.) A network with a bias in its output layer, decayed like every weight, adds
:math:`-(1^\top z)^2 / (2\beta)` to d(z) and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from convexlib.arrangements import Arrangements, count_bound, enumerate_arrangements
from convexlib.cones import ConeProjector
from convexlib.errors import InputError, NotCertifiableError
from convexlib.networks import TwoLayerWeights, read_two_layer
from convexlib.pricing import price, row_space
from convexlib.problems.base import check_same_device
from convexlib.result import relative_gap
from convexlib.solvers.refine import refine_dual
from convexlib.validation import check_beta, check_data

_EPS = float(np.finfo(np.float64).eps)
_BRANCHING_RANK = 5  # up to here branch and bound is the cheaper proof
_LISTABLE = 50_000  # patterns worth enumerating for a proof above that rank


@dataclass(frozen=True, eq=False)
class Certificate:
    """A bracket of the optimum: ``dual <= p* <= primal``.

    Attributes
    ----------
    primal : float
        Training objective of the network, in float64.
    dual : float
        Lower bound on the training objective of every network with this architecture and any
        width.
    gap, relative_gap : float
        ``primal - dual`` and the same divided by primal.
    rigorous : bool
        Whether `dual` is proven, floating-point error included. False only when feasibility was
        checked on patterns that are not proven exhaustive.
    z : Tensor (n,)
        The feasible dual point behind `dual`.
    max_neuron : float
        The bound on max |z^T (Xu)_+| that was used, at most beta.
    method : str
        How that maximum was bounded: ``"branch and bound"``, ``"enumeration"``, ``"spectral"``
        or ``"given patterns"``.
    """

    primal: float
    dual: float
    rigorous: bool
    z: Tensor
    max_neuron: float
    method: str

    @property
    def gap(self) -> float:
        """Primal minus dual, at least 0."""
        return max(self.primal - self.dual, 0.0)

    @property
    def relative_gap(self) -> float:
        """(primal - dual) / primal."""
        return relative_gap(self.primal, self.dual)

    def __repr__(self) -> str:
        kind = "rigorous" if self.rigorous else "not proven"
        return (
            f"Certificate(primal={self.primal:.9g}, dual={self.dual:.9g}, "
            f"relative_gap={self.relative_gap:.1e}, {kind}, method={self.method!r})"
        )


def certify(
    network: nn.Module,
    X: Any,
    y: Any,
    *,
    beta: float,
    arrangements: Arrangements | None = None,
    refine: bool = True,
    max_nodes: int = 5_000_000,
) -> Certificate:
    r"""Bound the distance of a two-layer ReLU network from the global optimum.

    The objective is :math:`\tfrac12\|f(X) - y\|^2 + \tfrac\beta2 \sum \text{weight}^2` over all
    weights, biases included.

    Parameters
    ----------
    network : nn.Module
        A `TwoLayerReLU` or any ``nn.Sequential(Linear, ReLU, Linear)`` with one output, trained in
        any way, float32 or float64.
    X : array (n, d)
        Data. If the first layer has a bias, a column of ones is added here.
    y : array (n,)
        Targets.
    beta : float
        Regularisation of the objective above.
    arrangements : Arrangements, optional
        Check dual feasibility on these patterns instead of on all directions. The certificate is
        rigorous only if they are proven exhaustive.
    refine : bool
        Improve the dual point by solving the convex program, starting from the network's own
        neurons. Without it the scaled residual of the network is used, which is cheap but loose
        unless the network is already close to optimal.
    max_nodes : int
        Budget of the branch and bound. When it runs out the bound is looser but valid.

    Returns
    -------
    Certificate

    Raises
    ------
    NotCertifiableError
        For a network of another kind or with non-finite weights.
    InputError
        For unusable data.

    Notes
    -----
    The dual bound of data of rank at most 5 is tight; above that its quality depends on the number
    of patterns and the budget. Checked by ``tests/test_certify.py``.
    """
    X, y = check_data(X, y)
    beta = check_beta(beta)
    check_same_device(network, X)
    parts = read_two_layer(network)
    _check_weights(parts, X)
    data, y = parts.augment(X).cpu(), y.double().cpu()
    if arrangements is not None:
        _check_arrangements(arrangements, data)
    U, alpha = parts.U.cpu(), parts.alpha.cpu()
    bias = parts.output_bias or 0.0
    residual = y - torch.relu(data @ U.T) @ alpha - bias
    decay = float((U**2).sum() + (alpha**2).sum()) + bias * bias
    primal = 0.5 * float(residual @ residual) + 0.5 * beta * decay
    if not np.isfinite(primal):
        raise NotCertifiableError(
            "the network's objective overflows: its weights are too large. Train it again with a "
            "smaller learning rate."
        )

    bias_weight = 0.0 if parts.output_bias is None else 1.0 / beta
    points = [residual]
    if refine:
        prove = row_space(data)[0].shape[1] <= _BRANCHING_RANK
        points.append(refine_dual(data, y, beta, U, parts.output_bias, prove=prove))
    candidates = []
    for point in points:
        bound, rigorous, method = _bound(data, point, beta, arrangements, max_nodes)
        z = _scaled(point, y, beta, bound, bias_weight)
        dual = _dual_value(z, y, bias_weight)
        size = float(torch.linalg.vector_norm(point))
        shrunk = bound * float(torch.linalg.vector_norm(z)) / size if size > 0 else 0.0
        z = z.to(X.device)
        candidates.append(Certificate(primal, max(dual, 0.0), rigorous, z, shrunk, method))
    return max(candidates, key=lambda candidate: candidate.dual)


def _check_weights(parts: TwoLayerWeights, X: Tensor) -> None:
    width = parts.U.shape[1] - int(parts.has_bias)
    if width != X.shape[1]:
        raise InputError(
            f"the network takes {width} features but X has shape {tuple(X.shape)}; expected "
            f"(n, {width})."
        )
    finite = torch.isfinite(parts.U).all() and torch.isfinite(parts.alpha).all()
    if not bool(finite) or not np.isfinite(parts.output_bias or 0.0):
        raise NotCertifiableError(
            "the network has non-finite weights, so its objective is not a number. Train it "
            "again with a smaller learning rate."
        )


def _check_arrangements(arrangements: Any, data: Tensor) -> None:
    """Refuse patterns of other data: being exhaustive for those would prove nothing here."""
    if not isinstance(arrangements, Arrangements):
        raise InputError(
            f"arrangements is {type(arrangements).__name__}; expected Arrangements or None."
        )
    masks, gates = arrangements.masks.cpu(), arrangements.gates.double().cpu()
    fits = masks.shape[1] == len(data) and gates.shape[1] == data.shape[1]
    if fits:
        products = gates @ data.T  # (P, n)
        sizes = torch.linalg.vector_norm(gates, dim=1)[:, None] * torch.linalg.vector_norm(
            data, dim=1
        )
        fits = bool((((products >= 0) == masks) | (products.abs() <= 1e-6 * sizes)).all())
    if not fits:
        raise InputError(
            f"arrangements ({tuple(masks.shape)} masks, {tuple(gates.shape)} gates) are not those "
            f"of the first layer's data, of shape {tuple(data.shape)}. Make them from X, with a "
            "last column of ones if that layer has a bias."
        )


def _bound(
    data: Tensor,
    z: Tensor,
    beta: float,
    arrangements: Arrangements | None,
    max_nodes: int,
) -> tuple[float, bool, str]:
    """An upper bound on max |z^T (Xu)_+|, whether it is proven, and how."""
    if not bool(z.any()):
        return 0.0, True, "branch and bound"
    if arrangements is None:
        rank = row_space(data)[0].shape[1]
        if rank > _BRANCHING_RANK and count_bound(len(data), rank) <= _LISTABLE:
            listed = enumerate_arrangements(data, max_patterns=_LISTABLE)
            if listed.exhaustive:
                return _bound_on_patterns(data, z, listed), True, "enumeration"
        priced = price(data, z, target=beta, rtol=1e-8, max_nodes=max_nodes)
        return priced.upper, True, "branch and bound" if priced.nodes else "spectral"
    bound = _bound_on_patterns(data, z, arrangements)
    return bound, arrangements.exhaustive, "given patterns"


def _bound_on_patterns(data: Tensor, z: Tensor, arrangements: Arrangements) -> float:
    """The maximum over the cells of the given patterns, rounding and snapping covered."""
    masks = arrangements.masks.cpu()
    blocks = (masks.double() * z) @ data  # (P, d)
    blocks = torch.cat([blocks, -blocks])
    projector = ConeProjector(data, masks, copies=2)
    projector(blocks)
    bound = float(projector.support_bounds(blocks).max())
    sizes = torch.linalg.vector_norm(data, dim=1)
    rounding = 2.0 * (len(data) + 4) * _EPS * float(z.abs() @ sizes)
    snapped = arrangements.perturbation * float(torch.linalg.vector_norm(z))
    return bound + rounding + snapped


def _scaled(z: Tensor, y: Tensor, beta: float, bound: float, bias_weight: float) -> Tensor:
    """The multiple of z with the largest dual value among the feasible ones."""
    curvature = float(z @ z) + bias_weight * float(z.sum()) ** 2
    if curvature == 0.0:
        return z
    best = max(float(y @ z) / curvature, 0.0)
    # A few eps smaller, so that rounding cannot make it infeasible.
    limit = beta / bound * (1.0 - 8.0 * _EPS) if bound > 0 else np.inf
    return min(best, limit) * z


def _dual_value(z: Tensor, y: Tensor, bias_weight: float) -> float:
    """d(z), lowered by the rounding error of its own evaluation."""
    linear, square, total = float(y @ z), float(z @ z), float(z.sum())
    value = linear - 0.5 * square - 0.5 * bias_weight * total**2
    sizes = float(y.abs() @ z.abs()) + square + 2.0 * bias_weight * float(z.abs().sum()) ** 2
    return value - 2.0 * (len(z) + 8) * _EPS * sizes
