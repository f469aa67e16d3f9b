r"""Certificates of parallel deep networks: every unit, a whole sub-network, is bounded.

The units of small data are listed by exact arithmetic, and then the bound is tight. Otherwise the
bound without a list holds, or that over units which the caller gives. Units
of one neuron per layer are two-layer neurons, :math:`(\cdots((Xu)_+)_+ \cdots)_+ = (Xu)_+`.

**Without a list.** A node :math:`(\sum_c s_c h_c)_+` of nonnegative children is at most the sum of
its children with a positive sign. So a unit of m leaves lies between 0 and :math:`\sum_j (X u_j)_+`
over some of them, and with :math:`g(v) = \max_{\|u\| \le 1} v^\top (Xu)_+`

.. math:: \max(z^\top h, -z^\top h) \le \max(g(z_+), g(z_-)) \sum_j \|u_j\| ,\qquad
          \sum_j \|u_j\| \le \sqrt m \, \|U\|_F .

g is a two-layer maximum, which `convexlib.pricing` bounds at any rank. What a unit could gain by
subtracting is ignored, so the bound is valid for every network of that shape but not tight.
"""

from __future__ import annotations

import math
from math import prod, sqrt

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from convexlib.arrays import EPS
from convexlib.certify.certificate import CLOSED, Certificate, UnitBound, best_certificate
from convexlib.certify.two_layer import bound_neurons, searched
from convexlib.errors import (
    InputError,
    NotCertifiableError,
    SolverError,
    TooManyArrangementsError,
    unwarned,
)
from convexlib.networks import ParallelReLU
from convexlib.networks.parallel import as_parallel, parallel_outputs, parts_of, read_parallel
from convexlib.networks.two_layer import refuse_shared
from convexlib.pricing import price
from convexlib.problems.base import double
from convexlib.problems.parallel import UnitProgram, Units, enumerate_units
from convexlib.problems.parallel.path import PathRegularized
from convexlib.problems.parallel.three_layer import ThreeLayer
from convexlib.solvers.refine import refine as refine_dual
from convexlib.solvers.units import generate_units

_TOL = 1e-9  # of the solve that refines the dual point


def certify_parallel(
    network: nn.Module,
    X: Tensor,
    y: Tensor,
    beta: float,
    *,
    regularizer: str,
    units: Units | None = None,
    refine: bool = True,
    max_nodes: int = 5_000_000,
    max_units: int = 100_000,
    z: Tensor | None = None,
) -> Certificate:
    """See `convexlib.certify.certify`; X, y and z are checked tensors."""
    exact = double(network).cpu()
    reading = read_parallel(exact)
    data, y = X.double().cpu(), y.double().cpu()
    if reading.features != data.shape[1]:
        raise InputError(
            f"the network takes {reading.features} features but X has shape {tuple(X.shape)}; "
            f"expected (n, {reading.features})."
        )
    by_path = regularizer == "path"
    if not by_path:  # the path norm has each path once, whoever holds its weights
        refuse_shared(parts_of(network), "part")
    penalty = float(reading.path_norms.sum()) if by_path else _upper_decay(as_parallel(exact))
    residual = y - parallel_outputs(exact, data)
    primal = 0.5 * float(residual @ residual) + beta * penalty
    if not math.isfinite(primal):
        raise NotCertifiableError(
            "the network has non-finite weights, or so large ones that its objective overflows. "
            "Train it again with a smaller learning rate."
        )

    widths = reading.widths
    factor = sqrt(prod(widths)) * (1.0 + EPS) if by_path else 1.0
    problem = _program(data, y, beta, widths, regularizer, units, max_units)
    # The best bound that can be had: over a list of all units; over neurons, by branch and bound,
    # where sub-networks are single neurons; else one that needs no list, and is not tight.
    if problem is not None:
        bound = _over_units(problem, "enumeration" if units is None else "given units")
    elif prod(widths) == 1:
        bound = _over_neurons(data, beta, max_nodes)
    else:
        bound = _over_positive_leaves(data, beta, factor, max_nodes)

    def best_of(points: list[Tensor]) -> Certificate:
        return best_certificate(primal, points, y, beta, bound, regularizer=regularizer)

    found = []
    if z is not None:
        found.append(best_of([z.double().cpu()]))
        if not refine or found[0].relative_gap <= CLOSED:
            return found[0]
    points: list[Tensor | None] = [residual]
    if refine and problem is not None:
        points.append(_refined(problem))
    elif refine and prod(widths) == 1:
        nothing, nodes = data.new_zeros(0, data.shape[1]), searched(data, max_nodes)
        points.append(refine_dual(data, y, beta, nothing, max_nodes=nodes).z)
    elif refine:
        points.append(positive_dual(data, y, beta / factor))
    found.append(best_of([point for point in points if point is not None]))
    return max(found, key=lambda certificate: certificate.dual)


