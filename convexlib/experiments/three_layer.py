r"""Three layers: where descent ends as sub-networks are added, and digits at equal time.

Two parts, both with the objective of `ThreeLayer`, scored in float64 after the best rescaling of
every network's weights:

* *landscape*: on two small instances, whose global optimum is known with proof from all units,
  Adam is started from many seeds with K sub-networks; how many runs end close to the optimum?
* *digits*: handwritten digits (8 x 8 pixels), odd against even, labels of ±1. Sub-networks are
  generated (`ThreeLayer(..., units="generate")`), which takes T seconds of processor time. SGD,
  Adam and Adam with a cosine schedule have T seconds for every rate *alone* (with the best seed of
  the grid), and `factor` times T for the whole grid of rates and seeds at once (*tuned*).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from convexlib.datasets import autoregression, load_ecg
from convexlib.errors import ConvergenceWarning
from convexlib.experiments.runner import Experiment
from convexlib.parallel_networks import ParallelReLU
from convexlib.problems.three_layer import ThreeLayer, cheapest_network
from convexlib.solvers.parallel_descent import OPTIMIZERS, ParallelTraining, train_parallel
from convexlib.solvers.solve import solve
from convexlib.solvers.training import now
from convexlib.solvers.unit_search import rescaled

__all__ = ["EXPERIMENT", "compute", "configs", "digits", "instance", "table"]

CLOSE = (1e-2, 1e-3)  # relative excess over the optimum that counts as reaching it
RATES = {
    "sgd": (0.3, 0.1, 0.03),
    "adam": (0.03, 0.01, 0.003),
    "adam-cosine": (0.1, 0.03, 0.01),
}


def instance(name: str) -> tuple[Tensor, Tensor, float]:
    """Return (X, y, beta) of a small instance: ``"circle"`` or ``"ecg"``.

    The circle has nine points and a target that needs a subtraction in the second layer. The other
    is a heartbeat: 12 samples, 1/60 s apart, each predicted from the one before and a constant.
    """
    if name == "circle":
        t = 2 * np.pi * np.arange(9) / 9 + 0.13
        X = np.column_stack([np.cos(t), np.sin(t)])
        y = np.maximum(np.maximum(2 * X[:, 0], 0) - np.maximum(1.5 * X[:, 0] + 2 * X[:, 1], 0), 0)
        return torch.from_numpy(X), torch.from_numpy(y), 0.02
    signal = load_ecg()[0][300:378:6]
    signal = (signal - signal.mean()) / signal.std()
    X, y = autoregression(signal, 1)
    X = np.column_stack([X, np.ones(len(X))])
    return torch.from_numpy(X), torch.from_numpy(y), 0.3


def digits(n_train: int = 1200) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return (X, y, X_test, y_test): pixels in [0, 1] and a one, +1 for even digits, -1 for odd.

    The split is a permutation by ``default_rng(0)``: the first n_train rows train.
    """
    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    pixels, parity = found.data[order] / 16.0, found.target[order] % 2
    X = torch.from_numpy(np.column_stack([pixels, np.ones(len(pixels))]))
    y = torch.from_numpy(1.0 - 2.0 * parity)
    return X[:n_train], y[:n_train], X[n_train:], y[n_train:]


