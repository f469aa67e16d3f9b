r"""Three layers: a landscape whose optimum is proven, and classification sets at equal time.

*Landscape*: Adam is started from many seeds on two small instances (`instance`).

*Sets*: generated sub-networks against descent at equal time.

Labels are ±1 and the loss is squared. The tables of the UCI repository keep their published scale,
digits (8 x 8 pixels, even against odd) have pixels in [0, 1]; both get a column of ones. A fifth of
a table tests (the rows of `experiments.uci.split`) and at most 1,200 rows train.

*generated* (``units="generate"``) has no rate to choose. Its first seed counts, and takes T seconds
of processor time. *SGD* and *Adam*, both with a rate that falls along half a cosine, train K
sub-networks on the same objective (see `convexlib.training.parallel`), in two ways:

* *alone*: every rate has T seconds for one run of the first seed. While the best rate is the
  largest or the smallest, another beyond it is tried. Then the best rate has T seconds for each
  seed, and the best of all these runs counts: chosen by hindsight.
* *tuned*: the grid of these rates and all seeds has `factor` times T in all; its best run counts.

Beside them, at the same beta: random sub-networks with the best nonnegative multiples, two layers,
which are sub-networks of width one, and a linear function under :math:`\beta \|w\|`. Every network
is scored by the `objective` of its problem, in float64.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from convexlib.datasets import autoregression, catalogue, load_ecg, load_uci
from convexlib.errors import ConvergenceWarning, InputError
from convexlib.problems.parallel import UnitProgram
from convexlib.problems.parallel.path import PathRegularized
from convexlib.problems.parallel.three_layer import ThreeLayer
from convexlib.problems.parallel.units import weights_from
from convexlib.solvers.solve import solve
from convexlib.solvers.units.search import rescaled
from convexlib.training import now, train_parallel
from experiments.uci.methods import split
from experiments.variations import beta_of, check_rows

CLOSE = (1e-2, 1e-3)  # relative excess over the optimum that counts as reaching it
KINDS: dict[str, type[ThreeLayer] | type[PathRegularized]] = {
    "decay": ThreeLayer,
    "path": PathRegularized,
}
BASELINES = ("sgd", "adam")
WAYS = ("alone", "tuned")
TRAIN = 1200  # rows at most
RECORDS = 12
Data = tuple[Tensor, Tensor, Tensor, Tensor]  # X, y, X_test, y_test


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


def landscape(config: dict[str, Any]) -> dict[str, Any]:
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
        "excess": [[_short(value) for value in column] for column in excess.T],
        "reached": [[float((column <= level).mean()) for level in CLOSE] for column in excess.T],
    }


def digits(n_train: int = TRAIN) -> Data:
    """Return (X, y, X_test, y_test): pixels in [0, 1] and a one, +1 for even digits, -1 for odd.

    The split is a permutation by ``default_rng(0)``: the first n_train rows train.
    """
    found = load_digits()
    because = f"n_train is {n_train}, and one has to test"
    check_rows("digits", len(found.target), n_train + 1, because)
    order = np.random.default_rng(0).permutation(len(found.target))
    pixels, parity = found.data[order] / 16.0, found.target[order] % 2
    X = torch.from_numpy(np.column_stack([pixels, np.ones(len(pixels))]))
    y = torch.from_numpy(1.0 - 2.0 * parity)
    return X[:n_train], y[:n_train], X[n_train:], y[n_train:]


def load(name: str, n_train: int = TRAIN) -> Data:
    """Return a set: ``"digits"`` or a table of two classes of `convexlib.datasets.list_uci`."""
    if name == "digits":
        return digits(n_train)
    features, labels = load_uci(name)
    if (classes := catalogue()[name].classes) != 2:
        raise InputError(
            f"{name} has {classes} classes; expected two, as labels are +1 and -1. Set another "
            "table, or digits."
        )
    X = torch.from_numpy(np.column_stack([features, np.ones(len(features))]))
    y = torch.from_numpy(2.0 * (labels == labels.max()) - 1.0)
    train, test = split(len(X))
    train = train[:n_train]
    return X[train], y[train], X[test], y[test]


def compare(config: dict[str, Any]) -> dict[str, Any]:
    """All methods on one set at one beta."""
    data = load(config["set"], config["n_train"])
    X, y = data[:2]
    beta = beta_of(config, ThreeLayer(X, y, beta=1.0, units="generate").beta_max())
    with warnings.catch_warnings():
        # Nothing is proven at these ranks, and a rate may be too large: the record says so.
        warnings.simplefilter("ignore", ConvergenceWarning)
        kinds = {}
        for kind in config["kinds"]:
            problem = KINDS[kind](X, y, beta=beta, width=config["width"], units="generate")
            kinds[kind] = _methods(problem, data, config)
        two = _two_layers(data, beta, config)
    return {
        "rows": [*X.shape, len(data[2])],
        "beta": beta,
        "zero": 0.5 * float(y @ y),
        "kinds": kinds,
        "two_layers": two,
        "linear": _linear(data, beta),
    }


def replay(record: Mapping[str, Any]) -> dict[str, Any]:
    """Make the descents of a record again, each for the steps that it had time for."""
    config, result = dict(record["config"]), record["result"]
    if config["part"] != "sets":
        return {}
    X, y = load(config["set"], config["n_train"])[:2]
    kinds: dict[str, Any] = {}
    for kind in config["kinds"]:
        problem = KINDS[kind](X, y, beta=result["beta"], width=config["width"], units="generate")
        stored = result["kinds"][kind]
        kinds[kind] = {
            name: {way: _again(problem, name, stored[name][way], config) for way in WAYS}
            for name in BASELINES
        }
    return {"kinds": kinds}


def _again(
    problem: UnitProgram, name: str, run: Mapping[str, Any], config: dict[str, Any]
) -> dict[str, float]:
    """The objective of a run of so many steps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        made = _train(problem, name, config, [run["rate"]], [run["seed"]], n_steps=run["steps"])
    return {"objective": problem.objective(made.best_network)}


