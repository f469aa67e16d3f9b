r"""Baselines for three layers: SGD and Adam on parallel sub-networks, many runs at once.

The training form is smooth and has the minimum of `ThreeLayer`'s problem: the first layers are
normalised, :math:`W_{1k} = V_k / \|V_k\|_F`, and V is free,

.. math:: \tfrac12 \Big\|\sum_k ((X W_{1k})_+ w_{2k})_+ w_{3k} - y\Big\|^2
          + \tfrac\beta2 \sum_k \left(\|w_{2k}\|^2 + w_{3k}^2\right) .

What is recorded is the objective of the cheapest weights of the same function, never larger,
:math:`\tfrac12 \|f - y\|^2 + \beta \sum_{kj} |w_{3k}| |w_{2kj}| \|w_{1kj}\|`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convexlib.parallel_networks import ParallelReLU
from convexlib.problems.three_layer import ThreeLayer, cheapest_network
from convexlib.solvers.descent import DECAYS, STABILISER, batches
from convexlib.solvers.training import check_limits, check_rates, check_seeds, now
from convexlib.validation import check_choice, check_positive_int

__all__ = ["OPTIMIZERS", "ParallelTraining", "train_parallel"]

OPTIMIZERS = ("sgd", "adam", "adam-cosine")

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ParallelTraining:
    """What a grid of training runs has reached, and when.

    Attributes
    ----------
    rates, seeds : tuple
        The grid: R learning rates, S seeds.
    steps, seconds : ndarray (T,)
        When the objective was recorded; the clock stands still during a recording.
    objective : ndarray (S, R, T)
        The objective then, infinite where a run has diverged.
    best_network : ParallelReLU
        The best network at any record of any run.
    best_objective, best_rate, best_seed : float, float, int
        Its objective, and the run that it comes from.
    """

    rates: tuple[float, ...]
    seeds: tuple[int, ...]
    steps: NDArray[np.int64]
    seconds: Floats
    objective: Floats
    best_network: ParallelReLU
    best_objective: float
    best_rate: float
    best_seed: int

    @property
    def best_curve(self) -> Floats:
        """Best objective (T,) that any run has had at each record or before it."""
        return np.minimum.accumulate(self.objective.min(axis=(0, 1)))


def train_parallel(
    problem: ThreeLayer,
    n_subnetworks: int,
    *,
    optimizer: str = "adam",
    rates: Sequence[float] = (1e-1, 1e-2, 1e-3),
    seeds: Sequence[int] = (0, 1, 2),
    n_steps: int | None = None,
    seconds: float | None = None,
    batch_size: int | None = None,
    n_records: int = 50,
) -> ParallelTraining:
    r"""Train parallel three-layer networks for every pair of a learning rate and a seed.

    Parameters
    ----------
    problem : ThreeLayer
        Its data, beta and width; units play no part, so ``units="generate"`` will do.
    n_subnetworks : int
        K.
    optimizer : {"sgd", "adam", "adam-cosine"}
        With a constant rate, or one that falls to 0 along half a cosine. SGD steps along the
        gradient of the objective divided by n, so that a rate means what it means for a mean loss.
    rates, seeds : sequences
        The grid. The seed draws the initial weights (He et al., 2015) and the batches.
    n_steps, seconds : int, float
        The run ends with whichever comes first; at least one is needed. On a CPU the seconds are
        processor time; with `n_steps` alone a run is deterministic.
    batch_size : int, optional
        Samples per step, drawn without replacement in each epoch; all of them by default.
    n_records : int
        How often the objective is recorded, at moments that are denser in the beginning.

    Returns
    -------
    ParallelTraining

    Raises
    ------
    InputError
        For unusable grids or limits.

    Notes
    -----
    Checked by ``tests/solvers/test_parallel_descent.py``.
    """
    K = check_positive_int(n_subnetworks, "n_subnetworks")
    base, _, cosine = check_choice(optimizer, OPTIMIZERS, "optimizer").partition("-")
    rates, seeds = check_rates(rates), check_seeds(seeds)
    steps_limit, time_limit = check_limits(n_steps, seconds)
    X, y, beta, n = problem.X, problem.y, problem.beta, len(problem.X)
    size = n if batch_size is None else check_positive_int(batch_size, "batch_size")
    weights = _initial(seeds, len(rates), K, problem.widths[0], X)
    rate = torch.tensor(rates, dtype=X.dtype, device=X.device)[None, :, None]  # (1, R, 1)
    first = [torch.zeros_like(part) for part in weights]
    second = [torch.zeros_like(part) for part in weights]
    supply = batches(X, y, size, seeds)
    record = _Recorder(problem)
    record(0, 0.0, weights)
    step, spent, done, recorded = 0, 0.0, 0.0, 0
    began = now(X)
    while done < 1.0:
        step += 1
        slopes = _gradients(*next(supply), weights, beta, n)
        factor = rate * (0.5 * (1.0 + math.cos(math.pi * done)) if cosine else 1.0)
        for part, slope, m, v in zip(weights, slopes, first, second, strict=True):
            shape = (1, len(rates), *[1] * (part.ndim - 2))
            if base == "sgd":
                part.sub_(factor.view(shape) / n * slope)
                continue
            m.mul_(DECAYS[0]).add_(slope, alpha=1.0 - DECAYS[0])
            v.mul_(DECAYS[1]).addcmul_(slope, slope, value=1.0 - DECAYS[1])
            root = (v / (1.0 - DECAYS[1] ** step)).sqrt_().add_(STABILISER)
            part.sub_(factor.view(shape) / (1.0 - DECAYS[0] ** step) * m / root)
        elapsed = spent + now(X) - began
        done = max(step / steps_limit, elapsed / time_limit)
        due = math.floor(n_records * math.sqrt(min(done, 1.0)) + 1e-9)
        if due > recorded:
            spent, recorded = elapsed, due
            record(step, spent, weights)
            began = now(X)
    return record.training(rates, seeds)


def _initial(seeds: Sequence[int], n_rates: int, K: int, m: int, X: Tensor) -> list[Tensor]:
    """First layers (S, R, K, m, d), second (S, R, K, m) and output weights (S, R, K)."""
    drawn = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        shapes = ((K, m, X.shape[1]), (K, m), (K,))
        parts = [torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes]
        drawn.append((parts[0], parts[1] * (2 / m) ** 0.5, parts[2] * (2 / K) ** 0.5))
    stacked = [torch.stack(parts).to(X)[:, None] for parts in zip(*drawn, strict=True)]
    return [part.repeat(1, n_rates, *[1] * (part.ndim - 2)) for part in stacked]


def _gradients(
    X: Tensor, y: Tensor, weights: list[Tensor], beta: float, n: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the training form for batches X (S, b, d) and y (S, b), scaled to n samples."""
    V, w_2, w_3 = weights
    S, R, K, m, d = V.shape
    length = torch.linalg.vector_norm(V, dim=(3, 4), keepdim=True)
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
    along = (by_W * W).sum(dim=(3, 4), keepdim=True)
    return (by_W - along * W) / length, by_2, by_3


