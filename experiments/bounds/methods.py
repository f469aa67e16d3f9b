"""Bounds above rank 5: the tables, and from a setting to a network and its certificates."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_diabetes
from torch import Tensor, nn

from convexlib.certify import certify
from convexlib.certify.outputs import improved
from convexlib.datasets import load_uci
from convexlib.errors import InputError, unwarned
from convexlib.losses import get_loss
from convexlib.networks.two_layer import linear
from convexlib.pricing import Pricing, price, price_outputs, row_space
from convexlib.problems.two_layer import TwoLayer
from convexlib.solvers.solve import solve
from convexlib.training import now
from experiments.ecg.methods import load_task
from experiments.variations import beta_of

ECG, ECG_ROWS = "ecg-", 2000  # with the number of lags
CONSTANT = 1e-9  # part of a column's largest entry
SLACK = 0.05  # of a bound: what the search for the network makes of its dual point


def load(name: str, loss: str = "squared", device: str = "cpu") -> tuple[Tensor, Tensor]:
    """Return (X, y) of a table: ``"diabetes"``, ``"ecg-5"``, or one of `list_uci`.

    The target of the latter is the class, as a number; ±1 for the last one and the others where
    the loss is one of classes.
    """
    if name == "diabetes":
        features, target = load_diabetes(return_X_y=True)
    elif name.startswith(ECG):
        lags = name.removeprefix(ECG)
        # Beyond, columns outnumber rows, and fill the memory.
        if not (lags.isdecimal() and 1 <= int(lags) < ECG_ROWS):
            raise InputError(
                f"set is {name!r}; expected a number of lags from 1 to {ECG_ROWS - 1} behind "
                f"{ECG!r}, as in 'ecg-5'."
            )
        task = load_task(int(lags), ECG_ROWS, 1)
        features, target = task.X[:, :-1].numpy(), task.y.numpy()
    else:
        features, target = load_uci(name)
    features = features[:, features.std(axis=0) > CONSTANT * np.abs(features).max(axis=0)]
    X = np.column_stack([_standard(features), np.ones(len(features))])
    y = _standard(target) if loss == "squared" else 2.0 * (target == target.max()) - 1.0
    return torch.from_numpy(X).to(device), torch.from_numpy(y).to(device)


def load_classes(name: str, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """Return (X, Y) of a table, with a column of zeros and ones for each class."""
    X, _ = load(name, device=device)
    classes, label = np.unique(load_uci(name)[1], return_inverse=True)
    return X, torch.from_numpy(np.eye(len(classes))[label]).to(device)


def _standard(values: np.ndarray) -> np.ndarray:
    return (values - values.mean(axis=0)) / values.std(axis=0)


def by_time(certificates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return certificates from the one of the least time on, which none of the others is below."""
    return sorted(certificates, key=lambda one: one["given"])


def bounds(config: dict[str, Any]) -> dict[str, Any]:
    """The best network of all seeds, and its certificate for each of the times."""
    X, y = load(config["set"], config["loss"], config["device"])
    free = TwoLayer(X, y, beta=1.0, arrangements="generate", loss=config["loss"])
    largest = price(X, free.loss.dual_point(torch.zeros_like(y), y), max_nodes=0)
    problem = free.with_beta(beta_of(config, largest.upper))
    began = now(X)
    options = {"tol": config["tol"], "max_iter": config["rounds"], "max_steps": config["steps"]}
    with unwarned():  # the proof is left to `certify`
        runs = [solve(problem, max_nodes=0, seed=seed, **options) for seed in config["seeds"]]
    best = min(runs, key=lambda run: run.value)
    network = problem.to_network(best)
    trained = now(X) - began
    found = _certified(config, network, X, y, problem.beta, best.z)
    return {
        **_described(X, largest),
        "beta": problem.beta,
        "primal": problem.objective(network),
        "neurons": len(network.alpha),
        "status": best.status.name,
        "seconds": round(trained, 3),
        **found,
    }


def class_bounds(config: dict[str, Any]) -> dict[str, Any]:
    """The same for a classifier with an output for each class: a network found from none."""
    X, Y = load_classes(config["set"], config["device"])
    largest = price_outputs(X, Y, max_nodes=config["nodes"])
    beta, loss, d, c = beta_of(config, largest.upper), get_loss("squared"), X.shape[1], Y.shape[1]
    began = now(X)
    U, A, Z, value = improved(
        X, Y, beta, loss, X.new_zeros(0, d), X.new_zeros(0, c), None, config["nodes"]
    )
    trained = now(X) - began
    network = nn.Sequential(linear(U), nn.ReLU(), linear(A.T))
    found = _certified(config, network, X, Y, beta, Z)
    return {
        **_described(X, largest),
        "classes": c,
        "beta": beta,
        "primal": value,
        "neurons": len(U),
        "seconds": round(trained, 3),
        **found,
    }


def _described(X: Tensor, largest: Pricing) -> dict[str, Any]:
    return {
        "rows": list(X.shape),
        "rank": row_space(X)[0].shape[1],
        "beta_max": largest.upper,
        "beta_max_found": largest.lower,
    }


def _certified(
    config: dict[str, Any], network: nn.Module, X: Tensor, y: Tensor, beta: float, z: Tensor
) -> dict[str, Any]:
    """The certificates of a network from a dual point, for each of the times."""
    certificates = []
    for given in config["seconds"]:
        began = now(X)
        certificate = certify(
            network, X, y, beta=beta, loss=config["loss"], z=z, refine=False,
            max_seconds=given, **({} if given else {"max_nodes": config["nodes"]}),
        )  # fmt: skip
        certificates.append(
            {
                "given": given,
                "dual": certificate.dual,
                "gap": certificate.relative_gap,
                "method": certificate.method,
                "rigorous": certificate.rigorous,
                "seconds": round(now(X) - began, 3),
            }
        )
    return {
        "least": (1.0 - SLACK) * by_time(certificates)[0]["dual"],
        "certificates": certificates,
    }
