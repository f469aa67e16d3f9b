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
* *generated*: the ReLU program with patterns that are generated instead of drawn, and a certificate
  over all networks.
* *sgd-relu*, *adam-relu*: descent on ReLU networks as wide as that of *relu*, 100 epochs;
  *sgd-gated*, *adam-gated*: on gated networks with the masks of *gated*, on tables of at most
  1,000 rows; ``-2000`` is the paper's number of epochs, on those tables and a random third of the
  larger ones (gated: a sample). See `experiments.uci.descent`.
* *sgd*, *adam*: descent on ReLU networks of 50 neurons for each output, from He's start, each
  output with the best rate of its own.
* The effect of a setting, on a sample of problems: ``-he`` starts from another distribution,
  ``-narrow`` has 50 neurons, ``-separate`` has networks of one output, each with the best rate of
  its own, ``-again`` draws other patterns.

A record belongs to one problem and one method. Seconds are processor time of one thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from convexlib import datasets
from convexlib.datasets import list_uci
from experiments.provenance import ByKind
from experiments.runner import Experiment, check_config
from experiments.uci.methods import CONVEX, METHODS, Task, load_task, split
from experiments.uci.tables import missed, table

__all__ = ["EXPERIMENT", "LAMBDAS", "Task", "compute", "configs", "load_task", "missed", "split"]

LAMBDAS = tuple(float(f"{value:.10g}") for value in np.logspace(-5, -1, 6))
QUICK = ("wine", "breast-cancer-wisc-diag")
QUICK_LAMBDAS = (LAMBDAS[4], LAMBDAS[2])
OPTIMIZERS = ("sgd", "adam")
RATES = (10.0, 5.0, 1.0, 0.5, 0.1, 0.01, 0.001)
EPOCHS, PAPER_EPOCHS = 100, 2000
SMALL = 1000  # training rows of the tables on which all is affordable
SAMPLE = 0  # seed of the random third of the larger tables, and of the samples
SAMPLED, GATED_SAMPLED = 24, 6  # problems


def configs(
    profile: str = "full", device: str = "cpu", seeds: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """Return the configurations of a profile, ``"quick"`` (under a minute) or ``"full"``.

    Smaller tables come first, so that a run that is stopped has finished as many as it can; first
    the two panels, then the paper's epochs, the generated patterns, and the effects of settings.
    """
    quick = profile == "quick"
    known = datasets.catalogue()
    names = sorted(QUICK if quick else list_uci(), key=lambda name: (known[name].shape, name))
    small = [name for name in names if len(split(known[name].shape[0])[0]) <= SMALL]
    common: dict[str, Any] = {
        "rates": list(RATES[2:5] if quick else RATES),
        "seeds": list(seeds if seeds is not None else range(1 if quick else 3)),
        "epochs": 20 if quick else EPOCHS,
        "batches": 10,
        "records": 40,
    }
    convex = {name: {**CONVEX[name], "patterns": 300} if quick else CONVEX[name] for name in CONVEX}
    own = {key: common[key] for key in ("rates", "seeds", "epochs", "batches")} | {"width": 50}
    relu = {**common, "width": 50, "match": not quick}
    gated = {**common, "patterns": convex["gated"]["patterns"]}
    generated = {"rounds": 1 if quick else 3, "tol": 1e-6, "certificate": 1.0 if quick else 3.0}
    weights = QUICK_LAMBDAS if quick else LAMBDAS[::-1]
    long = {"epochs": PAPER_EPOCHS}
    panels = [(name, value) for name in names for value in weights]
    on_small = [(name, value) for name, value in panels if name in small]
    chosen = np.random.default_rng(SAMPLE)
    large = [name for name in names if name not in small]
    third = set(chosen.choice(large, len(large) // 3, replace=False)) if large else set()
    on_third = [(name, value) for name, value in panels if name in third]
    # At the two largest lambdas hardly any network has a neuron.
    telling = [pair for pair in on_small if pair[1] < LAMBDAS[4]]
    sample = [telling[k] for k in sorted(chosen.permutation(len(telling))[:SAMPLED])]
    few = sample[:GATED_SAMPLED]
    plan: list[tuple[list[tuple[str, float]], dict[str, dict[str, Any]]]] = [
        (on_small, {**convex, **_both("-relu", relu), **_both("-gated", gated)}),
        ([pair for pair in panels if pair not in on_small], {**convex, **_both("-relu", relu)}),
        (panels, _both("", own)),
    ]
    if not quick:
        plan += [
            (on_small, _both("-relu-2000", {**relu, **long})),
            (sample, _both("-he", {**relu, "start": "he"})),
            (sample, _both("-narrow", {**relu, "match": False})),
            (sample, _both("-separate", {**relu, "outputs": "separate"})),
            (sample, {f"{name}-again": {**convex[name], "seed": 1} for name in convex}),
            (few, _both("-gated-2000", {**gated, **long})),
            (on_third, _both("-relu-2000", {**relu, **long})),
        ]
    plan.append((panels, {"generated": generated}))
    return [
        {"data": name, "lambda": value, "method": method, "device": device, **options}
        for problems, methods in plan
        for name, value in problems
        for method, options in methods.items()
    ]


def _both(variant: str, options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f"{name}{variant}": options for name in OPTIMIZERS}


compute = ByKind("method", METHODS, partial(check_config, configs=configs))

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
