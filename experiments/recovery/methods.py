"""Sparse recovery: whether the teacher is the minimiser, and what is found on noisy targets."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convexlib.errors import ConvergenceWarning, InputError
from convexlib.networks import TwoLayerReLU
from convexlib.networks.prune import prune_neurons
from convexlib.pricing import price
from convexlib.problems.two_layer import TwoLayer
from convexlib.solvers.interpolation import pursue
from convexlib.solvers.solve import solve
from convexlib.training import train
from experiments.recovery.planted import Planted, all_active, isometry, plant, precertificate
from experiments.variations import beta_of

TOLERANCE = 1e-6  # relative: an interpolant cheaper than the teacher by more than this refutes it
SCALES = (1e-30, 1e30)  # of initial weights
SHARE = 0.01  # of the total norm, from which on a neuron counts


def verdict(planted: Planted) -> tuple[str, float]:
    """Decide whether the teacher is a minimiser: ``"minimal"``, ``"beaten"`` or ``"open"``.

    Beside it the distance of the weights found from the teacher's, relative to the latter.
    """
    norm = float(len(planted.weights))  # of the teacher: unit vectors
    limit = norm * (1.0 - TOLERANCE)
    result = pursue(planted.problem(), tol=TOLERANCE, below=limit, max_iter=5000)
    weights = torch.zeros_like(result.weights[0])
    weights[: len(planted.weights)] = planted.weights
    distance = float((result.weights[0] - weights).norm()) / math.sqrt(norm)
    if result.value < limit:
        return "beaten", distance
    return ("minimal" if result.dual >= limit else "open"), distance


def transitions(config: dict[str, Any]) -> dict[str, Any]:
    """Counts over the trials for every n.

    The program is solved wherever the condition does not hold, and for the first trials always.
    """
    rows = []
    for ratio in config["ratios"]:
        n = round(ratio * config["d"])
        row = {"n": n, "minimal": 0, "open": 0, "isometry": 0, "refuted": 0}
        linear = config["teacher"] == "linear"
        row |= {"all_active": 0} if linear else {"enough_active": 0}
        farthest, means = 0.0, []
        for seed in config["seeds"]:
            address = [seed, n, config["d"]]
            planted = plant(config["teacher"], n, config["d"], config["gates"], address)
            values = isometry(planted, precertificate(planted))
            holds = bool(values.max() < 1.0)
            if holds and seed not in config["seeds"][: config["solved"]]:
                # By the theorem that the solved ones put to the test.
                ends, distance = "minimal", 0.0
            else:
                ends, distance = verdict(planted)
            row["minimal"] += ends == "minimal"
            row["open"] += ends == "open"
            row["isometry"] += holds
            row["refuted"] += holds and ends == "beaten"  # the theorem says: never
            if linear:
                row["all_active"] += all_active(planted.X)
            else:
                active = planted.arrangements.masks[: len(planted.weights)].sum(dim=1)
                row["enough_active"] += bool((active >= config["d"]).all())
            if ends == "minimal":
                farthest = max(farthest, distance)
            if math.isfinite(float(values[0])):
                means.append(float((values**2).mean()))
        size = math.sqrt(float(np.mean(means))) if means else None
        rows.append(row | {"farthest": float(f"{farthest:.2g}"), "size": size})
    return {"rows": rows}


def conditions(config: dict[str, Any]) -> dict[str, Any]:
    """Counts of |lambda^T (Xu)_+| <= 1 over all unit u, with lambda the precertificate."""
    rows = []
    for ratio in config["ratios"]:
        n = round(ratio * config["d"])
        row = {"n": n, "isometry": 0, "open": 0, "largest": 0.0}
        for seed in config["seeds"]:
            address = [seed, n, config["d"]]
            planted = plant(
                config["teacher"], n, config["d"], 0, address, whitened=config["whitened"]
            )
            certificate = precertificate(planted)
            if certificate is None:
                continue
            priced = price(planted.X, certificate, target=1.0, max_nodes=config["nodes"])
            holds = priced.upper <= 1.0 + TOLERANCE
            row["isometry"] += holds
            row["open"] += not holds and priced.lower <= 1.0 + TOLERANCE
            row["largest"] = max(row["largest"], round(priced.lower, 6))
        rows.append(row)
    return {"rows": rows}


def noisy(config: dict[str, Any], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Data (n, d), noisy targets (n,) and unit neurons (k, d), all with output weight 1."""
    rng = np.random.default_rng([seed, config["n"], config["d"]])
    X = torch.from_numpy(rng.standard_normal((config["n"], config["d"])))
    W = torch.from_numpy(rng.standard_normal((config["neurons"], config["d"])))
    W /= torch.linalg.vector_norm(W, dim=1, keepdim=True)
    noise = torch.from_numpy(rng.standard_normal(config["n"]))
    return X, torch.relu(X @ W.T).sum(dim=1) + config["noise"] * noise, W


