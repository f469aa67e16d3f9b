r"""NYSE: convex training against SGD and Adam on the volume of the New York Stock Exchange.

Four kinds of records (``config["part"]``):

* *network*: one beta. Two-layer ReLU networks of five days of three series, every method with the
  same :math:`\tfrac12\|f(X)-y\|^2 + \tfrac\beta2\sum w^2`, scored by one float64 referee. The
  convex program runs over the patterns of a briefly trained network, its training included; SGD
  and Adam, both with a cosine schedule, have the same processor time for each seed, after a tuning
  of the rate and of the start's scale that is not counted (``he``: from He's own start). Beside
  them the gated program over Gaussian gates, whose objective is that of another model, and a few
  rounds of column generation from several starts, not limited in time; a certificate of the first
  of these networks bounds networks of every width. ``blocks`` holds the errors of each method on
  blocks of days, means over the seeds: what two methods differ by gets its interval from them.
* *long*: Adam alone, at one beta, with about as much time as column generation takes.
* *series*: log volume from yesterday's alone, by `Mirrors`, over a path of beta.
* *linear*: the constant, ridge regression, and the autoregression of all flagged days.

Beta is chosen on the validation part, by whoever reads the records (`chosen`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from experiments.nyse.methods import (
    RATES,
    compare,
    descend_long,
    fit_linear,
    predict_series,
    replay,
)
from experiments.nyse.tables import chosen, difference, interval, missed, networks, table
from experiments.provenance import ByKind
from experiments.runner import Experiment, Median, check_config

__all__ = [
    "EXPERIMENT",
    "chosen",
    "compute",
    "configs",
    "difference",
    "interval",
    "missed",
    "networks",
    "table",
]

RATIOS = (0.01, 0.03, 0.003, 0.1, 0.001)  # the middle of the path first
SEARCHES = 5  # starts of column generation
LONG = {"scales": [1.0, 0.1], "rates": [0.03, 0.01], "seeds": [0], "seconds": 7.0}
# Steps of half and of a quarter of a power of ten, written out: the last digit of a computed power
# depends on the machine, and it is part of the names of the records.
RIDGES = [0.0, 0.1, 0.31622776601683794, 1.0, 3.1622776601683795, 10.0, 31.622776601683793, 100.0,
          316.2277660168379, 1000.0, 3162.2776601683795, 10000.0]  # fmt: skip
SERIES_RATIOS = [
    0.31622776601683794, 0.1778279410038923, 0.1, 0.056234132519034905, 0.03162277660168379,
    0.01778279410038923, 0.01, 0.005623413251903491, 0.0031622776601683794, 0.0017782794100389228,
    0.001, 0.0005623413251903491, 0.00031622776601683794,
]  # fmt: skip
TIMED = ("methods", "he", "scales")  # where what descent has reached stands
COMPARED = {
    **{f"{part}.{name}.*objective": Median(0.05) for name in RATES for part in TIMED},
    "runs.*.objective": Median(0.05),
    # Their patterns are those of a network after some hundred steps of training.
    "methods.convex.*objective": Median(0.02),
    "methods.generated.*objective": Median(0.02),
    "methods.gated.*objective": 1e-4,
    "*.objective": 1e-6,
    # Least squares has no penalty; a fit within one is less accurate than its objective.
    **{f"{name}.fit": 1e-6 for name in ("linear", "autoregression", "constant", "ridge.*")},
}


def configs(
    profile: str = "full", device: str = "cpu", seeds: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """Return the configurations of a profile, ``"quick"`` (under a minute) or ``"full"``."""
    quick = profile == "quick"
    data = {"lags": 5, "share": 0.8, "n_fit": 600 if quick else None, "device": device}
    series = {**data, "part": "series", "ratios": SERIES_RATIOS}
    chosen_seeds = list(seeds if seeds is not None else range(2 if quick else 10))
    losses = ({"loss": "squared"}, {"loss": "quantile", "quantile": 0.9})
    network = {
        **data,
        "part": "network",
        "width": 64,
        "start_steps": 200 if quick else 600,
        "gates": 30,
        "rounds": 1 if quick else 3,
        "tol": 1e-4,
        "batch_size": 256,
        "rates": {name: list(rates[1:] if quick else rates) for name, rates in RATES.items()},
        "scales": [1.0, 0.1] if quick else [1.0, 0.3, 0.1],
        "seeds": chosen_seeds,
        "searches": chosen_seeds[:SEARCHES],
    }
    long = {**data, "part": "long", "width": 64, "batch_size": 256, **LONG}
    # Depth 2 takes the inputs as they are; from depth 3 on the list of features needs fewer.
    depths = ((2, None), (3, 2)) if quick else ((2, None), (3, 2), (5, 2))
    return [
        {**data, "part": "linear", "ridges": RIDGES},
        *({**series, **loss, "depth": L, "decimals": k} for loss in losses for L, k in depths),
        *({**network, "ratio": ratio} for ratio in ((0.03, 0.003) if quick else RATIOS)),
        *({**long, "ratio": ratio} for ratio in (() if quick else (0.01, 0.003))),
    ]


PARTS = {
    "linear": fit_linear,
    "series": predict_series,
    "network": compare,
    "long": descend_long,
}
compute = ByKind("part", PARTS, partial(check_config, configs=configs))


EXPERIMENT = Experiment(
    name="nyse",
    title="NYSE: validation and test error of convex training, SGD and Adam",
    configs=configs,
    function=compute,
    table=table,
    missed=missed,
    compared=lambda _: COMPARED,
    timed=(*(f"{part}.{name}.*" for name in RATES for part in TIMED), "runs.*"),
    replay=replay,
    with_data=lambda config, name: config,
)
