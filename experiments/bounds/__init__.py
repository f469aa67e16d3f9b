r"""Bounds above rank 5: how near `certify` comes to the best network known, on tables.

Features and a squared-loss target are standardised (labels of the logistic loss are ±1), constant
columns go, and a column of ones stands for the bias of the first layer. For each table and beta,
the best network that column generation finds is certified with several times for better dual
points. All of these certificates begin with the dual point of that training, so that they differ by
the time alone: without any it is scaled as the bounds for a given point allow, branch and bound
with a budget of cones up to rank 8 and the quadratic one. Every bound is proven; how far the
network itself is from the optimum is not known, and a gap is at least that.

Classifiers have an output for each class (zero or one, squared loss), all of them certified as a
whole; their network is found from none by the search for dual points that `certify` has.

beta is a part of a proven upper bound on ``beta_max``, for one output the one without branch and
bound, for classes what a budget of cones leaves; the highest neuron that local search finds, a
lower bound, is recorded beside it.

Times are those of the processor. What a certificate reaches depends on the machine: only that it is
not below the one without time is compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments.bounds.methods import bounds, class_bounds, load, load_classes
from experiments.bounds.tables import missed, table
from experiments.runner import Between, Experiment, check_config

__all__ = [
    "CLASSES",
    "EXPERIMENT",
    "LOGISTIC",
    "RATIOS",
    "SETS",
    "compute",
    "configs",
    "load",
    "load_classes",
]

SETS = (
    "wine",
    "parkinsons",
    "seeds",
    "statlog-heart",
    "vertebral-column-2clases",
    "ionosphere",
    "diabetes",
    "breast-cancer-wisc-diag",
    "pima",
    "wine-quality-red",
    "ecg-5",
    "ecg-6",
    "ecg-10",
    "abalone",
)
LOGISTIC = ("vertebral-column-2clases", "breast-cancer-wisc-diag", "pima")
CLASSES = (
    "seeds",
    "wine",
    "glass",
    "image-segmentation",
    "flags",
    "ecoli",
    "dermatology",
    "led-display",
)
RATIOS = (0.5, 0.1, 0.01, 0.001)
COMPARED: dict[str, float | Between] = {
    # A search, which may end in other patterns.
    "primal": 0.02,
    # No bound is above a network, and none with time is below the one without (less a slack).
    "certificates.*.dual": Between("least", "primal"),
}


def configs(
    profile: str = "full", device: str = "cpu", seeds: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """Return the configurations of a profile, ``"quick"`` (under a minute) or ``"full"``.

    The most telling beta comes first, and smaller tables before larger ones.
    """
    quick = profile == "quick"
    shared: dict[str, Any] = {
        "tol": 1e-4,
        "rounds": 20,
        "steps": 300,
        "nodes": 100_000,
        "seeds": list(seeds if seeds is not None else range(1)),
        "device": device,
    }
    if quick:
        return [{"set": "wine", "loss": "squared", "ratio": 0.1, "seconds": [0, 1], **shared}]
    cases = [(name, "squared", 0.1) for name in SETS]
    cases += [(name, "logistic", 0.1) for name in LOGISTIC]
    cases += [(name, "squared", ratio) for ratio in (0.5, 0.01, 0.001) for name in SETS]
    own = ("nodes", "device")
    return [
        {"set": name, "loss": loss, "ratio": ratio, "seconds": [0, 10], **shared}
        for name, loss, ratio in cases
    ] + [
        {
            "set": name,
            "outputs": "classes",
            "loss": "squared",
            "ratio": ratio,
            "seconds": [0, 10],
            **{key: shared[key] for key in own},
        }
        for ratio in (0.1, 0.5, 0.01)
        for name in CLASSES
    ]


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """Run one configuration."""
    check_config(config, configs)
    return class_bounds(config) if "outputs" in config else bounds(config)


EXPERIMENT = Experiment(
    name="bounds",
    title="Bounds above rank 5: how tight certificates are on tables",
    configs=configs,
    function=compute,
    table=table,
    missed=missed,
    compared=lambda _: COMPARED,
)
