r"""What training runs leave behind: their curves against time and the best network they met.

The objective recorded is the one that the convex programs solve,

.. math:: F(U, \alpha) = L\Big(\sum_j (X u_j)_+ \alpha_j^\top\Big)
          + \tfrac\beta2 \sum_j \left(\|u_j\|^2 + \|\alpha_j\|^2\right),

with one output or several.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from convexlib.arrays import Floats
from convexlib.errors import ConvergenceWarning, InputError
from convexlib.losses import SmoothLoss, get_loss
from convexlib.networks import TwoLayerReLU
from convexlib.validation import (
    as_tensor,
    check_data,
    check_outputs,
    check_positive_int,
    check_real,
    check_sequence,
)

__all__ = [
    "Curves",
    "Recorder",
    "Training",
    "check_limits",
    "check_rates",
    "check_seeds",
    "check_task",
    "initial_weights",
]

ROWS = 4096  # evaluated at once: bounds the memory of a record
SQUARED = get_loss("squared")

Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class Training(Generic[Net]):
    """What a grid of training runs has reached, and when.

    Attributes
    ----------
    optimizer : str
        What ran.
    rates, seeds : tuple
        The grid: R learning rates, S seeds.
    steps, seconds : ndarray (T,)
        When the objective was recorded, by the clock of `now`, which stands still during a
        recording.
    objective : ndarray (S, R, T)
        The full objective then, infinite where a run has diverged.
    best_network : Module
        The best network seen at any record of any run: a `TwoLayerReLU`, or for
        `convexlib.solvers.descent.parallel` a `ParallelReLU`.
    best_objective, best_rate, best_seed : float, float, int
        Its objective, and the run that it comes from.
    """

    optimizer: str
    rates: tuple[float, ...]
    seeds: tuple[int, ...]
    steps: NDArray[np.int64]
    seconds: Floats
    objective: Floats
    best_network: Net
    best_objective: float
    best_rate: float
    best_seed: int

    @property
    def best_curve(self) -> Floats:
        """Best objective (T,) that any run has had at each record or before it."""
        return np.minimum.accumulate(self.objective.min(axis=(0, 1)))

    @property
    def n_diverged(self) -> int:
        """Number of runs that ended infinite."""
        return int(np.isinf(self.objective[:, :, -1]).sum())


def check_task(X: Any, y: Any, loss: str) -> tuple[Tensor, Tensor, SmoothLoss]:
    """Return data (n, d), targets (n,) or (n, c) and the loss they suit."""
    y = as_tensor(y, "y")
    X, y = check_outputs(X, y) if y.ndim == 2 else check_data(X, y)
    chosen = get_loss(loss)
    chosen.check_targets(y)
    return X, y, chosen


def initial_weights(
    seeds: Sequence[int], n_rates: int, width: int, X: Tensor, outputs: tuple[int, ...] = ()
) -> tuple[Tensor, Tensor]:
    """He's initial weights (S, R, m, d) and (S, R, m, *outputs), the same for every rate."""
    d = X.shape[1]
    drawn = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        first = torch.randn(width, d, generator=generator, dtype=torch.float64) * (2 / d) ** 0.5
        last = torch.randn(width, *outputs, generator=generator, dtype=torch.float64)
        last *= (2 / width) ** 0.5
        drawn.append((first, last))
    U, alpha = (torch.stack(parts).to(X)[:, None] for parts in zip(*drawn, strict=True))
    return U.repeat(1, n_rates, 1, 1), alpha.repeat(1, n_rates, *[1] * alpha[0, 0].ndim)


