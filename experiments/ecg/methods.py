r"""ECG: the data, and every method on one setting, convex ones first.

The time of the convex solver is the budget of descent on the same objective (`at_equal_time`). How
a network is scored, the linear model beside it, and what happens in a beat, follow.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convexlib.arrangements import sample_arrangements
from convexlib.arrays import Floats
from convexlib.certify import certify
from convexlib.datasets import autoregression, load_ecg, load_ecg_beats
from convexlib.errors import ConvergenceWarning, InputError
from convexlib.networks import TwoLayerGatedReLU, TwoLayerReLU, outputs
from convexlib.pricing.ascent import search
from convexlib.problems.two_layer import TwoLayer
from convexlib.result import relative_gap
from convexlib.solvers.solve import solve
from convexlib.training import Training, now
from experiments.starts import descend_from
from experiments.variations import FILE, beta_of, check_rows, check_varies, own_series

LIVE = 1e-4  # a neuron counts if its |alpha| ||u|| exceeds this part of the largest
SIGNALS = {208: lambda: load_ecg(), 100: lambda: load_ecg_beats()[:2]}
RATES = {
    "sgd": (0.3, 0.2, 0.1, 0.05, 0.02),
    "adam": (0.1, 0.03, 0.01, 0.003, 0.001),
    "adam-cosine": (0.1, 0.03, 0.01, 0.003, 0.001),
}
METHODS = (*RATES, "lbfgs")
HE = 1.0  # the scale of He's own start
SCALES = (HE, 0.3, 0.1, 0.03)
RECORDS = 50  # points of a curve
PROVABLE = 3  # the rank up to which the optimum over all networks is proven exactly
BEFORE, AFTER = 72, 120  # samples around an R peak; no two beats are nearer than their sum


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


def load_task(
    lags: int,
    n_train: int = 2000,
    n_test: int | None = 10_000,
    device: str = "cpu",
    record: int | str = 208,
    **file: str,
) -> Task:
    """Return the prediction of a sample from `lags` earlier ones; the first n_train rows train.

    Those after them test, `n_test` of them or all that there are.

    Record 208 is the ECG of `load_ecg`, record 100 the one with annotated beats; a series of one's
    own is named by `file`, as `experiments.variations.own_data` has it.
    """
    if file:
        signal, rate = own_series(file), 1.0
    elif record in SIGNALS:
        signal, rate = SIGNALS[record]()
    else:
        raise InputError(f"record is {record!r}; expected one of {sorted(SIGNALS)}.")
    name = file.get("file", f"record {record}")
    tests = 1 if n_test is None else n_test
    because = f"n_train is {n_train} and lags is {lags}, with {tests} to test"
    check_rows(name, len(signal), n_train + lags + tests, because)
    seen = signal[: n_train + lags]
    check_varies(seen, name)
    mean, scale = float(seen.mean()), float(seen.std())
    used = signal if n_test is None else signal[: n_train + n_test + lags]
    X, y = autoregression((used - mean) / scale, lags)
    X = np.column_stack([X, np.ones(len(X))])
    data = [torch.from_numpy(part).to(device) for part in (X, y)]
    X_train, y_train = (part[:n_train] for part in data)
    X_test, y_test = (part[n_train:] for part in data)
    return Task(X_train, y_train, X_test, y_test, mean, scale, rate)


def setting(config: dict[str, Any]) -> tuple[Task, TwoLayer, float]:
    """Return the data, the problem without patterns, and beta_max (an upper bound on it).

    Solves a small problem on the way, so that kernels are compiled before a clock starts.
    """
    names = ("lags", "n_train", "n_test", "device", "record", *FILE)
    task = load_task(**{name: config[name] for name in names if name in config})
    free = TwoLayer(task.X, task.y, beta=1.0, arrangements="generate")
    beta_max = free.beta_max()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # only the kernels count
        solve(free.with_beta(0.5 * beta_max), tol=1e-2, max_nodes=config["nodes"])
    return task, free.with_beta(beta_of(config, beta_max)), beta_max


def compare(config: dict[str, Any]) -> dict[str, Any]:
    """Run every method on one setting and return what they reached."""
    task, problem, beta_max = setting(config)
    seeds = config["seeds"]
    methods: dict[str, Any] = {
        "generated": [
            generate(problem, task, config, seed, weights=seed == seeds[0]) for seed in seeds
        ]
    }
    bound = bound_of(problem, methods["generated"])
    if config["patterns"]:
        for name, count in (("sampled", config["patterns"]), ("gated", config["gates"])):
            methods[name] = [
                _sampled(problem, task, count, seed, gated=name == "gated") for seed in seeds
            ]
    seconds = float(np.mean([run["seconds"] for run in methods["generated"]]))
    he, scales, longer = {}, {}, {}
    for name in METHODS:
        methods[name], he[name], scales[name] = at_equal_time(name, problem, task, config, seconds)
        if config["factor"]:
            # From the scale that was best, the best of all rates and seeds, which share this time.
            rates, budget = _rates(name, config), config["factor"] * seconds
            scale = methods[name][0]["scale"]
            run = _descend(name, problem, config, scale, rates, seeds, budget)
            longer[name] = _report(problem, task, run, scale, curve=True)
    return {
        "rows": list(problem.X.shape),
        # Of a series of one's own that is tested to its end, which the setting does not say.
        **({} if config["n_test"] else {"tested": len(task.X_test)}),
        "beta": problem.beta,
        "beta_max": beta_max,
        "seconds": round(seconds, 4),
        "bound": bound,
        "methods": methods,
        "he": he,
        "scales": scales,
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


def bound_of(problem: TwoLayer, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the best proven bound on networks of every width; the time it took is not counted.

    Up to `PROVABLE` every run has one of its own. Above, the network of the first run is certified:
    dual points are chosen for bounds that need no search.
    """
    if all(run["rigorous"] for run in runs):
        return {"dual": max(run["dual"] for run in runs), "method": "branch and bound",
                "rigorous": True}  # fmt: skip
    began = now(problem.X)
    network = stored_network(runs[0], problem.X.shape[1]).to(problem.X.device)
    certificate = certify(network, problem.X, problem.y, beta=problem.beta)
    return {
        "dual": certificate.dual,
        "method": certificate.method,
        "rigorous": certificate.rigorous,
        "seconds": round(now(problem.X) - began, 4),
    }


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


