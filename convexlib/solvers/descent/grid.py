"""Steps of gradient descent for all learning rates and seeds of a tuning grid at once.

The runs are one network with two leading axes (seeds, rates), so that the whole grid costs little
more than its arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from convexlib.solvers.descent.training import check_limits, check_rates, check_seeds, now
from convexlib.validation import check_choice, check_positive_int

SCHEDULES: dict[str, Callable[[float], float]] = {
    "": lambda done: 1.0,
    "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
    "step": lambda done: 0.5 ** math.floor(20.0 * done),
}
OPTIMIZERS = ("sgd", "sgd-cosine", "sgd-step", "adam", "adam-cosine", "adam-step")
DECAYS, STABILISER = (0.9, 0.999), 1e-8  # Adam's usual constants


@dataclass(frozen=True)
class Grid:
    """The checked arguments of a run over a grid of rates and seeds, named as in `train`."""

    optimizer: str
    rates: tuple[float, ...]
    seeds: tuple[int, ...]
    n_steps: float
    seconds: float
    batch_size: int
    n_records: int


def check_grid(
    n: int,
    *,
    optimizer: str = "adam",
    rates: Sequence[float] = (1e-1, 1e-2, 1e-3),
    seeds: Sequence[int] = (0, 1, 2),
    n_steps: int | None = None,
    seconds: float | None = None,
    batch_size: int | None = None,
    n_records: int = 100,
) -> Grid:
    """Return the arguments of a run on n samples, or refuse them."""
    check_choice(optimizer, OPTIMIZERS, "optimizer")
    size = n if batch_size is None else check_positive_int(batch_size, "batch_size")
    limits = check_limits(n_steps, seconds)
    n_records = check_positive_int(n_records, "n_records")
    return Grid(optimizer, check_rates(rates), check_seeds(seeds), *limits, size, n_records)


def descend(
    grid: Grid,
    X: Tensor,
    y: Tensor,
    weights: tuple[Tensor, ...],
    slopes: Callable[[Tensor, Tensor], tuple[Tensor, ...]],
    record: Callable[..., None],
    progress: bool = False,
) -> None:
    """Move the weights (S, R, ...) in place until a limit is reached.

    ``slopes(X, y)`` are the gradients in the weights for batches (S, b, d), (S, b, ...), and
    ``record(step, seconds, *weights)`` takes them at moments that are denser in the beginning.
    """
    base, _, schedule = grid.optimizer.partition("-")
    rate = torch.tensor(grid.rates, dtype=X.dtype, device=X.device)  # (R,)
    update = Adam(*weights) if base == "adam" else _Steps(len(X), *weights)
    supply = batches(X, y, grid.batch_size, grid.seeds)
    record(0, 0.0, *weights)
    step, spent, began = 0, 0.0, now(X)
    done, recorded = 0.0, 0
    bar = tqdm(total=grid.n_records, desc=grid.optimizer, disable=None if progress else True)
    while done < 1.0:
        update(slopes(*next(supply)), rate * SCHEDULES[schedule](done))
        step += 1
        elapsed = spent + now(X) - began
        done = max(step / grid.n_steps, elapsed / grid.seconds)
        due = math.floor(grid.n_records * math.sqrt(min(done, 1.0)) + 1e-9)
        if due > recorded:
            spent = elapsed
            record(step, spent, *weights)
            bar.update(due - recorded)
            recorded = due
            began = now(X)
    bar.close()


class Adam:
    """Adam's update (Kingma and Ba, 2015), one rate per column of the grid."""

    def __init__(self, *weights: Tensor) -> None:
        self.weights, self.step = weights, 0
        self.first = [torch.zeros_like(part) for part in weights]
        self.second = [torch.zeros_like(part) for part in weights]

    def __call__(self, slopes: tuple[Tensor, ...], rate: Tensor) -> None:
        """Take one step along the slopes."""
        self.step += 1
        a, b = DECAYS
        fair_a, fair_b = 1.0 - a**self.step, 1.0 - b**self.step
        moments = zip(self.first, self.second, strict=True)
        for part, slope, (m, v) in zip(self.weights, slopes, moments, strict=True):
            m.mul_(a).add_(slope, alpha=1.0 - a)
            v.mul_(b).addcmul_(slope, slope, value=1.0 - b)
            root = (v / fair_b).sqrt_().add_(STABILISER)
            factor = rate.view(-1, *[1] * (part.ndim - 2)) / fair_a
            part.sub_(factor * m / root)


class _Steps:
    """The update of gradient descent on F / n."""

    def __init__(self, n: int, *weights: Tensor) -> None:
        self.n, self.weights = n, weights

    def __call__(self, slopes: tuple[Tensor, ...], rate: Tensor) -> None:
        for part, slope in zip(self.weights, slopes, strict=True):
            part.sub_(slope * (rate / self.n).view(-1, *[1] * (part.ndim - 2)))


def batches(
    X: Tensor, y: Tensor, size: int, seeds: Sequence[int]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches (S, b, d), (S, b) or (S, b, c), for ever, in a new order of each per epoch."""
    n = len(X)
    if size >= n:
        everything = X.expand(len(seeds), *X.shape), y.expand(len(seeds), *y.shape)
        while True:
            yield everything
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    while True:
        orders = torch.stack([torch.randperm(n, generator=source) for source in generators])
        for rows in orders.to(X.device).split(size, dim=1):
            yield X[rows], y[rows]
