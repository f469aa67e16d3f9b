r"""ECG: convex two-layer training against descent, at equal time, on an electrocardiogram.

A heartbeat is predicted from its own past: x[t] from x[t-1], ..., x[t-k] and a constant, both
standardised with the training part's mean and standard deviation. Every method minimises the same
:math:`\tfrac12\|f(X)-y\|^2 + \tfrac\beta2\sum w^2`, scored by one float64 referee; the gated
program, another model, is reported beside them. Two kinds of records (``config["part"]``):

* *compare*, record 208. With k = 1 or 2 the data have rank 2 or 3, where the convex program is
  solved to a *certified* global optimum over networks of any width. With k = 5 to 15 its patterns
  are generated until local search finds no further one; `certify` proves a bound that leaves less
  than one per cent at a tenth of beta_max and more below. Beside it the program over the patterns
  of Gaussian gates, and without cones (gated).
* *beats*, record 100, whose beats are annotated: the errors of the convex network and of linear
  autoregression by kind of beat, and aligned at the R peak.

Time is processor time of one thread, so that other work on the machine does not count. The convex
solver's, T seconds (the mean over seeds), is the budget of the others. Each pair of a rate and a
scale of the start runs for T with the first seed, then the best pair for T with every other seed
(``methods``), and so does the best rate of He's start (``he``); choosing them is not counted. Where
``factor`` is not 0, all rates and seeds run once more from the best scale, sharing `factor` times T
(``longer``).

The convex solvers and the linear model are deterministic: run again on another machine, their
objectives agree to the relative `tol` of the configuration (1e-4 for *sampled* and *gated*). What
the others reach within T depends on the machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from experiments.ecg.methods import (
    METHODS,
    RATES,
    SCALES,
    compare,
    load_task,
    predict_beats,
    replay,
)
from experiments.ecg.tables import missed, table
from experiments.provenance import ByKind
from experiments.runner import Experiment, Median, check_config

__all__ = ["EXPERIMENT", "compute", "configs", "load_task"]

RATIOS = (0.1, 0.01, 0.001)
COMPARED = {
    # Long descents part ways by the last digits of the machine, and the cosine of a run whose steps
    # are counted is not that of one whose seconds are.
    **{f"*.{name}.*objective": Median(0.1) for name in METHODS},
    "*.objective": 1e-4,
    "linear.train_mse": 1e-9,
}
# With more inputs, all about alike, gradients are longer and the stable rates of SGD smaller.
MANY_LAGS = {"sgd": (0.1, 0.05, 0.02), "adam": (0.03, 0.01), "adam-cosine": (0.03, 0.01)}


def configs(
    profile: str = "full", device: str = "cpu", seeds: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """Return the configurations of a profile, ``"quick"`` (under a minute) or ``"full"``."""
    quick = profile == "quick"
    chosen = list(seeds if seeds is not None else range(2 if quick else 3))
    common: dict[str, Any] = {
        "record": 208,
        "n_train": 500 if quick else 2000,
        "device": device,
        "seeds": chosen,
    }
    descent = {
        "part": "compare",
        "n_test": 1000 if quick else 10_000,
        "batch_size": 200,
    }
    exact: dict[str, Any] = {
        "tol": 1e-6,
        "nodes": None,
        "patterns": 0,
        "width": 50,
        "factor": 3 if quick else 10,
        "rates": _grid(RATES, quick),
        "scales": list(SCALES[::2] if quick else SCALES),
    }
    many: dict[str, Any] = {
        "n_train": 500 if quick else 1000,
        "tol": 1e-4,
        "nodes": 100,
        "patterns": 200 if quick else 1000,
        "gates": 500 if quick else 5000,
        "width": 100,
        "factor": 0,
        "rates": _grid(MANY_LAGS, quick),
        "scales": list(SCALES[::2]),
    }
    beats = {**common, "part": "beats", "record": 100, "n_test": 5000 if quick else 41_000}
    if quick:
        cases = [(1, 0.1, exact), (2, 0.1, exact), (5, 0.1, many)]
        sizes = [(2, 0.01, exact)]
    else:
        cases = [(k, ratio, exact) for k in (1, 2) for ratio in RATIOS]
        cases += [(k, ratio, many) for k in (5, 10, 15) for ratio in RATIOS]
        large = {"n_train": 10_000, "factor": 0, "scales": list(SCALES[::2])}
        cases += [(k, 0.01, {**exact, **large}) for k in (1, 2)]
        sizes = [(k, r, exact if k == 2 else many) for k in (2, 10) for r in RATIOS[1:]]
    return [
        *({**common, **descent, "lags": k, "ratio": r, **rest} for k, r, rest in cases),
        *(
            {**beats, "lags": k, "ratio": r, "tol": rest["tol"], "nodes": rest["nodes"]}
            for k, r, rest in sizes
        ),
    ]


def _grid(rates: Mapping[str, Sequence[float]], quick: bool) -> dict[str, list[float]]:
    return {name: list(values[1:4:2] if quick else values) for name, values in rates.items()}


compute = ByKind(
    "part", {"compare": compare, "beats": predict_beats}, partial(check_config, configs=configs)
)


def with_data(config: dict[str, Any], name: str) -> dict[str, Any] | None:
    """Take another series, all that is left of it to test; only record 100 has annotated beats."""
    taken = {**config, "record": name, "n_test": None}
    return taken if config["part"] == "compare" else None


EXPERIMENT = Experiment(
    name="ecg",
    title="ECG: certified training against descent at equal time",
    configs=configs,
    function=compute,
    table=table,
    missed=missed,
    compared=lambda _: COMPARED,
    timed=tuple(f"*.{name}.*" for name in METHODS),
    replay=replay,
    with_data=with_data,
)
