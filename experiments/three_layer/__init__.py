r"""Three layers: where descent ends as sub-networks are added, and classification at equal time.

Two parts, both with the objective of `ThreeLayer` or `PathRegularized`, scored in float64 after the
best rescaling of every network's weights:

* *landscape*: on two small instances, whose global optimum is known with proof from all units,
  Adam is started from many seeds with K sub-networks; how many runs end close to the optimum?
* *sets*: digits and tables of the UCI repository; generated sub-networks against SGD and Adam. See
  `experiments.three_layer.methods`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from experiments.provenance import ByKind
from experiments.runner import Between, Experiment, check_config
from experiments.three_layer.methods import (
    BASELINES,
    CLOSE,
    KINDS,
    compare,
    instance,
    landscape,
    replay,
)
from experiments.three_layer.tables import missed, table

__all__ = ["CLOSE", "EXPERIMENT", "compute", "configs", "instance", "missed", "table"]

RATES = {"sgd": (0.1, 0.3, 1.0), "adam": (0.01, 0.03, 0.1)}  # widened where the best is an end
SETS = (
    "digits",
    "ionosphere",
    "breast-cancer-wisc-diag",
    "statlog-heart",
    "conn-bench-sonar-mines-rocks",
    "statlog-australian-credit",
    "tic-tac-toe",
    "chess-krvkp",
    "musk-1",
)
RATIOS = (0.03, 0.1)  # of beta to a bound on beta_max
RATIOS_DIGITS = (0.03, 0.01)
COMPARED: dict[str, float | Between] = {
    # One descent from one seed. At the best rates, the largest before divergence, one seed may end
    # twice as high as another, and rounding decides which. No network lies below the bound, and
    # none that is scored is worse than the one without neurons.
    **{
        f"kinds.{kind}.{name}.*.objective": Between(f"kinds.{kind}.generated.dual", "zero")
        for kind in KINDS
        for name in BASELINES
    },
    # Searches, from networks that some hundred steps have trained.
    "*.generated.objective": 0.02,
    "two_layers.objective": 0.02,
    "lowest": 0.02,
    "*.objective": 1e-6,
    "value": 1e-6,
}


def configs(
    profile: str = "full", device: str = "cpu", seeds: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """Return the configurations of a profile, ``"quick"`` (under a minute) or ``"full"``."""
    quick = profile == "quick"
    landscape = {
        "part": "landscape",
        "width": 2,
        "rates": [0.1, 0.03] if quick else [0.3, 0.1, 0.03],
        "seeds": list(seeds if seeds is not None else range(20 if quick else 50)),
        "steps": 500 if quick else 3000,
        "device": device,
    }
    names = ("circle",) if quick else ("circle", "ecg")
    counts = (1, 4, 16) if quick else (1, 2, 4, 8, 16, 32, 64)
    runs = [{**landscape, "instance": name, "K": K} for name in names for K in counts]
    shared = {
        "part": "sets",
        "kinds": ["decay"] if quick else ["decay", "path"],
        "n_train": 300 if quick else 1200,
        "width": 2 if quick else 4,
        "K": 8 if quick else 32,
        "rounds": 2 if quick else 3,
        "starts": 16,
        "samples": 200 if quick else 500,
        "factor": 1,
        "batch_size": 100,
        "rates": {name: list(rates[1:] if quick else rates) for name, rates in RATES.items()},
        "widenings": 0 if quick else 3,
        "seeds": list(seeds if seeds is not None else range(2 if quick else 3)),
        "device": device,
    }
    if quick:
        return [*runs, {**shared, "set": "digits", "ratio": 0.03}]
    for place in range(2):
        for name in SETS:
            ratio = (RATIOS_DIGITS if name == "digits" else RATIOS)[place]
            runs.append({**shared, "set": name, "ratio": ratio})
    return runs


compute = ByKind(
    "part",
    {"landscape": landscape, "sets": compare},
    check=partial(check_config, configs=configs),
)


EXPERIMENT = Experiment(
    name="three_layer",
    title="Three layers: the landscape, and classification at equal time",
    configs=configs,
    function=compute,
    table=table,
    missed=missed,
    compared=lambda _: COMPARED,
    timed=tuple(f"*.{name}.*" for name in BASELINES),
    replay=replay,
)