def _train(
    problem: UnitProgram,
    name: str,
    config: dict[str, Any],
    rates: list[float],
    seeds: list[int],
    **budget: Any,
) -> Any:
    """A baseline with a grid of rates and seeds, within a number of steps or of seconds."""
    return train_parallel(
        problem,
        config["K"],
        optimizer=f"{name}-cosine",
        batch_size=config["batch_size"],
        n_records=RECORDS,
        rates=rates,
        seeds=seeds,
        **budget,
    )


def _methods(problem: UnitProgram, data: Data, config: dict[str, Any]) -> dict[str, Any]:
    """The methods with sub-networks of the problem's width and price."""
    searches, times = [], []
    for seed in config["seeds"]:
        began = now(problem.X)
        searches.append(
            solve(problem, max_iter=config["rounds"], n_starts=config["starts"], seed=seed)
        )
        times.append(now(problem.X) - began)
    seconds = times[0]
    report: dict[str, Any] = {
        "generated": {
            **_scores(problem, problem.to_network(searches[0]), data),
            "seconds": round(seconds, 3),
            "dual": searches[0].dual,
            "rounds": [_short(entry.primal) for entry in searches[0].history],
            "by_seed": [_short(result.value) for result in searches],
        },
        "sampled": _sampled(problem, config["samples"], data),
    }
    for name in BASELINES:
        report[name] = _descent(problem, name, seconds, data, config)
    return report


def _descent(
    problem: UnitProgram, name: str, seconds: float, data: Data, config: dict[str, Any]
) -> dict[str, Any]:
    """A baseline in both ways."""
    seeds = config["seeds"]

    def alone(rate: float, seeds: list[int]) -> Any:
        return _train(problem, name, config, [rate], seeds, seconds=len(seeds) * seconds)

    tried = {rate: alone(rate, seeds[:1]) for rate in config["rates"][name]}
    best = _best_rate(tried)
    for _ in range(config["widenings"]):
        beyond = {max(tried): 3.0, min(tried): 1.0 / 3.0}.get(best)
        if beyond is None:
            break
        rate = float(f"{best * beyond:.3g}")
        tried[rate] = alone(rate, seeds[:1])
        best = _best_rate(tried)
    final = alone(best, seeds)
    winner = min(final, tried[best], key=lambda run: run.best_objective)
    grid = sorted(tried)
    tuned = _train(problem, name, config, grid, seeds, seconds=config["factor"] * seconds)
    return {
        "rates": grid,
        "alone": {
            **run_scores(problem, winner, data),
            "by_rate": [_short(tried[rate].best_objective) for rate in grid],
            "by_seed": [_short(value) for value in final.objective.min(axis=2)[:, 0]],
        },
        "tuned": run_scores(problem, tuned, data),
    }


