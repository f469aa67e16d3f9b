r"""Where column generation starts: the neurons of a briefly trained network.

Patterns that gradient descent finds in a second are worth many rounds of exact pricing from
nothing: the network's neurons have arranged themselves together, while pricing adds neurons that
fit what is left over, one set after another.
"""

from __future__ import annotations

import torch
from torch import Tensor

from convexlib.losses import Loss
from convexlib.problems.two_layer import TwoLayer
from convexlib.solvers.descent.grid import SCHEDULES, Adam
from convexlib.solvers.descent.training import initial_weights

WIDTH = 400
_STEPS = 500
_RATE = 0.04
_INITIAL = 0.1  # a part of He's weights: small ones leave the neurons free to turn
_FLAT = 1e-12  # part of the mean size below which a feature counts as constant zero
_LIVE = 1e-4  # a neuron counts if its |alpha| ||u|| exceeds this part of the largest


def trained_neurons(problem: TwoLayer, seed: int = 0) -> Tensor:
    r"""The neurons (m, d) of a network after a short run of Adam, in the data's dtype.

    The run is deterministic, in single precision, and on features and targets of unit scale: with
    :math:`X = \tilde X \operatorname{diag}(c)` and, for the squared loss, :math:`y = s \tilde y`,
    the neurons are :math:`\tilde u = c \circ u`, whose decay :math:`\|\tilde u / c\|^2` is not that
    of the data's own scale: a feature of small values then has hardly any part in the patterns. The
    run decays :math:`\|\tilde u\|^2` with :math:`\beta / (s \bar c)`, where :math:`\bar c^2` is the
    mean of :math:`c^2`. Checked by ``tests/solvers/column_generation/test_seeding.py``.
    """
    X, y = problem.X, problem.y
    sizes = X.square().mean(dim=0).sqrt()
    size = float(sizes.square().mean().sqrt())
    height = float(y.square().mean().sqrt()) if problem.loss.name == "squared" else 1.0
    if size == 0.0 or height == 0.0:
        return X.new_zeros(0, X.shape[1])
    sizes = torch.where(sizes > _FLAT * size, sizes, size)
    beta = problem.beta / (size * height)
    width = min(WIDTH, 2 * len(X))
    U, alpha = _train((X / sizes).float(), (y / height).float(), beta, problem.loss, width, seed)
    strengths = alpha.abs() * torch.linalg.vector_norm(U, dim=1)
    if not bool(torch.isfinite(strengths).all()):
        return X.new_zeros(0, X.shape[1])
    return U[strengths > _LIVE * strengths.max()].to(X) / (sizes / size)


def _train(
    X: Tensor, y: Tensor, beta: float, loss: Loss, width: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Weights (m, d) and (m,) after Adam with a rate that falls along half a cosine."""
    U, alpha = (_INITIAL * part for part in initial_weights([seed], 1, width, X))  # (1, 1, m, ..)
    update = Adam(U, alpha)
    for step in range(_STEPS):
        hidden = torch.relu(X @ U[0, 0].T)  # (n, m)
        z = loss.dual_point(hidden @ alpha[0, 0], y)
        back = ((hidden > 0) * z[:, None] * alpha[0, 0]).T @ X  # (m, d)
        slopes = beta * U - back, beta * alpha - z @ hidden
        update(slopes, X.new_full((1,), _RATE * SCHEDULES["cosine"](step / _STEPS)))
    return U[0, 0], alpha[0, 0]
