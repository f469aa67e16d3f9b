r"""Do standard optimisers make reflections? Where trained networks bend, and where by chance.

Fully connected networks of three and four layers, absolute values or ReLU, from the start that
torch gives them, trained by Adam and by SGD on small data sets, among them those of the public
notebooks of Zeger et al. (2024). Their exact bends are sorted by what is near (`kinks`): a data
point, a place where the data ask for a bend, a mirror, a midpoint, nothing. Beside them: what even
spread, the same networks before training, and mirrors that have been moved would give, and the
optimum of the Lasso of narrow networks (`methods`).

Those notebooks differ: their networks have one neuron in all hidden layers but the last, which has
100 or 500; inputs are not standardised; Adam has the rate 0.005 and a weight decay of 1e-4 beside
the penalty with beta 1e-7 or 1e-8; with two and with four layers some neurons start at an optimum.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from convexlib.errors import InputError
from experiments.reflections.methods import SETS, train
from experiments.reflections.tables import missed, table
from experiments.runner import Experiment, Median, check_config

__all__ = ["EXPERIMENT", "compute", "configs", "missed", "table"]

RATES = {"adam": [0.01, 0.03, 0.1], "sgd": [0.03, 0.1, 0.3]}
QUICK = ("W", "drawn")
COMPARED = {
    "beta.*": 1e-6,
    "lasso.*": 1e-6,
    # Long descents of 24 seeds: one may end anywhere, and rounding decides.
    "objective.*": Median(0.2),
}


def configs(
    profile: str = "full", device: str = "cpu", seeds: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """Return the configurations of a profile, ``"quick"`` (under a minute) or ``"full"``."""
    if device != "cpu":
        raise InputError(f"reflections runs on the CPU in float64; got device {device!r}. Use cpu.")
    quick = profile == "quick"
    shared = {
        "steps": 600 if quick else 3000,
        "reach": [0.002, 0.005, 0.01],
        "threshold": 0.05,
        "seeds": list(seeds if seeds is not None else range(6 if quick else 24)),
        "device": device,
    }
    cells = [("matched", 0.01, 10, name, data) for data in QUICK for name in RATES]
    if not quick:
        cells = [
            ("matched", 0.01, width, name, data)
            for width in (10, 20)
            for name in RATES
            for data in SETS
        ]
        cells += [
            (part, ratio, width, "adam", data)
            for part, ratio, width, sets in (
                ("parallel", 0.01, 20, ("ramp", *QUICK)),
                ("matched", 0.01, 40, QUICK),
                ("squares", 0.01, 20, QUICK),
                ("faint", 1e-6, 20, ("ramp", *QUICK)),
            )
            for data in sets
        ]
    return [
        {"part": part, "set": data, "activation": activation, "depth": depth, "width": width}
        | {"optimizer": name, "rates": RATES[name], "ratio": ratio, **shared}
        for part, ratio, width, name, data in cells
        for activation in ("abs", "relu")
        for depth in ((3,) if quick else (3, 4))
    ]


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """Run one configuration."""
    check_config(config, configs)
    return train(config)


EXPERIMENT = Experiment(
    name="reflections",
    title="Reflections: where networks of one input bend after standard training",
    configs=configs,
    function=compute,
    table=table,
    missed=missed,
    compared=lambda _: COMPARED,
)