def as_columns(y: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Targets (..., n) and output weights (S, R, m) with a last axis for one output."""
    return (y[..., None], alpha[..., None]) if alpha.ndim == 3 else (y, alpha)


def objectives(
    X: Tensor, y: Tensor, U: Tensor, alpha: Tensor, beta: float, loss: SmoothLoss = SQUARED
) -> Tensor:
    """Return the objective (S, R) of every network on all data."""
    y, alpha = as_columns(y, alpha)  # (n, c), (S, R, m, c)
    total = torch.zeros(U.shape[:2], dtype=X.dtype, device=X.device)
    for rows, targets in zip(X.split(ROWS), y.split(ROWS), strict=True):
        fitted = torch.matmul(rows, U.transpose(2, 3)).relu_() @ alpha  # (S, R, rows, c)
        total += loss.terms(fitted, targets).sum(dim=(2, 3))
    return total + 0.5 * beta * ((U**2).sum(dim=(2, 3)) + (alpha**2).sum(dim=(2, 3)))


class Curves(Generic[Net]):
    """Keeps the curves of a grid (S, R) of runs, and the best network."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.seconds: list[float] = []
        self.curves: list[Floats] = []
        self.best = math.inf
        self.where = (0, 0)
        self.network: Net | None = None

    def take(
        self, step: int, seconds: float, values: Tensor, network: Callable[[int, int], Net]
    ) -> None:
        """Take the objectives (S, R) at a moment, and the network of the best (seed, rate)."""
        values = values.where(values.isfinite(), math.inf)
        self.steps.append(step)
        self.seconds.append(seconds)
        self.curves.append(values.double().cpu().numpy())
        lowest = float(values.min())
        if lowest < self.best:
            self.best, self.where = lowest, divmod(int(values.argmin()), values.shape[1])
            self.network = network(*self.where)

    def training(
        self, optimizer: str, rates: tuple[float, ...], seeds: tuple[int, ...]
    ) -> Training[Net]:
        """Close the record; warn if nothing was learned."""
        if self.network is None:
            raise InputError(
                "the objective of the initial network is not finite; expected data and beta of "
                "moderate size. Standardise X and y."
            )
        if self.best >= self.curves[0].min():
            warnings.warn(
                f"{optimizer}: no run improved on its initial network. Use smaller rates.",
                ConvergenceWarning,
                stacklevel=3,
            )
        return Training(
            optimizer=optimizer,
            rates=rates,
            seeds=seeds,
            steps=np.array(self.steps),
            seconds=np.array(self.seconds),
            objective=np.stack(self.curves, axis=2),
            best_network=self.network,
            best_objective=self.best,
            best_rate=rates[self.where[1]],
            best_seed=seeds[self.where[0]],
        )


class Recorder(Curves[TwoLayerReLU]):
    """The curves of two-layer networks."""

    def __init__(self, X: Tensor, y: Tensor, beta: float, loss: SmoothLoss = SQUARED) -> None:
        super().__init__()
        self.X, self.y, self.beta, self.loss = X, y, beta, loss

    def __call__(self, step: int, seconds: float, U: Tensor, alpha: Tensor) -> None:
        """Take the weights (S, R, m, d) and (S, R, m) or (S, R, m, c) at a moment."""
        values = objectives(self.X, self.y, U, alpha, self.beta, self.loss)
        self.take(step, seconds, values, lambda s, r: TwoLayerReLU(U[s, r], alpha[s, r]))


def now(X: Tensor) -> float:
    """Return the clock of a computation with X, once all that was asked for is done.

    On a CPU it is the processor time of this process: other programs on the machine do not
    lengthen it, several threads do. On a GPU it is the time on the wall.
    """
    if X.is_cuda:
        torch.cuda.synchronize(X.device)
        return time.perf_counter()
    return time.process_time()


def check_rates(rates: Sequence[float]) -> tuple[float, ...]:
    """Return learning rates as positive floats."""
    checked = tuple(check_real(rate, "a learning rate") for rate in check_sequence(rates, "rates"))
    if not checked or min(checked) <= 0:
        raise InputError(f"rates is {rates!r}; expected at least one rate, all of them > 0.")
    return checked


def check_seeds(seeds: Sequence[int]) -> tuple[int, ...]:
    """Return seeds as distinct integers of at least 0."""
    listed = check_sequence(seeds, "seeds")
    checked = tuple(check_positive_int(seed, "a seed", minimum=0) for seed in listed)
    if not checked or len(set(checked)) < len(checked):
        raise InputError(f"seeds is {seeds!r}; expected at least one seed, all of them different.")
    return checked


def check_limits(n_steps: int | None, seconds: float | None) -> tuple[float, float]:
    """Return the largest number of steps and of seconds, infinite where there is no limit."""
    if n_steps is None and seconds is None:
        raise InputError("neither n_steps nor seconds is given; expected a limit for the run.")
    steps = None if n_steps is None else check_positive_int(n_steps, "n_steps")
    limit = math.inf if steps is None else float(min(steps, 2**53))  # which no run reaches
    span = math.inf if seconds is None else check_real(seconds, "seconds")
    if span <= 0:
        raise InputError(f"seconds is {span:g}; expected a positive time.")
    return limit, span