def _best_rate(tried: dict[float, Any]) -> float:
    return min(tried, key=lambda rate: tried[rate].best_objective)


def run_scores(problem: UnitProgram, run: Any, data: Data) -> dict[str, Any]:
    """The scores of a training, and its curve."""
    return {
        **_scores(problem, run.best_network, data),
        "rate": run.best_rate,
        "seed": run.best_seed,
        "steps": int(run.steps[-1]),
        "curve": {
            "seconds": [round(float(second), 3) for second in run.seconds],
            "objective": [_short(value) for value in run.best_curve],
        },
    }


def _sampled(problem: UnitProgram, count: int, data: Data) -> dict[str, Any]:
    """Random sub-networks with the best nonnegative multiples of either output sign."""
    X, y = problem.X, problem.y
    generator = torch.Generator().manual_seed(0)
    m, d = problem.widths[0], X.shape[1]
    began = now(X)
    leaves = torch.randn(count, m, d, generator=generator, dtype=torch.float64)
    signs = 1.0 - 2.0 * torch.randint(0, 2, (count, m), generator=generator).double()
    side = 1.0 - 2.0 * (torch.arange(count) % 2).double()
    network = problem.to_network(weights_from(*rescaled(problem, X, y, (leaves, signs, side))))
    return {**_scores(problem, network, data), "seconds": round(now(X) - began, 3)}


def _two_layers(data: Data, beta: float, config: dict[str, Any]) -> dict[str, Any]:
    """Two layers are sub-networks of width one, and are searched for in the same way."""
    problem = ThreeLayer(*data[:2], beta=beta, width=1, units="generate")
    began = now(problem.X)
    result = solve(problem, max_iter=config["rounds"], n_starts=config["starts"])
    seconds = now(problem.X) - began
    network = problem.to_network(result)
    return {**_scores(problem, network, data), "seconds": round(seconds, 3)}


def _linear(data: Data, beta: float) -> dict[str, Any]:
    r"""The minimum of :math:`\tfrac12 \|X w - y\|^2 + \beta \|w\|`.

    With the singular values s, :math:`w = (X^\top X + \mu I)^{-1} X^\top y` for the mu with
    :math:`\mu \|w\| = \beta`; the left side rises with mu, to :math:`\|X^\top y\|`.
    """
    X, y = data[:2]
    left, s, right = torch.linalg.svd(X, full_matrices=False)
    rotated = s * (left.T @ y)
    low, high = 0.0, float(s[0]) ** 2
    if float(torch.linalg.vector_norm(rotated)) <= beta:
        w = X.new_zeros(X.shape[1])
    else:
        while high * float(torch.linalg.vector_norm(rotated / (s**2 + high))) < beta:
            high *= 2.0
        for _ in range(200):
            middle = 0.5 * (low + high)
            size = middle * float(torch.linalg.vector_norm(rotated / (s**2 + middle)))
            low, high = (middle, high) if size < beta else (low, middle)
        w = right.T @ (rotated / (s**2 + high))
    value = 0.5 * float(((X @ w - y) ** 2).sum()) + beta * float(torch.linalg.vector_norm(w))
    linear = nn.Linear(len(w), 1, bias=False).double()
    linear.weight.data = w[None]
    return {"objective": value, **_accuracies(nn.Sequential(linear, nn.Flatten(0)), data)}


def _scores(problem: UnitProgram, network: Any, data: Data) -> dict[str, Any]:
    """The referee's objective, accuracies, and the sub-networks in use."""
    with torch.no_grad():
        norms = network.path_norms()
    return {
        "objective": problem.objective(network),
        **_accuracies(network, data),
        "subnetworks": int((norms > 1e-3 * norms.max()).sum()) if len(norms) else 0,
    }


def _accuracies(network: nn.Module, data: Data) -> dict[str, float]:
    X, y, X_test, y_test = data
    with torch.no_grad():
        right = [float((network(A) * b > 0).double().mean()) for A, b in ((X, y), (X_test, y_test))]
    return {"train_accuracy": right[0], "test_accuracy": right[1]}


def _short(value: float) -> float:
    return float(f"{value:.6g}")
