"""Images: the records as text, what is wrong with one, and who ends lower."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.images.methods import BASELINES

EQUAL = 1e-2  # objectives that are relatively closer than this count as equal
LABELS = {
    "gated": "gated, one output a neuron",
    "nuclear": "gated, shared neurons",
    "relu": "ReLU, sampled patterns",
    "generated": "searched",
    "linear": "linear",
    "adam": "Adam",
    "sgd": "SGD",
}
OTHER = ("gated", "nuclear", "linear")  # other networks, whose objectives are of another model


def runs_of(result: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the runs of a method: one for each seed, or a single one."""
    found = result["methods"][name]
    if isinstance(found, list):
        return found
    return list(found.get("runs", [found]))


def median(result: dict[str, Any], name: str, entry: str) -> float:
    """Return the median of an entry over the runs of a method."""
    return float(np.median([run[entry] for run in runs_of(result, name)]))


def missed(record: dict[str, Any]) -> str | None:
    """Say why a record misses its tolerance, or return None."""
    result, tol = record["result"], record["config"]["tol"]
    for name in result["methods"]:
        for run in runs_of(result, name):
            if run.get("gap", 0.0) > tol:
                return f"{name}: relative gap {run['gap']:.1e} > tol {tol:.1e}"
            if name not in OTHER and run["objective"] < result["bound"]:
                return f"{name} ends below the lower bound {result['bound']:.6g}"
    return None


def ordered(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the records: ten classes first, then by network and lambda."""
    return sorted(
        found,
        key=lambda r: (
            r["config"]["part"] != "ten",
            -r["config"]["lambda"],
            ("two", "decay", "path").index(r["config"].get("network", "two")),
        ),
    )


def table(found: Sequence[dict[str, Any]]) -> str:
    """Return the records as text: medians over seeds, and the seconds of one run."""
    head = f"{'task':13} {'lambda':>6} {'method':27} {'objective':>10} {'train':>6} {'test':>6}"
    lines = [f"{head} {'units':>7} {'seconds':>7} {'gap':>7}"]
    for record in ordered(found):
        config, result = record["config"], record["result"]
        task = "ten" if config["part"] == "ten" else f"parity, {config['network']}"
        for name in (name for name in LABELS if name in result["methods"]):
            gap = runs_of(result, name)[0].get("gap")
            lines.append(
                f"{task:13} {config['lambda']:6g} {LABELS[name]:27} "
                f"{median(result, name, 'objective'):10.5g} "
                f"{median(result, name, 'train_accuracy'):6.3f} "
                f"{median(result, name, 'test_accuracy'):6.3f} "
                f"{median(result, name, 'units'):7.0f} {median(result, name, 'seconds'):7.1f} "
                f"{'' if gap is None else f'{gap:.0e}':>7}"
            )
        lines.append(f"{task:13} {config['lambda']:6g} {'proven bound':27} {result['bound']:10.3g}")
    return "\n".join(lines)


def leads(found: Sequence[dict[str, Any]]) -> dict[tuple[str, float], float]:
    """By how much the better of Adam and SGD ends above the search, by network and lambda.

    Relative, medians over seeds; the better one is chosen in hindsight. Of *parity* only.
    """
    return {
        (record["config"]["network"], record["config"]["lambda"]): min(
            median(record["result"], name, "objective") for name in BASELINES
        )
        / median(record["result"], "generated", "objective")
        - 1.0
        for record in ordered(found)
        if record["config"]["part"] == "parity"
    }
