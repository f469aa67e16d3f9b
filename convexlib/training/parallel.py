r"""Baselines for three layers: SGD and Adam on parallel sub-networks, many runs at once.

The training form is smooth and has the minimum of `ThreeLayer`'s problem: the first layers are
normalised, :math:`W_{1k} = V_k / \|V_k\|_F`, and V is free,

.. math:: \tfrac12 \Big\|\sum_k ((X W_{1k})_+ w_{2k})_+ w_{3k} - y\Big\|^2
          + \tfrac\beta2 \sum_k \left(\|w_{2k}\|^2 + w_{3k}^2\right) .

For `PathRegularized` every neuron is normalised, :math:`w_{1kj} = v_{kj} / \|v_{kj}\|`; all else is
the same. What is recorded is the objective of the cheapest weights of the same function, never
larger: with the leaves :math:`u_{kj} = |w_{3k}| |w_{2kj}| w_{1kj}`,
:math:`\tfrac12 \|f - y\|^2 + \beta \sum_k \|U_k\|` in the norm of the problem.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from convexlib.checks import check_choice, check_positive_int
from convexlib.errors import InputError, SolverError
from convexlib.networks import ParallelReLU
from convexlib.problems.parallel import UnitProgram
from convexlib.problems.parallel.units import no_units, weights_from
from convexlib.training.descent import Curves, Grid, Training, check_grid, descend, draw

__all__ = ["gradients", "initial", "leaves_of", "train_parallel"]

Weights = tuple[Tensor, Tensor, Tensor]  # V (S, R, K, m, d), w_2 (S, R, K, m), w_3 (S, R, K)


def train_parallel(
    problem: UnitProgram, n_subnetworks: int, *, n_records: int = 50, **options: Any
) -> Training[ParallelReLU]:
    r"""Train parallel three-layer networks for every pair of a learning rate and a seed.

    Parameters
    ----------
    problem : ThreeLayer or PathRegularized
        Its data, beta and width; units play no part, so ``units="generate"`` will do.
    n_subnetworks : int
        K.
    n_records : int
        How often the objective is recorded.
    **options
        ``optimizer``, ``rates``, ``seeds``, ``n_steps``, ``seconds`` and ``batch_size``, as for
        `convexlib.training.train`.

    Returns
    -------
    Training
        The objectives in float64.

    Raises
    ------
    InputError
        For another kind of problem, unusable grids or limits.
    SolverError
        For another loss than the squared one, or another depth than 3.

    Notes
    -----
    Checked by ``tests/training/test_parallel.py``.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> from convexlib import training
    >>> X, y = np.array([[-1.0, 1.0], [1.0, 1.0]]), np.array([1.0, 0.0])
    >>> problem = cl.PathRegularized(X, y, beta=0.1, units="generate")
    >>> run = training.train_parallel(problem, 3, rates=[0.1], seeds=[0], n_steps=50)
    >>> run.best_network.U.shape  # three sub-networks of two neurons each
    torch.Size([3, 2, 2])
    """
    if not isinstance(problem, UnitProgram):
        raise InputError(
            f"problem is {type(problem).__name__}; expected a ThreeLayer or PathRegularized. For "
            "two-layer networks there is convexlib.training.train."
        )
    if problem.loss.name != "squared" or problem.depth != 3:
        raise SolverError(
            f"train_parallel got depth={problem.depth} and loss={problem.loss.name!r}; expected "
            'depth=3 and loss="squared".'
        )
    K = check_positive_int(n_subnetworks, "n_subnetworks")
    for option in options:
        check_choice(option, [field.name for field in fields(Grid)], "an option")
    X, y = problem.X, problem.y
    grid = check_grid(len(X), n_records=n_records, **options)
    weights = initial(grid.seeds, len(grid.rates), K, problem.widths[0], X)
    record = _Recorder(problem)

    def slopes(batch_X: Tensor, batch_y: Tensor) -> Weights:
        return gradients(batch_X, batch_y, weights, problem.beta, len(X), problem.by_sum)

    descend(grid, X, y, weights, slopes, record)
    return record.training(grid.optimizer, grid.rates, grid.seeds)


def initial(seeds: Sequence[int], n_rates: int, K: int, m: int, X: Tensor) -> Weights:
    """First layers (S, R, K, m, d), second (S, R, K, m) and output weights (S, R, K)."""
    layers = [((K, m, X.shape[1]), 1.0), ((K, m), 2 / m), ((K,), 2 / K)]
    V, w_2, w_3 = draw(seeds, n_rates, X, layers)
    return V, w_2, w_3


def gradients(X: Tensor, y: Tensor, weights: Weights, beta: float, n: int, by_sum: bool) -> Weights:
    """Gradients of the training form for batches X (S, b, d) and y (S, b), scaled to n samples."""
    V, w_2, w_3 = weights
    S, R, K, m, d = V.shape
    normed = _normed(by_sum)
    length = torch.linalg.vector_norm(V, dim=normed, keepdim=True)
    W = V / length
    inputs = X[:, None]  # (S, 1, b, d)
    hidden = (inputs @ W.reshape(S, R, K * m, d).transpose(2, 3)).relu_()  # (S, R, b, K m)
    hidden = hidden.reshape(S, R, -1, K, m)
    upper = (hidden * w_2[:, :, None]).sum(dim=4).relu_()  # (S, R, b, K)
    residual = ((upper @ w_3[..., None])[..., 0] - y[:, None]) * (n / y.shape[1])  # (S, R, b)
    by_3 = (residual[:, :, None] @ upper)[:, :, 0] + beta * w_3
    back = residual[..., None] * w_3[:, :, None] * (upper > 0)  # (S, R, b, K)
    by_2 = (back[..., None] * hidden).sum(dim=2) + beta * w_2
    back = back[..., None] * w_2[:, :, None] * (hidden > 0)  # (S, R, b, K, m)
    by_W = back.reshape(S, R, -1, K * m).transpose(2, 3) @ inputs
    by_W = by_W.reshape(V.shape)
    along = (by_W * W).sum(dim=normed, keepdim=True)
    return (by_W - along * W) / length, by_2, by_3


def leaves_of(weights: Weights, by_sum: bool) -> Tensor:
    """Leaves (S, R, K, m, d): the products of the weights, without the signs."""
    V, w_2, w_3 = weights
    length = torch.linalg.vector_norm(V, dim=_normed(by_sum), keepdim=True)
    return V / length * (w_2.abs() * w_3.abs()[..., None])[..., None]


def _normed(by_sum: bool) -> tuple[int, ...]:
    """The axes over which a first layer has norm one: all of it, or each neuron."""
    return (3, 4) if by_sum else (4,)


class _Recorder(Curves[ParallelReLU]):
    """The curves of parallel networks."""

    def __init__(self, problem: UnitProgram) -> None:
        super().__init__()
        self.problem = problem.with_units(no_units(len(problem.X), problem.widths))

    def __call__(self, step: int, seconds: float, *weights: Tensor) -> None:
        V, w_2, w_3 = weights
        leaves = leaves_of((V, w_2, w_3), self.problem.by_sum)
        signs, side = w_2.sign(), w_3.sign()

        def network(s: int, r: int) -> ParallelReLU:
            return self.problem.to_network(weights_from(leaves[s, r], signs[s, r], side[s, r]))

        self.take(step, seconds, self._objectives(leaves, signs, side), network)

    def _objectives(self, leaves: Tensor, signs: Tensor, side: Tensor) -> Tensor:
        """Objectives (S, R) in float64."""
        X, y = self.problem.X.double(), self.problem.y.double()
        rows = []
        for U, s, a in zip(leaves.double(), signs.double(), side.double(), strict=True):
            hidden = torch.einsum("td,rkjd->rtkj", X, U).relu_()
            fitted = ((hidden * s[:, None]).sum(dim=3).relu_() * a[:, None]).sum(dim=2)
            penalty = self.problem.norms(U).sum(dim=1)
            rows.append(0.5 * ((fitted - y) ** 2).sum(dim=1) + self.problem.beta * penalty)
        return torch.stack(rows)
