"""What all solvers share: the bookkeeping of the best primal and dual values, and refusals.

**Problems in float32** are solved in float64 by every solver, and given back with an honest gap:
the sums of the objective alone are wrong by more than 1e-6 in float32. Only the weights are
rounded, since they become a network in the data's precision. The dual point is a proof, not a
part of the network, and stays in float64: a rounded one is feasible only after it has been made
smaller, which can cost far more than the tolerance.

Rounded weights may leave their cones by a rounding error, and their value may then be below the
optimum by as much. The bound is then lowered to that value, which keeps it a bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from inspect import Parameter, signature
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from convexlib.arrangements import Arrangements
from convexlib.checks import as_tensor, check_betas, check_finite
from convexlib.errors import InputError, SolverError, warn
from convexlib.problems.base import MAX_SAMPLES, Problem
from convexlib.result import Record, Result, Status, relative_gap
from convexlib.runtime import OutOfTime, check_time, clock

P = TypeVar("P", bound=Problem)

# The trackers of the solve under way: see `watching`.
_running: ContextVar[list[Tracker[Any]] | None] = ContextVar("running", default=None)


class Tracker(Generic[P]):
    """Keeps the best weights and the best dual point of a run, and its history.

    Solvers work with its `problem`, which is the given one in float64.
    """

    def __init__(self, given: P, method: str, tol: float) -> None:
        self.given, self.problem, self.method, self.tol = given, given.double(), method, tol
        self.began = clock()
        self.weights = self.problem.zeros()
        self.primal = self.problem.value(self.weights)
        self.z = torch.zeros_like(self.problem.y)
        self.dual = self.problem.dual_value(self.z)
        self.arrangements = given.arrangements  # those of the best weights
        self.history: list[Record] = []
        running = _running.get()
        if running is not None and not running:
            running.append(self)

    def update(
        self, iteration: int, weights: Tensor, z: Tensor, arrangements: Arrangements | None = None
    ) -> float:
        """Take feasible weights (over some patterns) and a feasible dual point; return the gap."""
        primal, dual = self.problem.value(weights), self.problem.dual_value(z)
        if primal <= self.primal:
            self.weights, self.primal = weights, primal
            self.arrangements = self.arrangements if arrangements is None else arrangements
        if dual >= self.dual:
            self.z, self.dual = z, dual
        seconds = clock() - self.began
        self.history.append(Record(iteration, seconds, self.primal, self.dual))
        check_time()
        return self.gap

    @property
    def gap(self) -> float:
        """Relative gap of the best pair."""
        return relative_gap(self.primal, self.dual)

    def result(self, status: Status, n_iter: int, detail: str = "") -> Result:
        """Close the run; anything but convergence warns once.

        The gap decides whether it converged; `status` is why it ended, where it is too large.
        """
        self._round()
        if self.gap <= self.tol:
            status, detail = Status.CONVERGED, ""
        elif status is Status.CONVERGED:
            status = Status.STALLED
        result = Result(
            weights=self.weights,
            value=self.primal,
            dual=self.dual,
            gap=self.gap,
            z=self.z,
            status=status,
            method=self.method,
            n_iter=n_iter,
            seconds=clock() - self.began,
            scope=self.problem.scope,
            arrangements=self.arrangements,
            history=tuple(self.history),
            detail=detail,
        )
        if status is not Status.CONVERGED:
            text = f"{self.method} on {self.problem}: {status}. Relative gap {result.gap:.1e}."
            warn(f"{text} {detail}".rstrip())
        return result

    def _round(self) -> None:
        """Put the weights into the precision of the data, with the value that they have there."""
        self.weights = self.weights.to(self.given.X.dtype)
        if self.weights.dtype is torch.float64:
            return
        primal = self.problem.value(self.weights.double())
        self.primal, self.dual = primal, min(self.dual, primal)
        self.history = [
            replace(record, primal=max(record.primal, primal), dual=min(record.dual, primal))
            for record in self.history
        ]
        if self.history:
            self.history[-1] = replace(self.history[-1], primal=primal)


@contextmanager
def watching() -> Iterator[list[Tracker[Any]]]:
    """The first tracker made inside, in a list: what an interrupt can still give back.

    Solvers called by a solver have trackers too, but those know of a part only.
    """
    first: list[Tracker[Any]] = []
    token = _running.set(first)
    try:
        yield first
    finally:
        _running.reset(token)


def interrupted(first: list[Tracker[Any]], stop: KeyboardInterrupt) -> Result:
    """The best that an interrupted solver had, labelled; raises again where there is nothing."""
    if not first:
        raise stop
    n_iter = first[0].history[-1].iteration if first[0].history else 0
    return first[0].result(status_of(stop), n_iter)


def status_of(stop: KeyboardInterrupt) -> Status:
    """Whether the user stopped it, or the limit of time."""
    return Status.OUT_OF_TIME if isinstance(stop, OutOfTime) else Status.INTERRUPTED


def need_problem(problem: object) -> None:
    """Refuse anything but a problem, which `solve` is easily mistaken to take data for."""
    if not isinstance(problem, Problem):
        raise InputError(
            f"problem is {type(problem).__name__}; expected a problem such as "
            "TwoLayer(X, y, beta=...)."
        )


def uninterrupted(result: Result) -> Result:
    """Raise the interrupt that a solver survived: whoever called it would go on as if it had not.

    Half a training is no estimator, and one column or one beta no answer for all.
    """
    if result.status is Status.INTERRUPTED:
        raise KeyboardInterrupt
    return result


# What a method solves, as its refusal of other problems says it.
NEEDS = {
    "ssnal": "a program of TwoLayer, BatchNorm or Threshold with given patterns",
    "generate": 'TwoLayer or BatchNorm with arrangements="generate"',
    "oracle": "a program over given patterns or units",
    "fista": "a program over given patterns without cone constraints",
    "proximal_gradient": "a program over given patterns without cone constraints",
    "admm": f"a program over given patterns, of at most {MAX_SAMPLES} samples",
    "irls": "a gated program of TwoLayer with the squared loss",
    "lasso": "Mirrors",
    "wedge": "WedgeLasso",
    "units": "ThreeLayer or PathRegularized",
}


def need(problem: Problem, kind: type[P], method: str, caller: str = "") -> P:
    """Refuse a problem that a method cannot solve, with those that can.

    `caller` is who asks, if it is not the method itself but what needs the same problems.
    """
    need_problem(problem)
    if isinstance(problem, kind) and method in problem.methods:
        return problem
    raise SolverError(
        f"{caller or method} needs {NEEDS[method]}; got {problem!r}, which is solved with "
        f"method={_listed([repr(name) for name in problem.methods])}."
    )


def check_options(solver: Callable[..., Result], method: str, options: Mapping[str, Any]) -> None:
    """Refuse options that a solver does not know."""
    known = signature(solver).parameters.values()
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in known):
        return  # it passes them on, and checks them itself
    names = [p.name for p in known if p.kind is Parameter.KEYWORD_ONLY and p.name != "tol"]
    for option in options:
        if option not in names:
            raise InputError(
                f"{method} does not know the option {option!r}; expected "
                f"{_listed(['tol', *names])}."
            )


def check_start(values: Any, shape: tuple[Any, ...], name: str) -> Tensor:
    """Return a start as a finite tensor of a shape, whose first entry may be an ellipsis."""
    values = as_tensor(values, name)
    got, wanted = tuple(values.shape), tuple(shape)
    if wanted[0] is ...:
        got, wanted = got[-len(wanted[1:]) :], wanted[1:]
    if got != wanted:
        raise InputError(
            f"{name} has shape {tuple(values.shape)}; expected "
            f"({', '.join('...' if size is ... else str(size) for size in shape)}). Is it of "
            "another problem, or another list of patterns?"
        )
    check_finite(values, name)
    return values


def _listed(names: list[str]) -> str:
    """Names in a sentence: a, b or c."""
    return " or ".join([*([", ".join(names[:-1])] if names[:-1] else []), names[-1]])


def down_the_path(
    betas: Sequence[float], solved: Callable[[float, Result | None], Result], progress: bool = False
) -> list[Result]:
    """What `solved` finds at several beta, from the largest down, given the result before.

    The results come in the order of `betas`.
    """
    values = check_betas(betas)
    results: dict[int, Result] = {}
    last: Result | None = None
    order = sorted(range(len(values)), key=lambda place: -values[place])
    for place in tqdm(order, desc="betas", disable=None if progress else True):
        last = results[place] = solved(values[place], last)
    return [results[place] for place in range(len(values))]
