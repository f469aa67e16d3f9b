"""UCI: a table as a training problem, and from it and settings to what a record keeps.

*Convex*: each output is solved by itself to a relative gap of `tol`; the network that the weights
stand for is scored, and the lower bound is computed anew from the dual points.

*Generated*: the ReLU program again, but patterns are generated for so many rounds, beginning with
those of a trained network, and the result is certified: the bound is on all networks, of any width.

*Descent*: the grid of learning rates and seeds of `experiments.uci.descent`, in float32, on ReLU
networks or on gated ones with the masks of the gated program. As with the authors, the best moment
of the best run that did not fail counts.

*By output*: the library's own descent, a grid for each output, which tunes a rate of its own; the
best moment of any run counts. Such runs are one tensor program, and have no times of their own.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from convexlib.arrangements import Arrangements, sample_arrangements
from convexlib.certify import certify
from convexlib.checks import check_scale
from convexlib.datasets import load_uci
from convexlib.errors import ConvergenceWarning, InputError
from convexlib.networks import TwoLayerGatedReLU, TwoLayerReLU, side_by_side
from convexlib.problems.two_layer import TwoLayer
from convexlib.problems.vector_output import VectorOutput
from convexlib.result import Result
from convexlib.solvers.solve import solve
from convexlib.training import now, train
from experiments.records import find, results_dir
from experiments.uci.descent import Problem, descend
from experiments.variations import FILE, check_rows, own_table

SHUFFLE = 1995
LEAST = 5  # rows of a table
MAX_CLASSES = 100  # of the 73 tables none has more
CONVEX: dict[str, dict[str, Any]] = {
    "gated": {"patterns": 5000, "tol": 1e-6},
    "relu": {"patterns": 2500, "tol": 1e-6},
}
RECORDS = 40  # of the objective, on the way
VARIANTS = ("-relu", "-relu-2000", "-gated", "-gated-2000", "-he", "-narrow", "-separate")
DESCENT = tuple(f"{optimizer}{variant}" for variant in VARIANTS for optimizer in ("sgd", "adam"))
SEED = 0  # of the patterns


@dataclass(frozen=True, eq=False)
class Task:
    """One table, split and scaled.

    Attributes
    ----------
    X, Y : Tensor (n, d), (n, c)
        Training data; c = 1 for two classes.
    X_test, labels_test : Tensor (n', d), (n',)
        Test data, scaled as the training data, and their classes 0, 1, ...
    labels : Tensor (n,)
        Classes of the training data.
    """

    X: Tensor
    Y: Tensor
    labels: Tensor
    X_test: Tensor
    labels_test: Tensor


def split(n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that train and those that test."""
    order = np.arange(n_rows)
    np.random.default_rng(SHUFFLE).shuffle(order)
    n_test = n_rows // 5
    return order[n_test:], order[:n_test]


