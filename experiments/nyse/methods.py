r"""NYSE: the log volume of a trading day from the days before, and every method on it.

The days flagged for training are split in time into a *fit* part and a *validation* part; the rest
are the *test* part. Everything is in standard units of all flagged days. The time of the convex
method is the budget of descent; one series by itself is the work of one-dimensional networks
(`Mirrors`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import QuantileRegressor
from torch import Tensor, nn

from convexlib.arrangements import sample_arrangements
from convexlib.arrangements.patterns import patterns_of
from convexlib.certify import certify
from convexlib.datasets import load_nyse
from convexlib.errors import ConvergenceWarning, InputError
from convexlib.networks import TwoLayerReLU, outputs
from convexlib.problems.mirrors import Mirrors
from convexlib.problems.two_layer import TwoLayer
from convexlib.solvers.lasso import solve_path
from convexlib.solvers.solve import solve
from convexlib.training import Training, now
from experiments.starts import descend_from
from experiments.variations import FILE, beta_of, check_varies, own_series

COLUMNS = ("DJ_return", "log_volume", "log_volatility")
TARGET = "log_volume"
PARTS = ("fit", "validation", "test")
RATES = {"sgd-cosine": (0.3, 0.1, 0.03), "adam-cosine": (0.03, 0.01, 0.003)}
METHODS = ("convex", "gated", "generated", *RATES)
START_RATE = 0.02
HE = 1.0  # the scale of He's start
BLOCK = 20  # days: errors of neighbouring days depend on each other, means of blocks hardly
DATA = ("lags", "share", "n_fit", "device")


@dataclass(frozen=True, eq=False)
class Task:
    """Rows in the order of time; column ``3 (k - 1) + j`` is COLUMNS[j] k days ago, the last is 1.

    Attributes
    ----------
    X, y : Tensor (n, 3 lags + 1), (n,)
        All rows, in standard units.
    parts : dict
        The slice of rows of each of PARTS.
    target : int
        The column of yesterday's target.
    """

    X: Tensor
    y: Tensor
    parts: dict[str, slice]
    target: int = COLUMNS.index(TARGET)

    def part(self, name: str) -> tuple[Tensor, Tensor]:
        """Return the data of a part."""
        rows = self.parts[name]
        return self.X[rows], self.y[rows]

    @property
    def flagged(self) -> tuple[Tensor, Tensor]:
        """All data before the test part."""
        rows = slice(self.parts["fit"].start, self.parts["validation"].stop)
        return self.X[rows], self.y[rows]

    def yesterday(self) -> Task:
        """The same days with a single input, the target of the day before; no column of ones."""
        return replace(self, X=self.X[:, self.target : self.target + 1])


def load_task(
    lags: int = 5,
    share: float = 0.8,
    n_fit: int | None = None,
    device: str = "cpu",
    **file: str,
) -> Task:
    """Return the prediction of `log_volume` from `lags` days.

    The first `share` of the flagged rows is the fit part, or its last `n_fit` rows. A series of
    one's own, named by `file` as `variations.own_data` has it, is predicted from itself; the first
    seven tenths are flagged.
    """
    if file:
        values, target, name = own_series(file)[:, None], 0, file["file"]
        flags = np.arange(len(values)) < 0.7 * len(values)
    else:
        table, target, name = load_nyse(), COLUMNS.index(TARGET), "the table of load_nyse"
        flags = table["train"].to_numpy(dtype=bool)
        values = table[list(COLUMNS)].to_numpy(dtype=np.float64)
    if not 0 < share < 1:
        raise InputError(
            f"share is {share:g}; expected the part of the flagged days that fits, above 0 and "
            "below 1. Set one such as 0.8."
        )
    n = len(values)
    n_flagged = int(flags[lags:].sum())
    stop = round(share * n_flagged)
    start = 0 if n_fit is None else stop - n_fit
    # Least squares, which one of the methods is, has a weight for each lag of each column.
    least = lags * values.shape[1] + 1
    if not (0 <= start <= stop - least and stop < n_flagged < n - lags):
        raise InputError(
            f"{n} days with lags {lags} and share {share:g} leave {stop} to fit; expected at least "
            f"n_fit = {n_fit or least} of them, n_fit of {least} or more, and days to validate and "
            "to test. Set another n_fit, fewer lags or another share."
        )
    check_varies(values[flags], name)
    check_varies(values[lags + start : lags + stop, target], name)
    values = (values - values[flags].mean(axis=0)) / values[flags].std(axis=0)
    columns = [values[lags - k : n - k] for k in range(1, lags + 1)]
    X = np.column_stack([*columns, np.ones(n - lags)])
    y = values[lags:, target].copy()
    parts = {
        "fit": slice(start, stop),
        "validation": slice(stop, n_flagged),
        "test": slice(n_flagged, n - lags),
    }
    return Task(torch.from_numpy(X).to(device), torch.from_numpy(y).to(device), parts, target)


def task_of(config: Mapping[str, Any]) -> Task:
    """Return the task of a configuration."""
    return load_task(**{name: config[name] for name in (*DATA, *FILE) if name in config})


def squares(y: Tensor, fitted: Tensor) -> Tensor:
    """Squared error of each day."""
    return (y - fitted) ** 2


def pinballs(y: Tensor, fitted: Tensor, quantile: float) -> Tensor:
    """Pinball loss of each day."""
    errors = y - fitted
    return torch.maximum(quantile * errors, (quantile - 1.0) * errors)


def below(y: Tensor, fitted: Tensor) -> Tensor:
    """Whether each day is below the prediction."""
    return (y <= fitted).double()


Predict = Callable[[Tensor], Tensor]
Measure = Callable[[Tensor, Tensor], Tensor]


def scores(task: Task, predict: Predict, measure: Measure = squares) -> dict[str, float]:
    """Score a prediction on every part, by the mean over its days."""
    found = {}
    with torch.no_grad():
        for name in PARTS:
            X, y = task.part(name)
            found[name] = float(measure(y, predict(X)).mean())
    return found


def by_blocks(
    task: Task, predict: Predict, measure: Measure = squares
) -> dict[str, dict[str, list[float]]]:
    """Score a prediction on consecutive blocks of days of the parts that it was not fitted to.

    Two predictions can then be subtracted day by day, and the difference be given an interval.
    """
    found = {}
    with torch.no_grad():
        for name in PARTS[1:]:
            X, y = task.part(name)
            days = measure(y, predict(X)).cpu().numpy()
            means = [part.mean() for part in np.array_split(days, max(len(days) // BLOCK, 1))]
            found[name] = [float(f"{mean:.6g}") for mean in means]
    return {"blocks": found}


def fit_linear(config: dict[str, Any]) -> dict[str, Any]:
    """The constant, ridge regression with a free bias, and least squares on all flagged days."""
    task = task_of(config)
    X, y = task.part("fit")
    mean = float(y.mean())
    flagged_X, flagged_y = task.flagged
    flagged = torch.linalg.lstsq(flagged_X, flagged_y[:, None]).solution[:, 0]
    penalty = torch.ones_like(X[0])
    penalty[-1] = 0.0
    ridge = []
    for strength in config["ridges"]:
        try:
            w = torch.linalg.solve(X.T @ X + strength * torch.diag(penalty), X.T @ y)
        except torch.linalg.LinAlgError as error:
            raise InputError(
                f"the {X.shape[1]} columns of lags depend on each other, as a series that repeats "
                f"has it, and ridge regression of strength {strength:g} has no unique solution; "
                "expected other data, or strengths above 0. Set ridges such as 0.1,1,10."
            ) from error
        fitted = partial(torch.matmul, other=w)
        ridge.append({"strength": strength, **scores(task, fitted), **by_blocks(task, fitted)})
    spread = {name: float(task.part(name)[1].var(correction=0)) for name in PARTS}
    return {
        "rows": {name: len(task.part(name)[1]) for name in PARTS},
        "variance": spread,
        "constant": scores(task, lambda A: A.new_full((len(A),), mean)),
        "ridge": ridge,
        "autoregression": scores(task, lambda A: A @ flagged),
    }


def compare(config: dict[str, Any]) -> dict[str, Any]:
    """Every method at one beta; the time of the convex method is the budget of descent."""
    task = task_of(config)
    problem, beta_max = _free(task, config)
    _start(problem, {**config, "start_steps": 20}, seed=0)  # compiles before the clock starts
    solve(problem.with_arrangements(sample_arrangements(problem.X, 5)), tol=0.1)
    methods: dict[str, Any] = {}
    with warnings.catch_warnings():
        # Unproven optima and short runs say so in their gaps and objectives.
        warnings.simplefilter("ignore", ConvergenceWarning)
        methods["convex"] = [_convex(problem, task, config, seed) for seed in config["seeds"]]
        methods["gated"] = [_gated(problem, task, config, seed) for seed in config["seeds"]]
        methods["generated"] = [
            _generated(problem, task, config, seed, weights=seed == config["searches"][0])
            for seed in config["searches"]
        ]
        U, alpha = (problem.X.new_tensor(methods["generated"][0][name]) for name in ("U", "alpha"))
        first = TwoLayerReLU(U.reshape(-1, problem.X.shape[1]), alpha)  # also without neurons
        certificate = certify(first, problem.X, problem.y, beta=problem.beta)
        seconds = float(np.mean([run["seconds"] for run in methods["convex"]]))
        he, scales = {}, {}
        for name in RATES:
            found = _descend(name, problem, task, config, seconds)
            methods[name], he[name], scales[name] = found
    blocks = {name: _mean_blocks(runs) for name, runs in methods.items()}
    for run in (run for runs in (*methods.values(), *he.values()) for run in runs):
        run.pop("blocks", None)
    return {
        "rows": list(problem.X.shape),
        "beta": problem.beta,
        "beta_max": beta_max,
        "budget": round(seconds, 4),
        "bound": {"dual": certificate.dual, "method": certificate.method},
        "methods": methods,
        "he": he,
        "scales": scales,
        "blocks": blocks,
    }


def _mean_blocks(runs: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """The errors of a method on the blocks of days, means over its seeds."""
    return {
        part: [
            float(f"{mean:.6g}") for mean in np.mean([run["blocks"][part] for run in runs], axis=0)
        ]
        for part in PARTS[1:]
    }


def _free(task: Task, config: dict[str, Any]) -> tuple[TwoLayer, float]:
    """The program without patterns at the beta of a configuration, and beta_max."""
    free = TwoLayer(*task.part("fit"), beta=1.0, arrangements="generate")
    beta_max = free.beta_max()
    return free.with_beta(beta_of(config, beta_max)), beta_max


def _start(problem: TwoLayer, config: dict[str, Any], seed: int) -> Tensor:
    """The neurons (m, d) of a briefly trained network."""
    budget = {"n_steps": config["start_steps"], "n_records": 1}
    run = _train(problem, config, "adam-cosine", HE, [START_RATE], [seed], **budget)
    return run.best_network.U.detach()


def _train(
    problem: TwoLayer,
    config: Mapping[str, Any],
    name: str,
    scale: float,
    rates: Sequence[float],
    seeds: Sequence[int],
    n_records: int = 20,
    **budget: Any,
) -> Training[TwoLayerReLU]:
    """Descent from He's start times a scale, within a number of steps or of seconds."""
    return descend_from(
        scale,
        name,
        problem.X,
        problem.y,
        beta=problem.beta,
        width=config["width"],
        batch_size=config["batch_size"],
        rates=rates,
        seeds=seeds,
        n_records=n_records,
        **budget,
    )


