"""Reflections: the records as text, what chance leaves of them, and the finding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

REACH = 0.005  # at which the book counts; the records have others beside it
LEVEL = 0.05


def tally_of(record: dict[str, Any], reach: float = REACH) -> dict[str, Any]:
    """Return the counts of a record for one reach, the nearest that it has."""
    tallies: list[dict[str, Any]] = record["result"]["tallies"]
    return min(tallies, key=lambda one: abs(one["reach"] - reach))


def free(tally: dict[str, Any], when: str = "trained") -> int:
    """Return the number of bends that are at no data point and no corner."""
    return sum(tally[when][kind] for kind in ("mirror", "midpoint", "other"))


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number by Holm's rule, in their order."""
    p = np.asarray(values)
    order = np.argsort(p)
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted.tolist()


def table(found: list[dict[str, Any]]) -> str:
    """Return one line for each cell."""
    lines = [
        f"{'part':8} {'set':6} {'act.':4} {'L':>1} {'width':>5} {'opt.':4} {'beta/max':>8} "
        f"{'rate':>5} {'obj./Lasso':>10} {'bends':>5} {'data':>5} {'free':>4} {'mirror':>6} "
        f"{'even':>6} {'moved':>6} {'seeds':>5} {'even':>5} {'moved':>5} {'start':>5} {'p':>7} "
        f"{'p moved':>7}"
    ]
    for record in found:
        config, result, tally = record["config"], record["result"], tally_of(record)
        lines.append(
            f"{config['part']:8} {config['set']:6} {config['activation']:4} {config['depth']:1} "
            f"{config['width']:5} {config['optimizer']:4} {config.get('ratio', float('nan')):8.2g} "
            f"{result['rate']:5g} {np.median(ratios(record)):10.3g} "
            f"{sum(tally['trained'].values()):5} {tally['trained']['data']:5} {free(tally):4} "
            f"{tally['trained']['mirror']:6} {tally['even']:6.1f} {tally['moved']:6.1f} "
            f"{tally['seeds']:5} {tally['seeds_even']:5.1f} {tally['seeds_moved']:5.1f} "
            f"{tally['seeds_initial']:5} {tally['p_even']:7.2g} {tally['p_moved']:7.2g}"
        )
    return "\n".join(lines)


def ratios(record: dict[str, Any]) -> np.ndarray:
    """Return each seed's objective over the Lasso optimum, infinite where it diverged."""
    result = record["result"]
    ends = [np.inf if value is None else value for value in result["objective"]]
    return np.array(ends) / np.array(result["lasso"])


def missed(record: dict[str, Any]) -> str | None:
    """Say why a record cannot be used, or return None."""
    result = record["result"]
    if sum(value is None for value in result["objective"]) > len(result["objective"]) / 4:
        return "more than a quarter of the seeds diverged at the best rate"
    return None
