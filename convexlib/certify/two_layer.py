r"""Certificates of two-layer networks: every neuron :math:`(Xu)_+` of norm one is bounded.

Under weight decay a neuron's price is :math:`\tfrac12(\|u\|^2 + \alpha^2) \ge \|u\| |\alpha|`;
under the path norm it is :math:`\|u\| |\alpha|` itself. So both have one lower bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from convexlib.arrangements import Arrangements, count_bound, enumerate_arrangements
from convexlib.arrangements.patterns import are_patterns_of
from convexlib.arrays import EPS
from convexlib.certify.certificate import (
    CLOSED,
    Candidates,
    Certificate,
    Report,
    unheard,
)
from convexlib.cones import ConeProjector
from convexlib.errors import InputError, NotCertifiableError
from convexlib.losses import SmoothLoss, get_loss
from convexlib.networks import ParallelReLU, TwoLayerReLU, TwoLayerWeights, read_two_layer
from convexlib.networks.parallel import as_parallel, parts_of
from convexlib.networks.two_layer import refuse_shared
from convexlib.pricing import price, row_space
from convexlib.pricing.best_neuron import LARGEST_RANK
from convexlib.pricing.relaxation import relaxed
from convexlib.solvers.refine import refine as refine_dual

BRANCHING_RANK = 5  # up to here branch and bound is the cheaper proof
GLANCE = 100_000  # cones for a dual point where there is a better one
_CLOSE = 1e-6  # part of beta that a dual point may stay below it
_LISTABLE = 50_000  # patterns worth enumerating for a proof above that rank


def certify_two_layer(
    network: nn.Module,
    X: Tensor,
    y: Tensor,
    beta: float,
    *,
    loss: str | SmoothLoss = "squared",
    regularizer: str = "weight decay",
    arrangements: Arrangements | None = None,
    refine: bool = True,
    max_nodes: int = 5_000_000,
    max_seconds: float = 0.0,
    z: Tensor | None = None,
    points: Sequence[Tensor] = (),
    report: Report = unheard,
) -> Certificate:
    """See `convexlib.certify.certify`; X, y and z are checked, `points` are more dual points."""
    parts = read_two_layer(network)
    state = Standing.of(parts, X, y, loss)
    if arrangements is not None:
        _check_arrangements(arrangements, state.data)
    primal = state.objective(beta, regularizer)
    bias = parts.output_bias is not None

    found = Candidates(
        primal, state.y, beta, regularizer=regularizer, output_bias=bias, loss=loss, report=report
    )

    def search(point: Tensor, nodes: int) -> float:
        """Add a point, with so many cones for its best neuron; the seconds it took."""
        return found.add(
            point, lambda z, level: bound_neurons(state.data, z, beta, level, arrangements, nodes)
        )

    rank = row_space(state.data)[0].shape[1]
    if arrangements is not None:
        max_seconds = 0.0
    glance = min(max_nodes, GLANCE)
    # Above that rank millions of cones come last.
    first = glance if max_seconds and rank > BRANCHING_RANK else max_nodes
    points, optimum, took = list(points), primal, 0.0
    if z is not None:
        z = z.double().cpu()
        took = search(z, first)
        if not (refine or max_seconds) or found.best.relative_gap <= CLOSED:
            return found.best
    if refine:
        refined = refine_dual(
            state.data, state.y, beta, parts.U.cpu(), parts.output_bias,
            max_nodes=searched(state.data, max_nodes), loss=loss,
        )  # fmt: skip
        points.append(refined.z)
        optimum = min(primal, refined.value)
    for point in points:
        took = search(point, first)
    # The network's own dual point is hardly ever better than another: a glance at it is enough.
    took = search(state.z, glance if found.all else first) if refine or not found.all else took

    if max_seconds and found.is_open(optimum):
        chosen = relaxed(
            state.data, state.y, beta, state.loss, output_bias=bias, max_seconds=max_seconds
        )
        found.add_while_open(chosen, optimum)
    if first < max_nodes and rank <= LARGEST_RANK and found.is_open(optimum):
        nodes = min(first * max_seconds / max(took, 1e-9), max_nodes)
        last = points[-1] if points else state.z if z is None else z
        search(last, int(nodes))
    return found.best


def searched(data: Tensor, max_nodes: int) -> int:
    """Cones that the search for a dual point may examine: none where too few could be."""
    return max_nodes if row_space(data)[0].shape[1] <= BRANCHING_RANK else 0


def as_two_layer(network: nn.Module) -> nn.Module:
    """Parallel sub-networks of one neuron each as one two-layer network; others as they are."""
    if isinstance(network, ParallelReLU | nn.ModuleList):
        refuse_shared(parts_of(network), "part")
        parallel = as_parallel(network)
        dtype = reduce(torch.promote_types, (part.dtype for part in network.parameters()))
        return TwoLayerReLU(parallel.U[:, 0], parallel.alpha).to(dtype)
    return network


@dataclass(frozen=True, eq=False)
class Standing:
    """A two-layer network on its data, in float64 on the CPU.

    Attributes
    ----------
    parts : TwoLayerWeights
        The network.
    data : Tensor (n, d) or (n, d + 1)
        The data that its first layer sees, a column of ones included if that has a bias.
    y, fitted : Tensor (n,)
        Targets and outputs.
    loss : SmoothLoss
        The loss.
    """

    parts: TwoLayerWeights
    data: Tensor
    y: Tensor
    fitted: Tensor
    loss: SmoothLoss

    @classmethod
    def of(cls, parts: TwoLayerWeights, X: Tensor, y: Tensor, loss: str | SmoothLoss) -> Standing:
        """Evaluate a network; refuse weights and targets that do not fit."""
        _check_weights(parts, X)
        kind, data, targets = get_loss(loss), parts.augment(X).cpu(), y.double().cpu()
        kind.check_targets(targets)
        bias = parts.output_bias or 0.0
        fitted = torch.relu(data @ parts.U.cpu().T) @ parts.alpha.cpu() + bias
        return cls(parts, data, targets, fitted, kind)

    @property
    def z(self) -> Tensor:
        """The dual point of its outputs: the residual, for the squared loss."""
        return self.loss.dual_point(self.fitted, self.y)

    def objective(self, beta: float, regularizer: str) -> float:
        """Loss and penalty."""
        value = self.loss.value(self.fitted, self.y) + beta * penalty([self.parts], regularizer)
        if not np.isfinite(value):
            raise NotCertifiableError(
                "the network's objective overflows: its weights are too large. Train it again "
                "with a smaller learning rate."
            )
        return value


def penalty(outputs: list[TwoLayerWeights], regularizer: str) -> float:
    """The penalty of a network, given by its outputs, which share their first layer."""
    U = outputs[0].U
    alpha = torch.stack([part.alpha for part in outputs])  # (c, m)
    if regularizer == "weight decay":
        own = [part.output_bias or 0.0 for part in outputs]
        biases = sum(bias * bias for bias in own)  # ** would raise where this is infinite
        return 0.5 * (float((U**2).sum() + (alpha**2).sum()) + biases)
    if outputs[0].output_bias is not None:
        raise NotCertifiableError(
            "the network has an output bias, which lies on no path. Build its last layer with "
            "bias=False."
        )
    return float(torch.linalg.vector_norm(U, dim=1) @ torch.linalg.vector_norm(alpha, dim=0))


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
    """Refuse patterns that do not fit the data, as those of other data."""
    if not isinstance(arrangements, Arrangements):
        raise InputError(
            f"arrangements is {type(arrangements).__name__}; expected Arrangements or None."
        )
    if not are_patterns_of(arrangements, data):
        raise InputError(
            f"arrangements ({tuple(arrangements.masks.shape)} masks, "
            f"{tuple(arrangements.gates.shape)} gates) are not those of the first layer's "
            f"data, of shape {tuple(data.shape)}. Make them from X, with a last column of ones if "
            "that layer has a bias."
        )


def bound_neurons(
    data: Tensor,
    z: Tensor,
    beta: float,
    level: float,
    arrangements: Arrangements | None = None,
    max_nodes: int = 5_000_000,
) -> tuple[float, bool, str]:
    """An upper bound on max |z^T (Xu)_+| over unit u, whether it is proven, and how.

    It need not be tight below `level`. That z itself is feasible for beta is cheaper to prove than
    what its maximum is, so that is tried first.
    """
    if not bool(z.any()):
        return 0.0, True, "branch and bound"
    if arrangements is None:
        rank = row_space(data)[0].shape[1]
        if rank > BRANCHING_RANK and count_bound(len(data), rank) <= _LISTABLE:
            listed = enumerate_arrangements(data, max_patterns=_LISTABLE)
            if listed.exhaustive:
                return _bound_on_patterns(data, z, listed), True, "enumeration"
        priced = price(data, z, target=max(beta, level), rtol=1e-8, max_nodes=max_nodes)
        inside = (1.0 - _CLOSE) * beta
        if priced.complete and max(priced.lower, level) < inside:  # a larger multiple may be, too
            finer = price(data, z, target=level, rtol=0.1 * _CLOSE, max_nodes=max_nodes)
            priced = min(priced, finer, key=lambda found: found.upper)
        return priced.upper, True, priced.method
    bound = _bound_on_patterns(data, z, arrangements)
    return bound, arrangements.exhausts(data), "given patterns"


def _bound_on_patterns(data: Tensor, z: Tensor, arrangements: Arrangements) -> float:
    """The maximum over the cells of the given patterns, rounding and snapping covered."""
    masks = arrangements.masks.cpu()
    blocks = (masks.double() * z) @ data  # (P, d)
    blocks = torch.cat([blocks, -blocks])
    projector = ConeProjector(data, masks, copies=2)
    projector(blocks)
    bound = float(projector.support_bounds(blocks).max())
    sizes = torch.linalg.vector_norm(data, dim=1)
    rounding = 2.0 * (len(data) + 4) * EPS * float(z.abs() @ sizes)
    snapped = arrangements.perturbation * float(torch.linalg.vector_norm(z))
    return bound + rounding + snapped
