r"""Sparse recovery: when the network of least norm is the one that made the targets.

Five parts, all on a CPU in float64:

* *map*: gated programs of minimum-norm interpolation over the teacher's gates and random ones, for
  a linear teacher with a skip connection, one neuron and two. For every n and d: how often is the
  teacher the minimiser, how often does the isometry condition hold?
* *relu*: the isometry condition with cones over all neurons, decided by branch and bound.
* *spikes*: networks of one input (`convexlib.experiments.spikes`).
* *noise*: the regularised ReLU program over all neurons on noisy targets, and
* *descent*: Adam on the weights, from large and small initial ones (`recovery_noise`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from convexlib.errors import InputError
from convexlib.experiments import spikes
from convexlib.experiments.planted import (
    Planted,
    all_active,
    isometry,
    plant,
    precertificate,
)
from convexlib.experiments.recovery_noise import descended, regularised
from convexlib.experiments.recovery_table import table
from convexlib.experiments.runner import Experiment, check_config
from convexlib.pricing import price
from convexlib.solvers.interpolation import pursue

__all__ = ["EXPERIMENT", "TOLERANCE", "compute", "configs", "missed", "verdict"]

TOLERANCE = 1e-6  # relative: an interpolant cheaper than the teacher by more than this refutes it
RATIOS = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0)


def configs(
    profile: str = "full", device: str = "cpu", seeds: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """Return the configurations of a profile, ``"quick"`` (under a minute) or ``"full"``."""
    if device != "cpu":
        raise InputError(f"recovery runs on the CPU in float64; got device {device!r}. Use cpu.")
    quick = profile == "quick"

    def trials(count: int) -> list[int]:
        return list(seeds if seeds is not None else range(count))

    ratios = list(RATIOS[2:8:2] if quick else RATIOS)
    found: list[dict[str, Any]] = [
        {"part": "map", "teacher": teacher, "d": d, "ratios": ratios, "gates": 50}
        | {"seeds": trials(5 if quick else count), "solved": 10}
        for teacher, count in (("linear", 50), ("neuron", 25), ("two", 25))
        for d in ((6,) if quick else range(4, 41, 4))
    ]
    found += [
        {"part": "relu", "teacher": teacher, "d": d, "ratios": ratios, "whitened": white}
        | {"seeds": trials(5 if quick else 50), "nodes": 200_000}
        for teacher, white in (("linear", False), ("linear", True), ("neuron", False))
        for d in ((3,) if quick else range(2, 6))
    ]
    sizes = (32,) if quick else (16, 24, 32, 48, 64, 96, 128, 192, 256, 384)
    counts = [1, 2, 3, 4, 5, 6, 8, 10, 12, 14]
    line = {"part": "spikes", "kinks": counts, "trials": 20 if quick else 200, "seed": 0}
    found += [
        {**line, "n": n, "kinks": [k for k in counts if 2 * k < n - 4], "spacing": 0.0}
        | {"programs": 0 if n > 64 else 5}
        for n in sizes
    ]
    spacings = (1.5,) if quick else (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5)
    found += [{**line, "n": 64, "spacing": s, "programs": 5} for s in spacings if quick or s]
    noisy = {"part": "noise", "n": 60, "d": 5, "seeds": trials(2 if quick else 10)}
    found += [
        {
            **noisy,
            "neurons": k,
            "noise": noise,
            "ratios": [0.1] if quick else [0.3, 0.1, 0.03, 0.01],
        }
        for k in (1, 2)
        for noise in ((0.1,) if quick else (0.0, 0.1, 0.3))
    ]
    run = {"part": "descent", "n": 60, "d": 5, "width": 50, "rate": 0.02, "noise": 0.0}
    return found + [
        {**run, "neurons": k, "scale": scale, "ratio": 1e-4, "steps": 500 if quick else 4000}
        | {"seeds": trials(2 if quick else 10)}
        for k in (1, 2)
        for scale in ((1.0,) if quick else (1.0, 0.1, 0.01))
    ]


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """Run one configuration."""
    check_config(config, configs)
    parts = {"map": _map, "relu": _relu, "spikes": spikes.compute}
    return (parts | {"noise": regularised, "descent": descended})[config["part"]](config)


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


def _map(config: dict[str, Any]) -> dict[str, Any]:
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
                ends, distance = (
                    "minimal",
                    0.0,
                )  # by the theorem that the solved ones put to the test
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


def _relu(config: dict[str, Any]) -> dict[str, Any]:
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


def missed(record: dict[str, Any]) -> str | None:
    """Say which theorem a record contradicts, or None."""
    config, result = record["config"], record["result"]
    part, trials = config["part"], len(config.get("seeds", ()))
    name = f"{part} {config.get('teacher', config.get('n'))}"
    if part == "map" and any(row["refuted"] for row in result["rows"]):
        return f"{name}, d={config['d']}: the condition holds and yet the teacher is beaten"
    if part == "relu" and config["whitened"]:
        lost = [row for row in result["rows"] if row["isometry"] + row["open"] < trials]
        return f"{name}, d={config['d']}: fails on whitened data" if lost else None
    if part == "spikes" and any(
        (row["agree"], row["found"]) != (row["programs"], row["separated"])
        for row in result["rows"]
    ):
        return f"{name}, spacing {config['spacing']:g}: separation does not decide recovery"
    if part == "descent" and min(result["excess"]) < -1e-4:
        return f"{name}: descent ended below a proven optimum"
    return None


# Counts of draws that a proof decides; a descent is a search, and what it finds is no proof.
COMPARED = dict.fromkeys(("rows.*.minimal", "rows.*.isometry", "rows.*.found"), 0.0)

EXPERIMENT = Experiment(
    name="recovery",
    title="Sparse recovery: phase transitions of planted networks",
    configs=configs,
    function=compute,
    table=table,
    missed=missed,
    compared=lambda _: COMPARED,
)
