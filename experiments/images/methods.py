r"""Images: the digits of MNIST, pixels as they are, and every method on one objective.

Rows are pixels in [0, 1] and a one; :math:`\beta = n \lambda`.

*Ten classes* (`ten`). Targets are one-hot, squared loss over all ten outputs. A ReLU network whose
neurons share the outputs pays :math:`\tfrac\beta2 \sum_j (\|u_j\|^2 + \|a_j\|^2)`; one whose
neurons feed one output each is such a network too, so that all ReLU networks have one objective and
one lower bound.

*Two classes* (`parity`). Even digits are +1, odd ones -1. ``config["network"]`` is two layers, or
sub-networks of three with weight decay or the path norm.

Patterns and sub-networks are found as in `convexlib.solvers.units.search`: for two layers a
sub-network has width one. At 785 columns no bound is tight here that can be paid: `BOUNDED` takes
the spectral one (`convexlib.pricing`), which costs a few eigenvalue decompositions.

The clock is that of the processor. Descent has T seconds for each run, of every rate with the first
seed and then of the best rate with the other seeds. T is what the search of the convex method took
with the first seed (`parity`) or is fixed (`ten`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from convexlib.arrangements import sample_arrangements
from convexlib.arrangements.patterns import patterns_of
from convexlib.checks import check_choice
from convexlib.datasets import load_mnist
from convexlib.errors import ConvergenceWarning
from convexlib.networks import ParallelReLU, TwoLayerReLU, side_by_side
from convexlib.pricing.best_neuron import spectral_bound
from convexlib.problems.parallel import UnitProgram
from convexlib.problems.parallel.path import PathRegularized
from convexlib.problems.parallel.three_layer import ThreeLayer
from convexlib.problems.two_layer import TwoLayer
from convexlib.problems.vector_output import VectorOutput
from convexlib.result import Result
from convexlib.solvers.solve import solve
from convexlib.training import Training, now, train, train_parallel
from experiments.variations import check_rows

CLASSES = 10
BASELINES = ("adam", "sgd")
RECORDS = 12
LIVE = 1e-3  # relative size of a unit that is in use
SEED = 0  # of the gates, and of the order of the rows


@dataclass(frozen=True, eq=False)
class Task:
    """Images in a fixed random order; the first rows train.

    Attributes
    ----------
    X, labels : Tensor (n, d), (n,)
        Training rows, pixels in [0, 1] and a one, and their digits.
    X_test, labels_test : Tensor (n', d), (n',)
        The rows behind them.
    """

    X: Tensor
    labels: Tensor
    X_test: Tensor
    labels_test: Tensor

    def accuracies(self, right: Callable[[Tensor, Tensor], Tensor]) -> dict[str, float]:
        """Shares of the rows of which `right` says that they are classified correctly."""
        with torch.no_grad():
            return {
                "train_accuracy": float(right(self.X, self.labels).double().mean()),
                "test_accuracy": float(right(self.X_test, self.labels_test).double().mean()),
            }


def load(data: str, n_train: int, n_test: int) -> Task:
    """Return the digits of ``"mnist"`` (28 x 28 pixels) or ``"digits"`` (8 x 8, scikit-learn)."""
    check_choice(data, ("mnist", "digits"), "data")
    if data == "mnist":
        pixels, labels = load_mnist()
    else:
        found = load_digits()
        pixels, labels = found.data / 16.0, found.target
    because = f"n_train is {n_train} and n_test is {n_test}"
    check_rows(data, len(labels), n_train + n_test, because)
    order = np.random.default_rng(SEED).permutation(len(labels))[: n_train + n_test]
    X = torch.from_numpy(np.column_stack([pixels[order], np.ones(len(order))]))
    digits = torch.from_numpy(labels[order].astype(np.int64))
    return Task(X[:n_train], digits[:n_train], X[n_train:], digits[n_train:])


def task_of(config: Mapping[str, Any]) -> Task:
    """Return the task of a configuration."""
    task = load(config["data"], config["n_train"], config["n_test"])
    return Task(*(part.to(config["device"]) for part in vars(task).values()))


class _Spectral(UnitProgram):
    """Bounds its dual norm by eigenvalues alone; at 785 columns the tighter bound takes minutes."""

    def dual_norm(self, z: Tensor) -> float:
        if self.widths[0] == 1:  # two layers: neurons, with both signs of z
            return spectral_bound(self.X, z)
        parts = (z.clamp(min=0.0), (-z).clamp(min=0.0))
        largest = max(spectral_bound(self.X, part) for part in parts)
        return largest * (1.0 if self.by_sum else self.widths[0] ** 0.5)


class BoundedThreeLayer(_Spectral, ThreeLayer):
    """`ThreeLayer` with a bound that can be paid at hundreds of columns."""


class BoundedPath(_Spectral, PathRegularized):
    """`PathRegularized` with a bound that can be paid at hundreds of columns."""


NETWORKS: dict[str, type[BoundedThreeLayer] | type[BoundedPath]] = {
    "two": BoundedThreeLayer,
    "decay": BoundedThreeLayer,
    "path": BoundedPath,
}


@dataclass(frozen=True, eq=False)
class Setting:
    """A task with its targets and its penalty.

    Attributes
    ----------
    task : Task
    Y : Tensor (n, 10) or (n,)
        One-hot, or +1 for even digits and -1 for odd ones.
    beta : float
        n lambda.
    referee : VectorOutput, TwoLayer or UnitProgram
        Scores the networks of the setting in float64.
    problem : UnitProgram or None
        Whose sub-networks are searched for, with two classes; of two layers they have width one.
    """

    task: Task
    Y: Tensor
    beta: float
    referee: VectorOutput | TwoLayer | UnitProgram
    problem: UnitProgram | None = None

    def scores(self, network: nn.Module, model: Any = None) -> dict[str, Any]:
        """Score a network; `model` is the program of another kind of network."""
        ten = self.problem is None

        def right(A: Tensor, digits: Tensor) -> Tensor:
            outputs = network(A)
            return outputs.argmax(1) == digits if ten else (outputs > 0) == (digits % 2 == 0)

        return {
            "objective": (model or self.referee).objective(network),
            **self.task.accuracies(right),
            "units": units_in_use(network),
        }


def units_in_use(network: Any) -> int:
    """Count the neurons of two layers, or sub-networks of three, not far below the largest one."""
    with torch.no_grad():
        if isinstance(network, ParallelReLU):
            sizes = network.path_norms()
        else:
            outer = network.alpha if network.alpha.ndim == 2 else network.alpha[:, None]
            sizes = network.U.norm(dim=1) * outer.norm(dim=1)
    return int((sizes > LIVE * sizes.max()).sum()) if len(sizes) else 0


def setting(config: Mapping[str, Any]) -> Setting:
    """Return what a configuration is about."""
    task = task_of(config)
    X, beta = task.X, len(task.X) * config["lambda"]
    if config["part"] == "ten":
        Y = nn.functional.one_hot(task.labels, CLASSES).to(X)
        # What patterns it has does not matter for a score.
        some = sample_arrangements(X, 2, seed=SEED)
        return Setting(task, Y, beta, VectorOutput(X, Y, beta=beta, arrangements=some))
    y = 1.0 - 2.0 * (task.labels % 2).to(X)
    network = config["network"]
    width = 1 if network == "two" else config["width"]
    problem = NETWORKS[network](X, y, beta=beta, width=width, units="generate")
    two = TwoLayer(X, y, beta=beta, arrangements="generate")
    return Setting(task, y, beta, two if network == "two" else problem, problem)


def ten(config: dict[str, Any]) -> dict[str, Any]:
    """All ten digits: gated and ReLU programs, and descent."""
    at = setting(config)
    X, Y, beta = at.task.X, at.Y, at.beta
    gates = sample_arrangements(X, config["patterns"], seed=SEED)
    few = sample_arrangements(X, config["relu_patterns"], seed=SEED)
    programs = {
        "gated": VectorOutput(X, Y, beta=beta, arrangements=gates, gated=True),
        "nuclear": VectorOutput(X, Y, beta=beta, arrangements=gates, gated=True, penalty="nuclear"),
        "relu": VectorOutput(X, Y, beta=beta, arrangements=few),
    }
    with warnings.catch_warnings():
        # What is not proven, and rates that are too large, the record says.
        warnings.simplefilter("ignore", ConvergenceWarning)
        _compile(X, Y[:, 0])
        methods = {name: _solved(at, program, config) for name, program in programs.items()}
        network, seconds = _each_digit(at, config)
        methods["generated"] = {**at.scores(network), "seconds": round(seconds, 3)}
        bound = _shared_bound(at, network)
        for name in BASELINES:
            methods[name] = _descents(at, name, config, config["seconds"])
    return _report(at, bound, methods)


def parity(config: dict[str, Any]) -> dict[str, Any]:
    """Even against odd: one kind of network, searched for and trained."""
    at = setting(config)
    assert at.problem is not None  # of two classes
    two = config["network"] == "two"
    searches, duals = [], []
    with warnings.catch_warnings():
        # What is not proven, and rates that are too large, the record says.
        warnings.simplefilter("ignore", ConvergenceWarning)
        _compile(at.task.X, at.Y)
        for seed in config["seeds"]:
            began = now(at.task.X)
            result = _search(at.problem, config, seed)
            network = as_two_layers(at.problem, result) if two else at.problem.to_network(result)
            seconds = round(now(at.task.X) - began, 3)
            duals.append(result.dual)
            searches.append({**at.scores(network), "seed": seed, "seconds": seconds})
        methods: dict[str, Any] = {"generated": searches}
        if two:
            methods |= _over_patterns(at, config)
        for name in BASELINES:
            methods[name] = _descents(at, name, config, searches[0]["seconds"])
    return _report(at, max(duals), methods)


def _report(at: Setting, bound: float, methods: dict[str, Any]) -> dict[str, Any]:
    """What a record keeps; `bound` is below every ReLU network of the setting."""
    return {
        "rows": [*at.task.X.shape, len(at.task.X_test)],
        "beta": at.beta,
        "zero": 0.5 * float((at.Y**2).sum()),
        "bound": bound,
        "methods": methods,
    }


def replay(record: Mapping[str, Any]) -> dict[str, Any]:
    """Make the descents of a record again, each for the steps that it had time for."""
    config = dict(record["config"])
    at = setting(config)

    def again(name: str, run: Mapping[str, Any]) -> dict[str, float]:
        made = _train(at, name, config, [run["rate"]], [run["seed"]], n_steps=run["steps"])
        return {"objective": at.referee.objective(made.best_network)}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        stored = record["result"]["methods"]
        return {
            "methods": {
                name: {"runs": [again(name, run) for run in stored[name]["runs"]]}
                for name in BASELINES
            }
        }


def _compile(X: Tensor, y: Tensor) -> None:
    """Compile the kernels of the cones before a clock starts."""
    rows = X[:20]
    solve(TwoLayer(rows, y[:20], beta=0.1, arrangements=sample_arrangements(rows, 9)), tol=0.1)


def _search(problem: UnitProgram, config: Mapping[str, Any], seed: int) -> Result:
    return solve(problem, max_iter=config["rounds"], n_starts=config["starts"], seed=seed)


def as_two_layers(problem: UnitProgram, result: Result) -> TwoLayerReLU:
    r"""Return sub-networks of width one as neurons: :math:`(s (Xu)_+)_+` is :math:`(Xu)_+` or 0."""
    leaves, signs, side = problem.blocks_of(result)
    live = signs[0].flatten() > 0
    sizes = torch.linalg.vector_norm(leaves[live, 0], dim=1).sqrt()
    return TwoLayerReLU(leaves[live, 0] / sizes[:, None], side[live] * sizes)


def _each_digit(at: Setting, config: dict[str, Any]) -> tuple[TwoLayerReLU, float]:
    """Search the neurons of each output by itself; the network of all, and the seconds."""
    began = now(at.task.X)
    networks = []
    for targets in at.Y.T:
        problem = BoundedThreeLayer(at.task.X, targets, beta=at.beta, width=1, units="generate")
        networks.append(as_two_layers(problem, _search(problem, config, config["seeds"][0])))
    return side_by_side(networks), now(at.task.X) - began


def _shared_bound(at: Setting, network: nn.Module) -> float:
    r"""Bound all ReLU networks from below, neurons shared or not, by the residual of one of them.

    :math:`\max_u \|Z^\top (Xu)_+\| \le (\sum_k b_k^2)^{1/2}` with a bound :math:`b_k` for each
    column, by which the residual is divided to be feasible.
    """
    X, loss = at.task.X, at.referee.loss
    with torch.no_grad():
        Z = at.Y - network(X)
    norm = math.sqrt(sum(spectral_bound(X, column) ** 2 for column in Z.T))
    return loss.dual_value(loss.best_scale(Z, at.Y, at.beta / norm) * Z, at.Y)


def _over_patterns(at: Setting, config: dict[str, Any]) -> dict[str, Any]:
    """The programs over sampled gates, and the linear function: one gate that is always open."""
    X = at.task.X
    gates = {
        "relu": sample_arrangements(X, config["relu_patterns"], seed=SEED),
        "gated": sample_arrangements(X, config["patterns"], seed=SEED),
        "linear": patterns_of(X, torch.eye(X.shape[1]).to(X)[-1:]),
    }
    return {
        name: _solved(
            at,
            TwoLayer(X, at.Y, beta=at.beta, arrangements=patterns, gated=name != "relu"),
            config,
        )
        for name, patterns in gates.items()
    }


def _solved(
    at: Setting, program: TwoLayer | VectorOutput, config: dict[str, Any]
) -> dict[str, Any]:
    """Solve a program over given patterns; `gap` is among them."""
    began = now(at.task.X)
    result = solve(program, tol=config["tol"])
    network = program.to_network(result)
    seconds = now(at.task.X) - began
    return {
        **at.scores(network, program),
        "patterns": program.n_patterns,
        "gap": result.gap,
        "seconds": round(seconds, 3),
    }


def _descents(at: Setting, name: str, config: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Every rate with the first seed, then the best one with the others, for so long each."""
    rates, (first, *others) = config["rates"][name], config["seeds"]
    tried = {rate: _train(at, name, config, [rate], [first], seconds=seconds) for rate in rates}
    best = min(rates, key=lambda rate: tried[rate].best_objective)
    runs = [_train(at, name, config, [best], [seed], seconds=seconds) for seed in others]
    return {
        "by_rate": [float(f"{tried[rate].best_objective:.6g}") for rate in rates],
        "runs": [
            {
                **at.scores(made.best_network),
                "rate": made.best_rate,
                "seed": made.best_seed,
                "steps": int(made.steps[-1]),
                "seconds": round(float(made.seconds[-1]), 3),
            }
            for made in (tried[best], *runs)
        ],
    }


def _train(
    at: Setting,
    name: str,
    config: Mapping[str, Any],
    rates: list[float],
    seeds: list[int],
    **budget: Any,
) -> Training[Any]:
    """Descent on the network that the referee scores, within a number of steps or of seconds."""
    shared = {
        "optimizer": f"{name}-cosine",
        "batch_size": config["batch_size"],
        "n_records": RECORDS,
        "rates": rates,
        "seeds": seeds,
        **budget,
    }
    if isinstance(at.referee, UnitProgram):
        return train_parallel(at.referee, config["subnetworks"], **shared)
    return train(at.task.X, at.Y, beta=at.beta, width=config["neurons"], **shared)
