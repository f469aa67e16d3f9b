r"""How far a network with batch normalisation is from the global optimum.

On the whitened data U' the network is an ordinary two-layer network with no larger weights, and
the optimum is that of the two-layer problem. So a certificate there is one here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from convexlib.arrangements import Arrangements
from convexlib.certify.certificate import Certificate, check_dual_point, seconds_for
from convexlib.certify.two_layer import certify_two_layer
from convexlib.checks import (
    check_beta,
    check_data,
    check_flag,
    check_positive_int,
    check_same_device,
)
from convexlib.networks.batchnorm import read_batchnorm, unnormalised, whiten


def certify_batchnorm(
    network: nn.Module,
    X: Any,
    y: Any,
    *,
    beta: float,
    arrangements: Arrangements | None = None,
    refine: bool = True,
    max_nodes: int = 5_000_000,
    max_seconds: float | None = None,
    z: Any = None,
) -> Certificate:
    r"""Bound the distance of a batch-normalised network from the global optimum.

    `certify` does this for every network of this kind; here other networks are refused.

    The objective is that of `BatchNorm`: :math:`\tfrac12\|f(X) - y\|^2 + \tfrac\beta2
    \sum(\gamma^2 + \delta^2 + \alpha^2)` with the statistics of the full batch. The scale and shift
    of ``BatchNorm1d`` are :math:`\gamma/\sqrt n` and :math:`\delta/\sqrt n`; its running statistics
    play no role. A bias of the output layer is penalised like an output weight, and the first layer
    not at all.

    Parameters
    ----------
    network : nn.Module
        ``nn.Sequential(Linear, BatchNorm1d, ReLU, Linear)`` with one output, trained in any way,
        with any eps. For eps > 0 the bound is the optimum for eps = 0, which is a lower bound (and
        the infimum: a large first layer makes eps vanish).
    X : array (n, d)
        Data.
    y : array (n,)
        Targets.
    beta : float
        Regularisation of the objective above.
    arrangements : Arrangements, optional
        Patterns of the whitened data on which to check feasibility instead of on all directions.
    refine, max_nodes, max_seconds, z
        See `certify`.

    Returns
    -------
    Certificate
        ``rigorous`` covers the rounding of the whitened data. It is false if singular values of the
        centred data were taken for zero without a proof: normalisation magnifies every direction in
        which the data vary, however little.

    Raises
    ------
    NotCertifiableError
        For a network of another kind, with non-finite weights, or with a neuron that is constant on
        X when eps = 0.
    InputError
        For unusable data.

    Notes
    -----
    Source: Ergen et al. (2022). Checked by ``tests/certify/test_batchnorm.py``.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> X, y = np.array([[-2.0], [-1.0], [1.0], [2.0]]), np.array([2.0, 0.0, 0.0, 1.0])
    >>> problem = cl.BatchNorm(X, y, beta=0.1)
    >>> network = problem.to_network(cl.solve(problem))
    >>> cl.certify_batchnorm(network, X, y, beta=0.1).relative_gap < 1e-5
    True
    """
    X, y = check_data(X, y)
    beta, refine = check_beta(beta), check_flag(refine, "refine")
    check_positive_int(max_nodes, "max_nodes", minimum=0)
    check_same_device(network, X)
    z = None if z is None else check_dual_point(z, X)
    return certify_normalised(
        network, X, y, beta, arrangements=arrangements, refine=refine, max_nodes=max_nodes,
        max_seconds=seconds_for(max_seconds, refine), z=z,
    )  # fmt: skip


def certify_normalised(
    network: nn.Module, X: Tensor, y: Tensor, beta: float, **options: Any
) -> Certificate:
    """See `certify_batchnorm`; X, y and z are checked, `options` those of `certify_two_layer`."""
    weights = read_batchnorm(network)
    whitening = whiten(X)
    ordinary = unnormalised(weights, X, whitening)
    inner = certify_two_layer(ordinary, whitening.features, y.double(), beta, **options)
    # U' has rounding errors, which move |z^T (U's)_+| by at most ||z|| times their norm.
    reach = inner.max_neuron + whitening.rounding * float(torch.linalg.vector_norm(inner.z))
    shrink = min(1.0, beta / reach) if reach > 0 else 1.0
    # d is concave with d(0) = 0, so d(tz) >= t d(z).
    return replace(
        inner,
        primal=weights.objective(X, y, beta),
        dual=shrink * inner.dual,
        rigorous=inner.rigorous and whitening.proven,
        z=(shrink * inner.z).to(y.device),
        max_neuron=min(shrink * reach, beta),
    )
