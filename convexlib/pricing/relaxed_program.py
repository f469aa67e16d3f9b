"""What relaxations of a training program share: its scale, its dual, their time and their pairs.

`relaxation` bounds networks of one output, `joint_relaxation` those of several. Both choose dual
points and prove them. Here are the program in sizes of about one, from which what is proven is
taken back to the data; the clock that both run by; and the pairs of near samples.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from convexlib.arrays import EPS, Floats
from convexlib.losses import SmoothLoss
from convexlib.pricing.condense import row_space
from convexlib.pricing.lbfgs import Intervals
from convexlib.pricing.quadratic_bound import Indices
from convexlib.runtime import out_of_time

_NEAR = 0.3  # by what part others may be nearer than those that count as nearest
_BLOCK = 1024  # samples whose neighbours are sought at once
_FAR = 300  # binary orders of magnitude


@dataclass(frozen=True, eq=False)
class Relaxed:
    r"""A dual point in the domain of the loss.

    Attributes
    ----------
    z : Tensor (n,) or (n, c)
        The point, not scaled to be feasible.
    reach : float
        A proven upper bound on :math:`\max \|z^\top (Xu)_+\|` over unit u.
    method : str
        ``"moments"`` or ``"pairs"``; ``"joint"`` for several outputs.
    """

    z: Tensor
    reach: float
    method: str

    def bound(self, _: Tensor, __: float) -> tuple[float, bool, str]:
        """The bound for z, that it is proven, and how."""
        return self.reach, True, self.method


@dataclass(frozen=True, eq=False)
class Program:
    """Rows (n, d) in coordinates of their row space, none zero, targets (n,) or (n, c)."""

    rows: Tensor
    y: Tensor
    beta: float
    decay: float | None  # of the output bias, if there is one
    loss: SmoothLoss

    @property
    def n(self) -> int:
        return self.rows.shape[0]

    @property
    def d(self) -> int:
        return self.rows.shape[1]

    def negative_dual(self, z: Floats) -> tuple[float, Floats]:
        """-d(z), with the output bias, and its gradient."""
        point = torch.from_numpy(z)
        value = -self.loss.dual_value(point, self.y)
        gradient: Floats = self.loss.conjugate_gradient(point, self.y).numpy().copy()
        if self.decay is not None:
            totals = z.sum(axis=0)  # of every output
            value += 0.5 * float(np.sum(totals**2)) / self.decay
            gradient += totals / self.decay
        return value, gradient


@dataclass(frozen=True, eq=False)
class Scaled:
    """A program whose rows and real targets are about 1, by powers of two: nothing rounds.

    Attributes
    ----------
    program : Program
        In coordinates of the row space, without the rows that are zero.
    basis : Tensor (d, r)
        Of the row space.
    """

    program: Program
    basis: Tensor
    used: Tensor  # rows that are not zero
    y: Tensor
    size: int  # of the rows
    units: int  # of the targets
    hidden: float  # of the rows, by the change of coordinates

    @classmethod
    def of(
        cls, X: Tensor, y: Tensor, beta: float, loss: SmoothLoss, output_bias: bool
    ) -> Scaled | None:
        """None where there is nothing to relax, or where scales are too far apart."""
        used = X.any(dim=1)
        if int(used.sum()) < 2:
            return None
        C, Q, hidden = row_space(X[used])
        targets = y[used].numpy()
        # Real targets are scaled, labels are not; the penalty of neurons, but not that of an output
        # bias, balances both.
        size = math.frexp(float(C.abs().max()))[1]
        units = math.frexp(float(np.abs(targets).max()))[1] if loss.name == "squared" else 0
        weight = math.frexp(beta)[1] - size - units
        if max(abs(size), abs(units), abs(weight)) > _FAR:
            return None
        program = Program(
            torch.from_numpy(np.ldexp(C.numpy(), -size)),
            torch.from_numpy(np.ldexp(targets, -units)),
            math.ldexp(beta, -size - units),
            beta if output_bias else None,
            loss,
        )
        return cls(program, Q, used, y, size, units, hidden)

    def back(self, steps: Iterator[tuple[Tensor, float, str]]) -> Iterator[Relaxed]:
        """Dual points of the program, their bounds and methods as those of the data."""
        # Unit u have coordinates of length at most this.
        stretched = 1.0 + 16.0 * sum(self.basis.shape) * EPS
        while True:
            try:
                with np.errstate(all="ignore"):
                    step = next(steps, None)
            except np.linalg.LinAlgError:  # numbers have left the floats
                return
            if step is None:
                return
            z, reach, method = step
            # A sample at the origin is no neuron's business: any z is feasible there.
            whole = self.program.loss.dual_point(torch.zeros_like(self.y), self.y)
            whole[self.used] = torch.from_numpy(np.ldexp(z.numpy(), self.units))
            bound = math.ldexp(reach, self.size + self.units) * stretched
            bound += self.hidden * float(torch.linalg.vector_norm(whole))
            if math.isfinite(bound) and bool(torch.isfinite(whole).all()):
                yield Relaxed(whole, bound, method)


class Clock:
    """Processor time of this thread that is left: a busy machine gives the same points later.

    A limit on the wall, if there is one, holds as well.
    """

    def __init__(self, seconds: float) -> None:
        self.end = time.thread_time() + seconds

    def part(self, share: float) -> Clock:
        """A clock for a part of what is left."""
        return Clock(share * (self.end - time.thread_time()))

    def over(self) -> bool:
        """Whether nothing is left."""
        return out_of_time() or time.thread_time() > self.end


def inside_domain(program: Program, size: int) -> Intervals:
    """For L-BFGS: z, in front, strictly inside of the domain of the dual, all else free."""
    far = torch.full_like(program.y, 1e300)
    ends = [program.loss.restrict(sign * far, program.y).numpy().ravel() for sign in (-1.0, 1.0)]
    low, high = np.minimum(*ends), np.maximum(*ends)
    low, high = np.where(low > -1e300, low, -np.inf), np.where(high < 1e300, high, np.inf)
    inside = 1e-9 * np.minimum(high - low, 1.0)
    free = np.full(size - len(low), np.inf)
    return np.append(low + inside, -free), np.append(high - inside, free)


def nearest(P: Floats, count: int, clock: Clock) -> tuple[Indices, Indices] | None:
    """Pairs i < j of each row and the `count` others whose lines are nearest to its own."""
    n = len(P)
    count = min(count, n - 1)
    P = P / np.maximum(np.linalg.norm(P, axis=1), 1e-300)[:, None]
    tree, codes = cKDTree(np.concatenate([P, -P])), []
    for start in range(0, n, _BLOCK):
        if clock.over():
            return None
        part = P[start : start + _BLOCK]
        others = tree.query(part, k=count + 1, eps=_NEAR)[1].ravel() % n
        own = np.repeat(np.arange(start, start + len(part)), count + 1)
        apart = own != others
        own, others = own[apart], others[apart]
        codes.append(np.minimum(own, others) * n + np.maximum(own, others))
    pairs = np.unique(np.concatenate(codes))
    return pairs // n, pairs % n
