r"""From coefficients of features to the weights of a network, the least possible ones."""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from torch import Tensor

from convexlib.arrays import Floats
from convexlib.problems.mirrors.features import ChainFeature, Feature
from convexlib.problems.mirrors.networks import ParallelUnits, SwitchingUnits


def build_units(
    coefficients: Tensor,
    features: list[Feature],
    bias: Tensor,
    activation: str,
    slope: float,
    depth: int,
) -> ParallelUnits:
    r"""Spread each coefficient z (K,) evenly over the layers of its unit.

    With :math:`g = |z|^{1/L}` every weight has size g and layer l has the bias :math:`g^l b_l`, for
    unit-weight chains with signs s_l and biases b_l. Then :math:`\frac1L \sum |w|^L = |z|`, the
    least it can be by the inequality of arithmetic and geometric means.
    """
    chains = [feature for feature in features if isinstance(feature, ChainFeature)]
    shape = (len(features), depth - 1)
    signs = coefficients.new_tensor([chain.signs for chain in chains]).reshape(shape)
    biases = coefficients.new_tensor([chain.biases for chain in chains]).reshape(shape)
    g = coefficients.abs() ** (1.0 / depth)
    powers = g ** torch.arange(1, depth, dtype=g.dtype, device=g.device)[:, None]  # (L - 1, K)
    alpha = torch.sign(coefficients) * g
    return ParallelUnits(signs.T * g, biases.T * powers, alpha, bias, activation, slope)


def build_switching(
    coefficients: Tensor,
    features: list[Feature],
    bias: Tensor,
    activation: str,
    widths: tuple[int, ...],
    depth: int,
    x: Floats,
) -> SwitchingUnits:
    r"""Trees whose leaves switch at the kinks of the features, low on the left.

    The switches are dealt to the leaves in order; unused leaves switch to the right of the data. In
    every neuron the children's signs alternate so that the sum of its children (as signs) moves
    between -1 and 1 at each switch: child j enters with the sign that makes its first switch move
    it the right way, and a bias makes the sum start at -1.
    """
    units, leaves = len(features), prod(widths)
    outside = float(x[-1] + max(np.ptp(x), 1.0))
    rows = [feature.kinks.tolist() for feature in features]
    places = [row + [outside] * (leaves - len(row)) for row in rows]
    used = torch.tensor([len(row) for row in rows]).reshape(units, 1)
    # Every node starts low (-1) and switches as often as its leaves do; a leaf at most once.
    counts = (torch.arange(leaves) < used).long()  # switches inside the data, (K, leaves)
    weights = [torch.ones(units, leaves, 1)]
    biases = [-torch.tensor(places, dtype=torch.float64).reshape(units, leaves)]
    # A sum of signs s_j h_j + c is one of thresholds t_j = (h_j + 1) / 2: 2 s_j t_j + c - sum(s).
    thresholds = activation == "threshold"
    for width in widths:
        children = counts.reshape(units, counts.shape[1] // width, width)
        counts = children.sum(dim=2)
        before = children.cumsum(dim=2) - children
        signs = 1.0 - 2.0 * (before % 2)  # the sum is at -1 after an even number, 1 after an odd
        # As signs, the children start at -1: the sum is -sum(signs) + bias = -1 at first.
        offset = signs.sum(dim=2) - 1.0
        weights.append(2.0 * signs if thresholds else signs)
        biases.append(offset - signs.sum(dim=2) if thresholds else offset)
    for _ in range(depth - 2 - len(widths)):  # pass on
        weights.append(torch.ones(units, 1, 1))
        biases.append(torch.full((units, 1), -0.5 if thresholds else 0.0))
    root = coefficients.abs().sqrt()
    return SwitchingUnits(
        [part.to(coefficients) for part in weights],
        [part.to(coefficients) for part in biases],
        root,
        torch.sign(coefficients) * root,
        bias,
        activation,
    )
