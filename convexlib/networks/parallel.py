r"""Parallel sub-networks as plain torch modules, and the path norm of these and standard networks.

A parallel ReLU network is a sum of sub-networks with one output each,
:math:`f(X) = \sum_k \alpha_k\, h_k(X)`. Here every sub-network is a tree: leaves
:math:`(X u_{kj})_+`, and nodes :math:`(\sum_c w_c\, h_c)_+` with children of their own. With three
layers of weights every fully connected sub-network is such a tree.

A standard network :math:`w_L^\top (W_{L-1} (\cdots (W_1 x)_+ \cdots)_+)_+` **is** a parallel one:
the neurons of its last hidden layer are the roots of sub-networks, which share the layers below.
The price of that form is the sum of the sub-networks' path norms. The path norm of the standard
network as a whole is the root of the sum of their squares: at most that sum, and at least the sum
divided by :math:`\sqrt K` for a last hidden layer of K neurons.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from convexlib.arrays import scale_of
from convexlib.checks import check_positive_int, check_weights
from convexlib.errors import InputError
from convexlib.networks.two_layer import check_own_forward, layers_of, outputs

__all__ = [
    "ParallelReLU",
    "ParallelReading",
    "as_parallel",
    "parallel_outputs",
    "path_norm",
    "read_parallel",
]


class ParallelReLU(nn.Module):
    r"""The network :math:`f(X) = \sum_k (\cdots ((X W_{1k})_+ w_{2k})_+ \cdots)_+ \, \alpha_k`.

    Parameters
    ----------
    U : Tensor (K, m, d)
        First-layer weights of the K sub-networks, m neurons each: column j of :math:`W_{1k}` is
        ``U[k, j]``.
    inner : sequence of Tensor (K, parents, children)
        Weights of the layers above, from below. ``parents * children`` is the number of nodes of
        the level below (m for the first), and the last has one parent. Three layers of weights:
        one tensor (K, 1, m).
    alpha : Tensor (K,)
        Output weights.

    Raises
    ------
    InputError
        If the shapes do not form trees.

    Examples
    --------
    >>> import torch
    >>> import convexlib as cl
    >>> U, inner = torch.tensor([[[1.0], [-1.0]]]), torch.tensor([[[1.0, -1.0]]])
    >>> network = cl.ParallelReLU(U, [inner], torch.tensor([2.0]))  # 2 ((x)_+ - (-x)_+)_+
    >>> network(torch.tensor([[-1.0], [3.0]])).tolist()
    [0.0, 6.0]
    """

    def __init__(self, U: Tensor, inner: Sequence[Tensor], alpha: Tensor) -> None:
        super().__init__()
        if not isinstance(inner, list | tuple | nn.ParameterList):
            raise InputError(
                f"inner is {type(inner).__name__}; expected a sequence of tensors (K, parents, "
                "children)."
            )
        levels = {f"inner[{level}]": weights for level, weights in enumerate(inner)}
        check_weights({"U": U, "alpha": alpha, **levels})
        shapes = [tuple(weights.shape) for weights in inner]
        nodes = U.shape[1] if U.ndim == 3 else 0
        fits = U.ndim == 3 and tuple(alpha.shape) == (len(U),)
        for shape in shapes:
            fits = fits and len(shape) == 3 and shape[0] == len(U) and shape[1] * shape[2] == nodes
            nodes = shape[1] if len(shape) == 3 else 0
        if not fits or nodes != 1:
            raise InputError(
                f"U has shape {tuple(U.shape)}, inner {shapes} and alpha {tuple(alpha.shape)}; "
                "expected (K, m, d), a (K, parents, children) per inner layer with parents * "
                "children nodes below and one parent at the top, and (K,)."
            )
        self.U = nn.Parameter(U.detach().clone())
        self.inner = nn.ParameterList(nn.Parameter(weights.detach().clone()) for weights in inner)
        self.alpha = nn.Parameter(alpha.detach().clone())

    @property
    def n_subnetworks(self) -> int:
        """Number of parallel sub-networks."""
        return len(self.alpha)

    def hidden(self, X: Tensor) -> Tensor:
        """Outputs of the sub-networks before their output weights, (n, K)."""
        values = torch.relu(torch.einsum("td,kjd->tkj", X, self.U))  # (n, K, m)
        for weights in self.inner:
            values = values.reshape(len(X), *weights.shape)
            values = torch.relu((values * weights).sum(dim=3))  # (n, K, parents)
        return values[..., 0]

    def forward(self, X: Tensor) -> Tensor:
        """Outputs (n,) for inputs (n, d)."""
        return self.hidden(X) @ self.alpha

    def path_norms(self) -> Tensor:
        r"""Root of the sum of squared products over the paths of each sub-network, (K,)."""
        scale = scale_of(self.U)
        squares = ((self.U / scale) ** 2).sum(dim=2)  # (K, m)
        for weights in self.inner:
            unit = scale_of(weights)
            squares = ((weights / unit) ** 2 * squares.reshape(weights.shape)).sum(dim=2)
            scale *= unit
        return self.alpha.abs() * squares[:, 0].sqrt() * scale

    def balanced(self) -> ParallelReLU:
        r"""The same function with inner weights of -1, 0 or 1 and :math:`\|U_k\|_F = |\alpha_k|`.

        Its path norm is unchanged and equals :math:`\tfrac12 \sum_k (\alpha_k^2 + \|U_k\|_F^2)`:
        the form to train, which has no root at zero.
        """
        with torch.no_grad():
            scale = self.U.new_ones(self.n_subnetworks, 1)  # of the nodes, from the root down
            for weights in reversed(list(self.inner)):
                scale = (scale[:, :, None] * weights.abs()).reshape(len(scale), -1)
            U = self.U * scale[:, :, None]
            sizes = torch.linalg.vector_norm(U, dim=(1, 2))
            nonzero = torch.where(sizes > 0, sizes, 1.0)
            factor = torch.where(sizes > 0, (self.alpha.abs() / nonzero).sqrt(), 0.0)
            alpha = self.alpha.sign() * sizes * factor
            U = U * factor[:, None, None]
            return ParallelReLU(U, [weights.sign() for weights in self.inner], alpha)

    def extra_repr(self) -> str:
        widths = [weights.shape[2] for weights in self.inner]
        return f"d={self.U.shape[2]}, subnetworks={self.n_subnetworks}, widths={widths}"


@dataclass(frozen=True, eq=False)
class ParallelReading:
    """What a parallel network says without being unrolled.

    Attributes
    ----------
    features : int
        Inputs d.
    widths : tuple of int
        Children per inner node, from the leaves upwards; () for two layers of weights.
    path_norms : Tensor (K,)
        Of the sub-networks, float64.
    """

    features: int
    widths: tuple[int, ...]
    path_norms: Tensor


def path_norm(network: nn.Module) -> float:
    r"""The path norm :math:`\sum_k \big(\sum_{\text{paths}} \prod \text{weight}^2\big)^{1/2}`.

    Parameters
    ----------
    network : Module
        A `ParallelReLU`, an ``nn.Sequential`` of ``Linear(bias=False)`` and ``ReLU`` with one
        output, which counts as **one** sub-network, or an ``nn.ModuleList`` of those, whose sum is
        the network. ``as_parallel(network).path_norms()`` splits an ``nn.Sequential`` into the
        neurons of its last hidden layer: a larger number unless there is one such neuron.

    Raises
    ------
    InputError
        For other modules, biases and several outputs, and where the sum is no finite number.
    NotCertifiableError
        For a network that computes something else than its layers say (see `layers_of`).

    Examples
    --------
    >>> import torch
    >>> import convexlib as cl
    >>> U, inner = torch.tensor([[[3.0], [4.0]]]), torch.tensor([[[1.0, 1.0]]])
    >>> cl.path_norm(cl.ParallelReLU(U, [inner], torch.tensor([2.0])))  # the root of 6^2 + 8^2
    10.0
    """
    norm = _path_norm(network)
    if not math.isfinite(norm):
        raise InputError(
            f"the path norm is {norm}; expected a finite number. Are all weights finite, and their "
            "products along a path within the range of float64?"
        )
    return norm


def _path_norm(network: nn.Module) -> float:
    """The path norm as it comes, which may be beyond floats."""
    if isinstance(network, ParallelReLU):
        return float(read_parallel(network).path_norms.sum())
    if isinstance(network, nn.ModuleList):
        return sum(_path_norm(part) for part in parts_of(network))
    norms = _norms(_dense_weights(network))
    scale = scale_of(norms)
    return float(torch.linalg.vector_norm(norms / scale)) * scale


def read_parallel(network: nn.Module) -> ParallelReading:
    """Read a `ParallelReLU`, a standard network or an ``nn.ModuleList`` of those.

    Raises
    ------
    InputError
        For other modules, biases, several outputs, no hidden layer, and parts of unequal depth.
    """
    if isinstance(network, ParallelReLU):
        check_own_forward(network, ParallelReLU)
        with torch.no_grad():
            norms = copy.deepcopy(network).double().path_norms()
        widths = tuple(weights.shape[2] for weights in network.inner)
        return ParallelReading(network.U.shape[2], widths, norms)
    parts = [_hidden_weights(part) for part in parts_of(network)]
    norms = torch.cat([_norms(part) for part in parts])
    return ParallelReading(parts[0][0].shape[1], _widths(parts), norms)


def as_parallel(network: nn.Module, max_leaves: int = 1_000_000) -> ParallelReLU:
    r"""The same function as parallel trees: every shared neuron once for each use of it.

    Parameters
    ----------
    network : Module
        A standard network, ``nn.Sequential`` of ``Linear(bias=False)`` and ``ReLU``, whose last
        hidden layer gives the sub-networks; or an ``nn.ModuleList`` of them, whose sum is the
        network. Narrower parts are padded with neurons of weight zero.
    max_leaves : int
        Limit of the first-layer neurons, which are multiplied by all widths above them.

    Returns
    -------
    ParallelReLU
        float64; a `ParallelReLU` is returned as it is. Its path norms are those of the network's
        sub-networks.

    Raises
    ------
    InputError
        For networks that `read_parallel` refuses, and for too many leaves.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> import convexlib as cl
    >>> layers = [nn.Linear(2, 3, bias=False), nn.ReLU(), nn.Linear(3, 2, bias=False), nn.ReLU()]
    >>> network = nn.Sequential(*layers, nn.Linear(2, 1, bias=False)).double()
    >>> parallel = cl.as_parallel(network)
    >>> parallel.U.shape  # two sub-networks, one for each neuron of the last hidden layer
    torch.Size([2, 3, 2])
    >>> x = torch.ones(1, 2, dtype=torch.float64)
    >>> torch.allclose(parallel(x), network(x)[:, 0])
    True
    """
    if isinstance(network, ParallelReLU):
        check_own_forward(network, ParallelReLU)
        return network
    parts = [_hidden_weights(part) for part in parts_of(network)]
    widths = _widths(parts)
    leaves = prod(widths) * sum(len(part[-2]) for part in parts)
    if leaves > check_positive_int(max_leaves, "max_leaves"):
        raise InputError(
            f"the network unrolls into trees with {leaves} leaves in all, more than "
            f"max_leaves={max_leaves}. read_parallel gives their path norms without unrolling."
        )
    trees = [_unrolled(part, widths) for part in parts]
    U = torch.cat([tree[0] for tree in trees])
    inner = [torch.cat(level) for level in zip(*(tree[1] for tree in trees), strict=True)]
    return ParallelReLU(U, inner, torch.cat([part[-1][0] for part in parts]))


def parallel_outputs(network: nn.Module, X: Tensor) -> Tensor:
    """Outputs (n,) of a network, or the sum of those in an ``nn.ModuleList``."""
    if isinstance(network, nn.ModuleList):
        return torch.stack([outputs(part, X) for part in parts_of(network)]).sum(dim=0)
    return outputs(network, X)


def parts_of(network: nn.Module) -> list[nn.Module]:
    """The parts of an ``nn.ModuleList``, whose sum is meant; of others, the network itself."""
    if not isinstance(network, nn.ModuleList):
        return [network]
    check_own_forward(network, nn.ModuleList)
    if not len(network):
        raise InputError(
            "the nn.ModuleList is empty; expected at least one network, whose sum is meant."
        )
    return list(network)


def _dense_weights(network: nn.Module) -> list[Tensor]:
    """Weights (out, in) of a standard network, from below, in float64."""
    if not isinstance(network, nn.Sequential):
        raise InputError(
            f"network is {type(network).__name__}; expected a ParallelReLU, an nn.Sequential of "
            "Linear and ReLU, or an nn.ModuleList of them."
        )
    layers = layers_of(network)
    for layer in layers:
        bias = getattr(layer, "bias", None)
        if not isinstance(layer, nn.Linear | nn.ReLU) or bias is not None:
            raise InputError(
                f"the network contains {layer}; expected Linear(bias=False) and ReLU only. A bias "
                "is a column of ones in X."
            )
    weights = [layer.weight.detach().double() for layer in layers if isinstance(layer, nn.Linear)]
    if not weights or len(weights[-1]) != 1:
        raise InputError(
            f"the network has {len(weights[-1]) if weights else 0} outputs; expected 1."
        )
    return weights


def _hidden_weights(network: nn.Module) -> list[Tensor]:
    """Weights of a network in which every Linear but the last is followed by one ReLU."""
    weights = _dense_weights(network)
    kinds = [type(layer).__name__ for layer in network.children()]
    if len(weights) < 2 or kinds != ["Linear", "ReLU"] * (len(weights) - 1) + ["Linear"]:
        raise InputError(
            f"the network is {' -> '.join(kinds)}; expected Linear -> ReLU -> ... -> Linear with "
            "at least one hidden layer."
        )
    return weights


def _norms(weights: list[Tensor]) -> Tensor:
    """Path norms of the sub-networks at the last hidden layer, (K,)."""
    scale = scale_of(weights[0])
    squares = ((weights[0] / scale) ** 2).sum(dim=1)
    for weight in weights[1:-1]:
        unit = scale_of(weight)
        squares = (weight / unit) ** 2 @ squares
        scale *= unit
    if len(weights) == 1:
        return squares.sqrt() * scale
    return weights[-1][0].abs() * squares.sqrt() * scale


def _widths(parts: list[list[Tensor]]) -> tuple[int, ...]:
    """Children per inner node, the most of all parts."""
    depths = sorted({len(part) for part in parts})
    features = sorted({part[0].shape[1] for part in parts})
    if len(depths) != 1 or len(features) != 1:
        raise InputError(
            f"the sub-networks have depths {depths} and {features} features; expected one of each. "
            "A shallower one gains a layer with the identity as its weight: (h)_+ = h for h >= 0."
        )
    levels = list(zip(*parts, strict=True))[:-2]
    return tuple(max(len(weight) for weight in level) for level in levels)


def _unrolled(weights: list[Tensor], widths: tuple[int, ...]) -> tuple[Tensor, list[Tensor]]:
    """Leaves (K, m, d) and inner weights of the trees below the last hidden layer."""
    root = weights[-2]
    K = len(root)
    if not widths:
        return root[:, None], []
    sizes = (weights[0].shape[1], *widths)
    padded = [
        _padded(weight, rows, columns)
        for weight, rows, columns in zip(weights[:-2], sizes[1:], sizes[:-1], strict=True)
    ]
    top = _padded(root, K, widths[-1])[:, None]
    # A level's nodes are the pairs (node above, child), so its weights repeat for every node above.
    levels = [
        weight.repeat(prod(widths[index + 1 :]), 1).expand(K, -1, -1)
        for index, weight in enumerate(padded)
    ]
    return levels[0], [*levels[1:], top]


def _padded(weight: Tensor, rows: int, columns: int) -> Tensor:
    return nn.functional.pad(weight, (0, columns - weight.shape[1], 0, rows - weight.shape[0]))