def _convex(problem: TwoLayer, task: Task, config: dict[str, Any], seed: int) -> dict[str, Any]:
    """The program over the patterns of a briefly trained network."""
    began = now(problem.X)
    own = patterns_of(problem.X, _start(problem, config, seed))
    return _solve(problem.with_arrangements(own), task, config, seed, began)


def _gated(problem: TwoLayer, task: Task, config: dict[str, Any], seed: int) -> dict[str, Any]:
    """The gated program over random gates: another model, with an objective of its own."""
    began = now(problem.X)
    gates = sample_arrangements(problem.X, config["gates"], seed=seed)
    program = TwoLayer(problem.X, problem.y, beta=problem.beta, arrangements=gates, gated=True)
    return _solve(program, task, config, seed, began)


def _solve(
    program: TwoLayer, task: Task, config: dict[str, Any], seed: int, began: float
) -> dict[str, Any]:
    """Solve a program whose patterns have been chosen since `began`."""
    result = solve(program, tol=config["tol"])
    network = program.to_network(result)
    seconds = now(program.X) - began
    return {"seed": seed, "gap": result.gap, **_report(program, task, network, seconds)}


def _generated(
    problem: TwoLayer, task: Task, config: dict[str, Any], seed: int, weights: bool
) -> dict[str, Any]:
    """A few rounds of column generation; `dual` is what its last round proves of all networks."""
    began = now(problem.X)
    result = solve(
        problem,
        tol=1e-3,
        max_iter=config["rounds"],
        max_nodes=100,
        seeding="none",
        directions=_start(problem, config, seed),
        seed=seed,
    )
    network = problem.to_network(result)
    report = {
        "seed": seed,
        "gap": result.gap,
        "dual": result.dual,
        "status": result.status.name,
        "detail": result.detail,
        **_report(problem, task, network, now(problem.X) - began),
    }
    if weights:
        report |= {"U": network.U.tolist(), "alpha": network.alpha.tolist()}
    return report


