r"""The networks behind one-dimensional programs: narrow units, and trees of signs, in parallel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convexlib.errors import InputError
from convexlib.problems.mirrors.features import ChainFeature


class ParallelUnits(nn.Module):
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

    def __init__(
        self,
        weights: Tensor,
        biases: Tensor,
        alpha: Tensor,
        bias: Tensor,
        activation: str = "relu",
        slope: float = 0.0,
    ) -> None:
        super().__init__()
        if weights.ndim != 2 or weights.shape != biases.shape or alpha.shape != weights.shape[1:]:
            raise InputError(
                f"weights has shape {tuple(weights.shape)}, biases {tuple(biases.shape)} and alpha "
                f"{tuple(alpha.shape)}; expected (L - 1, K), (L - 1, K) and (K,)."
            )
        self.weights = nn.Parameter(weights.detach().clone())
        self.biases = nn.Parameter(biases.detach().clone())
        self.alpha = nn.Parameter(alpha.detach().clone())
        self.bias = nn.Parameter(bias.detach().clone())
        self.activation, self.slope = activation, slope

    @property
    def depth(self) -> int:
        """Number of layers of weights, L."""
        return len(self.weights) + 1

    @property
    def n_units(self) -> int:
        """Number of parallel units, K."""
        return len(self.alpha)

    def hidden(self, x: Tensor) -> Tensor:
        """Return the outputs of the units, (n, K), for inputs (n,) or (n, 1)."""
        h = x.reshape(-1, 1)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            h = h * weight + bias  # (n, K)
            if self.activation == "relu":
                h = torch.relu(h)
            elif self.activation == "abs":
                h = h.abs()
            else:
                h = torch.where(h >= 0, h, self.slope * h)
        return h

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs (n,) for inputs (n,) or (n, 1)."""
        return self.hidden(x) @ self.alpha + self.bias

    def regulariser(self) -> Tensor:
        r""":math:`\frac1L \sum |w|^L` over every weight; biases are free."""
        powers = self.weights.abs() ** self.depth
        return (powers.sum() + (self.alpha.abs() ** self.depth).sum()) / self.depth

    def extra_repr(self) -> str:
        """Sizes for printing."""
        return f"{self.activation}, depth={self.depth}, units={self.n_units}"


class SwitchingUnits(nn.Module):
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

    def __init__(
        self,
        weights: list[Tensor],
        biases: list[Tensor],
        amplitudes: Tensor,
        alpha: Tensor,
        bias: Tensor,
        activation: str = "sign",
    ) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(part.detach().clone()) for part in weights])
        self.biases = nn.ParameterList([nn.Parameter(part.detach().clone()) for part in biases])
        self.amplitudes = nn.Parameter(amplitudes.detach().clone())
        self.alpha = nn.Parameter(alpha.detach().clone())
        self.bias = nn.Parameter(bias.detach().clone())
        self.activation = activation

    @property
    def depth(self) -> int:
        """Number of layers of weights, L."""
        return len(self.weights) + 1

    @property
    def n_units(self) -> int:
        """Number of parallel trees, K."""
        return len(self.alpha)

    def hidden(self, x: Tensor) -> Tensor:
        """Return the outputs of the trees without their amplitudes, (n, K)."""
        units, leaves = self.biases[0].shape
        h = x.reshape(-1, 1, 1, 1).expand(-1, units, leaves, 1)  # (n, K, nodes, children)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            h = h.reshape(len(x), *weight.shape)  # groups of children
            high = ((h * weight).sum(dim=3) + bias >= 0).to(bias)
            h = high if self.activation == "threshold" else 2.0 * high - 1.0
        return h.reshape(len(x), units)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs (n,) for inputs (n,) or (n, 1)."""
        return self.hidden(x) @ (self.amplitudes * self.alpha) + self.bias

    def regulariser(self) -> Tensor:
        r""":math:`\frac12 \sum_k (a_k^2 + \alpha_k^2)`."""
        return 0.5 * ((self.amplitudes**2).sum() + (self.alpha**2).sum())

    def extra_repr(self) -> str:
        """Sizes for printing."""
        return f"{self.activation}, depth={self.depth}, units={self.n_units}"


def build_units(
    coefficients: Tensor,
    chains: list[ChainFeature],
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
    shape = (len(chains), depth - 1)
    signs = coefficients.new_tensor([chain.signs for chain in chains]).reshape(shape)
    biases = coefficients.new_tensor([chain.biases for chain in chains]).reshape(shape)
    g = coefficients.abs() ** (1.0 / depth)
    powers = g ** torch.arange(1, depth, dtype=g.dtype, device=g.device)[:, None]  # (L - 1, K)
    alpha = torch.sign(coefficients) * g
    return ParallelUnits(signs.T * g, biases.T * powers, alpha, bias, activation, slope)


def build_switching(
    coefficients: Tensor,
    thresholds: list[list[float]],
    bias: Tensor,
    activation: str,
    widths: tuple[int, ...],
    depth: int,
    outside: float,
) -> SwitchingUnits:
    r"""Trees whose leaves switch at the given thresholds, low on the left.

    The switches are dealt to the leaves in order, the unused leaves switch at `outside`, which is
    right of the data. In every neuron the children's signs alternate so that the sum of its
    children (as signs) moves between -1 and 1 at each switch: child j enters with the sign that
    makes its first switch move it the right way, and a bias makes the sum start at -1.
    """
    leaves = 1
    for width in widths:
        leaves *= width
    places = torch.tensor(
        [row + [outside] * (leaves - len(row)) for row in thresholds], dtype=torch.float64
    ).reshape(-1, leaves)
    used = torch.tensor([len(row) for row in thresholds])
    # Every node starts low (-1) and switches as often as its leaves do; a leaf at most once.
    counts = (torch.arange(leaves) < used[:, None]).long()  # switches inside the data, (K, leaves)
    weights = [torch.ones(len(places), leaves, 1, dtype=torch.float64)]
    biases = [-places]
    for width in widths:
        children = counts.reshape(len(places), counts.shape[1] // width, width)
        counts = children.sum(dim=2)
        before = children.cumsum(dim=2) - children
        signs = 1.0 - 2.0 * (before % 2).double()  # the sum is at -1 after an even number, +1 odd
        # As signs, the children start at -1: the sum is -sum(signs) + bias = -1 at first.
        offset = signs.sum(dim=2) - 1.0
        if activation == "threshold":  # sign = 2 threshold - 1
            weights.append(2.0 * signs)
            biases.append(offset - signs.sum(dim=2))
        else:
            weights.append(signs)
            biases.append(offset)
    for _ in range(depth - 2 - len(widths)):  # pass on
        weights.append(torch.ones(len(places), 1, 1, dtype=torch.float64))
        shift = -0.5 if activation == "threshold" else 0.0
        biases.append(torch.full((len(places), 1), shift, dtype=torch.float64))
    root = coefficients.abs().sqrt()
    kind = coefficients.dtype
    device = coefficients.device
    return SwitchingUnits(
        [part.to(device, kind) for part in weights],
        [part.to(device, kind) for part in biases],
        root,
        torch.sign(coefficients) * root,
        bias,
        activation,
    )