def at_equal_time(
    name: str, problem: TwoLayer, task: Task, config: dict[str, Any], seconds: float
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Return one report per seed, the same from He's start, and the first seed's for each scale.

    Every pair of a rate and a scale of the start has `seconds` with the first seed. The pair with
    the lowest objective then has as much with each other seed, and so has the best rate of He's
    start itself. The time in which they were chosen is not counted.
    """
    first, *others = config["seeds"]
    rates, scales = _rates(name, config), config["scales"]
    tried = {
        scale: min(
            (_descend(name, problem, config, scale, [rate], [first], seconds) for rate in rates),
            key=lambda run: run.best_objective,
        )
        for scale in scales
    }
    best = min(scales, key=lambda scale: tried[scale].best_objective)

    def with_all_seeds(scale: float) -> list[dict[str, Any]]:
        rate = [tried[scale].best_rate]
        runs = [
            tried[scale],
            *(_descend(name, problem, config, scale, rate, [seed], seconds) for seed in others),
        ]
        lowest = min(runs, key=lambda run: run.best_objective)
        # Of the curves, only the best one is ever drawn.
        return [_report(problem, task, run, scale, curve=run is lowest) for run in runs]

    chosen = with_all_seeds(best)
    he = chosen if best == HE else with_all_seeds(HE) if HE in scales else []
    tuned = [_report(problem, task, tried[scale], scale, curve=False) for scale in scales]
    return chosen, he, tuned


def again(
    name: str, problem: TwoLayer, config: dict[str, Any], run: dict[str, Any]
) -> dict[str, Any]:
    """Make a reported run again by its steps, rate, scale and seed; it is deterministic."""
    made = _descend(
        name, problem, config, run["scale"], [run["rate"]], [run["seed"]], n_steps=run["steps"]
    )
    return {"objective": problem.objective(made.best_network)}


def _rates(name: str, config: dict[str, Any]) -> list[float]:
    rates: list[float] = config["rates"].get(name, [1.0])
    return rates


def _descend(
    name: str,
    problem: TwoLayer,
    config: dict[str, Any],
    scale: float,
    rates: Sequence[float],
    seeds: Sequence[int],
    seconds: float | None = None,
    n_steps: int | None = None,
) -> Training:
    """Train a grid from one scale within `seconds` in all, or for so many steps."""
    if name == "lbfgs" and seconds is not None:
        seconds /= len(seeds)  # its runs come one after the other, and share the time
    with warnings.catch_warnings():
        # A grid holds rates that are too large for some data: their objective says so.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return descend_from(
            scale,
            name,
            problem.X,
            problem.y,
            beta=problem.beta,
            rates=rates,
            batch_size=config["batch_size"],
            width=config["width"],
            n_records=RECORDS,
            n_steps=n_steps,
            seconds=seconds,
            seeds=seeds,
        )


def _report(
    problem: TwoLayer, task: Task, run: Training, scale: float, curve: bool
) -> dict[str, Any]:
    """Return what a training has reached, in how many steps."""
    report = {
        "seed": run.best_seed,
        "rate": run.best_rate,
        "scale": scale,
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


def replay(record: Mapping[str, Any]) -> dict[str, Any]:
    """Make the descents of a record again, each for the steps that it had time for."""
    config, result = dict(record["config"]), record["result"]
    if config["part"] != "compare":
        return {}
    _, problem, _ = setting(config)
    return {
        **{
            part: {
                name: [again(name, problem, config, run) for run in result[part][name]]
                for name in METHODS
            }
            for part in ("methods", "he")
        },
        "longer": {
            name: again(name, problem, config, run) for name, run in result["longer"].items()
        },
    }


def fit_linear(task: Task) -> dict[str, Any]:
    """Fit the linear autoregression by least squares."""
    coefficients = torch.linalg.lstsq(task.X, task.y[:, None]).solution[:, 0]
    return {
        "coefficients": coefficients.tolist(),
        "train_mse": mean_square(task.y - task.X @ coefficients),
        "test_mse": mean_square(task.y_test - task.X_test @ coefficients),
    }


def scores(task: Task, network: TwoLayerReLU | TwoLayerGatedReLU) -> dict[str, Any]:
    """Score a network: mean squared errors in standard units, and its live neurons."""
    sizes = torch.linalg.vector_norm(network.U, dim=1) * network.alpha.abs()
    return {
        "train_mse": mean_square(task.y - outputs(network, task.X)),
        "test_mse": mean_square(task.y_test - outputs(network, task.X_test)),
        "neurons": int((sizes > LIVE * sizes.max()).sum()) if len(sizes) else 0,
    }


def stored_network(report: dict[str, Any], columns: int | None = None) -> TwoLayerReLU:
    """Return the network whose weights a report holds.

    Of a network without neurons it does not hold the number of columns.
    """
    U, alpha = (torch.tensor(report[name], dtype=torch.float64) for name in ("U", "alpha"))
    return TwoLayerReLU(U if columns is None else U.reshape(-1, columns), alpha)


def mean_square(errors: Tensor) -> float:
    """Return the mean of the squares."""
    return float((errors**2).mean())


def predict_beats(config: dict[str, Any]) -> dict[str, Any]:
    """Fit the convex network and the linear model, and return their errors by kind of beat."""
    task, problem, beta_max = setting(config)
    report = generate(problem, task, config, seed=config["seeds"][0], weights=True)
    linear = fit_linear(task)
    weights = torch.tensor(linear["coefficients"], dtype=torch.float64, device=task.X.device)
    predicted = {
        "network": outputs(stored_network(report, task.X.shape[1]).to(task.X.device), task.X_test),
        "linear": task.X_test @ weights,
    }
    errors = {
        name: ((task.y_test - values) ** 2).cpu().numpy() for name, values in predicted.items()
    }
    peaks, kinds = test_peaks(config["n_train"], config["lags"], len(task.y_test))
    between = np.ones(len(task.y_test), bool)
    between[(peaks[:, None] + np.arange(-BEFORE, AFTER)).ravel()] = False
    rows = {}
    for kind in sorted(set(kinds.tolist())):
        windows = {name: aligned(part, peaks[kinds == kind]) for name, part in errors.items()}
        rows[kind] = {
            "beats": int((kinds == kind).sum()),
            "won": int((windows["network"].mean(axis=1) < windows["linear"].mean(axis=1)).sum()),
            **{name: float(part.mean()) for name, part in windows.items()},
            "profile": {
                name: [float(f"{value:.6g}") for value in part.mean(axis=0)]
                for name, part in windows.items()
            },
        }
    return {
        "rows": list(problem.X.shape),
        "beta": problem.beta,
        "beta_max": beta_max,
        "convex": report,
        "linear": linear,
        "kinds": rows,
        "between": {name: float(part[between].mean()) for name, part in errors.items()},
    }


def test_peaks(n_train: int, lags: int, n_test: int) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    """Return the R peaks, as rows of the test part, whose windows are inside it; their kinds."""
    _, _, peaks, kinds = load_ecg_beats()
    rows = peaks - (n_train + lags)
    inside = (rows >= BEFORE) & (rows + AFTER <= n_test)
    return rows[inside], kinds[inside]


def aligned(values: Floats, peaks: NDArray[np.int64]) -> Floats:
    """Return windows (beats, BEFORE + AFTER) of a signal: column BEFORE is the R peak."""
    return values[peaks[:, None] + np.arange(-BEFORE, AFTER)]
