r"""NYSE: convex training against SGD and Adam on the volume of the New York Stock Exchange.

Four kinds of records (``config["part"]``):

* *network*: one beta. Two-layer ReLU networks of five days of three series, every method with the
  same :math:`\tfrac12\|f(X)-y\|^2 + \tfrac\beta2\sum w^2`, scored by one float64 referee. The
  convex program runs over the patterns of a briefly trained network, its training included; SGD
  and Adam, both with a cosine schedule, have the same processor time for each seed, after a tuning
  of the rate that is not counted. Beside them the gated program over Gaussian gates, whose
  objective is that of another model, and a few rounds of column generation, not limited in time,
  whose lower bound is about networks of every width.
* *long*: Adam alone, at one beta, with about as much time as column generation takes.
* *series*: log volume from yesterday's alone, by `Mirrors`, over a path of beta.
* *linear*: the constant, ridge regression, and the autoregression of all flagged days.

Beta is chosen on the validation part, by whoever reads the records (`chosen`).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from convexlib.arrangements import sample_arrangements
from convexlib.arrangements.patterns import patterns_of
from convexlib.errors import ConvergenceWarning
from convexlib.experiments.nyse_data import PARTS, Task, load_task, scores
from convexlib.experiments.nyse_series import predict_series
from convexlib.experiments.nyse_table import chosen, missed, networks, table
from convexlib.experiments.runner import Experiment, Median, check_config
from convexlib.networks import TwoLayerReLU, outputs
from convexlib.problems.two_layer import TwoLayer
from convexlib.solvers.solve import solve
from convexlib.training import Training, now, train

__all__ = ["EXPERIMENT", "METHODS", "chosen", "compute", "configs", "missed", "networks", "table"]

RATES = {"sgd-cosine": (0.3, 0.1, 0.03), "adam-cosine": (0.03, 0.01, 0.003)}
METHODS = ("convex", "gated", "generated", *RATES)
RATIOS = (0.01, 0.03, 0.003, 0.1, 0.001)  # the middle of the path first
LONG = {"rates": [0.03, 0.01], "seeds": [0, 1], "seconds": 10.0}
# Steps of half and of a quarter of a power of ten, written out: the last digit of a computed power
# depends on the machine, and it is part of the names of the records.
RIDGES = [0.0, 0.1, 0.31622776601683794, 1.0, 3.1622776601683795, 10.0, 31.622776601683793, 100.0,
          316.2277660168379, 1000.0, 3162.2776601683795, 10000.0]  # fmt: skip
SERIES_RATIOS = [
    0.31622776601683794, 0.1778279410038923, 0.1, 0.056234132519034905, 0.03162277660168379,
    0.01778279410038923, 0.01, 0.005623413251903491, 0.0031622776601683794, 0.0017782794100389228,
    0.001, 0.0005623413251903491, 0.00031622776601683794,
]  # fmt: skip
START_RATE = 0.02
DATA = ("lags", "share", "n_fit", "device")
COMPARED = {
    **{f"methods.{name}.*objective": Median(0.05) for name in RATES},
    "runs.*.objective": Median(0.05),
    # Their patterns are those of a network after some hundred steps of training.
    "methods.convex.*objective": Median(0.02),
    "methods.generated.*objective": Median(0.02),
    "methods.gated.*objective": 1e-4,
    "*.objective": 1e-6,
    # Least squares has no penalty; a fit within one is less accurate than its objective.
    **{f"{name}.fit": 1e-6 for name in ("linear", "autoregression", "constant", "ridge.*")},
}


def configs(
    profile: str = "full", device: str = "cpu", seeds: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """Return the configurations of a profile, ``"quick"`` (under a minute) or ``"full"``."""
    quick = profile == "quick"
    data = {"lags": 5, "share": 0.8, "n_fit": 600 if quick else None, "device": device}
    series = {**data, "part": "series", "ratios": SERIES_RATIOS}
    losses = ({"loss": "squared"}, {"loss": "quantile", "quantile": 0.9})
    network = {
        **data,
        "part": "network",
        "width": 64,
        "start_steps": 200 if quick else 600,
        "gates": 30,
        "rounds": 1 if quick else 3,
        "tol": 1e-4,
        "batch_size": 256,
        "rates": {name: list(rates[1:] if quick else rates) for name, rates in RATES.items()},
        "seeds": list(seeds if seeds is not None else range(2 if quick else 10)),
    }
    long = {**data, "part": "long", "width": 64, "batch_size": 256, **LONG}
    # Depth 2 takes the inputs as they are; from depth 3 on the list of features needs fewer.
    depths = ((2, None), (3, 2)) if quick else ((2, None), (3, 2), (5, 2))
    return [
        {**data, "part": "linear", "ridges": RIDGES},
        *({**series, **loss, "depth": L, "decimals": k} for loss in losses for L, k in depths),
        *({**network, "ratio": ratio} for ratio in ((0.03, 0.003) if quick else RATIOS)),
        *({**long, "ratio": ratio} for ratio in (() if quick else (0.01, 0.003))),
    ]


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """Run one configuration."""
    check_config(config, configs)
    task = load_task(**{name: config[name] for name in DATA})
    parts = {"linear": _linear, "series": predict_series, "network": _network, "long": _long}
    return parts[config["part"]](task, config)


def _linear(task: Task, config: dict[str, Any]) -> dict[str, Any]:
    """The constant, ridge regression with a free bias, and least squares on all flagged days."""
    X, y = task.part("fit")
    mean = float(y.mean())
    flagged = torch.linalg.lstsq(*_columns(task.flagged)).solution[:, 0]
    penalty = torch.ones_like(X[0])
    penalty[-1] = 0.0
    ridge = []
    for strength in config["ridges"]:
        w = torch.linalg.solve(X.T @ X + strength * torch.diag(penalty), X.T @ y)
        # A default binds this round's w; mypy cannot type such a lambda.
        ridge.append({"strength": strength, **scores(task, lambda A, w=w: A @ w)})  # type: ignore[misc]
    spread = {name: float(task.part(name)[1].var(correction=0)) for name in PARTS}
    return {
        "rows": {name: len(task.part(name)[1]) for name in PARTS},
        "variance": spread,
        "constant": scores(task, lambda A: A.new_full((len(A),), mean)),
        "ridge": ridge,
        "autoregression": scores(task, lambda A: A @ flagged),
    }


def _columns(data: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return data[0], data[1][:, None]


def _network(task: Task, config: dict[str, Any]) -> dict[str, Any]:
    """Every method at one beta; the time of the convex method is the budget of descent."""
    X, y = task.part("fit")
    free = TwoLayer(X, y, beta=1.0, arrangements="generate")
    beta_max = free.beta_max()
    problem = free.with_beta(config["ratio"] * beta_max)
    _start(problem, {**config, "start_steps": 20}, seed=0)  # compiles before the clock starts
    solve(problem.with_arrangements(sample_arrangements(X, 5)), tol=0.1)
    methods: dict[str, Any] = {}
    with warnings.catch_warnings():
        # Unproven optima and short runs say so in their gaps and objectives.
        warnings.simplefilter("ignore", ConvergenceWarning)
        methods["convex"] = [_convex(problem, task, config, seed) for seed in config["seeds"]]
        methods["gated"] = [_gated(problem, task, config, seed) for seed in config["seeds"]]
        methods["generated"] = [_generated(problem, task, config)]
        seconds = float(np.mean([run["seconds"] for run in methods["convex"]]))
        for name in RATES:
            methods[name] = _descend(name, problem, task, config, seconds)
    return {
        "rows": list(X.shape),
        "beta": problem.beta,
        "beta_max": beta_max,
        "budget": round(seconds, 4),
        "methods": methods,
    }


def _start(problem: TwoLayer, config: dict[str, Any], seed: int) -> Tensor:
    """The neurons (m, d) of a briefly trained network."""
    budget = {"n_steps": config["start_steps"], "n_records": 1}
    return _adam(problem, config, START_RATE, seed, **budget).best_network.U.detach()


def _adam(
    problem: TwoLayer, config: dict[str, Any], rate: float, seed: int, **budget: Any
) -> Training[TwoLayerReLU]:
    """One run of Adam with a falling rate."""
    return train(
        problem.X,
        problem.y,
        beta=problem.beta,
        width=config["width"],
        optimizer="adam-cosine",
        rates=[rate],
        seeds=[seed],
        batch_size=config["batch_size"],
        **budget,
    )


def _convex(problem: TwoLayer, task: Task, config: dict[str, Any], seed: int) -> dict[str, Any]:
    """The program over the patterns of a briefly trained network."""
    began = now(problem.X)
    own = patterns_of(problem.X, _start(problem, config, seed))
    program = problem.with_arrangements(own)
    result = solve(program, tol=config["tol"])
    network = program.to_network(result)
    seconds = now(problem.X) - began
    return {"seed": seed, "gap": result.gap, **_report(program, task, network, seconds)}


def _gated(problem: TwoLayer, task: Task, config: dict[str, Any], seed: int) -> dict[str, Any]:
    """The gated program over random gates: another model, with an objective of its own."""
    began = now(problem.X)
    gates = sample_arrangements(problem.X, config["gates"], seed=seed)
    program = TwoLayer(problem.X, problem.y, beta=problem.beta, arrangements=gates, gated=True)
    result = solve(program, tol=config["tol"])
    network = program.to_network(result)
    seconds = now(problem.X) - began
    return {"seed": seed, "gap": result.gap, **_report(program, task, network, seconds)}


def _generated(problem: TwoLayer, task: Task, config: dict[str, Any]) -> dict[str, Any]:
    """A few rounds of column generation; `dual` bounds all networks, of any width."""
    began = now(problem.X)
    result = solve(
        problem,
        tol=1e-3,
        max_iter=config["rounds"],
        max_nodes=100,
        seeding="none",
        directions=_start(problem, config, seed=0),
    )
    network = problem.to_network(result)
    return {
        "seed": None,
        "gap": result.gap,
        "dual": result.dual,
        "status": result.status.name,
        "detail": result.detail,
        **_report(problem, task, network, now(problem.X) - began),
        "U": network.U.tolist(),
        "alpha": network.alpha.tolist(),
    }


def _descend(
    name: str, problem: TwoLayer, task: Task, config: dict[str, Any], seconds: float
) -> list[dict[str, Any]]:
    """Choose the rate on two seeds, then train every seed by itself for `seconds`."""
    shared = {"beta": problem.beta, "width": config["width"], "batch_size": config["batch_size"]}
    data, rates = (problem.X, problem.y), config["rates"][name]
    budget = {"optimizer": name, "n_records": 20, **shared}
    tuned = train(*data, rates=rates, seeds=config["seeds"][:2], seconds=2 * seconds, **budget)
    runs = []
    for seed in config["seeds"]:
        run = train(*data, rates=[tuned.best_rate], seeds=[seed], seconds=seconds, **budget)
        report = _report(problem, task, run.best_network, float(run.seconds[-1]))
        runs.append({"seed": seed, "rate": run.best_rate, "steps": int(run.steps[-1]), **report})
    return runs


def _long(task: Task, config: dict[str, Any]) -> dict[str, Any]:
    """Adam, every rate and seed by itself for the given time."""
    X, y = task.part("fit")
    free = TwoLayer(X, y, beta=1.0, arrangements="generate")
    problem = free.with_beta(config["ratio"] * free.beta_max())
    runs = []
    for rate in config["rates"]:
        for seed in config["seeds"]:
            run = _adam(problem, config, rate, seed, seconds=config["seconds"], n_records=20)
            report = _report(problem, task, run.best_network, float(run.seconds[-1]))
            runs.append({"seed": seed, "rate": rate, "steps": int(run.steps[-1]), **report})
    return {"beta": problem.beta, "runs": runs}


def _report(problem: TwoLayer, task: Task, network: nn.Module, seconds: float) -> dict[str, Any]:
    """The referee's objective and the mean squared error on every part."""
    return {
        "objective": problem.objective(network),
        "seconds": round(seconds, 4),
        **scores(task, lambda A: outputs(network, A)),
    }


