"""The neurons of a two-layer network as pictures need them: weights, bias and gate of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from convexlib.errors import InputError, NotCertifiableError
from convexlib.networks import TwoLayerGatedReLU, outputs, read_two_layer
from convexlib.validation import check_finite, check_flag

__all__ = ["Neurons", "bias_column", "evaluate", "live_neurons", "neuron_kinks", "with_ones"]


@dataclass(frozen=True, eq=False)
class Neurons:
    r"""The live neurons :math:`\alpha_j\, 1[h_j^T (x, 1) \ge 0]\, u_j^T (x, 1)` of a network.

    Attributes
    ----------
    U : ndarray of shape (m, f + 1)
        Weights of the f features, then the bias (0 where the network has none).
    gates : ndarray of shape (m, f + 1)
        What switches each neuron: U itself unless the network is gated.
    alpha : ndarray of shape (m,)
        Output weights.
    """

    U: np.ndarray
    gates: np.ndarray
    alpha: np.ndarray

    def contributions(self, points: np.ndarray) -> np.ndarray:
        """Return each neuron's part (m, k) of the output at points (k, f)."""
        inputs = np.column_stack([points, np.ones(len(points))]).T  # (f + 1, k)
        return self.alpha[:, None] * (self.U @ inputs) * (self.gates @ inputs >= 0)


def live_neurons(net: nn.Module, features: int, columns: int | None = None) -> Neurons:
    """Return the neurons of a two-layer network on `features` inputs that are not zero.

    `columns` is how many columns the network is given; a column beyond the features is a bias.
    """
    inner_bias = False
    if isinstance(net, TwoLayerGatedReLU):
        U, gates, alpha = net.U.detach(), net.gates, net.alpha.detach()
    else:
        try:
            read = read_two_layer(net)
        except NotCertifiableError as error:
            raise InputError(
                f"net is a {type(net).__name__}; expected a TwoLayerReLU, a TwoLayerGatedReLU or "
                "nn.Sequential(Linear, ReLU, Linear) with one output."
            ) from error
        U = gates = read.U
        alpha, inner_bias = read.alpha, read.has_bias
    check_finite(U, "the first layer of net")
    check_finite(alpha, "the last layer of net")
    taken = U.shape[1] - inner_bias
    if taken not in ((features, features + 1) if columns is None else (columns,)):
        wanted = f"{features} or {features + 1}" if columns is None else f"{columns}"
        raise InputError(
            f"net takes {taken} columns; expected {wanted}, features and bias column counted. "
            "Pass the X that it was trained on."
        )
    live = (U.abs().amax(dim=1) > 0) & (alpha != 0)
    return Neurons(
        U=split_bias(U[live], features),
        gates=split_bias(gates[live], features),
        alpha=numpy(alpha[live]),
    )


def split_bias(rows: Tensor, features: int) -> np.ndarray:
    """Return weights (m, c) as (m, features + 1): what is beyond the features adds to one bias."""
    return numpy(torch.cat([rows[:, :features], rows[:, features:].sum(1, keepdim=True)], dim=1))


def numpy(values: Tensor) -> np.ndarray:
    """Return a tensor as float64 numpy."""
    return values.detach().double().cpu().numpy()


def evaluate(net: nn.Module, points: np.ndarray) -> np.ndarray:
    """Return the outputs (k,) of the network at (k, d) points."""
    like = next(net.parameters())
    return numpy(outputs(net, torch.from_numpy(points).to(like)))


def bias_column(data: np.ndarray, bias: bool | None, features: int) -> bool:
    """Return whether the last column of (n, d) is a bias, or refuse data of other dimension."""
    bias = None if bias is None else check_flag(bias, "bias")
    ones = bool((data[:, -1] == 1).all()) and data.shape[1] > 1
    if bias and not ones:
        raise InputError(
            f"bias=True but the last column of X (shape {data.shape}) is not all ones. Append a "
            "column of ones, or leave bias out."
        )
    has_bias = ones if bias is None else bias
    found = data.shape[1] - has_bias
    if found != features:
        other = {1: "plot_function", 2: "plot_input_cells"}.get(found)
        hint = f" Use {other}." if other else ""
        raise InputError(
            f"X has shape {data.shape}, which is {found} feature{'s' if found > 1 else ''} and "
            f"{'a' if has_bias else 'no'} bias column; expected {features} "
            f"feature{'s' if features > 1 else ''} with or without a last column of ones.{hint}"
        )
    return has_bias


def with_ones(points: np.ndarray, has_bias: bool) -> np.ndarray:
    """Append the column of ones to points (k, f) if the data have one."""
    return np.column_stack([points, np.ones(len(points))]) if has_bias else points


def neuron_kinks(net: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    """Return where the neurons of a network of one feature switch, and their output signs.

    Parameters
    ----------
    net : TwoLayerReLU, TwoLayerGatedReLU or nn.Sequential(Linear, ReLU, Linear)
        Network on x, or on x and a column of ones.

    Returns
    -------
    kinks : ndarray of shape (k,)
        The points -b/w, increasing (0 without a bias). Neurons that are constant in x, whose
        weight is zero or whose output weight is zero, have none.
    signs : ndarray of shape (k,)
        The sign of each neuron's output weight.

    Raises
    ------
    InputError
        If the network is of another kind or takes more columns.
    """
    neurons = live_neurons(net, features=1)
    slopes, offsets = neurons.gates.T
    sloped = slopes != 0
    kinks = -offsets[sloped] / slopes[sloped] + 0.0  # + 0.0 turns -0.0 into 0.0
    order = np.argsort(kinks, kind="stable")
    return kinks[order], np.sign(neurons.alpha[sloped][order])
