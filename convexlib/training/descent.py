r"""Descent for all learning rates and seeds of a tuning grid at once, and what it leaves behind.

The objective recorded is the one that the convex programs solve,

.. math:: F(U, \alpha) = L\Big(\sum_j (X u_j)_+ \alpha_j^\top\Big)
          + \tfrac\beta2 \sum_j \left(\|u_j\|^2 + \|\alpha_j\|^2\right),

with one output or several: a `Training` has the curves of every run against time and the best
network that it met. The runs are one network with two leading axes (seeds, rates), so that the
whole grid costs little more than its arithmetic.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from convexlib.arrays import Floats
from convexlib.checks import (
    as_tensor,
    check_choice,
    check_data,
    check_outputs,
    check_positive_int,
    check_real,
    check_seed,
    check_sequence,
    readable_count,
)
from convexlib.errors import InputError, warn
from convexlib.losses import SmoothLoss, get_loss
from convexlib.networks import TwoLayerReLU

ROWS = 4096  # evaluated at once: bounds the memory of a record
MAX_WEIGHTS = 2**33  # beyond, no machine holds them in float64

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
        `convexlib.training.parallel` a `ParallelReLU`.
    best_objective, best_rate, best_seed : float, float, int
        Its objective, and the run that it comes from.

    Examples
    --------
    >>> import numpy as np
    >>> from convexlib import training
    >>> X, y = np.array([[-1.0, 1.0], [1.0, 1.0]]), np.array([1.0, 0.0])
    >>> run = training.train(X, y, beta=0.1, width=4, rates=[0.1, 0.01], seeds=[0], n_steps=20)
    >>> run.objective.shape[:2]  # seeds, rates
    (1, 2)
    >>> bool(np.isclose(run.best_objective, run.objective.min()))
    True
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
    U, alpha = draw(seeds, n_rates, X, [((width, d), 2 / d), ((width, *outputs), 2 / width)])
    return U, alpha


def draw(
    seeds: Sequence[int], n_rates: int, X: Tensor, layers: list[tuple[tuple[int, ...], float]]
) -> list[Tensor]:
    """Normal weights (S, R, *shape) of layers of such shapes and variances, as X is."""
    count = len(seeds) * n_rates * sum(math.prod(shape) for shape, _ in layers)
    if count > MAX_WEIGHTS:
        raise InputError(
            f"the networks of all seeds and rates have {readable_count(count)} weights; expected "
            f"at most {MAX_WEIGHTS:.0e}. Make them smaller, or train fewer at once."
        )
    drawn = []
    for seed in seeds:
        source = torch.Generator().manual_seed(seed)
        drawn.append(
            [
                torch.randn(*shape, generator=source, dtype=torch.float64) * variance**0.5
                for shape, variance in layers
            ]
        )
    stacked = [torch.stack(parts).to(X)[:, None] for parts in zip(*drawn, strict=True)]
    return [part.repeat(1, n_rates, *[1] * (part.ndim - 2)) for part in stacked]


def as_columns(y: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Targets (..., n) and output weights (S, R, m) with a last axis for one output."""
    return (y[..., None], alpha[..., None]) if alpha.ndim == 3 else (y, alpha)


def objectives(
    X: Tensor, y: Tensor, U: Tensor, alpha: Tensor, beta: float, loss: SmoothLoss
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
            warn(f"{optimizer}: no run improved on its initial network. Use smaller rates.")
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

    def __init__(self, X: Tensor, y: Tensor, beta: float, loss: SmoothLoss) -> None:
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

    Examples
    --------
    >>> import torch
    >>> from convexlib import training
    >>> X = torch.ones(2, 2)
    >>> began = training.now(X)
    >>> training.now(X) >= began
    True
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
    """Return seeds as distinct integers, 0 <= seed < 2**63."""
    listed = check_sequence(seeds, "seeds")
    checked = tuple(check_seed(seed, "a seed") for seed in listed)
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
