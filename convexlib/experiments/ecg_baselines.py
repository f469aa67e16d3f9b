"""ECG: descent on the same objective, with the processor time that the convex solver took."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from convexlib.errors import ConvergenceWarning
from convexlib.experiments.ecg_task import Task, scores
from convexlib.problems.two_layer import TwoLayer
from convexlib.training import Training, train
from convexlib.training.two_layer import lbfgs

__all__ = ["METHODS", "RATES", "again", "at_equal_time", "with_longer_time"]

RATES = {
    "sgd": (0.3, 0.2, 0.1, 0.05, 0.02),
    "adam": (0.1, 0.03, 0.01, 0.003, 0.001),
    "adam-cosine": (0.1, 0.03, 0.01, 0.003, 0.001),
}
METHODS = (*RATES, "lbfgs")
RECORDS = 50  # points of a curve


def at_equal_time(
    name: str, problem: TwoLayer, task: Task, config: dict[str, Any], seconds: float
) -> list[dict[str, Any]]:
    """Return one report per seed: a run of `seconds` at the rate that was best for the first one.

    The time in which the rate was chosen is not counted.
    """
    first, *others = config["seeds"]
    tried = [
        _descend(name, problem, config, [rate], [first], seconds) for rate in _rates(name, config)
    ]
    best = min(tried, key=lambda run: run.best_objective)
    chosen = [best.best_rate]
    runs = [best, *(_descend(name, problem, config, chosen, [s], seconds) for s in others)]
    lowest = min(runs, key=lambda run: run.best_objective)
    # Of the curves, only the best one is ever drawn.
    return [_report(problem, task, run, curve=run is lowest) for run in runs]


def with_longer_time(
    name: str, problem: TwoLayer, task: Task, config: dict[str, Any], seconds: float
) -> dict[str, Any]:
    """Return the best of all rates and seeds, which share `seconds`."""
    run = _descend(name, problem, config, _rates(name, config), config["seeds"], seconds)
    return _report(problem, task, run, curve=True)


def again(
    name: str, problem: TwoLayer, config: dict[str, Any], run: dict[str, Any]
) -> dict[str, Any]:
    """Make a reported run again by its steps, rate and seed; what it reached is deterministic."""
    budget = {"n_steps": run["steps"]}
    made = _descend(name, problem, config, [run["rate"]], [run["seed"]], **budget)
    return {"objective": problem.objective(made.best_network)}


def _rates(name: str, config: dict[str, Any]) -> list[float]:
    rates: list[float] = config["rates"].get(name, [1.0])
    return rates


def _descend(
    name: str,
    problem: TwoLayer,
    config: dict[str, Any],
    rates: Sequence[float],
    seeds: Sequence[int],
    seconds: float | None = None,
    n_steps: int | None = None,
) -> Training:
    """Train a grid within `seconds` in all, or for so many steps."""
    shared = {"beta": problem.beta, "width": config["width"], "n_records": RECORDS}
    shared["n_steps"] = n_steps
    if name == "lbfgs":  # its runs come one after the other, and share the time
        each = None if seconds is None else seconds / len(seeds)
        return lbfgs(problem.X, problem.y, seconds=each, seeds=seeds, **shared)
    with warnings.catch_warnings():
        # A grid holds rates that are too large for some data: their objective says so.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return train(
            problem.X,
            problem.y,
            optimizer=name,
            rates=rates,
            seeds=seeds,
            seconds=seconds,
            batch_size=config["batch_size"],
            **shared,
        )


def _report(problem: TwoLayer, task: Task, run: Training, curve: bool) -> dict[str, Any]:
    """Return what a training has reached, in how many steps."""
    report = {
        "seed": run.best_seed,
        "rate": run.best_rate,
        "steps": int(run.steps[-1]),
        "seconds": round(float(run.seconds[-1]), 4),
        "objective": problem.objective(run.best_network),
        **scores(task, run.best_network),
    }
    if curve:
        finite = np.isfinite(run.best_curve)
        report["curve"] = {
            "seconds": [round(float(second), 4) for second in run.seconds[finite]],
            "objective": [float(f"{value:.8g}") for value in run.best_curve[finite]],
        }
    return report
