"""What all solvers share: the bookkeeping of the best primal and dual values, and refusals.

**Problems in float32** are solved in float64 and given back with an honest gap. Only the weights
are rounded, since they become a network in the data's precision. The dual point is a proof, not a
part of the network, and stays in float64: a rounded one is feasible only after it has been made
smaller, which can cost far more than the tolerance.

Rounded weights may leave their cones by a rounding error, and their value may then be below the
optimum by as much. The bound, which is a bound all the same, is not left above it.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace

import torch
from torch import Tensor

from convexlib.arrangements import Arrangements
from convexlib.errors import ConvergenceWarning, InputError, SolverError
from convexlib.problems.base import LinearProgram, Problem
from convexlib.problems.two_layer import TwoLayer
from convexlib.result import Record, Result, Status, relative_gap

# The trackers of the solve under way: see `watching`.
_running: ContextVar[list[Tracker] | None] = ContextVar("running", default=None)


class Tracker:
    """Keeps the best weights and the best dual point of a run, and its history."""

    def __init__(self, problem: Problem, method: str) -> None:
        self.problem = problem
        self.method = method
        self.began = time.perf_counter()
        self.weights = problem.zeros()
        self.primal = problem.value(self.weights)
        self.z = problem.y.new_zeros(problem.y.shape)
        self.dual = problem.dual_value(self.z)
        # Of the best weights: those of the problem, where it has them.
        self.arrangements: Arrangements | None = getattr(problem, "arrangements", None)
        self.history: list[Record] = []
        running = _running.get()
        if running is not None and not running:
            running.append(self)

    def update(
        self,
        iteration: int,
        weights: Tensor,
        z: Tensor,
        arrangements: Arrangements | None = None,
    ) -> float:
        """Take feasible weights (over some patterns) and a feasible dual point; return the gap."""
        primal, dual = self.problem.value(weights), self.problem.dual_value(z)
        if primal <= self.primal:
            self.weights, self.primal = weights, primal
            self.arrangements = self.arrangements if arrangements is None else arrangements
        if dual >= self.dual:
            self.z, self.dual = z, dual
        seconds = time.perf_counter() - self.began
        self.history.append(Record(iteration, seconds, self.primal, self.dual))
        return self.gap

    @property
    def gap(self) -> float:
        """Relative gap of the best pair."""
        return relative_gap(self.primal, self.dual)

    def result(
        self,
        status: Status,
        n_iter: int,
        scope: str = "program",
        arrangements: Arrangements | None = None,
        detail: str = "",
    ) -> Result:
        """Close the run; anything but convergence warns once."""
        result = Result(
            weights=self.weights,
            value=self.primal,
            dual=self.dual,
            gap=self.gap,
            z=self.z,
            status=status,
            method=self.method,
            n_iter=n_iter,
            seconds=time.perf_counter() - self.began,
            scope=scope,
            arrangements=self.arrangements if arrangements is None else arrangements,
            history=tuple(self.history),
            detail=detail,
        )
        if status is not Status.CONVERGED:
            warnings.warn(
                f"{self.method} on {self.problem}: {status}. Relative gap {result.gap:.1e}."
                + (f" {detail}" if detail else ""),
                ConvergenceWarning,
                stacklevel=4,
            )
        return result


@contextmanager
def watching() -> Iterator[list[Tracker]]:
    """The first tracker made inside, in a list: what an interrupt can still give back.

    Solvers called by a solver have trackers too, but those know of a part only.
    """
    first: list[Tracker] = []
    token = _running.set(first)
    try:
        yield first
    finally:
        _running.reset(token)


def interrupted(first: list[Tracker], problem: Problem) -> Result:
    """The best that an interrupted solver had, labelled; it goes on where there is none."""
    if not first:
        raise KeyboardInterrupt
    n_iter = first[0].history[-1].iteration if first[0].history else 0
    patterns = getattr(problem, "arrangements", None)
    generated = isinstance(problem, TwoLayer) and patterns is None
    scope = "network" if generated else getattr(problem, "scope", "program")
    return first[0].result(Status.INTERRUPTED, n_iter, scope=scope, arrangements=patterns)


def need_problem(problem: object) -> None:
    """Refuse what is no problem."""
    if not isinstance(problem, Problem):
        raise InputError(
            f"problem is {type(problem).__name__}; expected a problem such as "
            "TwoLayer(X, y, beta=...)."
        )


def need_two_layer(problem: Problem, method: str) -> TwoLayer:
    """Refuse a problem that is not a TwoLayer with fixed patterns."""
    if not isinstance(problem, TwoLayer):
        raise SolverError(
            f'{method} solves TwoLayer programs; got {type(problem).__name__}. Use method="auto".'
        )
    _need_patterns(problem, method)
    return problem


def need_linear_program(problem: Problem, method: str) -> LinearProgram:
    """Refuse a problem that is not a TwoLayer or VectorOutput with fixed patterns."""
    if not isinstance(problem, LinearProgram):
        raise SolverError(
            f"{method} solves TwoLayer and VectorOutput programs; got {type(problem).__name__}. "
            'Use method="auto".'
        )
    _need_patterns(problem, method)
    return problem


def need_unconstrained(problem: Problem, method: str) -> LinearProgram:
    """Refuse a problem with cone constraints, too."""
    problem = need_linear_program(problem, method)
    if problem.constrained:
        raise SolverError(
            f"{method} needs an unconstrained program; {type(problem).__name__}(gated=False) has "
            "cone constraints. Use method='admm', 'ssnal' or 'auto'."
        )
    return problem


def _need_patterns(problem: LinearProgram, method: str) -> None:
    if problem.arrangements is None:
        raise SolverError(
            f'{method} needs fixed patterns; this problem has arrangements="generate". '
            'Use method="generate" or give it patterns.'
        )


def round_weights(tracker: Tracker, dtype: torch.dtype) -> None:
    """Put a float64 run's weights into another precision, with the value that they have there."""
    if dtype is torch.float64:
        return
    tracker.weights = tracker.weights.to(dtype)
    primal = tracker.problem.value(tracker.weights.double())
    tracker.primal, tracker.dual = primal, min(tracker.dual, primal)
    tracker.history = [
        replace(record, primal=max(record.primal, primal), dual=min(record.dual, primal))
        for record in tracker.history
    ]
    if tracker.history:
        tracker.history[-1] = replace(tracker.history[-1], primal=primal)
