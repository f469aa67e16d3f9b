r"""The networks behind one-dimensional programs: narrow units, and trees of signs, in parallel.

`build_units` and `build_switching` lead from coefficients of features to the least possible
weights.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from convexlib.arrays import Floats
from convexlib.errors import InputError
from convexlib.problems.mirrors.features import ChainFeature, Feature


def activate(h: Tensor, activation: str, slope: float) -> Tensor:
    """Return the activation of every entry, as `features.activate` does for arrays."""
    if activation == "relu":
        return torch.relu(h)
    if activation == "abs":
        return h.abs()
    if activation == "leaky":
        return torch.where(h >= 0, h, slope * h)
    high = (h >= 0).to(h)
    return high if activation == "threshold" else 2.0 * high - 1.0


class Units(nn.Module, ABC):
    r"""K units in parallel, :math:`f(x) = \xi + \sum_k c_k h_k(x)`, layer by layer.

    Attributes
    ----------
    weights, biases
        Of the hidden layers, one entry per layer.
    alpha : Parameter (K,)
        Output weights.
    bias : Parameter ()
        The output bias xi.
    activation, slope
        The activation, and its slope on the negative side for ``"leaky"``.
    """

    weights: nn.Parameter | nn.ParameterList
    biases: nn.Parameter | nn.ParameterList

    def __init__(self, alpha: Tensor, bias: Tensor, activation: str, slope: float = 0.0) -> None:
        super().__init__()
        self.alpha = parameter(alpha)
        self.bias = parameter(bias)
        self.activation, self.slope = activation, slope

    @property
    def depth(self) -> int:
        """Number of layers of weights, L."""
        return len(self.weights) + 1

    @property
    def n_units(self) -> int:
        """Number of parallel units, K."""
        return self.alpha.shape[0]

    @abstractmethod
    def combine(self, h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return what a layer's neurons activate, (n, K, nodes), from the outputs of the last."""

    @abstractmethod
    def coefficients(self) -> Tensor:
        """Return what each unit is multiplied by, (K,)."""

    @abstractmethod
    def regulariser(self) -> Tensor:
        """Return what beta multiplies in the training problem."""

    def hidden(self, x: Tensor) -> Tensor:
        """Return the outputs of the units, (n, K), for inputs (n,) or (n, 1)."""
        h = x.reshape(-1, 1, 1)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            h = activate(self.combine(h, weight, bias), self.activation, self.slope)
        # Shapes, not lengths: torch's exporters take a length for a constant.
        return h.reshape(x.shape[0], self.n_units)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs (n,) for inputs (n,) or (n, 1)."""
        return self.hidden(x) @ self.coefficients() + self.bias

    def extra_repr(self) -> str:
        return f"{self.activation}, depth={self.depth}, units={self.n_units}"


class ParallelUnits(Units):
    r"""K narrow units of L layers in parallel, summed with one output bias.

    Unit k is :math:`h_l = \sigma(w_{lk} h_{l-1} + b_{lk})` for :math:`l = 1, \dots, L-1`, and the
    network is :math:`f(x) = \xi + \sum_k \alpha_k h_{L-1,k}(x)`.

    Parameters
    ----------
    weights, biases : Tensor (L - 1, K)
        Hidden layers.
    alpha : Tensor (K,)
        Output weights.
    bias : Tensor ()
        The output bias xi.
    activation : {"relu", "abs", "leaky"}
        The activation.
    slope : float
        Of ``"leaky"``, on the negative side.
    """

    weights: nn.Parameter
    biases: nn.Parameter

    def __init__(
        self,
        weights: Tensor,
        biases: Tensor,
        alpha: Tensor,
        bias: Tensor,
        activation: str = "relu",
        slope: float = 0.0,
    ) -> None:
        if weights.ndim != 2 or weights.shape != biases.shape or alpha.shape != weights.shape[1:]:
            raise InputError(
                f"weights has shape {tuple(weights.shape)}, biases {tuple(biases.shape)} and alpha "
                f"{tuple(alpha.shape)}; expected (L - 1, K), (L - 1, K) and (K,)."
            )
        super().__init__(alpha, bias, activation, slope)
        self.weights, self.biases = parameter(weights), parameter(biases)

    def combine(self, h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return each unit's only neuron times its weight, plus its bias."""
        return h * weight[:, None] + bias[:, None]

    def coefficients(self) -> Tensor:
        """Return the output weights."""
        return self.alpha

    def regulariser(self) -> Tensor:
        r""":math:`\frac1L \sum |w|^L` over every weight; biases are free."""
        powers = self.weights.abs() ** self.depth
        return (powers.sum() + (self.alpha.abs() ** self.depth).sum()) / self.depth


class SwitchingUnits(Units):
    r"""K parallel trees of sign or threshold neurons, each with an amplitude.

    The leaves of a tree compute :math:`\sigma(w x + b)`, every later neuron :math:`\sigma` of a
    combination of its children; the network is :math:`f(x) = \xi + \sum_k \alpha_k a_k h_k(x)` with
    the amplitudes a_k. Only a and alpha are regularised: what an activation discards, the scale of
    its input, costs nothing.

    Parameters
    ----------
    weights : sequence of Tensor (K, nodes, children)
        One per hidden layer; the leaves have one child, the input.
    biases : sequence of Tensor (K, nodes)
        One per hidden layer.
    amplitudes, alpha : Tensor (K,)
        Amplitudes of the last hidden neurons, and output weights.
    bias : Tensor ()
        The output bias.
    activation : {"sign", "threshold"}
        The activation; 0 counts as positive.
    """

    weights: nn.ParameterList
    biases: nn.ParameterList

    def __init__(
        self,
        weights: list[Tensor],
        biases: list[Tensor],
        amplitudes: Tensor,
        alpha: Tensor,
        bias: Tensor,
        activation: str = "sign",
    ) -> None:
        super().__init__(alpha, bias, activation)
        self.weights = nn.ParameterList([parameter(part) for part in weights])
        self.biases = nn.ParameterList([parameter(part) for part in biases])
        self.amplitudes = parameter(amplitudes)

    def combine(self, h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Sum every node's children; the child of all leaves is the input."""
        children = weight.shape[2]
        grouped = h.reshape(*h.shape[:2], h.shape[2] // children, children)
        return (grouped * weight).sum(dim=3) + bias

    def coefficients(self) -> Tensor:
        """Return amplitudes times output weights."""
        return self.amplitudes * self.alpha

    def regulariser(self) -> Tensor:
        r""":math:`\frac12 \sum_k (a_k^2 + \alpha_k^2)`."""
        return 0.5 * ((self.amplitudes**2).sum() + (self.alpha**2).sum())


def parameter(value: Tensor) -> nn.Parameter:
    """Return a parameter that shares nothing with `value`."""
    return nn.Parameter(value.detach().clone())


def check_units(network: nn.Module, activation: str, depth: int) -> None:
    """Refuse a network of another kind."""
    if not isinstance(network, Units):
        raise InputError(
            f"network is {type(network).__name__}; expected ParallelUnits or SwitchingUnits, "
            "such as problem.to_network(result)."
        )
    if (network.activation, network.depth) != (activation, depth):
        raise InputError(
            f"the network has activation {network.activation!r} and depth {network.depth}; "
            f"expected {activation!r} and {depth}."
        )


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
