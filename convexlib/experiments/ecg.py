r"""ECG: certified two-layer training against descent, at equal time, on an electrocardiogram.

A heartbeat is predicted from its own past: x[t] from x[t-1], ..., x[t-k] and a constant, both
standardised with the training part's mean and standard deviation. With k = 1 or 2 the data have
rank 2 or 3, where the convex program is solved to a *certified* global optimum over networks of
any width. Every method minimises the same :math:`\tfrac12\|f(X)-y\|^2 + \tfrac\beta2\sum w^2`,
scored by one float64 referee.

Time is processor time of one thread, so that other work on the machine does not count. The convex
solver's, T seconds, sets the budget of the others, which run twice:

* *tuning*: all rates and seeds of a grid at once, `factor` times T seconds in all;
* *alone*: every rate by itself with the best seed of the grid (L-BFGS: every seed), for T seconds
  each; the best of these runs is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convexlib.certify import certify
from convexlib.datasets import autoregression, load_ecg
from convexlib.experiments.runner import Experiment
from convexlib.networks import TwoLayerReLU, outputs
from convexlib.problems.two_layer import TwoLayer
from convexlib.solvers.descent import train
from convexlib.solvers.lbfgs import lbfgs
from convexlib.solvers.solve import solve
from convexlib.solvers.training import Training, now

__all__ = ["EXPERIMENT", "Task", "compare", "configs", "load_task", "table"]

RATES = {
    "sgd": (0.3, 0.2, 0.1, 0.05, 0.02),
    "adam": (0.1, 0.03, 0.01, 0.003, 0.001),
    "adam-cosine": (0.1, 0.03, 0.01, 0.003, 0.001),
}
METHODS = (*RATES, "lbfgs")
LIVE = 1e-4  # a neuron counts if its |alpha| ||u|| exceeds this part of the largest


@dataclass(frozen=True, eq=False)
class Task:
    """Autoregression data: the last column of X is the constant 1.

    Attributes
    ----------
    X, y : Tensor (n, k + 1), (n,)
        Training data, in standard units.
    X_test, y_test : Tensor
        The samples that follow, in the same units.
    mean, scale : float
        Signal in mV = mean + scale * standard units.
    rate : float
        Samples per second.
    """

    X: Tensor
    y: Tensor
    X_test: Tensor
    y_test: Tensor
    mean: float
    scale: float
    rate: float


def load_task(lags: int, n_train: int = 2000, n_test: int = 10_000, device: str = "cpu") -> Task:
    """Return the prediction of the ECG from `lags` samples; the first n_train rows train."""
    signal, rate = load_ecg()
    seen = signal[: n_train + lags]
    mean, scale = float(seen.mean()), float(seen.std())
    X, y = autoregression((signal[: n_train + n_test + lags] - mean) / scale, lags)
    X = np.column_stack([X, np.ones(len(X))])
    data = [torch.from_numpy(part).to(device) for part in (X, y)]
    X_train, y_train = (part[:n_train] for part in data)
    X_test, y_test = (part[n_train:] for part in data)
    return Task(X_train, y_train, X_test, y_test, mean, scale, rate)


def configs(
    profile: str = "full", device: str = "cpu", seeds: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """Return the configurations of a profile, ``"quick"`` (under a minute) or ``"full"``."""
    quick = profile == "quick"
    common = {
        "n_train": 500 if quick else 2000,
        "n_test": 1000 if quick else 10_000,
        "width": 50,
        "tol": 1e-6,
        "factor": 3 if quick else 10,
        "batch_size": 200,
        "rates": {name: list(rates[1:3] if quick else rates) for name, rates in RATES.items()},
        "seeds": list(seeds if seeds is not None else range(2 if quick else 3)),
        "device": device,
    }
    cases = [(1, 0.1), (2, 0.1)] if quick else [(k, r) for k in (1, 2) for r in (0.1, 0.01, 0.001)]
    return [{"lags": lags, "ratio": ratio, **common} for lags, ratio in cases]


def compare(config: dict[str, Any]) -> dict[str, Any]:
    """Run every method on one setting (see the module's text) and return what they reached."""
    sizes = {name: config[name] for name in ("lags", "n_train", "n_test", "device")}
    task = load_task(**sizes)
    free = TwoLayer(task.X, task.y, beta=1.0, arrangements="generate")
    beta_max = free.beta_max()
    problem = free.with_beta(config["ratio"] * beta_max)
    solve(free.with_beta(0.5 * beta_max), tol=1e-2)  # compiles the kernels before the clock starts
    convex, seconds = _convex(problem, task, config["tol"])
    budget = config["factor"] * seconds
    methods = {}
    for name in METHODS:
        rates = config["rates"].get(name, [1.0])
        tuned = _descend(name, problem, config, rates, config["seeds"], budget)
        # The best rate of a long run is not that of a short one, so all of them try again.
        singles = [(rate, tuned.best_seed) for rate in rates]
        if name == "lbfgs":
            singles = [(1.0, seed) for seed in config["seeds"]]
        runs = [_descend(name, problem, config, [r], [s], seconds) for r, s in singles]
        alone = min(runs, key=lambda run: run.best_objective)
        methods[name] = {
            "tuning": _tuning(problem, task, tuned, seconds),
            "alone": _report(problem, task, alone),
        }
    return {
        "rows": list(problem.X.shape),
        "beta": problem.beta,
        "beta_max": beta_max,
        "convex": convex,
        "methods": methods,
        "linear": _linear(task),
        "persistence": {"test_mse": _mean_square(task.y_test - task.X_test[:, 0])},
    }


def _convex(problem: TwoLayer, task: Task, tol: float) -> tuple[dict[str, Any], float]:
    """Solve, certify the network, and keep both; the clock is that of solving alone."""
    began = now(problem.X)
    result = solve(problem, tol=tol)
    network = problem.to_network(result)
    seconds = now(problem.X) - began
    certificate = certify(network, problem.X, problem.y, beta=problem.beta)
    report = {
        "seconds": round(seconds, 4),
        **_scores(problem, task, network),
        "dual": certificate.dual,
        "relative_gap": certificate.relative_gap,
        "rigorous": certificate.rigorous,
        "proof_seconds": round(now(problem.X) - began - seconds, 4),
        "U": network.U.tolist(),
        "alpha": network.alpha.tolist(),
    }
    return report, seconds


def _descend(
    name: str,
    problem: TwoLayer,
    config: dict[str, Any],
    rates: Sequence[float],
    seeds: Sequence[int],
    seconds: float,
) -> Training:
    """Train a grid within `seconds` in all."""
    shared = {"beta": problem.beta, "width": config["width"], "seeds": seeds}
    if name == "lbfgs":  # its runs come one after the other, and share the time
        return lbfgs(problem.X, problem.y, seconds=seconds / len(seeds), **shared)
    return train(
        problem.X,
        problem.y,
        optimizer=name,
        rates=rates,
        seconds=seconds,
        batch_size=config["batch_size"],
        **shared,
    )


def _report(problem: TwoLayer, task: Task, run: Training) -> dict[str, Any]:
    """Return what a training has reached, in how many steps."""
    return {
        **_scores(problem, task, run.best_network),
        "rate": run.best_rate,
        "seed": run.best_seed,
        "steps": int(run.steps[-1]),
        "curve": {
            "seconds": [round(float(second), 4) for second in run.seconds],
            "objective": [_digits(value) for value in run.best_curve],
        },
    }


def _tuning(problem: TwoLayer, task: Task, run: Training, seconds: float) -> dict[str, Any]:
    """Return the report of a grid, and the last objective of each of its runs."""
    final = run.objective[:, :, -1]
    rows = [[_digits(value) if np.isfinite(value) else None for value in row] for row in final]
    equal = run.best_curve[np.searchsorted(run.seconds, seconds, side="right") - 1]
    return {**_report(problem, task, run), "objective_at_equal_time": _digits(equal), "final": rows}


def _scores(problem: TwoLayer, task: Task, network: TwoLayerReLU) -> dict[str, Any]:
    """Score a network: objective, mean squared errors in standard units, live neurons."""
    sizes = torch.linalg.vector_norm(network.U, dim=1) * network.alpha.abs()
    live = int((sizes > LIVE * sizes.max()).sum()) if len(sizes) else 0
    return {
        "objective": problem.objective(network),
        "train_mse": _mean_square(task.y - outputs(network, task.X)),
        "test_mse": _mean_square(task.y_test - outputs(network, task.X_test)),
        "neurons": live,
    }


def _linear(task: Task) -> dict[str, Any]:
    """Fit the linear autoregression by least squares."""
    coefficients = torch.linalg.lstsq(task.X, task.y[:, None]).solution[:, 0]
    return {
        "coefficients": coefficients.tolist(),
        "train_mse": _mean_square(task.y - task.X @ coefficients),
        "test_mse": _mean_square(task.y_test - task.X_test @ coefficients),
    }


def _mean_square(errors: Tensor) -> float:
    return float((errors**2).mean())


def _digits(value: float) -> float:
    return float(f"{value:.10g}")


def missed(record: dict[str, Any]) -> str | None:
    """Say why a record misses its tolerance, or return None."""
    convex, tol = record["result"]["convex"], record["config"]["tol"]
    if not convex["rigorous"]:
        return "the certificate is not rigorous"
    if convex["relative_gap"] > tol:
        return f"relative gap {convex['relative_gap']:.1e} > tol {tol:.1e}"
    return None


def table(found: Sequence[dict[str, Any]]) -> str:
    """Return the comparison as text; "above" is relative to the certified lower bound."""
    lines = [
        f"{'lags':>4} {'beta/max':>8} {'method':12} {'objective':>11} {'above: alone':>12} "
        f"{'tuned':>9} {'test mse':>9} {'neurons':>7}"
    ]
    for record in sorted(found, key=lambda r: (r["config"]["lags"], -r["config"]["ratio"])):
        config, result = record["config"], record["result"]
        convex, start = result["convex"], f"{config['lags']:4} {config['ratio']:8g} "
        rows = {"convex": (convex, None)}
        for name in METHODS:
            rows[name] = result["methods"][name]["alone"], result["methods"][name]["tuning"]
        for name, (alone, tuned) in rows.items():
            above, after = (
                f"{run['objective'] / convex['dual'] - 1:.1e}" if run else ""
                for run in (alone, tuned)
            )
            lines.append(
                f"{start}{name:12} {alone['objective']:11.6g} {above:>12} {after:>9} "
                f"{alone['test_mse']:9.5f} {alone['neurons']:7}"
            )
        lines.append(f"{start}{'linear':12} {'':34} {result['linear']['test_mse']:9.5f}")
    return "\n".join(lines)


EXPERIMENT = Experiment(
    name="ecg",
    title="ECG: certified training against descent at equal time",
    configs=configs,
    function=compare,
    table=table,
    missed=missed,
)
