"""Everything that the book shows of the records, in one file, results/benchmarks/summary.json.

    python -m benchmarks.summary             print the table and write the summary

It is made from the records alone; a test makes it again and compares.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import report, suites
from benchmarks.suites import GRID, SCALING, THREE
from experiments import runner

Record = dict[str, Any]


def curves(records: list[Record], suite: str, instance: str, ratio: float) -> dict[str, Any]:
    """Excess against time of every method on one case; ours is the history of its best value."""
    found: dict[str, Any] = {}
    for record in records:
        own = record["config"]
        if (own["suite"], own["instance"], own["ratio"]) != (suite, instance, ratio):
            continue
        if own["repeat"] > 0:
            continue
        result = record["result"]
        points = [[time, above] for time, above, _ in result["curve"]]
        if own["method"] == "ours.solve":
            history = result["facts"]["history"]
            points = [[time, (primal - dual) / primal] for time, primal, dual in history if primal]
        found[own["method"]] = points
    return found


def times(records: list[Record]) -> list[dict[str, Any]]:
    """Median time of every method on every case of the two program suites."""
    cases: dict[tuple[Any, ...], dict[str, Any]] = {}
    for record in records:
        own = record["config"]
        if own["suite"] in ("gated", "relu"):
            case = (own["gated"], own["instance"], own["ratio"])
            cases.setdefault(case, {})[own["method"]] = None
    for (gated, name, ratio), found in cases.items():
        for method in found:
            suite = "gated" if gated else "relu"
            found[method] = report.seconds(
                report.chosen(records, suite, name, ratio, method, gated)
            )
    ordered = sorted(cases.items(), key=lambda item: (not item[0][0], item[0][1], -item[0][2]))
    return [
        {"gated": gated, "instance": name, "ratio": ratio, "seconds": found}
        for (gated, name, ratio), found in ordered
    ]


def scaling(records: list[Record]) -> dict[str, Any]:
    """Median time against one size at a time."""
    methods = sorted({r["config"]["method"] for r in records if r["config"]["suite"] == "scaling"})

    def line(points: dict[float, tuple[str, float]]) -> dict[str, Any]:
        """For every method the time of each instance and ratio, by what is varied."""
        return {
            method: [
                [size, report.seconds(report.chosen(records, "scaling", *case, method, True))]
                for size, case in points.items()
            ]
            for method in methods
        }

    lines = {
        axis: line({int(name.split("x")["ndP".index(axis)]): (name, 1e-2) for name in names})
        for axis, names in SCALING.items()
    }
    lines["beta"] = line({r: ("1000x20x200", r) for r in (1e-1, 1e-2, 1e-3, 1e-4)})
    return lines if methods else {}


def grid(records: list[Record]) -> list[dict[str, Any]]:
    """Median time and peak memory of every method on the cases of the grid."""
    rows = []
    for name, ratio in GRID:
        row: dict[str, Any] = {"instance": name, "ratio": ratio, "seconds": {}, "mb": {}}
        for method in THREE:
            found = report.chosen(records, "grid", name, ratio, method, True)
            if found:
                row["seconds"][method] = report.seconds(found)
                row["mb"][method] = max(record["result"]["peak_mb"] for record in found)
        rows += [row] if row["seconds"] else []
    return rows


def threads(records: list[Record]) -> list[dict[str, Any]]:
    """Median processor time with one thread and with two."""
    names = list(dict.fromkeys(c["instance"] for c in suites.threads()))
    return [
        {
            "instance": name,
            **{
                count: {
                    m: report.seconds(report.chosen(records, suite, name, 1e-2, m, True))
                    for m in THREE
                }
                for count, suite in (("1", "gated"), ("2", "threads"))
            },
        }
        for name in names
    ]


def summary(records: list[Record]) -> dict[str, Any]:
    """Everything that the book shows of the records."""
    machines = {json.dumps(r["result"]["machine"]["cpu"]) for r in records}
    return {
        "rows": [report.row(target, records) for target in report.targets()],
        "curves": {
            "gated": curves(records, "gated", "b", 1e-2),
            "relu": curves(records, "relu", "a", 1e-2),
        },
        "times": times(records),
        "grid": grid(records),
        "threads_two": threads(records),
        "scaling": scaling(records),
        "machines": sorted(json.loads(name) for name in machines),
        "cores": sorted({r["result"]["machine"]["cores"] for r in records}),
        "threads": sorted({r["config"]["threads"] for r in records}),
        "busiest": max((r["result"]["machine"]["load_before"] for r in records), default=0.0),
        "commits": sorted({r["environment"]["commit"] or "unknown" for r in records}),
        "versions": _versions(records),
    }


def _versions(records: list[Record]) -> dict[str, str]:
    """Versions of the packages that were compared; ours are those of our own environment."""
    merged: dict[str, str] = {}
    for own in (False, True):
        for record in records:
            if record["config"]["method"].startswith("ours.") == own:
                merged |= record["result"]["facts"].get("versions", {})
    return dict(sorted(merged.items()))


def write(place: Path) -> None:
    """Write summary.json beside the records."""
    body = json.dumps(summary(report.load(place)), sort_keys=True, indent=1)
    (place / "summary.json").write_text(body + "\n", encoding="utf8")


if __name__ == "__main__":
    folder = runner.results_dir() / "benchmarks"
    print(report.text(report.load(folder)))
    write(folder)