class _Recorder:
    """Keeps the curves of a grid of runs, and the best network."""

    def __init__(self, problem: ThreeLayer) -> None:
        self.problem = problem
        self.steps: list[int] = []
        self.seconds: list[float] = []
        self.curves: list[Floats] = []
        self.best, self.where = math.inf, (0, 0)
        self.network: ParallelReLU | None = None

    def __call__(self, step: int, seconds: float, weights: list[Tensor]) -> None:
        """Take the weights at a moment."""
        V, w_2, w_3 = weights
        length = torch.linalg.vector_norm(V, dim=(3, 4))
        leaves = V * (w_2.abs() * (w_3.abs() / length)[..., None])[..., None]  # (S, R, K, m, d)
        values = self._objectives(leaves, w_2.sign(), w_3.sign())
        values = values.where(values.isfinite(), math.inf)
        self.steps.append(step)
        self.seconds.append(seconds)
        self.curves.append(values.cpu().numpy())
        lowest = float(values.min())
        if self.network is None or lowest < self.best:
            s, r = divmod(int(values.argmin()), values.shape[1])
            self.best, self.where = lowest, (s, r)
            self.network = cheapest_network(leaves[s, r], w_2[s, r].sign(), w_3[s, r].sign())

    def _objectives(self, leaves: Tensor, signs: Tensor, side: Tensor) -> Tensor:
        """Objectives (S, R) in float64."""
        X, y = self.problem.X.double(), self.problem.y.double()
        rows = []
        for U, s, a in zip(leaves.double(), signs.double(), side.double(), strict=True):
            hidden = torch.einsum("td,rkjd->rtkj", X, U).relu_()
            fitted = ((hidden * s[:, None]).sum(dim=3).relu_() * a[:, None]).sum(dim=2)
            penalty = torch.linalg.vector_norm(U, dim=3).sum(dim=(1, 2))
            rows.append(0.5 * ((fitted - y) ** 2).sum(dim=1) + self.problem.beta * penalty)
        return torch.stack(rows)

    def training(self, rates: tuple[float, ...], seeds: tuple[int, ...]) -> ParallelTraining:
        """Close the record."""
        assert self.network is not None
        s, r = self.where
        return ParallelTraining(
            rates=rates,
            seeds=seeds,
            steps=np.array(self.steps),
            seconds=np.array(self.seconds),
            objective=np.stack(self.curves, axis=2),
            best_network=self.network,
            best_objective=self.best,
            best_rate=rates[r],
            best_seed=seeds[s],
        )