def configs(
    profile: str = "full", device: str = "cpu", seeds: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """Return the configurations of a profile, ``"quick"`` (under a minute) or ``"full"``."""
    quick = profile == "quick"
    landscape = {
        "part": "landscape",
        "width": 2,
        "rates": [0.1, 0.03] if quick else [0.3, 0.1, 0.03],
        "seeds": list(seeds if seeds is not None else range(20 if quick else 50)),
        "steps": 500 if quick else 3000,
        "device": device,
    }
    names = ("circle",) if quick else ("circle", "ecg")
    counts = (1, 4, 16) if quick else (1, 2, 4, 8, 16, 32, 64)
    runs = [{**landscape, "instance": name, "K": K} for name in names for K in counts]
    images = {
        "part": "digits",
        "n_train": 300 if quick else 1200,
        "width": 2 if quick else 4,
        "K": 8 if quick else 32,
        "rounds": 2 if quick else 10,
        "samples": 200 if quick else 1000,
        "factor": 2,
        "batch_size": 100,
        "rates": {name: list(rates[1:] if quick else rates) for name, rates in RATES.items()},
        "seeds": list(seeds if seeds is not None else range(2 if quick else 3)),
        "device": device,
    }
    return runs + [{**images, "ratio": ratio} for ratio in ((0.03,) if quick else (0.03, 0.01))]


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """Run one configuration."""
    return _landscape(config) if config["part"] == "landscape" else _digits(config)


def _landscape(config: dict[str, Any]) -> dict[str, Any]:
    """The relative excess over the proven optimum at the end of every run, for each rate."""
    X, y, beta = instance(config["instance"])
    problem = ThreeLayer(X, y, beta=beta, width=config["width"])
    exact = solve(problem, tol=1e-9)
    trained = train_parallel(
        problem,
        config["K"],
        optimizer="adam-cosine",
        rates=config["rates"],
        seeds=config["seeds"],
        n_steps=config["steps"],
        n_records=4,
    )
    excess = trained.objective[:, :, -1] / exact.value - 1.0  # (S, R)
    best = int((excess <= CLOSE[0]).mean(axis=0).argmax())
    return {
        "value": exact.value,
        "dual": exact.dual,
        "units": len(problem.units),
        "rows": list(X.shape),
        "lowest": float(trained.objective[:, :, -1].min()),
        "best_rate": config["rates"][best],
        "excess": [[_digits_of(value) for value in column] for column in excess.T],
        "reached": [[float((column <= level).mean()) for level in CLOSE] for column in excess.T],
    }


def _digits(config: dict[str, Any]) -> dict[str, Any]:
    """Generated sub-networks, sampled ones, and descent at equal time."""
    X, y, X_test, y_test = digits(config["n_train"])
    free = ThreeLayer(X, y, beta=1.0, width=config["width"], units="generate")
    problem = free.with_beta(config["ratio"] * free.beta_max())
    data = (X, y, X_test, y_test)
    with warnings.catch_warnings():
        # Nothing is proven at this rank, and the record says so.
        warnings.simplefilter("ignore", ConvergenceWarning)
        began = now(X)
        result = solve(problem, max_iter=config["rounds"], n_starts=64)
        seconds = now(X) - began
    report = {
        "generated": {
            **_scores(problem, problem.to_network(result), data),
            "seconds": round(seconds, 3),
            "dual": result.dual,
            "rounds": [_digits_of(entry.primal) for entry in result.history],
        },
        "sampled": _sampled(problem, config["samples"], data),
    }
    for name in OPTIMIZERS:
        shared = {"optimizer": name, "batch_size": config["batch_size"]}
        rates, seeds = config["rates"][name], config["seeds"]
        budget = config["factor"] * seconds
        tuned = train_parallel(
            problem, config["K"], rates=rates, seeds=seeds, seconds=budget, **shared
        )
        runs = [
            train_parallel(
                problem, config["K"], rates=[r], seeds=[tuned.best_seed], seconds=seconds, **shared
            )
            for r in rates
        ]
        alone = min(runs, key=lambda run: run.best_objective)
        report[name] = {"alone": _run(problem, alone, data), "tuned": _run(problem, tuned, data)}
    zero = 0.5 * float(y @ y)
    return {"rows": list(X.shape), "beta": problem.beta, "zero": zero, "methods": report}


def _sampled(problem: ThreeLayer, count: int, data: tuple[Tensor, ...]) -> dict[str, Any]:
    """Random sub-networks with the best nonnegative multiples of either output sign."""
    X, y = problem.X, problem.y
    generator = torch.Generator().manual_seed(0)
    m, d = problem.widths[0], X.shape[1]
    began = now(X)
    leaves = torch.randn(count, m, d, generator=generator, dtype=torch.float64)
    signs = 1.0 - 2.0 * torch.randint(0, 2, (count, m), generator=generator).double()
    side = 1.0 - 2.0 * (torch.arange(count) % 2).double()
    network = cheapest_network(*rescaled(problem, X, y, (leaves, signs, side)))
    return {**_scores(problem, network, data), "seconds": round(now(X) - began, 3)}


def _scores(problem: ThreeLayer, network: ParallelReLU, data: tuple[Tensor, ...]) -> dict[str, Any]:
    """The referee's objective, accuracies, and the sub-networks in use."""
    X, y, X_test, y_test = data
    with torch.no_grad():
        right = [float((network(A) * b > 0).double().mean()) for A, b in ((X, y), (X_test, y_test))]
    live = int((network.alpha.abs() > 1e-3 * network.alpha.abs().max()).sum())
    return {
        "objective": problem.objective(network),
        "train_accuracy": right[0],
        "test_accuracy": right[1],
        "subnetworks": live,
    }


def _run(problem: ThreeLayer, run: ParallelTraining, data: tuple[Tensor, ...]) -> dict[str, Any]:
    """The scores of a training and its curve."""
    return {
        **_scores(problem, run.best_network, data),
        "rate": run.best_rate,
        "seed": run.best_seed,
        "steps": int(run.steps[-1]),
        "curve": {
            "seconds": [round(float(second), 3) for second in run.seconds],
            "objective": [_digits_of(value) for value in run.best_curve],
        },
    }


def _digits_of(value: float) -> float:
    return float(f"{value:.6g}")


def missed(record: dict[str, Any]) -> str | None:
    """Say why a record misses its tolerance, or return None."""
    result = record["result"]
    if record["config"]["part"] == "landscape":
        low = result["lowest"] < result["dual"]
        return f"a run ends at {result['lowest']}, below the proven bound" if low else None
    bound = result["methods"]["generated"]["dual"]
    for name in OPTIMIZERS:
        if result["methods"][name]["tuned"]["objective"] < bound:
            return f"{name} ends below the lower bound {bound}"
    return None


def table(found: Sequence[dict[str, Any]]) -> str:
    """Return the two parts as text."""
    lines = [
        f"{'instance':8} {'K':>3} {'rate':>5} {'within 1%':>9} {'0.1%':>5} {'median excess':>13}"
    ]
    parts = {
        name: [r for r in found if r["config"]["part"] == name] for name in ("landscape", "digits")
    }
    for record in sorted(
        parts["landscape"], key=lambda r: (r["config"]["instance"], r["config"]["K"])
    ):
        config, result = record["config"], record["result"]
        best = config["rates"].index(result["best_rate"])
        shares = result["reached"][best]
        lines.append(
            f"{config['instance']:8} {config['K']:3} {result['best_rate']:5g} {shares[0]:9.2f} "
            f"{shares[1]:5.2f} {np.median(result['excess'][best]):13.1e}"
        )
    lines.append(f"{'beta':>8} {'method':20} {'objective':>10} {'train':>7} {'test':>7} {'K':>3}")
    for record in sorted(parts["digits"], key=lambda r: -r["config"]["ratio"]):
        result = record["result"]
        for name, run in result["methods"].items():
            for label, scores in run.items() if name in OPTIMIZERS else ((None, run),):
                full = f"{name}, {label}" if label else name
                lines.append(
                    f"{result['beta']:8.3g} {full:20} {scores['objective']:10.3f} "
                    f"{scores['train_accuracy']:7.4f} {scores['test_accuracy']:7.4f} "
                    f"{scores['subnetworks']:3}"
                )
    return "\n".join(lines)


EXPERIMENT = Experiment(
    name="three_layer",
    title="Three layers: the landscape, and digits at equal time",
    configs=configs,
    function=compute,
    table=table,
    missed=missed,
)