def _descend(
    name: str, problem: TwoLayer, task: Task, config: dict[str, Any], seconds: float
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the runs of every seed from the best scale and from He's start, and what was tried.

    For each scale the rates are tried on two seeds at once; every seed then has `seconds` for
    itself. Choosing is not counted.
    """
    rates, seeds, scales = config["rates"][name], config["seeds"], config["scales"]
    tuned = {
        scale: _train(problem, config, name, scale, rates, seeds[:2], seconds=2 * seconds)
        for scale in scales
    }
    best = min(scales, key=lambda scale: tuned[scale].best_objective)

    def with_all_seeds(scale: float) -> list[dict[str, Any]]:
        rate = tuned[scale].best_rate
        return [_run(problem, task, config, name, scale, rate, seed, seconds) for seed in seeds]

    chosen = with_all_seeds(best)
    he = chosen if best == HE else with_all_seeds(HE) if HE in scales else []
    tried = [
        {"scale": scale, "rate": run.best_rate, "objective": run.best_objective}
        for scale, run in tuned.items()
    ]
    return chosen, he, tried


def descend_long(config: dict[str, Any]) -> dict[str, Any]:
    """Adam, every scale, rate and seed by itself for the given time."""
    task = task_of(config)
    problem, beta_max = _free(task, config)
    runs = [
        _run(problem, task, config, "adam-cosine", scale, rate, seed, config["seconds"])
        for scale in config["scales"]
        for rate in config["rates"]
        for seed in config["seeds"]
    ]
    for run in runs:
        run.pop("blocks")
    return {"beta": problem.beta, "beta_max": beta_max, "runs": runs}


def _run(
    problem: TwoLayer,
    task: Task,
    config: dict[str, Any],
    name: str,
    scale: float,
    rate: float,
    seed: int,
    seconds: float,
) -> dict[str, Any]:
    """One run of descent, and what it reached."""
    run = _train(problem, config, name, scale, [rate], [seed], seconds=seconds)
    report = _report(problem, task, run.best_network, float(run.seconds[-1]))
    return {"seed": seed, "scale": scale, "rate": rate, "steps": int(run.steps[-1]), **report}


def _report(problem: TwoLayer, task: Task, network: nn.Module, seconds: float) -> dict[str, Any]:
    """The referee's objective and the mean squared error on every part."""
    return {
        "objective": problem.objective(network),
        "seconds": round(seconds, 4),
        **scores(task, partial(outputs, network)),
        **by_blocks(task, partial(outputs, network)),
    }


def replay(record: Mapping[str, Any]) -> dict[str, Any]:
    """Make the descents of a record again, each for the steps that it had time for."""
    config, result = dict(record["config"]), record["result"]
    if config["part"] not in ("network", "long"):
        return {}
    X, y = task_of(config).part("fit")
    problem = TwoLayer(X, y, beta=result["beta"], arrangements="generate")

    def again(name: str, run: Mapping[str, Any]) -> dict[str, Any]:
        rate, seed, steps = run["rate"], run["seed"], run["steps"]
        made = _train(problem, config, name, run["scale"], [rate], [seed], n_steps=steps)
        return {"objective": problem.objective(made.best_network)}

    if config["part"] == "long":
        return {"runs": [again("adam-cosine", run) for run in result["runs"]]}
    return {
        part: {name: [again(name, run) for run in result[part][name]] for name in RATES}
        for part in ("methods", "he")
    }


def predict_series(config: dict[str, Any]) -> dict[str, Any]:
    """Solve the Lasso over a path of beta, and score every network on all parts.

    ``decimals`` rounds the inputs that the network is trained on, so that the dictionary of a deep
    network can be listed; it is scored on the inputs as they are.
    """
    task = task_of(config).yesterday()
    X, y = task.part("fit")
    x = X[:, 0] if config["decimals"] is None else X[:, 0].round(decimals=config["decimals"])
    quantile = config.get("quantile", 0.5)
    problem = Mirrors(x, y, beta=1.0, depth=config["depth"], loss=config["loss"], quantile=quantile)
    squared = config["loss"] == "squared"
    measure: Measure = squares if squared else partial(pinballs, quantile=quantile)
    beta_max = problem.beta_max()
    betas = [ratio * beta_max for ratio in config["ratios"]]
    path = []
    for ratio, beta, result in zip(
        config["ratios"], betas, solve_path(problem, betas, tol=1e-9), strict=True
    ):
        at_beta = problem.with_beta(beta)
        network = at_beta.to_network(result)
        features = [feature for _, feature in at_beta.active_features(result)]
        path.append(
            {
                "ratio": ratio,
                "objective": at_beta.objective(network),
                "gap": result.gap,
                "features": len(features),
                "kinks": sorted({float(kink) for feature in features for kink in feature.kinks}),
                **scores(task, network, measure),
                **by_blocks(task, network, measure),
                "below": scores(task, network, below),
            }
        )
    slope, height = _line(X[:, 0], y, config["loss"], quantile)

    def line(A: Tensor) -> Tensor:
        return slope * A[:, 0] + height

    constant = float(y.mean() if squared else y.quantile(quantile))
    return {
        "beta_max": beta_max,
        "distinct": len(problem.x),
        "dictionary": problem.n_features,
        "path": path,
        "linear": {**scores(task, line, measure), **by_blocks(task, line, measure)},
        "constant": scores(task, lambda A: A.new_full((len(A),), constant), measure),
    }


def _line(x: Tensor, y: Tensor, loss: str, quantile: float) -> tuple[float, float]:
    """The best line, (slope, height), without regularisation."""
    inputs, targets = x.cpu().numpy(), y.cpu().numpy()
    if loss == "squared":
        slope, height = np.polyfit(inputs, targets, 1)
    else:
        model = QuantileRegressor(quantile=quantile, alpha=0.0).fit(inputs[:, None], targets)
        slope, height = model.coef_[0], model.intercept_
    return float(slope), float(height)
