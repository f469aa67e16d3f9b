r"""A bound on the units of deep sub-networks that needs no list of them.

A node :math:`(\sum_c s_c h_c)_+` of nonnegative children is at most the sum of its children with a
positive sign. So a unit of m leaves lies between 0 and :math:`\sum_j (X u_j)_+` over some of them,
and with :math:`g(v) = \max_{\|u\| \le 1} v^\top (Xu)_+`

.. math:: \max(z^\top h, -z^\top h) \le \max(g(z_+), g(z_-)) \sum_j \|u_j\| ,\qquad
          \sum_j \|u_j\| \le \sqrt m \, \|U\|_F .

g is a two-layer maximum, which `convexlib.pricing` bounds at any rank. What a unit could gain by
subtracting is ignored, so the bound is valid for every network of that shape but not tight.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from convexlib.certify.two_layer import bound_neurons
from convexlib.pricing import price

_NODES = 100_000  # budget of a search for one more neuron
_TOL = 1e-6


def bound_positive(data: Tensor, z: Tensor, level: float, max_nodes: int) -> float:
    r"""An upper bound on :math:`\max(g(z_+), g(z_-))`; tight only above `level`."""
    sides = z.clamp(min=0), (-z).clamp(min=0)
    return max(bound_neurons(data, side, level, None, max_nodes)[0] for side in sides)


def positive_dual(data: Tensor, y: Tensor, level: float, rounds: int = 40) -> Tensor:
    r"""The z (n,) closest to y with :math:`g(z_+), g(z_-) \le` level, approximately.

    Each sign is a problem of its own: z_+ lives on the samples with y > 0 and is the residual
    :math:`(y - Aw)_+` of the program :math:`\min_{w \ge 0} \tfrac12 \|(y - Aw)_+\|^2 +
    \text{level} \cdot 1^\top w` over neurons :math:`A = (Xu)_+`, which are generated.
    """
    z = torch.zeros_like(y)
    for sign in (1.0, -1.0):
        chosen = sign * y > 0
        if bool(chosen.any()):
            z[chosen] = sign * _residual(data[chosen], sign * y[chosen], level, rounds)
    return z


def _residual(data: Tensor, y: Tensor, level: float, rounds: int) -> Tensor:
    neurons = y.new_zeros(len(y), 0)
    weights = np.zeros(0)
    left = y
    for _ in range(rounds):
        best = price(data, left, target=level, rtol=_TOL, max_nodes=_NODES)
        if best.lower <= level * (1.0 + _TOL):
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