def replay(record: Mapping[str, Any]) -> dict[str, Any]:
    """Make the descents of a record again, each for the steps that it had time for."""
    config, result = dict(record["config"]), record["result"]
    if config["part"] not in ("network", "long"):
        return {}
    X, y = load_task(**{name: config[name] for name in DATA}).part("fit")
    shared = {"beta": result["beta"], "width": config["width"], "batch_size": config["batch_size"]}
    problem = TwoLayer(X, y, beta=result["beta"], arrangements="generate")

    def again(name: str, run: Mapping[str, Any]) -> dict[str, Any]:
        made = train(
            *(X, y), optimizer=name, rates=[run["rate"]], seeds=[run["seed"]],
            n_steps=run["steps"], n_records=20, **shared,
        )  # fmt: skip
        return {"objective": problem.objective(made.best_network)}

    if config["part"] == "long":
        return {"runs": [again("adam-cosine", run) for run in result["runs"]]}
    methods = result["methods"]
    return {"methods": {name: [again(name, run) for run in methods[name]] for name in RATES}}


EXPERIMENT = Experiment(
    name="nyse",
    title="NYSE: validation and test error of convex training, SGD and Adam",
    configs=configs,
    function=compute,
    table=table,
    missed=missed,
    compared=lambda _: COMPARED,
    timed=(*(f"methods.{name}.*" for name in RATES), "runs.*"),
    replay=replay,
)
