"""Several outputs that share nothing but the patterns: each is solved on its own."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from convexlib.errors import ConvergenceWarning
from convexlib.problems.vector_output import VectorOutput
from convexlib.result import Result, Status
from convexlib.solvers.base import Tracker


def solve_columns(
    problem: VectorOutput, solver: Callable[..., Result], *, tol: float, **options: Any
) -> Result:
    """Solve every column with `solver` to `tol`; values and bounds add up to one gap.

    Options that are tensors (starts) are split along their last axis. ``n_iter`` is the sum.
    """
    tracker = Tracker(problem, "columns")
    results = []
    with warnings.catch_warnings():
        # What counts is the gap of all columns together, and that is reported once, at the end.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for k, column in enumerate(problem.columns):
            own = {
                name: value[..., k] if isinstance(value, Tensor) else value
                for name, value in options.items()
            }
            results.append(solver(column, tol=tol, **own))
    tracker.method = results[0].method
    weights = torch.stack([result.weights for result in results], dim=-1)
    z = torch.stack([result.z for result in results], dim=-1)
    n_iter = sum(result.n_iter for result in results)
    gap = tracker.update(n_iter, weights, z)
    unfinished = [result.status for result in results if not result.converged]
    # Rounding may keep the sum from what every column has reached.
    status = Status.CONVERGED if gap <= tol else next(iter(unfinished), Status.STALLED)
    return tracker.result(status, n_iter, arrangements=problem.arrangements)
