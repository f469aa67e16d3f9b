r"""What a network lacks: the neuron whose addition lowers the objective fastest.

At a network with the dual point z (the residual, for the squared loss), a new neuron of unit norm
and output weight :math:`\pm t` changes the loss at the rate :math:`\mp z^\top (Xu)_+` and costs
:math:`\beta t` once balanced. So the objective falls if and only if :math:`|z^\top (Xu)_+| >
\beta`, and fastest for the neuron that maximises it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from convexlib.arrays import EPS
from convexlib.certify.certificate import check_one_output
from convexlib.certify.dispatch import depth_of
from convexlib.certify.two_layer import Standing, as_two_layer
from convexlib.checks import (
    check_beta,
    check_flag,
    check_positive_int,
    check_same_device,
    check_seed,
)
from convexlib.errors import NotCertifiableError
from convexlib.networks import read_two_layer
from convexlib.networks.modules import as_plain
from convexlib.pricing import price
from convexlib.pricing.ascent import search
from convexlib.runtime import waiting

__all__ = ["MissingNeuron", "missing_neuron"]


@dataclass(frozen=True, eq=False)
class MissingNeuron:
    r"""The most violated neuron that was found.

    Attributes
    ----------
    direction : Tensor (d,) or (d + 1,)
        Its unit first-layer weights, a bias last if the network's first layer has one.
    sign : int
        Of its output weight.
    violation : float
        :math:`|z^\top (Xu)_+| / \beta`; above 1 the network can be improved by it. It is infinite
        where a tiny beta takes it beyond floats.
    bound : float
        A proven upper bound on the violation of all neurons.
    active : int
        Rows of X on which it is positive, by more than the rounding of its output.
    size : float
        The best :math:`\|u\| |\alpha|` to add it with; 0 if nothing is to be gained.
    gain : float
        By how much the objective falls when it is added with that size, all else unchanged.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> import convexlib as cl
    >>> X, y = np.array([[-1.0, 1.0], [1.0, 1.0]]), np.array([1.0, 1.0])
    >>> network = cl.TwoLayerReLU(torch.tensor([[0.5, 0.5]]).double(), torch.tensor([1.0]).double())
    >>> missing = cl.missing_neuron(network, X, y, beta=0.1)
    >>> missing.sign, missing.violation <= missing.bound
    (1, True)
    """

    direction: Tensor
    sign: int
    violation: float
    bound: float
    active: int
    size: float
    gain: float


def missing_neuron(
    network: nn.Module,
    X: Any,
    y: Any,
    *,
    beta: float,
    loss: str = "squared",
    max_nodes: int = 200_000,
    seed: int = 0,
    progress: bool = False,
) -> MissingNeuron:
    """Find the neuron that a two-layer network lacks most.

    Parameters
    ----------
    network, X, y, beta, loss
        As for `certify`; two layers with one output.
    max_nodes : int
        Budget of the branch and bound that proves the violation to be the largest. When it runs
        out, the neuron is the best of many local searches and `bound` says what it may have missed.
    seed : int
        Of the local searches.
    progress : bool
        Show on a terminal how long it has taken.

    Returns
    -------
    MissingNeuron

    Raises
    ------
    NotCertifiableError, InputError
        As `certify`.

    Notes
    -----
    The sizes are for a balanced neuron, which costs the same under weight decay and the path norm.
    Checked by ``tests/certify/test_missing.py``.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> import convexlib as cl
    >>> X, y = np.array([[-1.0, 1.0], [1.0, 1.0]]), np.array([1.0, 1.0])
    >>> network = cl.TwoLayerReLU(torch.tensor([[0.5, 0.5]]).double(), torch.tensor([1.0]).double())
    >>> missing = cl.missing_neuron(network, X, y, beta=0.1)
    >>> missing.violation > 1.0, missing.gain > 0.0  # the network says nothing at the first sample
    (True, True)
    """
    X, y = check_one_output(X, y, "missing_neuron")
    beta = check_beta(beta)
    check_positive_int(max_nodes, "max_nodes", minimum=0)
    check_flag(progress, "progress")
    check_same_device(network, X)
    network = as_plain(network, X)
    if depth_of(network) != 2:
        raise NotCertifiableError(
            f"the network has {depth_of(network)} layers; only two-layer networks are read neuron "
            "by neuron. Use certify to bound this one."
        )
    state = Standing.of(read_two_layer(as_two_layer(network)), X, y, loss)
    data, z = state.data, state.z
    with waiting("missing neuron", progress):
        priced = price(data, z, target=beta, rtol=1e-6, max_nodes=max_nodes)
        candidates = torch.cat([priced.direction[None], _searched(state, beta, seed)])
    heights = torch.relu(data @ candidates.T).T @ z  # (k,)
    best = int(heights.abs().argmax())
    direction, height = candidates[best], float(heights[best].abs())
    outputs = data @ direction
    image = float(heights[best].sign()) * torch.relu(outputs)
    # The best neurons have samples on their hyperplane, where the sign of an output is rounding.
    rounding = (data.shape[1] + 2) * EPS * torch.linalg.vector_norm(data, dim=1)
    size, gain = _line_search(state, image, beta)
    return MissingNeuron(
        direction=direction,
        sign=1 if heights[best] >= 0 else -1,
        violation=height / beta,
        bound=max(priced.upper, height) / beta,
        active=int((outputs > rounding).sum()),
        size=size,
        gain=gain,
    )


def _searched(state: Standing, beta: float, seed: int) -> Tensor:
    """Violated neurons (m, d) of unit norm that local search finds from those of the network."""
    generator = torch.Generator().manual_seed(check_seed(seed))
    U = state.parts.U.cpu()
    live = U[torch.linalg.vector_norm(U, dim=1) > 0]
    found = search(state.data, state.z, beta, generator, live).neurons
    return found / torch.linalg.vector_norm(found, dim=1, keepdim=True)


def _line_search(state: Standing, image: Tensor, beta: float) -> tuple[float, float]:
    r"""The minimiser t of :math:`L(f + t a) + \beta t` over t >= 0, and what it gains."""
    loss, fitted, y = state.loss, state.fitted, state.y

    def slope(t: float) -> float:
        return beta - float(image @ loss.dual_point(fitted + t * image, y))

    if slope(0.0) >= 0.0:
        return 0.0, 0.0
    low, high = 0.0, 1.0
    while slope(high) < 0.0:  # ends, since a loss >= 0 does not fall for ever
        low, high = high, 2.0 * high
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if slope(middle) < 0.0 else (low, middle)
    gain = loss.value(fitted, y) - loss.value(fitted + low * image, y) - beta * low
    return low, max(gain, 0.0)
