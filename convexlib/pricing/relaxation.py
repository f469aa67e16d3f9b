r"""Dual points above rank 5: chosen for the bound that proves them, not for the best neuron.

A training problem knows its neurons only through the moments of their directions. For the positive
ones let :math:`\lambda = \sum_j \|u_j\| \alpha_j`, and over unit vectors with these masses
:math:`m = \lambda E[u]`, :math:`M = \lambda E[uu^\top]`, :math:`T_i = \lambda E|x_i^\top u|`,
:math:`W_{ij} = \lambda E|x_i^\top u|\,|x_j^\top u|`. Their outputs are :math:`\tfrac12 (x_i^\top m
+ T_i)`, their penalty is :math:`\beta\lambda`, and

.. math:: \mathrm{tr} M = \lambda, \quad \lambda M \succeq m m^\top, \quad
    \max(|x_i^\top m|, \|M x_i\|) \le T_i \le \sqrt{\lambda\, x_i^\top M x_i}, \quad
    |x_i^\top M x_j| \le W_{ij}, \quad
    \begin{pmatrix} \lambda & T^\top \\ T & W \end{pmatrix} \succeq 0, \quad
    W_{ii} = x_i^\top M x_i ,

and likewise for the negative ones. Whatever fulfils this is a relaxed network. The best of them has
an objective that is a lower bound, and its multipliers are a dual point z *and* its proof:
`quadratic_bound` for the relaxation without W, `PairBound` for that with W.

1. *Moments* (`_moments`). T is eliminated, as output i then lies in an interval. What is left is
   smooth and small: L-BFGS in a factor :math:`M = LL^\top`.
2. *Pairs* (`_pair_multipliers`). W on pairs of near samples, as products of vectors :math:`r_i \in
   R^K` of length :math:`\|L^\top x_i\|` with :math:`T_i = \sqrt\lambda\, e^\top r_i`: an augmented
   Lagrangian, from the point where every :math:`r_i` is near e, which is almost feasible.
3. *Proof* (`_proofs`). The multipliers start a `PairBound` for z and one for -z, and then they and
   z together maximise the dual value.

Nothing that happens here is believed: no factorisation is globally optimal for sure, and
minimisations end early. Every dual point is bounded by one of these two, and only such a bound
leaves this module.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numba import njit
from torch import Tensor

import convexlib.runtime  # noqa: F401  # a place for the kernels
from convexlib.arrays import Floats
from convexlib.losses import SmoothLoss
from convexlib.pricing.lbfgs import minimised
from convexlib.pricing.quadratic_bound import Indices, PairBound, Pairs, quadratic_bound, solved
from convexlib.pricing.relaxed_program import (
    Clock,
    Program,
    Relaxed,
    Scaled,
    inside_domain,
    nearest,
)
from convexlib.runtime import out_of_time

_SMOOTHING = ((1e-1, 150), (1e-2, 150), (1e-3, 200))  # of the lower end of T, and steps
_NEIGHBOURS = 15  # of each sample
_K = 12
_ROUNDS, _STEPS = 9, 120  # of the multipliers, and of L-BFGS in each
_PENALTY, _GROWTH = 30.0, 1.4
_IDLE = 1e-4  # pairs with a smaller part of the largest multiplier are dropped half-way
_SHARE = 0.5  # of the time is for the pairs, the rest for the proof
_FIXED = 0.35  # of what is left is for the multipliers of each sign while z stays
_BARRIERS = (3e-3, 1e-3, 5e-4, 3e-4, *4 * (2e-4,))  # of the proof's rounds, as parts of beta
_PROOF_STEPS, _MEMORY = 400, 20  # of L-BFGS, which a restart makes forget
_SHIFTS = (0.0, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # of A, until it is positive definite


def relaxed(
    X: Tensor, y: Tensor, beta: float, loss: SmoothLoss, *, output_bias: bool, max_seconds: float
) -> Iterator[Relaxed]:
    """Dual points of ever better relaxations, each with its proof, until the time is over.

    Parameters
    ----------
    X, y : Tensor (n, d), (n,)
        Data, float64.
    beta : float
        Regularisation.
    loss : SmoothLoss
        The loss.
    output_bias : bool
        Whether networks have an output bias, which is decayed.
    max_seconds : float
        Processor time. The first point costs a fraction of a second for some hundred rows, grows
        with n and is not cut short by it, but by `time_limit`.

    Notes
    -----
    Checked by ``tests/pricing/test_relaxation.py``.
    """
    clock = Clock(max_seconds)
    scaled = Scaled.of(X, y, beta, loss, output_bias) if max_seconds > 0.0 else None
    if scaled is not None and not out_of_time():
        yield from scaled.back(_steps(scaled.program, clock))


def _steps(program: Program, clock: Clock) -> Iterator[tuple[Tensor, float, str]]:
    z, factors = _moments(program)
    reach = [
        quadratic_bound(program.rows.numpy(), sign * z.numpy(), np.zeros(program.d), moment=moment)
        for sign, (moment, _) in zip((1.0, -1.0), factors.moments(), strict=True)
    ]
    yield z, max(reach), "moments"
    found = _pair_multipliers(program, z, factors, clock.part(_SHARE))
    if found is not None:
        for z, bound in _proofs(program, found, clock):
            yield z, bound, "pairs"


class _Factors:
    r"""A point of the relaxation, L (2, d, d), v (2, d) and the output bias, and what it implies.

    :math:`M = LL^\top` and :math:`m = \sqrt\lambda\, L v / \sqrt{1 + \|v\|^2}`, for which
    :math:`\lambda M \succeq mm^\top`.

    Attributes
    ----------
    mass, direction : array (2,), (2, d)
        :math:`\lambda`, and v over the root.
    P, first, G, reach : array (2, n, d), (2, n), (2, n, d), (2, n)
        :math:`L^\top x_i`, :math:`x_i^\top m`, :math:`M x_i` and its length.
    """

    def __init__(self, point: Floats, program: Program) -> None:
        d, self.program, self.rows = program.d, program, program.rows.numpy()
        self.point = point
        self.L = point[: 2 * d * d].reshape(2, d, d)
        v = point[2 * d * d : 2 * d * (d + 1)].reshape(2, d)
        self.bias = float(point[-1]) if program.decay is not None else 0.0
        self.mass = (self.L**2).sum(axis=(1, 2)) + 1e-300
        self.stretch = np.sqrt(1.0 + (v**2).sum(axis=1))[:, None]
        self.direction = v / self.stretch
        self.P = self.rows @ self.L
        self.first = np.sqrt(self.mass)[:, None] * (self.P @ self.direction[:, :, None])[:, :, 0]
        self.G = self.P @ self.L.transpose(0, 2, 1)
        self.reach = np.sqrt(_squares(self.G) + 1e-30)

    @staticmethod
    def size(program: Program) -> int:
        """Numbers in a point."""
        return 2 * program.d * (program.d + 1) + 1

    def objective(self, outputs: Floats) -> tuple[float, Floats]:
        """That of a relaxed network with these outputs, and its gradient by them."""
        program, fitted = self.program, torch.from_numpy(outputs)
        value = float(program.loss.terms(fitted, program.y).sum())
        value += program.beta * float(self.mass.sum())
        value += 0.5 * (program.decay or 0.0) * self.bias**2
        return value, -program.loss.dual_point(fitted, program.y).numpy()

    def gradient(
        self, by_P: Floats, by_first: Floats, by_reach: Floats, by_mass: Floats, by_bias: float
    ) -> Floats:
        """The gradient by the point of a function of these, and of the penalty."""
        by_mass = (
            by_mass + self.program.beta + 0.5 * (by_first * self.first).sum(axis=1) / self.mass
        )
        by_G = (by_reach / self.reach)[:, :, None] * self.G
        scaled = np.sqrt(self.mass)[:, None] * by_first
        by_P = by_P + by_G @ self.L + scaled[:, :, None] * self.direction[:, None, :]
        by_L = self.rows.T @ by_P + by_G.transpose(0, 2, 1) @ self.P
        by_L += 2.0 * by_mass[:, None, None] * self.L
        by_v = (scaled[:, None, :] @ self.P)[:, 0, :]
        by_v -= (by_v * self.direction).sum(axis=1, keepdims=True) * self.direction
        decay = self.program.decay
        last = 0.0 if decay is None else by_bias + decay * self.bias
        return np.concatenate([by_L.ravel(), (by_v / self.stretch).ravel(), [last]])

    def moments(self) -> list[tuple[Floats, Floats]]:
        """E[uu^T] and E[u] of both signs."""
        d, found = self.L.shape[1], []
        for mass, factor, direction in zip(self.mass, self.L, self.direction, strict=True):
            L = factor / math.sqrt(mass)
            if mass > 1e-12 * float(self.mass.max()):
                found.append((L @ L.T + 1e-9 * np.eye(d) / d, L @ direction))
            else:
                found.append((np.eye(d) / d, np.zeros(d)))
        return found


def _squares(rows: Floats) -> Floats:
    """Squared lengths of the last axis."""
    return np.einsum("...d,...d->...", rows, rows)


def _moments(program: Program) -> tuple[Tensor, _Factors]:
    """Dual point and moments of the relaxation without pairs."""
    y, loss, d = program.y, program.loss, program.d
    lengths = np.linalg.norm(program.rows.numpy(), axis=1)
    wanted = -loss.conjugate_gradient(torch.zeros_like(y), y)  # outputs of the least loss
    size = float(loss.dual_point(torch.zeros_like(y), y).abs().mean())
    spread = math.sqrt(0.25 * size / float(lengths.mean()) / math.sqrt(d))
    rng = np.random.default_rng(0)
    L = spread * (np.eye(d) + 0.05 * rng.standard_normal((2, d, d)))
    point = np.concatenate([L.ravel(), 0.1 * rng.standard_normal(2 * d), [0.0]])
    for smoothing, steps in _SMOOTHING:

        def objective(x: Floats, smoothing: float = smoothing) -> tuple[float, Floats]:
            _, value, gradient = _interval(
                _Factors(x, program), wanted.numpy(), smoothing * lengths
            )
            return value, gradient

        point = minimised(objective, point, steps, out_of_time)
    factors = _Factors(point, program)
    outputs, _, _ = _interval(factors, wanted.numpy(), _SMOOTHING[-1][0] * lengths)
    return loss.dual_point(torch.from_numpy(outputs), y), factors


def _interval(factors: _Factors, wanted: Floats, smoothing: Floats) -> tuple[Floats, float, Floats]:
    """The best outputs that some T in their intervals give, the objective and its gradient."""
    first, reach, mass = factors.first, factors.reach, factors.mass[:, None]
    squares = _squares(factors.P)
    high = np.sqrt(mass * squares + 1e-30)
    slack = mass * smoothing  # both maxima of `low` are smoothed
    firsts = np.sqrt(first**2 + slack**2)
    apart = firsts - slack - reach
    larger = np.sqrt(apart**2 + slack**2)
    low = 0.5 * (apart + larger - slack) + reach
    middle = 0.5 * (first[0] - first[1]) + factors.bias
    top, bottom = middle + 0.5 * (high[0] - low[1]), middle + 0.5 * (low[0] - high[1])
    outputs = np.maximum(np.minimum(wanted, top), bottom)
    value, slope = factors.objective(outputs)

    at_bottom, at_top = slope * (outputs == bottom), slope * (outputs == top)
    at_top = np.where(top > bottom, at_top, 0.0)
    by_high = 0.5 * np.stack([at_top, -at_bottom])
    by_low = 0.5 * np.stack([at_bottom, -at_top])
    by_apart = 0.5 * by_low * (1.0 + apart / larger)
    by_slack = 0.5 * by_low * (slack / larger - 1.0) + by_apart * (slack / firsts - 1.0)
    by_first = by_apart * first / firsts
    by_first += 0.5 * np.outer([1.0, -1.0], at_top + at_bottom)
    by_mass = 0.5 * (by_high * squares / high).sum(axis=1) + by_slack @ smoothing
    by_P = (by_high * mass / high)[:, :, None] * factors.P
    by_bias = float((at_top + at_bottom).sum())
    gradient = factors.gradient(by_P, by_first, by_low - by_apart, by_mass, by_bias)
    return outputs, value, gradient


@dataclass(eq=False)
class _Side:
    """The pairs of one sign, and their multipliers, which belong to |x_i^T M x_j| <= W_ij."""

    i: Indices
    j: Indices
    multipliers: Floats
    updated: Floats  # by the last evaluation

    def drop(self, share: float) -> None:
        """Leave out the pairs that hardly matter."""
        kept = self.multipliers > share * self.multipliers.max(initial=0.0)
        self.i, self.j, self.multipliers = self.i[kept], self.j[kept], self.multipliers[kept]
        self.updated = self.multipliers.copy()


@dataclass(eq=False)
class _Lagrangian:
    r"""The augmented Lagrangian of the relaxation with pairs, whose multipliers move.

    `first` and `reach` (2, n) belong to :math:`T_i \ge |x_i^\top m|` and :math:`T_i \ge
    \|M x_i\|`. A point is one of `_Factors` and, for each sign and sample, a vector in
    :math:`R^K` in the direction of :math:`r_i`.
    """

    program: Program
    sides: list[_Side]
    first: Floats
    reach: Floats
    penalty: float

    def __post_init__(self) -> None:
        self.head = _Factors.size(self.program)

    def __call__(self, x: Floats) -> tuple[float, Floats]:
        """Value and gradient; keeps what it has found at the point."""
        self.factors = factors = _Factors(x[: self.head], self.program)
        directions = x[self.head :].reshape(2, self.program.n, _K)
        stretch = np.sqrt(_squares(directions))
        units = directions / stretch[:, :, None]
        sizes = np.sqrt(_squares(factors.P) + 1e-300)
        self.R = units * sizes[:, :, None]
        root = np.sqrt(factors.mass)[:, None]
        self.T = root * self.R[:, :, 0]
        halves = 0.5 * (factors.first + self.T)
        self.outputs = factors.bias + halves[0] - halves[1]
        value, slope = factors.objective(self.outputs)
        self.above_first = self._updated(self.first, np.abs(factors.first) - self.T)
        self.above_reach = self._updated(self.reach, factors.reach - self.T)
        for multipliers in (self.above_first, self.above_reach):
            value += 0.5 * float((multipliers**2).sum()) / self.penalty
        by_P, by_R = np.zeros_like(factors.P), np.zeros_like(self.R)
        for k, side in enumerate(self.sides):
            value += _penalise(
                factors.P[k], self.R[k], side.i, side.j, side.multipliers, self.penalty,
                by_P[k], by_R[k], side.updated,
            )  # fmt: skip

        by_halves = 0.5 * np.outer([1.0, -1.0], slope)
        by_T = by_halves - self.above_first - self.above_reach
        by_first = by_halves + self.above_first * np.sign(factors.first)
        by_mass = 0.5 * (by_T * self.T).sum(axis=1) / factors.mass
        by_R[:, :, 0] += root * by_T
        by_sizes = np.einsum("knm,knm->kn", by_R, units)
        by_P += (by_sizes / sizes)[:, :, None] * factors.P
        by_units = by_R - by_sizes[:, :, None] * units  # they stay of length 1
        gradient = factors.gradient(by_P, by_first, self.above_reach, by_mass, float(slope.sum()))
        return value, np.append(gradient, by_units * (sizes / stretch)[:, :, None])

    def _updated(self, multipliers: Floats, excess: Floats) -> Floats:
        return np.maximum(multipliers + self.penalty * excess, 0.0)

    def update(self) -> None:
        """Take the multipliers of the last evaluation."""
        self.first, self.reach = self.above_first, self.above_reach
        for side in self.sides:
            side.multipliers = side.updated.copy()


def _pair_multipliers(
    program: Program, z: Tensor, factors: _Factors, clock: Clock
) -> _Lagrangian | None:
    """Solve the relaxation with pairs; None if there is no time to begin with."""
    rows, n, d = program.rows.numpy(), program.n, program.d
    lengths = np.linalg.norm(rows, axis=1)
    rng = np.random.default_rng(0)
    lines = rows / lengths[:, None]
    sides, starts = [], []
    for moment, _ in factors.moments():
        values, vectors = np.linalg.eigh(moment + 0.02 * np.eye(d) / d)
        pairs = nearest(rows @ (vectors * np.sqrt(values)), _NEIGHBOURS, clock)
        if pairs is None:
            return None
        none = np.zeros(len(pairs[0]))
        sides.append(_Side(*pairs, none, none.copy()))
        # Directions that vary smoothly over the samples, as do the cells that they are in.
        H = (lines @ rng.standard_normal((d, _K - 1))) * (lines @ rng.standard_normal((d, _K - 1)))
        H -= H.mean(axis=0)
        H /= np.maximum(np.linalg.norm(H, axis=1), 1e-300)[:, None]
        starts.append(np.column_stack([np.ones(n), 0.3 * H]))
    mass = max(0.5 * float(factors.mass.sum()), 1e-300)
    penalty = _PENALTY * float(z.abs().mean()) / math.sqrt(n)
    penalty /= mass * float((lengths**2).mean()) / d
    if not 0.0 < penalty < math.inf:
        return None
    lagrangian = _Lagrangian(program, sides, np.zeros((2, n)), np.zeros((2, n)), penalty)
    point = np.concatenate([factors.point, *(start.ravel() for start in starts)])
    for count in range(_ROUNDS):
        if count == _ROUNDS // 2:
            for side in sides:
                side.drop(_IDLE)
        point = minimised(lagrangian, point, _STEPS, clock.over)
        lagrangian(point)  # the last evaluation is not always at the point
        lagrangian.update()
        if clock.over():
            break
        if count:
            lagrangian.penalty *= _GROWTH
    return lagrangian


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _penalise(P, R, i, j, multipliers, penalty, slope_P, slope_R, updated):  # type: ignore[no-untyped-def]  # numba infers
    """Half the squares of the new multipliers over the penalty; gradients are added up."""
    total = 0.0
    for e in range(len(i)):
        a, b = i[e], j[e]
        product = 0.0
        for k in range(P.shape[1]):
            product += P[a, k] * P[b, k]
        moment = 0.0
        for k in range(R.shape[1]):
            moment += R[a, k] * R[b, k]
        new = max(multipliers[e] + penalty * (abs(product) - moment), 0.0)
        updated[e] = new
        total += new * new
        if new > 0.0:
            signed = new if product > 0.0 else -new
            for k in range(P.shape[1]):
                slope_P[a, k] += signed * P[b, k]
                slope_P[b, k] += signed * P[a, k]
            for k in range(R.shape[1]):
                slope_R[a, k] -= new * R[b, k]
                slope_R[b, k] -= new * R[a, k]
    return 0.5 * total / penalty


def _proofs(program: Program, found: _Lagrangian, clock: Clock) -> Iterator[tuple[Tensor, float]]:
    """Improve the bounds for z and -z, then these and z; proven after each minimisation."""
    n, beta, signs = program.n, program.beta, (1.0, -1.0)
    z = program.loss.dual_point(torch.from_numpy(found.outputs), program.y).numpy()
    bounds, points = [], []
    for k, moments in enumerate(found.factors.moments()):
        bound, point = _start_of_proof(program, found, k, *moments, signs[k] * z)
        bounds.append(bound)
        points.append(point)
    masses = found.factors.mass + 1e-12 * float(found.factors.mass.max())
    ends = np.cumsum([n, *map(len, points)])
    free = inside_domain(program, int(ends[-1]))

    def dual(x: Floats, barrier: float, weights: Floats) -> tuple[float, Floats, Floats]:
        """Augmented Lagrangian of -d(z) with both bounds at most beta; its new multipliers."""
        value, slope = program.negative_dual(x[:n])
        slopes, updated = [], np.zeros(2)
        for k, sign in enumerate(signs):
            part = x[ends[k] : ends[k + 1]]
            bound, by_point, by_z = bounds[k].smooth(part, sign * x[:n], barrier)
            updated[k] = max(masses[k] + weights[k] * (bound - beta), 0.0)
            value += 0.5 * updated[k] ** 2 / weights[k]
            slope += updated[k] * sign * by_z
            slopes.append(updated[k] * by_point)
        return value, np.concatenate([slope, *slopes]), updated

    for part in _BARRIERS:
        barrier = part * beta / program.d
        for k, sign in enumerate(signs):
            smooth = partial(bounds[k].smooth, z=sign * z, barrier=barrier)
            over = clock.part(_FIXED).over
            points[k] = minimised(smooth, points[k], _PROOF_STEPS, over, None, _MEMORY)
        weights = np.maximum(masses, 0.05 * masses.max()) / (0.05 * beta)
        x = np.concatenate([z, *points])
        function = partial(dual, barrier=barrier, weights=weights)
        x = minimised(function, x, _PROOF_STEPS, clock.over, free, _MEMORY)
        masses = function(x)[2]
        z, points = x[:n].copy(), [x[ends[k] : ends[k + 1]] for k in range(2)]
        reach = [bounds[k].proven(points[k], signs[k] * z) for k in range(2)]
        yield torch.from_numpy(z), max(reach)
        if clock.over():
            return


def _start_of_proof(
    program: Program, found: _Lagrangian, k: int, moment: Floats, mean: Floats, z: Floats
) -> tuple[PairBound, Floats]:
    r"""The bound of one sign, and the relaxation's multipliers as a point of it.

    Where they are optimal, :math:`\mu_i x_i^\top M x_i = \tfrac14 w_i T_i + \sum_j \Lambda_{ij}
    W_{ij}` makes A positive semidefinite. Here they are not, so A is shifted by a part of its
    diagonal; if no shift helps, mu is what T as r makes of it, which always does.
    """
    side, mass = found.sides[k], float(found.factors.mass[k])
    rows = program.rows.numpy()
    P, R, T = found.factors.P[k], found.R[k], found.T[k]
    kept = side.multipliers > 1e-3 * side.multipliers.max(initial=0.0)
    i, j, multipliers = side.i[kept], side.j[kept], 0.5 * side.multipliers[kept]
    pairs = Pairs(i, j, np.where((P[i] * P[j]).sum(axis=1) < 0.0, -1.0, 1.0), program.n)
    spread = np.maximum(T / mass, 1e-9 * np.abs(rows).max())
    bound = PairBound(rows, pairs, moment, spread)
    first, reach = found.first[k], found.reach[k]
    w, small = z + 2.0 * (first + reach), 1e-4 * float(np.abs(z).mean())
    right = rows @ mean > 0.0

    def point(r: Floats, delta: Floats) -> Floats:
        plus, minus = np.where(right, first, 0.0) + small, np.where(right, 0.0, first) + small
        parts = [r, delta, plus, minus, reach + small, multipliers]
        return np.log(np.concatenate(parts))

    square = np.maximum((P * P).sum(axis=1), 1e-300) / mass
    shared = pairs.matrix(multipliers * (R[i] * R[j]).sum(axis=1) / mass).sum(axis=1)
    mu = (0.25 * w * spread + shared) / square
    mu = np.maximum(mu, 0.02 * np.abs(mu).mean())
    diagonal, near = np.maximum(mu, 0.05 * mu.mean()), pairs.matrix(multipliers)
    floor = 0.0025 * np.abs(w).mean() / spread.mean()
    starts = [point(spread, np.maximum(0.25 * w / spread, floor))]
    for shift in _SHIFTS:
        shifted = mu + shift * diagonal
        r, _ = solved(shifted, near, diagonal, diagonal / shifted, 1e-6, 500)
        if bool((r > 0.0).all()):
            starts.append(point(r, diagonal / r))
    return bound, min(starts, key=lambda start: bound.proven(start, z))
