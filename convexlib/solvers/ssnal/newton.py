"""Newton's method for the augmented Lagrangian at fixed multipliers and penalty."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from convexlib.solvers.ssnal.blocks import Blocks, Shrunk
from convexlib.solvers.ssnal.curvature import curvature_of
from convexlib.solvers.ssnal.system import NewtonSystem

_STEPS = 50
_TRIALS = 30  # points tried on a line
_INSIDE = 0.99  # share of the way to an open domain's boundary that a step may go
_FORCING = 5e-3  # relative residual of the Newton equation
_ROUNDING = 1e-14
_SLOW = 3  # full steps in a row that gain little before the arithmetic is doubted


@dataclass(frozen=True, eq=False)
class State:
    """A point z with all that is known there."""

    z: Tensor  # (n,)
    correlations: Tensor  # (S, P, d)
    shrunk: Shrunk
    value: float
    gradient: Tensor  # (n,), 0 where stuck
    stuck: Tensor  # (n,), on the boundary of the domain and held there

    @property
    def point(self) -> Tensor:
        """The proximal point, (S, P, d): the next multipliers."""
        return self.shrunk.point


class Subproblem:
    """The augmented Lagrangian at multipliers u and penalty sigma."""

    def __init__(self, blocks: Blocks, system: NewtonSystem, u: Tensor, sigma: float) -> None:
        self.blocks, self.system, self.u, self.sigma = blocks, system, u, sigma
        self.threshold = sigma * blocks.problem.beta
        self.loss, self.y = blocks.problem.loss, blocks.problem.y

    def evaluate(self, z: Tensor, correlations: Tensor) -> State:
        """Value and gradient."""
        shrunk = self.blocks.shrink(self.u + self.sigma * correlations, self.threshold)
        square = float((shrunk.point**2).sum())
        value = 0.5 * square / self.sigma - self.loss.dual_value(z, self.y)
        gradient = self.loss.conjugate_gradient(z, self.y) + self.blocks.images(shrunk.point)
        # A coordinate on the boundary of the domain which the gradient presses outwards.
        stuck = (self.loss.restrict(z - gradient, self.y) == z) & (gradient != 0.0)
        return State(z, correlations, shrunk, value, gradient.masked_fill(stuck, 0.0), stuck)

    def direction(self, state: State) -> Tensor:
        """Newton's step; coordinates that are stuck stay."""
        h = self.loss.conjugate_curvature(state.z, self.y).masked_fill(state.stuck, math.inf)
        curvature = curvature_of(self.blocks, state.shrunk)
        rtol = min(_FORCING, float(torch.linalg.vector_norm(state.gradient)))
        return self.system.solve(curvature, self.sigma, h, state.gradient, rtol)

    def search(self, state: State, step: Tensor) -> tuple[State, float] | None:
        """A point of sufficient decrease along the step, and its length; None if there is none.

        The derivative along the step increases, so that a secant of it finds where it vanishes.
        """
        change = self.blocks.correlations(step)
        slope = float(state.gradient @ step)
        if not slope < 0.0:
            return None
        length, loss = 1.0, self.loss
        ahead = loss.conjugate_gradient(loss.restrict(state.z + step, self.y), self.y)
        if not bool(torch.isfinite(ahead).all()):
            length = min(1.0, _INSIDE * loss.max_step(state.z, step, self.y))
        for _ in range(_TRIALS):
            z, moved = state.z + length * step, state.correlations + length * change
            inside = loss.restrict(z, self.y)
            if not torch.equal(inside, z):
                z, moved = inside, self.blocks.correlations(inside)
            trial = self.evaluate(z, moved)
            expected = 1e-4 * float(state.gradient @ (z - state.z))
            if trial.value <= state.value + expected + _ROUNDING * abs(state.value):
                return trial, length
            uphill = float(trial.gradient @ step)
            share = slope / (slope - uphill) if uphill > 0.0 else 0.5
            length *= min(max(share, 0.1), 0.5)
        return None


def minimise(sub: Subproblem, state: State, floor: float, most: float) -> tuple[State, int]:
    """Newton's method until the gradient is small against the move of the multipliers.

    Takes at most so many steps; returns the last state and their number.
    """
    slow, limit = 0, int(min(_STEPS, most))
    for steps in range(limit):
        size = float(torch.linalg.vector_norm(state.gradient))
        moved = float(torch.linalg.vector_norm(state.point - sub.u)) / math.sqrt(sub.sigma)
        if size <= floor or (steps > 0 and size <= moved):
            return state, steps
        found = sub.search(state, sub.direction(state))
        if found is None and sub.system.sharpen(factors=True):
            found = sub.search(state, sub.direction(state))
        if found is None:  # rounding hides all descent
            return state, steps
        state, length = found
        left = float(torch.linalg.vector_norm(state.gradient))
        slow = slow + 1 if length == 1.0 and left > 0.5 * size else 0
        if slow >= _SLOW:
            sub.system.sharpen()
    return state, limit
