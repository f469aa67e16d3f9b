r"""Three layers: where descent ends as sub-networks are added, and classification at equal time.

Two parts, both with the objective of `ThreeLayer` or `PathRegularized`, scored in float64 after the
best rescaling of every network's weights:

* *landscape*: on two small instances, whose global optimum is known with proof from all units,
  Adam is started from many seeds with K sub-networks; how many runs end close to the optimum?
* *sets*: digits and tables of the UCI repository; generated sub-networks against SGD and Adam. See
  `convexlib.experiments.three_layer_sets`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convexlib.datasets import autoregression, load_ecg
from convexlib.experiments.runner import Experiment, Median, check_config
from convexlib.experiments.three_layer_sets import BASELINES, compare, replay_sets
from convexlib.problems.parallel.three_layer import ThreeLayer
from convexlib.solvers.solve import solve
from convexlib.training import train_parallel

__all__ = ["EXPERIMENT", "compute", "configs", "instance", "table"]

CLOSE = (1e-2, 1e-3)  # relative excess over the optimum that counts as reaching it
RATES = {"sgd": (0.1, 0.3, 1.0), "adam": (0.01, 0.03, 0.1)}  # widened where the best is an end
SETS = (
    "digits",
    "ionosphere",
    "breast-cancer-wisc-diag",
    "statlog-heart",
    "conn-bench-sonar-mines-rocks",
    "statlog-australian-credit",
    "tic-tac-toe",
    "chess-krvkp",
    "musk-1",
)
RATIOS = (0.03, 0.1)  # of beta to a bound on beta_max
RATIOS_DIGITS = (0.03, 0.01)


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
    shared = {
        "part": "sets",
        "kinds": ["decay"] if quick else ["decay", "path"],
        "n_train": 300 if quick else 1200,
        "width": 2 if quick else 4,
        "K": 8 if quick else 32,
        "rounds": 2 if quick else 3,
        "starts": 16,
        "samples": 200 if quick else 500,
        "factor": 1,
        "batch_size": 100,
        "rates": {name: list(rates[1:] if quick else rates) for name, rates in RATES.items()},
        "widenings": 0 if quick else 3,
        "seeds": list(seeds if seeds is not None else range(2 if quick else 3)),
        "device": device,
    }
    if quick:
        return [*runs, {**shared, "set": "digits", "ratio": 0.03}]
    for place in range(2):
        for name in SETS:
            ratio = (RATIOS_DIGITS if name == "digits" else RATIOS)[place]
            runs.append({**shared, "set": name, "ratio": ratio})
    return runs


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """Run one configuration."""
    check_config(config, configs)
    return _landscape(config) if config["part"] == "landscape" else compare(config)


def _landscape(config: dict[str, Any]) -> dict[str, Any]:
    """The relative excess over the proven optimum at the end of every run, for each rate."""
    X, y, beta = instance(config["instance"])
    problem = ThreeLayer(X, y, beta=beta, width=config["width"])
    # What the interior-point method inside reaches; runs are counted at 1e-4 and more above it.
    exact = solve(problem, tol=1e-8)
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


def _digits_of(value: float) -> float:
    return float(f"{value:.6g}")


def missed(record: dict[str, Any]) -> str | None:
    """Say why a record misses its tolerance, or return None."""
    result = record["result"]
    if record["config"]["part"] == "landscape":
        low = result["lowest"] < result["dual"]
        return f"a run ends at {result['lowest']}, below the proven bound" if low else None
    for kind, methods in result["kinds"].items():
        bound = methods["generated"]["dual"]
        for name in BASELINES:
            if methods[name]["alone"]["objective"] < bound:
                return f"{name} ends below the lower bound {bound} ({kind})"
    return None


def table(found: Sequence[dict[str, Any]]) -> str:
    """Return the two parts as text."""
    parts = {
        name: [r for r in found if r["config"]["part"] == name] for name in ("landscape", "sets")
    }
    lines = [
        f"{'instance':8} {'K':>3} {'rate':>5} {'within 1%':>9} {'0.1%':>5} {'median excess':>13}"
    ]
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
    lines.append(f"{'set':25} {'beta':>6} {'method':17} {'objective':>10} {'train':>7} {'test':>7}")
    for record in sorted(parts["sets"], key=lambda r: (r["config"]["set"], -r["config"]["ratio"])):
        result = record["result"]
        rows = [(name, result[key]) for name, key in (("linear", "linear"), ("two", "two_layers"))]
        for kind, methods in result["kinds"].items():
            rows += [(f"{kind} {name}", methods[name]) for name in ("generated", "sampled")]
            rows += [(f"{kind} {name}", methods[name]["alone"]) for name in BASELINES]
        for name, scores in rows:
            lines.append(
                f"{record['config']['set'][:25]:25} {result['beta']:6.3g} {name:17} "
                f"{scores['objective']:10.3f} {scores['train_accuracy']:7.4f} "
                f"{scores['test_accuracy']:7.4f}"
            )
    return "\n".join(lines)


def replay(record: Mapping[str, Any]) -> dict[str, Any]:
    """Make the descents of a record again, each for the steps that it had time for."""
    config, result = dict(record["config"]), record["result"]
    return replay_sets(config, result) if config["part"] == "sets" else {}


COMPARED = {
    **{f"*.{name}.*objective": Median(0.05) for name in BASELINES},
    # Searches, from networks that some hundred steps have trained.
    "*.generated.objective": 0.02,
    "two_layers.objective": 0.02,
    "lowest": 0.02,
    "*.objective": 1e-6,
    "value": 1e-6,
}

EXPERIMENT = Experiment(
    name="three_layer",
    title="Three layers: the landscape, and classification at equal time",
    configs=configs,
    function=compute,
    table=table,
    missed=missed,
    compared=lambda _: COMPARED,
    timed=tuple(f"*.{name}.*" for name in BASELINES),
    replay=replay,
)
