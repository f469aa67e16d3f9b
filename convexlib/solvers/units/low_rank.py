r"""Path regularisation on data truncated to rank kappa, with its bound on the full data.

For units of m leaves, :math:`\epsilon = \sqrt m\, R\, \sigma_{\kappa+1} / \beta` and a nonnegative
loss with Lipschitz constant R, every network has

.. math:: P(\theta; X_\kappa) \le (1 + \epsilon)\, P(\theta; X),

because ReLUs do not expand, so that the outputs differ by at most :math:`\sum_k \sum_j
\|(X - X_\kappa) u_{kj}\| \le \sqrt m\, \sigma_{\kappa+1}` times the path norm. The leaves of an
optimal network for :math:`X_\kappa` lie in its row space, where X and :math:`X_\kappa` agree: it is
worth the same on both. Hence the optimum for :math:`X_\kappa`, which has polynomially many units in
n, d for fixed kappa, is at most :math:`1 + \epsilon` times the optimum for X.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod, sqrt
from typing import Any

import torch

from convexlib.checks import check_beta, check_choice, check_data, check_positive_int, check_tol
from convexlib.errors import InputError
from convexlib.losses.piecewise import PiecewiseLoss, get_path_loss
from convexlib.networks import ParallelReLU
from convexlib.problems.parallel.path import PathRegularized
from convexlib.problems.parallel.units import check_widths
from convexlib.result import Result
from convexlib.solvers.units.rounds import generate_units

_LARGEST = 1e300  # factor by which a number can still be multiplied


@dataclass(frozen=True, eq=False)
class LowRankPath:
    r"""A network trained on truncated data, and what it proves about the full data.

    Attributes
    ----------
    network : ParallelReLU
        For inputs with all d features.
    value : float
        Its training objective :math:`P(\theta_\kappa; X)` on the full data: an upper bound on P*.
    lower : float
        A lower bound on P*: the solve's dual bound over :math:`1 + \epsilon`.
    factor : float
        :math:`1 + \epsilon`; the theorem is ``value <= factor * P*``, up to the solve's gap.
    sigma : float
        :math:`\sigma_{\kappa+1}` of X.
    result : Result
        The solve on the truncated data.
    problem : PathRegularized
        The program on the coordinates (n, kappa) of the truncated data.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> X = np.array([[-1.0, 1.0, 0.0], [0.5, 1.0, 0.001], [2.0, 1.0, 0.0]])
    >>> path = cl.low_rank_path(X, np.array([1.0, -1.0, 1.0]), beta=0.1, rank=2, loss="absolute")
    >>> path.problem.X.shape, round(path.sigma, 5), path.factor < 1.1
    (torch.Size([3, 2]), 0.00082, True)
    """

    network: ParallelReLU
    value: float
    lower: float
    factor: float
    sigma: float
    result: Result
    problem: PathRegularized


def low_rank_path(
    X: Any,
    y: Any,
    *,
    beta: float,
    rank: int,
    width: int | Sequence[int] = 2,
    depth: int = 3,
    loss: str = "absolute",
    tol: float = 1e-6,
    max_units: int = 100_000,
) -> LowRankPath:
    r"""Train path-regularised networks on :math:`X_\kappa` and evaluate them on X.

    Parameters
    ----------
    rank : int
        kappa, at most min(n, d). At the rank of X the network is optimal to the gap in `result`.
    loss : {"absolute", "hinge"}
        The squared loss has no Lipschitz constant and is refused.
    X, y, beta, width, depth, max_units
        As for `PathRegularized`.
    tol : float
        Relative gap of the solve.

    Raises
    ------
    InputError
        For unusable arguments, and a beta so small that the factor is beyond floats.
    TooManyArrangementsError
        If the truncated data have more than max_units units.

    Notes
    -----
    Source: Ergen & Pilanci (2023). With the data of rank r exactly there is no loss at kappa = r.
    Checked for every kappa by ``tests/problems/parallel/test_path.py``.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> X = np.array([[-1.0, 1.0, 0.0], [0.5, 1.0, 0.001], [2.0, 1.0, 0.0]])  # rank 2, nearly
    >>> path = cl.low_rank_path(X, np.array([1.0, -1.0, 1.0]), beta=0.1, rank=2, loss="absolute")
    >>> path.lower <= path.value, path.value <= 1.1 * path.lower
    (True, True)
    """
    X, y = check_data(X, y)
    rank = check_positive_int(rank, "rank")
    beta, tol = check_beta(beta), check_tol(tol)
    depth = check_positive_int(depth, "depth", minimum=2)
    check_choice(loss, ("absolute", "hinge"), "loss")
    if rank > min(X.shape):
        raise InputError(
            f"rank is {rank}; expected at most {min(X.shape)}, as X has shape {tuple(X.shape)}."
        )
    left, sizes, right = torch.linalg.svd(X, full_matrices=False)
    features = left[:, :rank] * sizes[:rank]  # (n, kappa)
    sigma = float(sizes[rank]) if rank < len(sizes) else 0.0
    chosen = get_path_loss(loss, y)
    assert isinstance(chosen, PiecewiseLoss)
    leaves = prod(check_widths(width, depth))
    epsilon = sqrt(leaves) * chosen.lipschitz(len(y)) * sigma / beta
    if epsilon > _LARGEST:
        raise InputError(
            f"beta is {beta:g} and the data cut off have norm {sigma:.2g}, for which the factor is "
            f"beyond floats; expected a larger beta, or rank={len(sizes)}, which cuts nothing off."
        )
    problem = PathRegularized(
        features, y, beta=beta, width=width, depth=depth, loss=loss, max_units=max_units
    )
    result = generate_units(problem, tol=tol)
    truncated = problem.to_network(result)
    with torch.no_grad():
        network = ParallelReLU(truncated.U @ right[:rank], list(truncated.inner), truncated.alpha)
        fitted = network(X)
    penalty = float(network.path_norms().detach().sum())
    return LowRankPath(
        network=network,
        value=chosen.value(fitted, y) + beta * penalty,
        lower=result.dual / (1.0 + epsilon),
        factor=1.0 + epsilon,
        sigma=sigma,
        result=result,
        problem=problem,
    )
