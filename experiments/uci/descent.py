r"""UCI: SGD and Adam as the paper's authors run them, on ReLU networks and on gated ones.

By their public code a network has one hidden layer without biases, whose m neurons all outputs
share, and the penalty that makes its training the non-convex form of the convex program:

.. math:: F = \frac1{2n} \Big\|\sum_j h_j(X) \alpha_j^\top - Y\Big\|_F^2
          + \frac\lambda2 \sum_j \big(\|u_j\|^2 + \|\alpha_j\|_1^2\big), \qquad
          h_j(X) = (X u_j)_+ \text{ or } D_j X u_j

with fixed masks D_j, those of the gated program. Scaling u_j against alpha_j shows
:math:`F \ge \frac1{2n} \|\cdot\|^2 + \lambda \sum_{jk} \|u_j \alpha_{jk}\|`, the objective of the
programs for blocks :math:`v_{jk} = u_j \alpha_{jk}`: no network lies below its program's bound.
With several outputs the blocks of a gate are multiples of one vector, so that a gated network may
be unable to reach its program at all.

Weights start uniform, as in ``torch.nn.Linear``; a batch is a tenth of the rows; the rate is halved
19 times at equal intervals. A run has failed once its objective is ten times that of its start, and
is dropped. Every run of the grid of rates and seeds counts by its best moment.

All runs of one seed have the same batches and are one tensor program. A group of them is as large
as the cache of a processor: then no step leaves it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convexlib.training import now

FAILED = 10.0  # times the objective of the start
HALVINGS = 20  # intervals of the rate
CACHE = 2**18  # numbers of a group's hidden layer, a megabyte
ROWS = 4096  # evaluated at once
FIRST, SECOND, STABILISER = 0.9, 0.999, 1e-8  # Adam's usual constants


@dataclass(frozen=True, eq=False)
class Problem:
    """What is minimised: data, targets (n, c), lambda; masks (n, m) of gated networks or None."""

    X: Tensor
    Y: Tensor
    weight: float
    masks: Tensor | None = None

    def single(self) -> Problem:
        """The same in float32."""
        masks = None if self.masks is None else self.masks.float()
        return Problem(self.X.float(), self.Y.float().contiguous(), self.weight, masks)

    def hidden(self, rows: Tensor | slice, U: Tensor) -> Tensor:
        """Hidden layers (..., b, m) of weights (..., m, d)."""
        found = torch.matmul(self.X[rows], U.transpose(-1, -2))
        return found.relu_() if self.masks is None else found.mul_(self.masks[rows])

    def objective(self, U: Tensor, A: Tensor) -> Tensor:
        """F (...) of weights (..., m, d) and (..., m, c)."""
        n = len(self.X)
        error = self.X.new_zeros(U.shape[:-2])
        for first in range(0, n, ROWS):
            rows = slice(first, first + ROWS)
            error += ((self.hidden(rows, U) @ A - self.Y[rows]) ** 2).sum(dim=(-2, -1))
        decay = (U**2).sum(dim=(-2, -1)) + (A.abs().sum(dim=-1) ** 2).sum(dim=-1)
        return error / (2 * n) + 0.5 * self.weight * decay

    def slopes(self, rows: Tensor, U: Tensor, A: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of F on a batch of rows, in U and in A."""
        hidden = self.hidden(rows, U)  # (k, b, m)
        residual = (hidden @ A - self.Y[rows]).div_(len(rows))  # (k, b, c)
        by_A = hidden.transpose(1, 2) @ residual
        open_ = hidden.sign_() if self.masks is None else self.masks[rows]
        if A.shape[2] == 1:  # the residual goes to the side of the data, which is the smaller one
            by_U = torch.matmul(open_.transpose(-1, -2), residual * self.X[rows]).mul_(A)
        else:
            back = torch.matmul(residual, A.transpose(1, 2)).mul_(open_)
            by_U = torch.matmul(back.transpose(1, 2), self.X[rows])
        by_A.add_(A.sign() * A.abs().sum(dim=2, keepdim=True), alpha=self.weight)
        return by_U.add_(U, alpha=self.weight), by_A


@dataclass(eq=False)
class _Run:
    """One rate and seed: its curve, and the best weights that it met."""

    rate: float
    seed: int
    seconds: list[float] = field(default_factory=list)
    curve: list[float] = field(default_factory=list)
    weights: tuple[Tensor, ...] = ()

    @property
    def failed(self) -> bool:
        return not self.curve[-1] < FAILED * self.curve[0]

    def record(self, seconds: float, value: float, weights: tuple[Tensor, ...]) -> None:
        if not self.curve or value < min(self.curve):
            self.weights = tuple(part.clone() for part in weights)
        self.seconds.append(seconds)
        self.curve.append(value)


