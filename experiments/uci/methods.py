"""UCI: a table as a training problem, and from it and settings to what a record keeps.

*Convex*: each output is solved by itself to a relative gap of `tol`; the network that the weights
stand for is scored, and the lower bound is computed anew from the dual points.

*Generated*: the ReLU program again, but patterns are generated for so many rounds, beginning with
those of a briefly trained network. The bound is on all networks, of any width; at these ranks it
is far from tight.

*Descent*: for each output, all learning rates and seeds are trained at once, in float32, for so
many epochs of so many batches; the rate is halved 19 times on the way. An output keeps the best
network that any of its runs met at a record. That is more than one run of one rate could do:
outputs tune their own rates, and the best moment counts, not the last.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from convexlib.arrangements import Arrangements, sample_arrangements
from convexlib.datasets import load_uci
from convexlib.errors import ConvergenceWarning, InputError
from convexlib.networks import side_by_side
from convexlib.problems.two_layer import TwoLayer
from convexlib.problems.vector_output import VectorOutput
from convexlib.result import Result
from convexlib.solvers.solve import solve
from convexlib.training import now, train
from experiments.variations import own_table

SHUFFLE = 1995
MAX_CLASSES = 100  # of the 73 tables none has more
CONVEX: dict[str, dict[str, Any]] = {
    "gated": {"patterns": 5000, "tol": 1e-6},
    "relu": {"patterns": 2500, "tol": 1e-6},
}
RECORDS = 40  # of the objective, on the way
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
        table = own_table(file, features=True)
        X, values = table.X, table.y
    else:
        X, values = load_uci(name)
    classes, labels = np.unique(values, return_inverse=True)
    if not 2 <= len(classes) <= MAX_CLASSES:
        raise InputError(
            f"the last column of {name} has {len(classes)} values; expected classes, 2 to "
            f"{MAX_CLASSES} of them, as whole numbers for instance."
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


def patterns(X: Tensor, count: int) -> Arrangements:
    """Return the distinct patterns of `count` Gaussian gates, without the one of zeros."""
    drawn = sample_arrangements(X, count, seed=SEED)
    return drawn.select(drawn.masks.any(dim=1))


def convex(task: Task, config: dict[str, Any]) -> dict[str, Any]:
    """Solve the program over sampled patterns, output by output."""
    X, n = task.X, len(task.X)
    began = now(X)
    program = VectorOutput(
        X,
        task.Y,
        beta=n * config["lambda"],
        arrangements=patterns(X, config["patterns"]),
        gated=config["method"] == "gated",
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
        **_solution(program, task, network, sum(bounds), results, seconds, setup),
        "patterns": count,
        "newton_steps": sum(result.n_iter for result in results),
    }


def generated(task: Task, config: dict[str, Any]) -> dict[str, Any]:
    """Solve the ReLU program over generated patterns, output by output."""
    X, beta = task.X, len(task.X) * config["lambda"]
    columns = [TwoLayer(X, targets, beta=beta, arrangements="generate") for targets in task.Y.T]
    results, seconds = _solved(columns, tol=config["tol"], max_iter=config["rounds"])
    pairs = list(zip(columns, results, strict=True))
    network = side_by_side([column.to_network(result) for column, result in pairs])
    dual = sum(result.dual for result in results)
    return _solution(_referee(task, beta), task, network, dual, results, seconds)


def descent(task: Task, config: dict[str, Any]) -> dict[str, Any]:
    """Train the whole grid of rates and seeds, output by output."""
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
                optimizer=f"{config['method'].partition('-')[0]}-step",
                rates=config["rates"],
                seeds=config["seeds"],
                n_steps=config["epochs"] * config["batches"],
                batch_size=math.ceil(n / config["batches"]),
                n_records=RECORDS,
            )
            runs.append(run)
    network = side_by_side([run.best_network for run in runs])
    # With the same number of steps, all outputs are recorded at the same moments.
    seconds = np.sum([run.seconds for run in runs], axis=0)
    values = np.sum([run.best_curve for run in runs], axis=0) / n
    return {
        **scores(_referee(task, beta), task, network),
        "runs": len(config["rates"]) * len(config["seeds"]),
        "best_rates": [run.best_rate for run in runs],
        "best_seeds": [run.best_seed for run in runs],
        "diverged": sum(run.n_diverged for run in runs),
        "steps": int(runs[0].steps[-1]),
        "seconds": round(float(seconds[-1]), 4),
        "curve": curve(seconds, values),
    }


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


def _referee(task: Task, beta: float) -> VectorOutput:
    """A problem that scores ReLU networks; what patterns it has does not matter for that."""
    return VectorOutput(task.X, task.Y, beta=beta, arrangements=patterns(task.X, 20))


def _solution(
    problem: VectorOutput,
    task: Task,
    network: nn.Module,
    dual: float,
    results: list[Result],
    seconds: list[float],
    setup: float = 0.0,
) -> dict[str, Any]:
    """The network's scores, the lower bound, and what the solver says of both."""
    n = len(task.X)
    return {
        **scores(problem, task, network),
        "dual": dual / n,
        "relative_gap": max(1.0 - dual / problem.objective(network), 0.0),
        "program_value": sum(result.value for result in results) / n,
        "scope": results[0].scope,
        "status": sorted({result.status.name for result in results}),
        "seconds": round(setup + sum(seconds), 4),
        "curve": _solver_curve(results, seconds, setup, n),
    }


def scores(problem: VectorOutput, task: Task, network: nn.Module) -> dict[str, Any]:
    """Score a network in float64: objective F, accuracies, neurons; beside them F of no network."""
    n = len(task.X)
    with torch.no_grad():
        found = [_classes(network(X)) for X in (task.X, task.X_test)]
    labels = task.labels, task.labels_test
    accuracy = [float((a == b).double().mean()) for a, b in zip(found, labels, strict=True)]
    return {
        "shape": [*task.X.shape, task.Y.shape[1]],
        "zero": 0.5 * float((task.Y**2).sum()) / n,
        "objective": problem.objective(network) / n,
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


METHODS: dict[str, Callable[[Task, dict[str, Any]], dict[str, Any]]] = {
    "gated": convex,
    "relu": convex,
    "generated": generated,
    "sgd": descent,
    "adam": descent,
    "sgd-2000": descent,
    "adam-2000": descent,
}
