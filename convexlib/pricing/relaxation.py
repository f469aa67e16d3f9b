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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

import convexlib.runtime  # noqa: F401  # a place for the kernels
from convexlib.arrays import Floats
from convexlib.losses import SmoothLoss
from convexlib.pricing.quadratic_bound import Indices, PairBound, Pairs, quadratic_bound, solved
from convexlib.pricing.relaxed_program import (
    Clock,
    Program,
    Relaxed,
    Scaled,
    inside_domain,
    minimised,
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


def _with_gradient(
    function: Callable[[Tensor], Tensor],
) -> Callable[[Floats], tuple[float, Floats]]:
    """Value and gradient, by automatic differentiation."""

    def both(point: Floats) -> tuple[float, Floats]:
        x = torch.tensor(point, requires_grad=True)
        value = function(x)
        value.backward()
        assert x.grad is not None
        return float(value.detach()), x.grad.numpy()

    return both


class _Factors:
    r"""A point of the relaxation: L (2, d, d), v (2, d) and the output bias.

    :math:`M = LL^\top` and :math:`m = \sqrt\lambda\, L v / \sqrt{1 + \|v\|^2}`, for which
    :math:`\lambda M \succeq mm^\top`.
    """

    def __init__(self, point: Tensor, program: Program) -> None:
        d = program.d
        self.point = point
        self.L = point[: 2 * d * d].reshape(2, d, d)
        v = point[2 * d * d : 2 * d * (d + 1)].reshape(2, d)
        self.bias = point[self.size(program) - 1] * float(program.decay is not None)
        self.mass = (self.L**2).sum(dim=(1, 2)) + 1e-300
        self.direction = v / torch.sqrt(1.0 + (v**2).sum(dim=1, keepdim=True))

    @staticmethod
    def size(program: Program) -> int:
        """Numbers in a point."""
        return 2 * program.d * (program.d + 1) + 1

    def images(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """L^T x_i (2, n, d), x_i^T m and ||M x_i|| (2, n)."""
        P = rows @ self.L
        first = self.mass.sqrt()[:, None] * torch.einsum("knd,kd->kn", P, self.direction)
        return P, first, torch.sqrt(((P @ self.L.transpose(1, 2)) ** 2).sum(dim=2) + 1e-30)

    def moments(self) -> list[tuple[Floats, Floats]]:
        """E[uu^T] and E[u] of both signs."""
        d, found = self.L.shape[1], []
        for mass, factor, direction in zip(
            self.mass.tolist(), self.L.numpy(), self.direction.numpy(), strict=True
        ):
            L = factor / math.sqrt(mass)
            if mass > 1e-12 * float(self.mass.max()):
                found.append((L @ L.T + 1e-9 * np.eye(d) / d, L @ direction))
            else:
                found.append((np.eye(d) / d, np.zeros(d)))
        return found


def _objective(program: Program, outputs: Tensor, factors: _Factors) -> Tensor:
    """Of a relaxed network with these outputs, output bias included."""
    value = program.loss.terms(outputs, program.y).sum() + program.beta * factors.mass.sum()
    return value + 0.5 * (program.decay or 0.0) * factors.bias**2


def _moments(program: Program) -> tuple[Tensor, _Factors]:
    """Dual point and moments of the relaxation without pairs."""
    rows, y, loss, d = program.rows, program.y, program.loss, program.d
    lengths = torch.linalg.vector_norm(rows, dim=1)
    wanted = -loss.conjugate_gradient(torch.zeros_like(y), y)  # outputs of the least loss
    size = float(loss.dual_point(torch.zeros_like(y), y).abs().mean())
    spread = math.sqrt(0.25 * size / float(lengths.mean()) / math.sqrt(d))
    rng = np.random.default_rng(0)
    L = spread * (np.eye(d) + 0.05 * rng.standard_normal((2, d, d)))
    point = np.concatenate([L.ravel(), 0.1 * rng.standard_normal(2 * d), [0.0]])

    def outputs(factors: _Factors, smoothing: float) -> Tensor:
        """The best outputs among those that some T in its interval gives."""
        P, first, reach = factors.images(rows)
        high = torch.sqrt(factors.mass[:, None] * (P**2).sum(dim=2) + 1e-30)
        slack = smoothing * factors.mass[:, None] * lengths  # both maxima of `low` are smoothed
        rounded = torch.sqrt(first**2 + slack**2) - slack
        low = torch.sqrt((rounded - reach) ** 2 + slack**2) - slack
        low = 0.5 * (rounded + reach + low)
        middle = 0.5 * (first[0] - first[1]) + factors.bias
        top, bottom = middle + 0.5 * (high[0] - low[1]), middle + 0.5 * (low[0] - high[1])
        return torch.maximum(torch.minimum(wanted, top), bottom)

    for smoothing, steps in _SMOOTHING:

        def objective(x: Tensor, smoothing: float = smoothing) -> Tensor:
            factors = _Factors(x, program)
            return _objective(program, outputs(factors, smoothing), factors)

        point = minimised(_with_gradient(objective), point, steps, Clock(math.inf))
    factors = _Factors(torch.from_numpy(point), program)
    return loss.dual_point(outputs(factors, _SMOOTHING[-1][0]), y), factors


@dataclass(eq=False)
class _Side:
    """What the pair relaxation says about one sign: its pairs, and the multipliers of its bounds.

    `pairs` and `multipliers` belong to :math:`|x_i^T M x_j| <= W_ij`, `first` and `reach` (n,) to
    :math:`T_i >= |x_i^T m|` and :math:`T_i >= ||M x_i||`.
    """

    i: Indices
    j: Indices
    multipliers: Floats
    first: Tensor
    reach: Tensor
    updated: Floats  # by the last evaluation
    state: tuple[Tensor, ...] = ()  # L^T x_i, r_i, T and moments of the last evaluation

    def drop(self, share: float) -> None:
        """Leave out the pairs that hardly matter."""
        kept = self.multipliers > share * self.multipliers.max(initial=0.0)
        self.i, self.j, self.multipliers = self.i[kept], self.j[kept], self.multipliers[kept]
        self.updated = self.multipliers.copy()


@dataclass(frozen=True, eq=False)
class _Sides:
    z: Tensor
    factors: _Factors
    sides: list[_Side]


def _pair_multipliers(
    program: Program, z: Tensor, factors: _Factors, clock: Clock
) -> _Sides | None:
    """Solve the relaxation with pairs; None if there is no time to begin with."""
    rows, n, d = program.rows, program.n, program.d
    lengths = torch.linalg.vector_norm(rows, dim=1)
    rng = np.random.default_rng(0)
    lines = (rows / lengths[:, None]).numpy()
    sides, starts = [], []
    for moment, _ in factors.moments():
        values, vectors = np.linalg.eigh(moment + 0.02 * np.eye(d) / d)
        pairs = nearest(rows.numpy() @ (vectors * np.sqrt(values)), _NEIGHBOURS, clock)
        if pairs is None:
            return None
        none = np.zeros(len(pairs[0]))
        sides.append(_Side(*pairs, none, rows.new_zeros(n), rows.new_zeros(n), none.copy()))
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
    head = _Factors.size(program)
    point = np.concatenate([factors.point, *(start.ravel() for start in starts)])
    outputs = z

    def lagrangian(x: Tensor) -> Tensor:
        nonlocal factors, outputs
        factors = _Factors(x[:head], program)
        images = factors.images(rows)
        directions = x[head:].reshape(2, n, _K)
        outputs, value = factors.bias, torch.zeros((), dtype=x.dtype)
        for k, (side, P, first, reach, r, mass) in enumerate(
            zip(sides, *images, directions, factors.mass, strict=True)
        ):
            sizes = torch.sqrt((P**2).sum(dim=1) + 1e-300)
            R = r * (sizes / torch.linalg.vector_norm(r, dim=1))[:, None]
            T = mass.sqrt() * R[:, 0]
            outputs = outputs + (0.5 - k) * (first + T)
            value = value + _PairPenalty.apply(P, R, side, penalty)
            bounds = ((side.first, first.abs()), (side.reach, reach))
            for multipliers, bound in bounds:
                value = value + (torch.relu(multipliers + penalty * (bound - T)) ** 2).sum() / (
                    2.0 * penalty
                )
            side.state = (P.detach(), R.detach(), T.detach(), first.detach(), reach.detach())
        return value + _objective(program, outputs, factors)

    function = _with_gradient(lagrangian)
    for count in range(_ROUNDS):
        if count == _ROUNDS // 2:
            for side in sides:
                side.drop(_IDLE)
        point = minimised(function, point, _STEPS, clock)
        function(point)  # the last evaluation is not always at the point
        for side in sides:
            _, _, T, first, reach = side.state
            side.multipliers = side.updated.copy()
            side.first = torch.relu(side.first + penalty * (first.abs() - T))
            side.reach = torch.relu(side.reach + penalty * (reach - T))
        if clock.over:
            break
        if count:
            penalty *= _GROWTH
    factors = _Factors(torch.from_numpy(point[:head]), program)
    return _Sides(program.loss.dual_point(outputs.detach(), program.y), factors, sides)


class _PairPenalty(torch.autograd.Function):
    r"""Augmented Lagrangian of :math:`|p_i^\top p_j| \le r_i^\top r_j` on the pairs of a side."""

    @staticmethod
    def forward(ctx: Any, P: Tensor, R: Tensor, side: _Side, penalty: float) -> Tensor:
        slope_P, slope_R = torch.zeros_like(P), torch.zeros_like(R)
        value = _penalise(
            P.detach().numpy(), R.detach().numpy(), side.i, side.j, side.multipliers, penalty,
            slope_P.numpy(), slope_R.numpy(), side.updated,
        )  # fmt: skip
        ctx.save_for_backward(slope_P, slope_R)
        return P.new_tensor(value)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:
        slope_P, slope_R = ctx.saved_tensors
        return slope * slope_P, slope * slope_R, None, None


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


def _proofs(program: Program, found: _Sides, clock: Clock) -> Iterator[tuple[Tensor, float]]:
    """Improve the bounds for z and -z, then these and z; proven after each minimisation."""
    n, beta, signs = program.n, program.beta, (1.0, -1.0)
    z = found.z.numpy()
    bounds, points = [], []
    for k, moments in enumerate(found.factors.moments()):
        bound, point = _start_of_proof(program, found, k, *moments, signs[k] * z)
        bounds.append(bound)
        points.append(point)
    masses = found.factors.mass.numpy() + 1e-12 * float(found.factors.mass.max())
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
            points[k] = minimised(smooth, points[k], _PROOF_STEPS, clock, None, _MEMORY)
        weights = np.maximum(masses, 0.05 * masses.max()) / (0.05 * beta)
        x = np.concatenate([z, *points])
        function = partial(dual, barrier=barrier, weights=weights)
        x = minimised(function, x, _PROOF_STEPS, clock, free, _MEMORY)
        masses = function(x)[2]
        z, points = x[:n].copy(), [x[ends[k] : ends[k + 1]] for k in range(2)]
        reach = [bounds[k].proven(points[k], signs[k] * z) for k in range(2)]
        yield torch.from_numpy(z), max(reach)
        if clock.over:
            return


def _start_of_proof(
    program: Program, found: _Sides, k: int, moment: Floats, mean: Floats, z: Floats
) -> tuple[PairBound, Floats]:
    r"""The bound of one sign, and the relaxation's multipliers as a point of it.

    Where they are optimal, :math:`\mu_i x_i^\top M x_i = \tfrac14 w_i T_i + \sum_j \Lambda_{ij}
    W_{ij}` makes A positive semidefinite. Here they are not, so A is shifted by a part of its
    diagonal; if no shift helps, mu is what T as r makes of it, which always does.
    """
    side, mass = found.sides[k], float(found.factors.mass[k])
    rows = program.rows.numpy()
    P, R, T, _, _ = (part.numpy() for part in side.state)
    kept = side.multipliers > 1e-3 * side.multipliers.max(initial=0.0)
    i, j, multipliers = side.i[kept], side.j[kept], 0.5 * side.multipliers[kept]
    pairs = Pairs(i, j, np.where((P[i] * P[j]).sum(axis=1) < 0.0, -1.0, 1.0), program.n)
    spread = np.maximum(T / mass, 1e-9 * np.abs(rows).max())
    bound = PairBound(rows, pairs, moment, spread)
    first, reach = side.first.numpy(), side.reach.numpy()
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
