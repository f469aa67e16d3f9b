"""Bounds above rank 5: the records as text and as numbers, and what is wrong with one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments.bounds.methods import by_time
from experiments.variations import ratio_of

ROUNDING = 1e-9  # relative


def missed(record: dict[str, Any]) -> str | None:
    """Say why a record misses its tolerance, or return None."""
    result = record["result"]
    first, *others = by_time(result["certificates"])
    for one in (first, *others):
        if not one["rigorous"]:
            return f"the bound of {one['given']} s is not rigorous"
        if one["dual"] > result["primal"] * (1.0 + ROUNDING):
            return f"the bound of {one['given']} s, {one['dual']:.8g}, is above a network"
    for one in others:
        if one["dual"] < first["dual"] * (1.0 - ROUNDING):
            return f"the bound of {one['given']} s is below that of {first['given']} s"
    return None


def gaps(
    found: Sequence[dict[str, Any]], loss: str = "squared", outputs: str = "one"
) -> list[dict[str, Any]]:
    """One row for each table: ``set``, ``n``, ``d``, ``rank``, and ``gaps`` by beta and time.

    With ``outputs="classes"`` those of classifiers, and the number of ``classes`` as well.

    ``row["gaps"][ratio][given]`` is the relative gap at so many times beta_max with so many seconds
    for dual points. Smaller ranks come first, then fewer rows.
    """
    rows: dict[str, dict[str, Any]] = {}
    for record in sorted(found, key=lambda record: -ratio_of(record)):
        config, result = record["config"], record["result"]
        if (config["loss"], config.get("outputs", "one")) == (loss, outputs):
            n, d = result["rows"]
            start = {"set": config["set"], "n": n, "d": d, "rank": result["rank"], "gaps": {}}
            start |= {"classes": result["classes"]} if "classes" in result else {}
            row = rows.setdefault(config["set"], start)
            row["gaps"][ratio_of(record)] = {
                one["given"]: one["gap"] for one in result["certificates"]
            }
    return sorted(rows.values(), key=lambda row: (row["rank"], row["n"]))


def table(found: Sequence[dict[str, Any]]) -> str:
    """Return every certificate as text: processor seconds in all, and the gap that they leave."""
    lines = [
        f"{'set':25}{'targets':9}{'n':>5}{'rank':>5}{'beta/max':>9}{'primal':>11}{'given s':>8}"
        f"{'took':>7}{'gap':>9} method"
    ]
    for record in sorted(
        found,
        key=lambda r: (_targets(r), r["result"]["rank"], r["config"]["set"], -ratio_of(r)),
    ):
        config, result = record["config"], record["result"]
        lines += [
            f"{config['set'][:24]:25}{_targets(record):9}{result['rows'][0]:5}{result['rank']:5}"
            f"{ratio_of(record):9.4g}{result['primal']:11.5g}{one['given']:8g}"
            f"{one['seconds']:7.1f}{one['gap']:9.2e} {one['method']}"
            for one in result["certificates"]
        ]
    return "\n".join(lines)


def _targets(record: dict[str, Any]) -> str:
    """The loss, or "classes"."""
    return str(record["config"].get("outputs", record["config"]["loss"]))
