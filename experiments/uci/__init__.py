r"""UCI: 438 training problems, solved to certified optima and by descent.

The problems are those of Mishkin, Sahiner and Pilanci (2022): 73 classification tables and six
weights of the penalty. A table of N rows is shuffled by ``default_rng(1995)``; the first
floor(N / 5) rows test, the other n train. Columns are scaled to unit length on the training rows,
there is no bias, and the targets are -1 and 1 for two classes and one-hot otherwise. The objective
of a network whose neurons feed one output each is

.. math:: F = \frac1{2n} \|f(X) - Y\|^2 + \frac\lambda2 \sum_j (\|u_j\|^2 + \alpha_j^2),
          \qquad \lambda = 10^{-1}, 10^{-1.8}, \dots, 10^{-5},

that is, :math:`\beta = n\lambda` in the library's objective, and the outputs are problems of their
own that share the data and the patterns. All methods are scored by it, in float64, from their
networks:

* *gated*: the gated program over 5,000 Gaussian gates; *relu*: the ReLU program over 2,500
  (duplicates and the pattern of zeros removed). Both carry a certified lower bound.
* *generated*: the ReLU program with patterns that are generated instead of drawn.
* *sgd*, *adam*: descent on F, ReLU; see `experiments.uci.methods`.
* *sgd-2000*, *adam-2000*: the same for the paper's number of epochs, on the smallest tables of few
  classes.

A record belongs to one problem and one method. Seconds are processor time of one thread.

What differs from the paper, by its authors' public code: descent trains ReLU networks only (there
gated networks with the program's own gates as well, each class in a comparison of its own), for
fewer epochs on most tables (2,000 there), with 50 neurons for each output (there as many as the
convex network has, and 50 at least), from He's start (there that of torch.nn.Linear). One objective
for all methods; generated patterns, duality gaps, test accuracy and tolerances below 0.1 are
additions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from convexlib import datasets
from convexlib.datasets import list_uci
from experiments.runner import Experiment, check_config
from experiments.uci.methods import CONVEX, METHODS, Task, load_task, split
from experiments.uci.tables import missed, table
from experiments.variations import FILE

__all__ = ["EXPERIMENT", "LAMBDAS", "Task", "compute", "configs", "load_task", "missed", "split"]

LAMBDAS = tuple(float(f"{value:.10g}") for value in np.logspace(-5, -1, 6))
QUICK = ("wine", "breast-cancer-wisc-diag")
QUICK_LAMBDAS = (LAMBDAS[4], LAMBDAS[2])
DESCENT = ("sgd", "adam")
RATES = (10.0, 5.0, 1.0, 0.5, 0.1, 0.01, 0.001)
PAPER_EPOCHS = 2000
LONG_ROWS, LONG_CLASSES = 300, 3  # tables on which that many epochs are a matter of minutes


def configs(
    profile: str = "full", device: str = "cpu", seeds: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """Return the configurations of a profile, ``"quick"`` (under a minute) or ``"full"``.

    Smaller tables come first, so that a run that is stopped has finished as many as it can; long
    descent and the generated patterns come last.
    """
    quick = profile == "quick"
    known = datasets.catalogue()
    names = sorted(QUICK if quick else list_uci(), key=lambda name: (known[name].shape, name))
    descent: dict[str, Any] = {
        "rates": list(RATES[2:5] if quick else RATES),
        "seeds": list(seeds if seeds is not None else range(1 if quick else 3)),
        "epochs": 20 if quick else 100,
        "batches": 10,
        "width": 50,
    }
    methods = {**CONVEX, **dict.fromkeys(DESCENT, descent)}
    if quick:
        methods |= {name: {**CONVEX[name], "patterns": 300} for name in CONVEX}
    generated: dict[str, dict[str, Any]] = {"generated": {"rounds": 1 if quick else 3, "tol": 1e-6}}
    long = {f"{name}-{PAPER_EPOCHS}": descent | {"epochs": PAPER_EPOCHS} for name in DESCENT}
    few = [] if quick else [name for name in names if _is_small(known[name])]
    return [
        {"data": name, "lambda": value, "method": method, "device": device, **options}
        for group, names in ((methods, names), (long, few), (generated, names))
        for name in names
        for value in (QUICK_LAMBDAS if quick else LAMBDAS[::-1])
        for method, options in group.items()
    ]


def _is_small(entry: datasets.Entry) -> bool:
    few = entry.classes is not None and entry.classes <= LONG_CLASSES
    return few and entry.shape[0] <= LONG_ROWS


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """Run one method on one problem."""
    check_config(config, configs)
    file = {key: config[key] for key in FILE if key in config}
    return METHODS[config["method"]](load_task(config["data"], config["device"], **file), config)


EXPERIMENT = Experiment(
    name="uci",
    title="UCI: 438 problems, certified optima against descent",
    configs=configs,
    function=compute,
    table=table,
    missed=missed,
    # Descent is in single precision, for a thousand steps and more.
    compared=lambda config: {"objective": 0.05 if config["method"][:3] in ("sgd", "ada") else 1e-5},
    with_data=lambda config, name: {**config, "data": name},
)
