"""ECG: the records as text, and what is wrong with one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.ecg.methods import METHODS
from experiments.variations import ratio_of

ORDER = ("generated", "sampled", "gated", *METHODS)
LOWER = 1e-9  # relative: below a bound by rounding only
SEARCHED = 10  # times the tolerance: what the estimated gap may be where none is proven


def comparisons(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records that compare methods: fewest lags and samples, largest beta first."""
    chosen = [record for record in found if record["config"]["part"] == "compare"]
    return sorted(chosen, key=lambda r: (r["config"]["lags"], r["config"]["n_train"], -ratio_of(r)))


def reference(result: dict[str, Any]) -> float:
    """Return the certified bound where it is tight, else the lowest value of the convex program."""
    runs = result["methods"]["generated"]
    if all(run["rigorous"] for run in runs):
        return max(run["dual"] for run in runs)
    return min(run["objective"] for run in runs)


def excess(result: dict[str, Any], name: str) -> list[float]:
    """Return how far the runs of a method end above the reference, relative to it."""
    base = reference(result)
    return [run["objective"] / base - 1.0 for run in result["methods"][name]]


def missed(record: dict[str, Any]) -> str | None:
    """Say why a record misses its tolerance, or return None."""
    result, tol = record["result"], record["config"]["tol"]
    compares = record["config"]["part"] == "compare"
    runs = result["methods"]["generated"] if compares else [result["convex"]]
    for run in runs:
        if len(result["linear"]["coefficients"]) <= 3:
            if not run["rigorous"]:
                return "the certificate is not rigorous"
            if run["gap"] > tol:
                return f"relative gap {run['gap']:.1e} > tol {tol:.1e}"
        elif run["search_gap"] > SEARCHED * tol:
            return f"estimated gap {run['search_gap']:.1e} > {SEARCHED} tol, tol = {tol:.1e}"
    bound = max(run["dual"] for run in runs)
    for name, others in result.get("methods", {}).items():
        if name != "gated" and min(run["objective"] for run in others) < bound * (1.0 - LOWER):
            return f"{name} ends below the lower bound {bound:.8g}"
    return None


def table(found: Sequence[dict[str, Any]]) -> str:
    """Return the comparisons and the errors by kind of beat as text.

    "above" is relative to the certified bound (at most two lags) or to the lowest value of the
    convex program (more lags): best and worst seed at equal time, then the best with more time.
    """
    head = ("lags", "n", "beta/max", "method", "objective", "above: best", "worst", "longer")
    lines = ["{:>4} {:>6} {:>8} {:12} {:>10} {:>11} {:>8} {:>8}".format(*head)]
    lines[0] += f" {'test mse':>9} {'neurons':>7} {'seconds':>7} {'gap':>7}"
    for record in comparisons(found):
        config, result = record["config"], record["result"]
        start = f"{config['lags']:4} {config['n_train']:6} {ratio_of(record):8.5g} "
        for name in (name for name in ORDER if name in result["methods"]):
            runs = result["methods"][name]
            above, gap = excess(result, name), max(run.get("gap", np.nan) for run in runs)
            longer = result["longer"].get(name)
            more = longer["objective"] / reference(result) - 1.0 if longer else np.nan
            cells = ["" if np.isnan(value) else f"{value:.1e}" for value in (more, gap)]
            # The gated objective is that of another model: no excess can be told.
            ends = ["", ""] if name == "gated" else [f"{v:.1e}" for v in (min(above), max(above))]
            lines.append(
                f"{start}{name:12} {min(run['objective'] for run in runs):10.6g} {ends[0]:>11} "
                f"{ends[1]:>8} {cells[0]:>8} {np.mean([run['test_mse'] for run in runs]):9.5f} "
                f"{np.mean([run['neurons'] for run in runs]):7.0f} "
                f"{np.mean([run['seconds'] for run in runs]):7.2f} {cells[1]:>7}"
            )
        lines.append(f"{start}{'linear':12} {'':40} {result['linear']['test_mse']:9.5f}")
    beats = [record for record in found if record["config"]["part"] == "beats"]
    for record in sorted(beats, key=lambda r: (r["config"]["lags"], -ratio_of(r))):
        config, kinds = record["config"], record["result"]["kinds"]
        lines.append(f"record 100, {config['lags']} lags, {ratio_of(record):g} beta_max")
        lines += [
            f"  {row['beats']:4} beats {kind}: network {row['network']:.5f}, linear "
            f"{row['linear']:.5f}; the network is better on {row['won']}"
            for kind, row in kinds.items()
        ]
    return "\n".join(lines)