def load_task(name: str, device: str = "cpu", **file: str) -> Task:
    """Return a table of `list_uci()`, split, scaled and with targets, in float64.

    A table of one's own is named by `file`, as `experiments.variations.own_data` has it; its last
    column is the class.
    """
    if file:
        table = own_table(file)
        X, values = table.X, table.y
        for column, feature in zip(X.T, table.features, strict=True):
            check_scale(torch.from_numpy(column), f"column {feature} of {name}")
    else:
        X, values = load_uci(name)
    classes, labels = np.unique(values, return_inverse=True)
    check_rows(name, len(X), LEAST, "a fifth of them has to test")
    whole = bool((values == np.round(values)).all())
    if not (whole and 2 <= len(classes) <= min(MAX_CLASSES, len(X) // 2)):
        raise InputError(
            f"the last column of {name} has {len(classes)} values in {len(X)} rows"
            f"{'' if whole else ', not all of them whole numbers'}; expected classes as whole "
            f"numbers, 2 to {MAX_CLASSES} of them, and no more than half as many as rows. Number "
            "the classes; a target that is measured is none: group it first."
        )
    train, test = split(len(X))
    lengths = np.linalg.norm(X[train], axis=0)
    X = X / np.where(lengths > 0, lengths, 1.0)
    if len(classes) == 2:
        Y = 2.0 * labels[train, None] - 1.0
    else:
        Y = np.eye(len(classes))[labels[train]]
    parts = (X[train], Y, labels[train], X[test], labels[test])
    return Task(*(torch.from_numpy(part).to(device) for part in parts))


def patterns(X: Tensor, count: int, seed: int = SEED) -> Arrangements:
    """Return the distinct patterns of `count` Gaussian gates, without the one of zeros."""
    drawn = sample_arrangements(X, count, seed=seed)
    return drawn.select(drawn.masks.any(dim=1))


def load(config: Mapping[str, Any]) -> Task:
    """Return the table of a configuration."""
    file = {key: config[key] for key in FILE if key in config}
    return load_task(config["data"], config["device"], **file)


def convex(config: dict[str, Any]) -> dict[str, Any]:
    """Solve the program over sampled patterns, output by output."""
    task = load(config)
    X, n = task.X, len(task.X)
    began = now(X)
    program = VectorOutput(
        X,
        task.Y,
        beta=n * config["lambda"],
        arrangements=patterns(X, config["patterns"], config.get("seed", SEED)),
        gated=config["method"].startswith("gated"),
    )
    count = len(program.masks)  # made before the columns are, which then share them
    setup = now(X) - began
    results, seconds = _solved(program.columns, tol=config["tol"])
    network = program.to_network(torch.stack([result.weights for result in results], dim=-1))
    bounds = [
        column.dual_value(column.dual_scaling(result.z))
        for column, result in zip(program.columns, results, strict=True)
    ]
    return {
        **_solution(task, program.objective(network) / n, network, sum(bounds) / n),
        **_solver(results, seconds, setup, n),
        "patterns": count,
        "newton_steps": sum(result.n_iter for result in results),
    }


def generated(config: dict[str, Any]) -> dict[str, Any]:
    """Solve the ReLU program over generated patterns, output by output, and certify it."""
    task = load(config)
    X, n = task.X, len(task.X)
    beta = n * config["lambda"]
    columns = [TwoLayer(X, targets, beta=beta, arrangements="generate") for targets in task.Y.T]
    results, seconds = _solved(columns, tol=config["tol"], max_iter=config["rounds"])
    networks, dual, objective = [], 0.0, 0.0
    began = now(X)
    for column, result in zip(columns, results, strict=True):
        networks.append(column.to_network(result))
        limit = {"z": result.z, "max_seconds": config["certificate"]}
        found = certify(networks[-1], X, column.y, beta=beta, **limit)
        dual += max(found.dual, result.dual)
        objective += found.primal
    return {
        **_solution(task, objective / n, side_by_side(networks), dual / n),
        **_solver(results, seconds, 0.0, n),
        "certificate_seconds": round(now(X) - began, 4),
    }


def descent(config: dict[str, Any]) -> dict[str, Any]:
    """Train the whole grid of rates and seeds; outputs together, unless they are separate."""
    task = load(config)
    gates = patterns(task.X, config["patterns"]) if "patterns" in config else None
    width = len(gates) if gates is not None else max(config["width"], _neurons(task, config))
    parts = task.Y.T[..., None] if config.get("outputs") == "separate" else task.Y[None]
    masks = None if gates is None else gates.masks.T.contiguous()
    networks, runs, objective = [], [], 0.0
    for Y in parts:
        exact = Problem(task.X, Y, config["lambda"], None if masks is None else masks.to(Y))
        run = descend(exact.single(), width, config)
        U, A = (part.double() for part in run.weights)
        objective += float(exact.objective(U, A))
        alpha = A[:, 0] if A.shape[1] == 1 and len(parts) > 1 else A
        networks.append(
            TwoLayerReLU(U, alpha)
            if gates is None
            else TwoLayerGatedReLU(U, alpha, gates.gates.to(U))
        )
        runs.append(run)
    network = networks[0] if len(networks) == 1 else side_by_side(networks)
    seconds = np.sum([run.grid[0] for run in runs], axis=0)
    values = np.sum([run.grid[1] for run in runs], axis=0)
    return {
        **scores(task, objective, network),
        "width": width,
        "runs": len(config["rates"]) * len(config["seeds"]),
        "failed": sum(run.failed for run in runs),
        "best_rates": [run.rate for run in runs],
        "best_seeds": [run.seed for run in runs],
        "seconds": round(float(seconds[-1]), 4),
        "curve": curve(*runs[0].alone) if len(runs) == 1 else curve(seconds, values),
        "grid": curve(seconds, values),
    }


def by_output(config: dict[str, Any]) -> dict[str, Any]:
    """Train the whole grid of rates and seeds, output by output, by `convexlib.training.train`."""
    task = load(config)
    X, n = task.X, len(task.X)
    beta = n * config["lambda"]
    single = X.float()
    runs = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # no run may beat the start at all
        for targets in task.Y.T:
            run = train(
                single,
                targets.float().contiguous(),
                beta=beta,
                width=config["width"],
                optimizer=f"{config['method']}-step",
                rates=config["rates"],
                seeds=config["seeds"],
                n_steps=config["epochs"] * config["batches"],
                batch_size=math.ceil(n / config["batches"]),
                n_records=RECORDS,
            )
            runs.append(run)
    network = side_by_side([run.best_network for run in runs]).double()
    weights = network.U.detach(), network.alpha.detach()
    objective = Problem(X, task.Y, config["lambda"]).objective(*weights)
    # With the same number of steps, all outputs are recorded at the same moments.
    seconds = np.sum([run.seconds for run in runs], axis=0)
    values = np.sum([run.best_curve for run in runs], axis=0) / n
    return {
        **scores(task, float(objective), network),
        "runs": len(config["rates"]) * len(config["seeds"]),
        "best_rates": [run.best_rate for run in runs],
        "best_seeds": [run.best_seed for run in runs],
        "diverged": sum(run.n_diverged for run in runs),
        "steps": int(runs[0].steps[-1]),
        "seconds": round(float(seconds[-1]), 4),
        "curve": curve(seconds, values),
    }


def _neurons(task: Task, config: Mapping[str, Any]) -> int:
    """How many neurons the ReLU program's network has: the width that the authors give descent.

    From the program's record; without one it is solved.
    """
    if not config["match"]:
        return 0
    own = {key: config[key] for key in ("data", "lambda", "device", *FILE) if key in config}
    program = {**own, "method": "relu", **CONVEX["relu"]}
    record = find(results_dir() / "uci", program)
    found = convex(program) if record is None else record["result"]
    return int(found["neurons"])


def _solved(columns: list[TwoLayer], **options: Any) -> tuple[list[Result], list[float]]:
    """Solve the problems of the outputs; the seconds of each."""
    first = columns[0]
    rows = first.X[:20]
    small = TwoLayer(rows, first.y[:20], beta=0.02, arrangements=patterns(rows, 20))
    results, seconds = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the record holds the gap
        solve(small, tol=1e-2)  # compiles the kernels before the clock starts
        for column in columns:
            began = now(column.X)
            results.append(solve(column, **options))
            seconds.append(now(column.X) - began)
    return results, seconds


def _solution(task: Task, objective: float, network: nn.Module, dual: float) -> dict[str, Any]:
    """The network's scores and its gap."""
    gap = max(1.0 - dual / objective, 0.0)
    return {**scores(task, objective, network), "dual": dual, "relative_gap": gap}


def _solver(results: list[Result], seconds: list[float], setup: float, n: int) -> dict[str, Any]:
    """What the solver says of the outputs."""
    return {
        "program_value": sum(result.value for result in results) / n,
        "scope": results[0].scope,
        "status": sorted({result.status.name for result in results}),
        "seconds": round(setup + sum(seconds), 4),
        "curve": _solver_curve(results, seconds, setup, n),
    }


def scores(task: Task, objective: float, network: nn.Module) -> dict[str, Any]:
    """What is kept of a network in float64: F, accuracies, neurons; beside them F of no network."""
    with torch.no_grad():
        found = [_classes(network(X)) for X in (task.X, task.X_test)]
    labels = task.labels, task.labels_test
    accuracy = [float((a == b).double().mean()) for a, b in zip(found, labels, strict=True)]
    return {
        "shape": [*task.X.shape, task.Y.shape[1]],
        "zero": 0.5 * float((task.Y**2).sum()) / len(task.X),
        "objective": objective,
        "train_accuracy": accuracy[0],
        "test_accuracy": accuracy[1],
        "neurons": len(network.alpha),  # type: ignore[arg-type]  # a Tensor
    }


def _classes(outputs: Tensor) -> Tensor:
    """Return the classes (n,) of outputs (n, c)."""
    return (outputs[:, 0] > 0).long() if outputs.shape[1] == 1 else outputs.argmax(dim=1)


def _solver_curve(
    results: list[Result], seconds: list[float], setup: float, n: int
) -> dict[str, list[float]]:
    """The objective as the outputs are solved one after the other.

    A history keeps time on the wall; it is brought to the scale of the processor time measured.
    """
    value = sum(result.history[0].primal for result in results)
    times, values, before = [], [], setup
    for result, spent in zip(results, seconds, strict=True):
        value -= result.history[0].primal
        scale = spent / result.seconds if result.seconds > 0 else 0.0
        for record in result.history:
            times.append(before + scale * record.seconds)
            values.append(value + record.primal)
        before += spent
        value += result.value
    return curve(np.array(times), np.array(values) / n)


def curve(seconds: np.ndarray, values: np.ndarray) -> dict[str, list[float]]:
    """The moments at which the best value became lower, and that value, in few digits."""
    best = np.minimum.accumulate(values)
    lower = np.concatenate([[True], best[1:] < best[:-1]])
    return {
        "seconds": [round(float(second), 4) for second in seconds[lower]],
        "objective": [float(f"{value:.8g}") for value in best[lower]],
    }


METHODS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "gated": convex,
    "relu": convex,
    "generated": generated,
    **{f"{name}-again": convex for name in CONVEX},
    "sgd": by_output,
    "adam": by_output,
    **dict.fromkeys(DESCENT, descent),
}
