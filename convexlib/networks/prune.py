r"""At most n neurons: the same outputs on the data, with no more weight decay.

**Theorem.** For every two-layer ReLU network there is one with the same outputs on X, weight decay
that is not larger, and at most :math:`\operatorname{rank} A \le n` neurons, where the columns of A
are the images :math:`a_j = \pm(Xv_j)_+` of its neurons.

*Proof.* Balanced, neuron j is :math:`v_j = |\alpha_j| u_j` with the sign of :math:`\alpha_j`, and
costs :math:`\|v_j\| \le \tfrac12(\|u_j\|^2 + \alpha_j^2)`. If the images are dependent,
:math:`\sum_j c_j a_j = 0` with :math:`c \ne 0`, then :math:`(1 - t c_j) v_j` have the same outputs
for every t with :math:`t c_j \le 1`, since a neuron's image is positively homogeneous. Their cost
:math:`\sum_j (1 - t c_j) \|v_j\|` is linear in t: choose the sign of c so that it does not grow
with t. Some :math:`c_j` is then positive (otherwise the cost would grow), and at
:math:`t = 1/\max_j c_j` a neuron vanishes. Repeat until the images are independent. ∎

At an optimum the cost cannot fall, so what is left is another optimum with the same outputs: this
is why n neurons suffice for a global one (Carathéodory's theorem for the convex hull of images).
Neurons of one sign and one pattern are added first, which is the triangle inequality.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from convexlib.arrays import scale_of
from convexlib.checks import check_finite, check_matrix, check_same_device, check_scale
from convexlib.errors import InputError
from convexlib.networks import Neurons, TwoLayerGatedReLU, TwoLayerReLU, read_two_layer

_DEPENDENT = 1e-12  # relative singular value at which images count as dependent
_CANCELLED = 1e-14  # part of an amount that is left by rounding where two go at once
_LEAST = 1e-150  # neurons that are smaller, whose squares are hardly numbers, count as zero


def prune_neurons(network: nn.Module, X: Any) -> TwoLayerReLU:
    r"""A network of at most n neurons with the same outputs on X and no more weight decay.

    Neurons without an entry of :math:`|\alpha_j| u_j` above 1e-150 count as zero.

    Parameters
    ----------
    network : nn.Module
        A `TwoLayerReLU`, for instance of ``problem.to_network(result)``, or an
        ``nn.Sequential(Linear, ReLU, Linear)`` without biases.
    X : array (n, d)
        The training data.

    Returns
    -------
    TwoLayerReLU
        Balanced, with linearly independent images :math:`(Xu_j)_+ \alpha_j`, hence at most
        :math:`\operatorname{rank}` of the images' matrix and at most n neurons. In the more precise
        dtype of network and X.

    Raises
    ------
    InputError
        For a network with biases (append a column of ones to X instead), a gated one, or data of
        another width, outputs of neurons beyond float64, or neurons whose squares are.
    NotCertifiableError
        For a network of another kind.

    Notes
    -----
    Source: Carathéodory's theorem, see the module's text for the proof; for two-layer programs
    Pilanci & Ergen (2020), for all optima Mishkin & Pilanci (2023). Outputs are kept to rounding,
    so that a global optimum stays one. Checked by ``tests/networks/test_prune.py``.

    Examples
    --------
    >>> import torch
    >>> import convexlib as cl
    >>> U = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # the first two are parallel
    >>> network = cl.TwoLayerReLU(U, torch.tensor([1.0, 1.0, -1.0]))
    >>> pruned = cl.prune_neurons(network, torch.tensor([[1.0, 2.0], [2.0, 1.0]]))
    >>> pruned.n_neurons
    2
    """
    X = check_matrix(X)
    check_same_device(network, X)
    if isinstance(network, TwoLayerGatedReLU):
        raise InputError("the network is gated; expected a ReLU network such as TwoLayerReLU.")
    parts = read_two_layer(network)
    if parts.has_bias or parts.output_bias is not None:
        raise InputError("the network has biases; append a column of ones to X and refit without.")
    if parts.U.shape[1] != X.shape[1]:
        raise InputError(
            f"the network takes {parts.U.shape[1]} features but X has shape {tuple(X.shape)}."
        )
    left = pruned(Neurons.of_network(parts.U, parts.alpha), X.double())
    kinds = [X.dtype, *(weights.dtype for weights in network.parameters())]
    return TwoLayerReLU(*left.balanced()).to(reduce(torch.promote_types, kinds))


def pruned(neurons: Neurons, X: Tensor) -> Neurons:
    """At most n neurons with independent images on X, for `prune_neurons`; all in float64."""
    vectors, signs = _merged(neurons, X)
    images = torch.relu(X @ vectors.T) * signs  # (n, m)
    live = (images != 0).any(dim=0) & (vectors.abs() >= _LEAST).any(dim=1)
    vectors, signs, images = vectors[live], signs[live], images[:, live]
    check_finite(images, "the matrix of the neurons' outputs on X")
    if len(vectors):
        check_scale(vectors, "the neurons", power=2)
    # Only ratios count: in units of the largest entries, squares stay within floats.
    costs = torch.linalg.vector_norm(vectors / scale_of(vectors), dim=1)
    shares = independent(images / scale_of(images), costs)
    left = shares > 0
    return Neurons(vectors[left] * shares[left, None], signs[left])


def _merged(neurons: Neurons, X: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors and signs after adding up the neurons of one sign and one pattern."""
    vectors, signs = neurons.vectors, neurons.signs
    keys = torch.cat([X @ vectors.T > 0, (signs > 0)[None]]).T  # (m, n + 1)
    _, group = torch.unique(keys, dim=0, return_inverse=True)
    groups = int(group.max()) + 1 if len(group) else 0
    added = vectors.new_zeros(groups, vectors.shape[1]).index_add_(0, group, vectors)
    return added, signs.new_zeros(groups).index_copy_(0, group, signs)


