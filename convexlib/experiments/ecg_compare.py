"""ECG: every method on one setting, convex ones first, since their time is the others' budget."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convexlib.arrangements import sample_arrangements
from convexlib.certify import certify
from convexlib.errors import ConvergenceWarning
from convexlib.experiments.ecg_baselines import METHODS, at_equal_time, with_longer_time
from convexlib.experiments.ecg_task import Task, fit_linear, load_task, mean_square, scores
from convexlib.pricing.ascent import search
from convexlib.problems.two_layer import TwoLayer
from convexlib.result import relative_gap
from convexlib.solvers.solve import solve
from convexlib.training import now

__all__ = ["PROVABLE", "compare", "generate", "setting"]

PROVABLE = 3  # the rank up to which the optimum over all networks is proven exactly


def setting(config: dict[str, Any]) -> tuple[Task, TwoLayer, float]:
    """Return the data, the problem without patterns, and beta_max (an upper bound on it).

    Solves a small problem on the way, so that kernels are compiled before a clock starts.
    """
    names = ("lags", "n_train", "n_test", "device", "record")
    task = load_task(**{name: config[name] for name in names})
    free = TwoLayer(task.X, task.y, beta=1.0, arrangements="generate")
    beta_max = free.beta_max()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # only the kernels count
        solve(free.with_beta(0.5 * beta_max), tol=1e-2, max_nodes=config["nodes"])
    return task, free.with_beta(config["ratio"] * beta_max), beta_max


def compare(config: dict[str, Any]) -> dict[str, Any]:
    """Run every method on one setting and return what they reached."""
    task, problem, beta_max = setting(config)
    methods: dict[str, Any] = {}
    methods["generated"] = [
        generate(problem, task, config, seed, weights=seed == config["seeds"][0])
        for seed in config["seeds"]
    ]
    if config["patterns"]:
        methods["sampled"] = [
            _sampled(problem, task, config["patterns"], seed, gated=False)
            for seed in config["seeds"]
        ]
        methods["gated"] = [
            _sampled(problem, task, config["gates"], seed, gated=True) for seed in config["seeds"]
        ]
    seconds = float(np.mean([run["seconds"] for run in methods["generated"]]))
    longer = {}
    for name in METHODS:
        methods[name] = at_equal_time(name, problem, task, config, seconds)
        if config["factor"]:
            budget = config["factor"] * seconds
            longer[name] = with_longer_time(name, problem, task, config, budget)
    return {
        "rows": list(problem.X.shape),
        "beta": problem.beta,
        "beta_max": beta_max,
        "seconds": round(seconds, 4),
        "methods": methods,
        "longer": longer,
        "linear": fit_linear(task),
        "persistence": {"test_mse": mean_square(task.y_test - task.X_test[:, 0])},
    }


def generate(
    problem: TwoLayer, task: Task, config: dict[str, Any], seed: int, weights: bool
) -> dict[str, Any]:
    """Solve over generated patterns; the clock is that of solving alone.

    `gap` bounds the distance to the optimum over all networks. At rank <= 3 it is that of `certify`
    from the network alone. Above, `search_gap` is what the gap would be if local search had found
    the highest neuron: an estimate, and no bound.
    """
    began = now(problem.X)
    with warnings.catch_warnings():
        # Where the proof is out of reach, the gap says so.
        warnings.simplefilter("ignore", ConvergenceWarning)
        result = solve(problem, tol=config["tol"], max_nodes=config["nodes"], seed=seed)
    network = problem.to_network(result)
    seconds = now(problem.X) - began
    objective = problem.objective(network)
    dual, rigorous = result.dual, False
    if problem.X.shape[1] <= PROVABLE:
        certificate = certify(network, problem.X, problem.y, beta=problem.beta)
        dual, rigorous = certificate.dual, certificate.rigorous
    report = {
        "seed": seed,
        "seconds": round(seconds, 4),
        "objective": objective,
        "dual": dual,
        "gap": relative_gap(objective, dual),
        "search_gap": relative_gap(objective, _searched(problem, result.z)),
        "rigorous": rigorous,
        "rounds": result.n_iter,
        **scores(task, network),
    }
    if weights:
        report |= {"U": network.U.tolist(), "alpha": network.alpha.tolist()}
    return report


def _searched(problem: TwoLayer, z: Tensor) -> float:
    """The dual value of the best multiple of z, were the highest neuron found the highest."""
    highest = search(problem.X, z, problem.beta, torch.Generator().manual_seed(0)).highest
    limit = problem.beta / highest if highest > 0 else math.inf
    return problem.dual_value(problem.loss.best_scale(z, problem.y, limit) * z)


def _sampled(problem: TwoLayer, task: Task, count: int, seed: int, gated: bool) -> dict[str, Any]:
    """The program over the patterns of Gaussian gates; without cones it is another model."""
    began = now(problem.X)
    gates = sample_arrangements(problem.X, count, seed=seed)
    program = TwoLayer(problem.X, problem.y, beta=problem.beta, arrangements=gates, gated=gated)
    result = solve(program, tol=1e-4)
    network = program.to_network(result)
    seconds = now(problem.X) - began
    return {
        "seed": seed,
        "patterns": len(gates),
        "seconds": round(seconds, 4),
        "objective": program.objective(network),
        "gap": result.gap,  # among these patterns
        **scores(task, network),
    }
