"""NYSE: what to read from the records: the choice of beta, the table, and what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import t, ttest_ind

from convexlib.arrays import Floats
from experiments.variations import ratio_of

REFERRED = ("convex", "generated", "sgd-cosine", "adam-cosine")  # one objective for all of them


def networks(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records of the multivariate task, from the largest beta down."""
    records = [record for record in found if record["config"]["part"] == "network"]
    return sorted(records, key=ratio_of, reverse=True)


def chosen(found: Sequence[dict[str, Any]], method: str) -> tuple[float, list[dict[str, Any]]]:
    """Return the ratio with the lowest mean validation error, and the runs at it."""
    paths = [(ratio_of(r), r["result"]["methods"][method]) for r in networks(found)]
    return min(paths, key=lambda path: float(np.mean([run["validation"] for run in path[1]])))


def blocks_of(found: Sequence[dict[str, Any]], method: str, part: str) -> Floats:
    """Return the errors of a method on the blocks of a part, at its own choice on validation days.

    A method is one of the records of the multivariate task, or ``"ridge"``.
    """
    if method == "ridge":
        linear = next(r["result"] for r in found if r["config"]["part"] == "linear")
        rows = linear["ridge"]
        return np.array(min(rows, key=lambda row: float(row["validation"]))["blocks"][part])
    ratio, _ = chosen(found, method)
    record = next(record for record in networks(found) if ratio_of(record) == ratio)
    return np.array(record["result"]["blocks"][method][part])


def interval(blocks: Floats, level: float = 0.95) -> tuple[float, float]:
    """Return the mean of blocks and half the width of its t interval.

    The blocks count as independent draws; what they stand for are other days like these.
    """
    count = len(blocks)
    half = t.ppf(0.5 + 0.5 * level, count - 1) * blocks.std(ddof=1) / np.sqrt(count)
    return float(blocks.mean()), float(half)


def difference(
    found: Sequence[dict[str, Any]], first: str, second: str, part: str
) -> tuple[float, float]:
    """Return by how much the error of one method is above another's, day by day: see `interval`."""
    return interval(blocks_of(found, first, part) - blocks_of(found, second, part))


def missed(record: dict[str, Any]) -> str | None:
    """Say why a record misses its tolerance, or return None."""
    config, result = record["config"], record["result"]
    if config["part"] == "network":
        bound = result["bound"]["dual"]
        for name in REFERRED:
            if min(run["objective"] for run in result["methods"][name]) < bound:
                return f"{name} ends below the lower bound {bound:.6g}"
        gaps = [run["gap"] for name in ("convex", "gated") for run in result["methods"][name]]
        if max(gaps) > config["tol"]:
            return f"relative gap {max(gaps):.1e} > tol {config['tol']:.1e}"
    if config["part"] == "series" and max(run["gap"] for run in result["path"]) > 1e-6:
        return "a relative gap of the Lasso is above 1e-6"
    return None


def table(found: Sequence[dict[str, Any]]) -> str:
    """Return mean (spread over seeds) at every beta, the linear models, and differences.

    These are of errors on the same days, each method at its own beta, with a 95 % interval from
    blocks of days.
    """
    head = ("beta/max", "method", "objective", "validation", "(sd)", "test", "(sd)")
    lines = ["{:>8} {:12} {:>10} {:>11} {:>8} {:>8} {:>8}".format(*head)]
    for record in networks(found):
        for name, runs in record["result"]["methods"].items():
            objective = np.mean([run["objective"] for run in runs])
            line = f"{ratio_of(record):8.5g} {name:12} {objective:10.2f}"
            for part, width in (("validation", 11), ("test", 8)):
                errors = [run[part] for run in runs]
                line += f" {np.mean(errors):{width}.4f} {np.std(errors):8.4f}"
            lines.append(line)
    for record in found:
        result = record["result"]
        if record["config"]["part"] == "linear":
            best = min(result["ridge"], key=lambda row: row["validation"])
            for name, row in (("constant", result["constant"]), ("ridge", best)):
                lines.append(f"{'':8} {name:12} {row['validation']:22.4f} {row['test']:17.4f}")
        if record["config"]["part"] == "long":
            values = [run["objective"] for run in result["runs"]]
            seconds = record["config"]["seconds"]
            name = f"Adam, {seconds:g} s"
            lines.append(f"{ratio_of(record):8.5g} {name:12} {min(values):10.2f}")
        if record["config"]["part"] == "series":
            best = min(result["path"], key=lambda row: row["validation"])
            name = f"{record['config']['loss']}, depth {record['config']['depth']}"
            lines.append(f"{'':4} {name:18} {best['validation']:20.4f} {best['test']:17.4f}")
    if networks(found) and any(record["config"]["part"] == "linear" for record in found):
        for name in ("sgd-cosine", "adam-cosine", "generated", "gated", "ridge"):
            ends = [difference(found, "convex", name, part) for part in ("validation", "test")]
            text = ", ".join(f"{mean:+.4f} +- {half:.4f}" for mean, half in ends)
            lines.append(f"convex minus {name:12} (validation, test): {text}")
    return "\n".join(lines)


RIVALS = {"sgd-cosine": "SGD", "adam-cosine": "Adam"}


def seeds_apart(found: Sequence[dict[str, Any]], first: str, second: str, part: str) -> float:
    """Return the p value of Welch's test on the seeds of two methods, each at its own beta."""
    errors = [[run[part] for run in chosen(found, name)[1]] for name in (first, second)]
    return float(ttest_ind(*errors, equal_var=False).pvalue)


def strip(found: Sequence[dict[str, Any]]) -> str:
    """Return the claims of the chapter as a small table in Markdown, one line each."""
    lines = ["| Claim | Number | Verdict | Caveat |", "|:--|:--|:--|:--|"]
    for part in ("validation", "test"):
        for name, label in RIVALS.items():
            mean, half = difference(found, "convex", name, part)
            base = 0.01 * blocks_of(found, name, part).mean()
            p = seeds_apart(found, "convex", name, part)
            verdict = "holds" if mean + half < 0 else "in sign" if mean < 0 else "does not hold"
            lines.append(
                f"| {part} error below {label}'s | {mean / base:+.2f} ± {half / base:.2f} % "
                f"| {verdict} | ± over days, 95 %; over seeds p = {p:.2f} |"
            )
    for name, label in RIVALS.items():
        records = networks(found)
        lower = sum(objective_of(r, "convex") < objective_of(r, name) for r in records)
        verdict = "holds" if lower == len(records) else "in part" if lower else "does not hold"
        lines.append(
            f"| objective below {label}'s | {lower} of {len(records)} | {verdict} "
            "| means of ten seeds, equal time |"
        )
    return "\n".join(lines)


def objective_of(record: dict[str, Any], method: str, part: str = "methods") -> float:
    """Return the mean training objective of a method over its seeds."""
    return float(np.mean([run["objective"] for run in record["result"][part][method]]))
