r"""The baselines: stochastic gradient descent and Adam on the non-convex training problem.

.. math:: F(U, \alpha) = L\Big(\sum_j (X u_j)_+ \alpha_j^\top\Big)
          + \tfrac\beta2 \sum_j \left(\|u_j\|^2 + \|\alpha_j\|^2\right)

is what the convex programs solve, with the same beta and no 1/n. All learning rates and seeds of a
tuning grid are trained at once, as one network with two leading axes (seeds, rates), so that the
whole grid costs little more than its arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from convexlib.losses import SmoothLoss
from convexlib.solvers.training import (
    SQUARED,
    Recorder,
    Training,
    as_columns,
    check_limits,
    check_rates,
    check_seeds,
    check_task,
    initial_weights,
    now,
)
from convexlib.validation import check_beta, check_choice, check_positive_int

__all__ = ["OPTIMIZERS", "train"]

SCHEDULES: dict[str, Callable[[float], float]] = {
    "": lambda done: 1.0,
    "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
    "step": lambda done: 0.5 ** math.floor(20.0 * done),
}
OPTIMIZERS = ("sgd", "sgd-cosine", "sgd-step", "adam", "adam-cosine", "adam-step")
DECAYS, STABILISER = (0.9, 0.999), 1e-8  # Adam's usual constants


def train(
    X: Any,
    y: Any,
    *,
    beta: float,
    width: int,
    optimizer: str = "adam",
    rates: Sequence[float] = (1e-1, 1e-2, 1e-3),
    seeds: Sequence[int] = (0, 1, 2),
    n_steps: int | None = None,
    seconds: float | None = None,
    batch_size: int | None = None,
    n_records: int = 100,
    loss: str = "squared",
    progress: bool = False,
) -> Training:
    r"""Train a two-layer ReLU network for every pair of a learning rate and a seed.

    Parameters
    ----------
    X : array (n, d)
        Data; device and dtype are kept.
    y : array (n,) or (n, c)
        Targets; with two axes the network has c outputs, which share its neurons.
    beta : float
        Weight of the regulariser in F above, where it is part of the gradient (for Adam too).
    width : int
        Neurons m.
    optimizer : str
        ``"sgd"`` or ``"adam"`` with a constant rate; ``"-cosine"`` appended lowers it to 0 over
        the run along half a cosine, ``"-step"`` halves it 19 times at equal intervals.
    rates, seeds : sequences
        The grid. The seed draws the initial weights and the batches.
    n_steps, seconds : int, float
        The run ends with whichever comes first; at least one is needed. On a CPU the seconds are
        processor time, which other programs do not lengthen. With `seconds` the number of steps
        depends on the machine; with `n_steps` alone a run is deterministic.
    batch_size : int, optional
        Samples per step, drawn without replacement in each epoch; all of them by default.
    n_records : int
        How often the objective is recorded, at moments that are denser in the beginning.
    loss : {"squared", "logistic", "squared_hinge"}
        As for `TwoLayer`.
    progress : bool
        Show a progress bar on a terminal.

    Returns
    -------
    Training

    Raises
    ------
    InputError
        For unusable data, grids or limits, and targets that do not suit the loss.

    Notes
    -----
    Initial weights are normal with variance 2/d in the first layer and 2/m in the second (He et
    al., 2015). A batch's gradient of the loss is scaled by n / batch_size, hence unbiased. SGD
    steps along the gradient of F / n, so that a rate means what it means for a mean loss; the
    minimiser is the same. A ConvergenceWarning is given if no run improves on its start. Checked
    by ``tests/solvers/test_descent.py``.
    """
    X, y, chosen = check_task(X, y, loss)
    beta, width = check_beta(beta), check_positive_int(width, "width")
    grid = check_grid(
        len(X),
        optimizer=optimizer,
        rates=rates,
        seeds=seeds,
        n_steps=n_steps,
        seconds=seconds,
        batch_size=batch_size,
        n_records=n_records,
    )
    U, alpha = initial_weights(grid.seeds, len(grid.rates), width, X, tuple(y.shape[1:]))
    record = Recorder(X, y, beta, chosen)

    def slopes(batch_X: Tensor, batch_y: Tensor) -> tuple[Tensor, Tensor]:
        scale = len(X) / batch_y.shape[1]
        return gradients(batch_X, batch_y, U, alpha, beta, scale, chosen)

    descend(grid, X, y, (U, alpha), slopes, record, progress)
    return record.training(optimizer, grid.rates, grid.seeds)


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


def gradients(
    X: Tensor,
    y: Tensor,
    U: Tensor,
    alpha: Tensor,
    beta: float,
    scale: float,
    loss: SmoothLoss = SQUARED,
) -> tuple[Tensor, Tensor]:
    """Gradients of `scale` times the loss plus the regulariser, in U and in alpha.

    X (S, b, d) and y (S, b) or (S, b, c) hold a batch for each seed; U (S, R, m, d) and alpha
    (S, R, m) or (S, R, m, c).
    """
    targets, last = as_columns(y, alpha)  # (S, b, c), (S, R, m, c)
    inputs = X[:, None]  # (S, 1, b, d)
    hidden = torch.matmul(inputs, U.transpose(2, 3)).relu_()  # (S, R, b, m)
    slope = loss.dual_point(hidden @ last, targets[:, None]).mul_(-scale)  # (S, R, b, c)
    by_alpha = (hidden.transpose(2, 3) @ slope).reshape(alpha.shape)
    back = (hidden > 0) * (slope @ last.transpose(2, 3))  # (S, R, b, m)
    by_U = torch.matmul(back.transpose(2, 3), inputs)
    return by_U.add_(U, alpha=beta), by_alpha.add_(alpha, alpha=beta)


class Adam:
    """Adam's update (Kingma and Ba, 2015), one rate per column of the grid."""

    def __init__(self, *weights: Tensor) -> None:
        self.weights, self.step = weights, 0
        self.first = [torch.zeros_like(part) for part in weights]
        self.second = [torch.zeros_like(part) for part in weights]

    def __call__(self, slopes: tuple[Tensor, ...], rate: Tensor) -> None:
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