def independent(images: Tensor, costs: Tensor) -> Tensor:
    """Factors (m,) of the columns (n, m) that keep their sum and leave independent ones only.

    The cost, the sum of the factors times the costs (m,), does not grow. No column is zero.
    """
    amounts = torch.linalg.vector_norm(images, dim=0)  # columns of unit length are compared
    columns, prices = images / amounts, costs / amounts
    _, sizes, Vt = torch.linalg.svd(columns, full_matrices=True)
    rank = int((sizes > _DEPENDENT * sizes[0]).sum()) if len(sizes) else 0
    kernel = Vt[rank:].T.clone()  # (m, q), orthonormal
    left = amounts.clone()
    while kernel.shape[1] and bool((left > 0).any()):
        # The kernel's direction that lowers the cost most; any one if all are level.
        slope = kernel.T @ prices
        # Among those that are left: one that is nearly zero is as dear as can be, until it goes.
        level = float(torch.linalg.vector_norm(slope)) <= 1e-12 * float(prices[left > 0].max())
        direction = kernel[:, 0] if level else kernel @ slope
        if level and not bool((direction > 0).any()):
            direction = -direction
        direction = direction / torch.linalg.vector_norm(direction)
        rising = direction > 0
        times = torch.where(rising, left / direction, torch.inf)
        gone = int(times.argmin())
        rest = left - times[gone] * direction
        left = torch.where(rest > _CANCELLED * left, rest, 0.0)
        left[gone] = 0.0
        kernel = _without(kernel, gone)
    return left / amounts


def _without(kernel: Tensor, row: int) -> Tensor:
    """An orthonormal basis of the kernel's vectors that vanish in a row, by one reflection."""
    entries = kernel[row].clone()
    normal = entries.clone()
    normal[0] += torch.copysign(torch.linalg.vector_norm(entries), entries[0])
    normal = normal / torch.linalg.vector_norm(normal)
    turned = kernel - 2.0 * (kernel @ normal)[:, None] * normal
    rest = turned[:, 1:]
    rest[row] = 0.0
    return rest
