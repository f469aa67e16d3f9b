r"""The networks behind one-dimensional programs: narrow units, and trees of signs, in parallel."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from convexlib.errors import InputError


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
        """Sizes for printing."""
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


def check_units(network: nn.Module, activation: str, depth: int) -> Units:
    """Return the network, or refuse one of another kind."""
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
    return network