def describe(network: TwoLayerReLU, X: Tensor, W: Tensor) -> dict[str, float]:
    """Neurons of a merged network, its largest angle to a teacher's neuron, and its error.

    The error is that of the function on 2000 new samples, relative to the teacher's outputs.
    """
    lean = prune_neurons(network, X)
    U, alpha = lean.U.detach(), lean.alpha.detach()
    norms = torch.linalg.vector_norm(U, dim=1) * alpha.abs()
    counted = norms >= SHARE * norms.sum()
    unit = U[counted & (alpha > 0)]
    unit = unit / torch.linalg.vector_norm(unit, dim=1, keepdim=True)
    cosines = (unit @ W.T).max(dim=0).values if len(unit) else W.new_full((1,), -1.0)
    fresh = torch.from_numpy(np.random.default_rng(0).standard_normal((2000, X.shape[1])))
    truth = torch.relu(fresh @ W.T).sum(dim=1)
    with torch.no_grad():
        error = float((network(fresh) - truth).norm() / truth.norm())
    angle = math.degrees(math.acos(min(max(float(cosines.min()), -1.0), 1.0)))
    return {"neurons": int(counted.sum()), "angle": round(angle, 3), "error": round(error, 6)}


def regularised(config: dict[str, Any]) -> dict[str, Any]:
    """What the proven optimum looks like, for each beta (a share of beta_max) and trial."""
    rows: list[list[dict[str, float]]] = [[] for _ in config["ratios"]]
    gaps = [0.0]
    for seed in config["seeds"]:
        X, y, W = noisy(config, seed)
        problem = TwoLayer(X, y, beta=1.0, arrangements="generate")
        largest = problem.beta_max()
        for row, ratio in zip(rows, config["ratios"], strict=True):
            solved = problem.with_beta(ratio * largest)
            result = solve(solved, tol=1e-5)
            gaps.append(result.gap)
            row.append(describe(solved.to_network(result), X, W))
    return {
        "rows": [{key: [run[key] for run in row] for key in row[0]} for row in rows],
        "worst_gap": max(gaps),
    }


def descended(config: dict[str, Any]) -> dict[str, Any]:
    """Adam from He's initial weights times `scale`, and the proven optimum of its objective.

    Weights c w' have outputs c^2 f(w'), so that training w' on (y / c^2, beta / c^2) with the rate
    divided by c is training from a start c times as large.
    """
    c = config["scale"]
    if not SCALES[0] <= c <= SCALES[1]:
        raise InputError(
            f"scale is {c:g}; expected it between {SCALES[0]:g} and {SCALES[1]:g}, so that targets "
            "divided by its square are numbers whose squares are. Set one nearer to 1."
        )
    runs, excess = [], []
    for seed in config["seeds"]:
        X, y, W = noisy(config, seed)
        free = TwoLayer(X, y, beta=1.0, arrangements="generate")
        problem = free.with_beta(beta_of(config, free.beta_max()))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the record holds the gap
            trained = train(
                X,
                y / c**2,
                beta=problem.beta / c**2,
                width=config["width"],
                optimizer="adam-cosine",
                rates=[config["rate"] / c],
                seeds=[seed],
                n_steps=config["steps"],
                n_records=5,
            ).best_network
        network = TwoLayerReLU(c * trained.U.detach(), c * trained.alpha.detach())
        optimum = solve(problem, tol=1e-5)
        excess.append(float(f"{problem.objective(network) / optimum.value - 1.0:.3g}"))
        runs.append(describe(network, X, W))
    return {key: [run[key] for run in runs] for key in runs[0]} | {"excess": excess}