def _upper_decay(network: ParallelReLU) -> float:
    """Half the squared weights above the first layer, which must not be larger than 1."""
    sizes = torch.linalg.vector_norm(network.U.detach(), dim=(1, 2))
    largest = max(sizes.tolist(), default=0.0)
    # Networks made in float32 are as close to 1 as that allows.
    if largest > 1.0 + 1e-5:
        raise NotCertifiableError(
            f"a first layer has Frobenius norm {largest:.9g}; expected at most 1, the constraint "
            'of regularizer="three layers". Divide it by its norm and multiply the layer above by '
            'it, or use regularizer="path".'
        )
    second = network.inner[0].detach() * sizes.clamp(min=1.0)[:, None, None]
    return 0.5 * float((second**2).sum() + (network.alpha.detach() ** 2).sum())


def _program(
    data: Tensor,
    y: Tensor,
    beta: float,
    widths: tuple[int, ...],
    regularizer: str,
    units: Units | None,
    max_units: int,
) -> UnitProgram | None:
    """The program over given or over all units; None if those are too many, or only neurons."""
    if units is None:
        if prod(widths) == 1:
            return None
        try:
            units = enumerate_units(data, widths, len(widths) + 2, max_units)
        except TooManyArrangementsError:
            return None
        if not units.exhaustive:
            return None  # data of unclear rank: the bound that needs no list is a proof
    if regularizer == "path":
        depth = len(widths) + 2
        return PathRegularized(data, y, beta=beta, width=widths, depth=depth, units=units)
    return ThreeLayer(data, y, beta=beta, width=widths[0], units=units)


def _refined(problem: UnitProgram) -> Tensor | None:
    with unwarned():
        # More than rounding allows is asked for; what comes out is bounded afterwards anyway.
        try:
            return generate_units(problem, tol=_TOL).z
        except SolverError:
            return None  # the residual of the network is a dual point too


def _over_units(problem: UnitProgram, method: str) -> UnitBound:
    # Given units are those of some data, which cannot be told from them: they prove nothing here.
    return lambda z, _: (problem.dual_norm(z), method == "enumeration", method)


def _over_neurons(data: Tensor, beta: float, max_nodes: int) -> UnitBound:
    return lambda z, level: bound_neurons(data, z, beta, level, None, max_nodes)


def _over_positive_leaves(data: Tensor, beta: float, factor: float, max_nodes: int) -> UnitBound:
    def bound(z: Tensor, level: float) -> tuple[float, bool, str]:
        reach = factor * bound_positive(data, z, max(beta, level) / factor, max_nodes)
        return reach, True, "positive leaves"

    return bound


_NODES = 100_000  # budget of a search for one more neuron
_CLOSE = 1e-6
_ROUNDS = 40  # neurons at most


def bound_positive(data: Tensor, z: Tensor, level: float, max_nodes: int) -> float:
    r"""An upper bound on :math:`\max(g(z_+), g(z_-))`; tight only above `level`."""
    sides = z.clamp(min=0), (-z).clamp(min=0)
    return max(bound_neurons(data, side, level, level, None, max_nodes)[0] for side in sides)


def positive_dual(data: Tensor, y: Tensor, level: float) -> Tensor:
    r"""The z (n,) closest to y with :math:`g(z_+), g(z_-) \le` level, approximately.

    Each sign is a problem of its own: z_+ lives on the samples with y > 0 and is the residual
    :math:`(y - Aw)_+` of the program :math:`\min_{w \ge 0} \tfrac12 \|(y - Aw)_+\|^2 +
    \text{level} \cdot 1^\top w` over neurons :math:`A = (Xu)_+`, which are generated.
    """
    z = torch.zeros_like(y)
    for sign in (1.0, -1.0):
        chosen = sign * y > 0
        if bool(chosen.any()):
            z[chosen] = sign * _residual(data[chosen], sign * y[chosen], level)
    return z


def _residual(data: Tensor, y: Tensor, level: float) -> Tensor:
    neurons = y.new_zeros(len(y), 0)
    weights = np.zeros(0)
    left = y
    for _ in range(_ROUNDS):
        best = price(data, left, target=level, rtol=_CLOSE, max_nodes=_NODES)
        if best.lower <= level * (1.0 + _CLOSE):
            break
        neurons = torch.cat([neurons, torch.relu(data @ best.direction)[:, None]], dim=1)
        weights = _weights(neurons.numpy(), y.numpy(), level, np.append(weights, 0.0))
        left = (y - neurons @ torch.from_numpy(weights)).clamp(min=0)
    return left


def _weights(A: np.ndarray, y: np.ndarray, level: float, start: np.ndarray) -> np.ndarray:
    def value(w: np.ndarray) -> tuple[float, np.ndarray]:
        left = np.maximum(y - A @ w, 0.0)
        return 0.5 * float(left @ left) + level * float(w.sum()), level - A.T @ left

    bounds = [(0.0, None)] * len(start)
    options = {"ftol": 1e-15, "gtol": 1e-10 * level, "maxiter": 2000}
    found = minimize(value, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return np.asarray(found.x)
