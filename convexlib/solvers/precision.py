"""Problems in float32: solved in float64, and given back in float32 with an honest gap."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor

from convexlib.problems.base import Problem
from convexlib.problems.two_layer import TwoLayer
from convexlib.result import Result, Status
from convexlib.solvers.base import Tracker


def in_float64(problem: TwoLayer) -> TwoLayer:
    """The same problem in float64; the problem itself if that is what it is in."""
    if problem.X.dtype is torch.float64:
        return problem
    twin = copy.copy(problem)
    vars(twin).pop("masks", None)  # cached in the other precision
    twin.X, twin.y = problem.X.double(), problem.y.double()
    patterns = problem.arrangements
    if patterns is not None:
        twin.arrangements = replace(patterns, gates=patterns.gates.double())
    return twin


def rounded(problem: TwoLayer, tracker: Tracker, status: Status, steps: int, tol: float) -> Result:
    """The result in the problem's precision; value and bound are those of the rounded ones."""
    exact, dtype = tracker.problem, problem.X.dtype
    weights, z = tracker.weights.to(dtype), tracker.z.to(dtype)
    feasible = _inside(exact, z)
    closing = Tracker(exact, tracker.method)
    closing.began = tracker.began
    gap = closing.update(steps, weights.double(), feasible.double())
    if gap <= tol:
        status = Status.CONVERGED
    elif status is Status.CONVERGED:
        status = Status.STALLED
    closing.weights, closing.z = closing.weights.to(dtype), closing.z.to(dtype)
    return closing.result(status, steps, arrangements=problem.arrangements)


def round_weights(tracker: Tracker, dtype: torch.dtype) -> None:
    """Put a float64 run's weights and z into another precision, with the value they have there.

    The bound stays that of the unrounded z: it is about the problem, whatever its dual point.
    """
    if dtype is torch.float64:
        return
    tracker.weights, tracker.z = tracker.weights.to(dtype), tracker.z.to(dtype)
    tracker.primal = tracker.problem.value(tracker.weights.double())


def _inside(exact: Problem, z: Tensor) -> Tensor:
    """A feasible point near z, exactly representable in its dtype."""
    eps = torch.finfo(z.dtype).eps
    shrink = 1.0
    while True:
        point = (shrink * z.double()).to(z.dtype)
        inside = exact.loss.restrict(point.double(), exact.y)
        if (
            torch.equal(inside.to(z.dtype).double(), inside)
            and exact.dual_norm(inside) <= exact.beta
        ):
            return inside.to(z.dtype)
        shrink -= 2.0 * eps
