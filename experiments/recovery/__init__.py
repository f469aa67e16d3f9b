r"""Sparse recovery: when the network of least norm is the one that made the targets.

Six parts, all on a CPU in float64:

* *map*: gated programs of minimum-norm interpolation over the teacher's gates and random ones, for
  a linear teacher with a skip connection, one neuron and two. For every n and d: how often is the
  teacher the minimiser, how often does the isometry condition hold?
* *relu*: the isometry condition with cones over all neurons, decided by branch and bound, for a
  linear teacher.
* *transition*: one neuron among all ReLU neurons. For every n and d: how often does it have the
  least norm, with a proof either way, and how often does the condition hold (`recovery.cutting`)?
* *spikes*: networks of one input (`recovery.spikes`).
* *noise*: the regularised ReLU program over all neurons on noisy targets, and
* *descent*: Adam on the weights, from large and small initial ones (`recovery.methods`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from convexlib.errors import InputError
from experiments.provenance import ByKind
from experiments.recovery import spikes
from experiments.recovery.cutting import neurons
from experiments.recovery.methods import conditions, descended, regularised, transitions, verdict
from experiments.recovery.tables import missed, table
from experiments.runner import Experiment, check_config

__all__ = ["EXPERIMENT", "RATIOS", "compute", "configs", "missed", "table", "verdict"]

RATIOS = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0)
# Of the transition among all ReLU neurons.
FINER = (1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 2.75, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0)
# Counts of draws that a proof decides; a descent is a search, and what it finds is no proof.
COMPARED = dict.fromkeys(
    ("rows.*.minimal", "rows.*.beaten", "rows.*.isometry", "rows.*.found"), 0.0
)


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
        for teacher, white in (("linear", False), ("linear", True))
        for d in ((3,) if quick else range(2, 6))
    ]
    # n = round(ratio d), each once; a draw takes longer by a factor with every dimension.
    found += [
        {"part": "transition", "d": d, "samples": sorted({int(r * d + 0.5) for r in chosen})}
        | {"seeds": trials(count), "nodes": 2_000_000}
        for d, count, chosen in (
            ((3, 5, ratios),) if quick else ((d, 50 if d > 5 else 100, FINER) for d in range(2, 7))
        )
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


compute = ByKind(
    "part",
    {
        "map": transitions,
        "relu": conditions,
        "transition": neurons,
        "spikes": spikes.compute,
        "noise": regularised,
        "descent": descended,
    },
    check=partial(check_config, configs=configs),
)

EXPERIMENT = Experiment(
    name="recovery",
    title="Sparse recovery: phase transitions of planted networks",
    configs=configs,
    function=compute,
    table=table,
    missed=missed,
    compared=lambda _: COMPARED,
)