class _Group:
    """Runs of one seed, trained together: weights (k, m, d) and (k, m, c), moments, batches."""

    def __init__(
        self, problem: Problem, runs: list[_Run], start: tuple[Tensor, ...], adam: bool
    ) -> None:
        self.problem, self.runs = problem, runs
        self.weights = [part.repeat(len(runs), 1, 1) for part in start]
        kept = self.weights if adam else []
        self.moments = [(torch.zeros_like(part), torch.zeros_like(part)) for part in kept]
        self.rates = torch.tensor([run.rate for run in runs]).to(start[0])[:, None, None]
        self.source = torch.Generator().manual_seed(runs[0].seed)
        self.rows: list[Tensor] = []
        self.seconds, self.step = 0.0, 0  # of one run

    def record(self) -> None:
        """Score the runs, and drop those that have failed."""
        values = self.problem.objective(*self.weights).tolist()
        for at, (run, value) in enumerate(zip(self.runs, values, strict=True)):
            run.record(self.seconds, value, tuple(part[at] for part in self.weights))
        alive = [at for at, run in enumerate(self.runs) if not run.failed]
        if len(alive) < len(self.runs):
            self.runs = [self.runs[at] for at in alive]
            self.weights = [part[alive] for part in self.weights]
            self.moments = [(m[alive], v[alive]) for m, v in self.moments]
            self.rates = self.rates[alive]

    def advance(self, end: int, n_steps: int, size: int) -> float:
        """Train until step `end`; the seconds that it took."""
        if not self.runs:
            return 0.0
        began = now(self.problem.X)
        while self.step < end:
            if not self.rows:
                order = torch.randperm(len(self.problem.X), generator=self.source)
                self.rows = list(order.to(self.problem.X.device).split(size))[::-1]
            slopes = self.problem.slopes(self.rows.pop(), *self.weights)
            rates = self.rates * 0.5 ** (HALVINGS * self.step // n_steps)
            self.step += 1
            if self.moments:
                self._adam(slopes, rates)
            else:
                for part, slope in zip(self.weights, slopes, strict=True):
                    part.sub_(slope.mul_(rates))
        spent = now(self.problem.X) - began
        self.seconds += spent / len(self.runs)
        return spent

    def _adam(self, slopes: tuple[Tensor, ...], rates: Tensor) -> None:
        """Adam's step (Kingma and Ba, 2015), with few passes over the weights."""
        fair = 1.0 - FIRST**self.step, math.sqrt(1.0 - SECOND**self.step)
        for part, slope, (m, v) in zip(self.weights, slopes, self.moments, strict=True):
            m.lerp_(slope, 1.0 - FIRST)
            v.mul_(SECOND).addcmul_(slope, slope, value=1.0 - SECOND)
            torch.sqrt(v, out=slope)
            slope.add_(STABILISER * fair[1])
            part.sub_(torch.div(m, slope, out=slope).mul_(rates * (fair[1] / fair[0])))


@dataclass(frozen=True, eq=False)
class Descent:
    """What a grid of runs has reached.

    Attributes
    ----------
    weights : tuple of Tensor
        U (m, d) and A (m, c) of the best network that a run which did not fail has met.
    rate, seed : float, int
        Its run.
    failed : int
        Runs that failed.
    alone, grid : tuple of ndarray
        Moments and the least objective that any run had by then: by the time of a single run, and
        by the time of the whole grid.
    """

    weights: tuple[Tensor, Tensor]
    rate: float
    seed: int
    failed: int
    alone: tuple[np.ndarray, np.ndarray]
    grid: tuple[np.ndarray, np.ndarray]


def descend(problem: Problem, width: int, config: Mapping[str, Any]) -> Descent:
    """Train networks of `width` neurons for every rate and seed of a configuration.

    Of the configuration count ``method`` (Adam if it begins so, else SGD), ``rates``, ``seeds``,
    ``epochs``, ``batches`` and ``records``. Checked by `tests/experiments/test_uci_descent.py`.
    """
    size = math.ceil(len(problem.X) / config["batches"])
    groups, runs = [], []
    for seed in config["seeds"]:
        begun = start(problem, width, seed, config.get("start", "linear"))
        own = [_Run(rate, seed) for rate in config["rates"]]
        many = max(1, CACHE // (size * width))
        for first in range(0, len(own), many):
            part = own[first : first + many]
            groups.append(_Group(problem, part, begun, config["method"].startswith("adam")))
        runs += own
    n_steps = config["epochs"] * math.ceil(len(problem.X) / size)
    spent, moments = 0.0, [0.0]
    ends = np.rint(n_steps * (np.arange(config["records"] + 1) / config["records"]) ** 2)
    for group in groups:
        group.record()
    for end in np.unique(ends.astype(int))[1:]:
        for group in groups:
            spent += group.advance(int(end), n_steps, size)
            if group.runs:
                group.record()
        moments.append(spent)
    return _found(runs, np.array(moments))


def start(problem: Problem, width: int, seed: int, kind: str = "linear") -> tuple[Tensor, Tensor]:
    """Draw weights (m, d) and (m, c), the same for every rate.

    ``"linear"``: as ``torch.nn.Linear``, uniform up to one over the root of the inputs; ``"he"``:
    normal with variance 2 over the inputs.
    """
    source = torch.Generator().manual_seed(seed)
    d, c = problem.X.shape[1], problem.Y.shape[1]
    parts = []
    for shape, inputs in (((width, d), d), ((width, c), width)):
        if kind == "he":
            drawn = torch.randn(shape, generator=source, dtype=torch.float64) * math.sqrt(2.0)
        else:
            drawn = torch.rand(shape, generator=source, dtype=torch.float64) * 2.0 - 1.0
        parts.append((drawn / math.sqrt(inputs)).to(problem.X))
    return parts[0], parts[1]


def _found(runs: Sequence[_Run], moments: np.ndarray) -> Descent:
    """Put together what the runs have left."""
    counted = [run for run in runs if not run.failed] or [min(runs, key=lambda run: run.rate)]
    best = min(counted, key=lambda run: min(run.curve))
    seconds = np.concatenate([run.seconds for run in counted])
    values = np.concatenate([run.curve for run in counted])
    order = np.lexsort((values, seconds))
    ended = np.array([np.minimum.accumulate(run.curve) for run in counted if not run.failed])
    together = ended.min(axis=0) if len(ended) else np.minimum.accumulate(best.curve)
    U, A = best.weights
    return Descent(
        weights=(U, A),
        rate=best.rate,
        seed=best.seed,
        failed=sum(run.failed for run in runs),
        alone=(seconds[order], values[order]),
        grid=(moments[: len(together)], together),
    )
