"""Three layers: the records as text, as tables in Markdown, and who wins how often."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest

from experiments.three_layer.methods import BASELINES, CLOSE

LEVEL = 0.05  # of a test
EQUAL = 1e-3  # objectives that are relatively closer than this count as equal


def missed(record: dict[str, Any]) -> str | None:
    """Say why a record misses its tolerance, or return None."""
    result = record["result"]
    if record["config"]["part"] == "landscape":
        low = result["lowest"] < result["dual"]
        return f"a run ends at {result['lowest']}, below the proven bound" if low else None
    for kind, methods in result["kinds"].items():
        bound = methods["generated"]["dual"]
        for name in BASELINES:
            if methods[name]["alone"]["objective"] < bound:
                return f"{name} ends below the lower bound {bound} ({kind})"
    return None


def table(found: Sequence[dict[str, Any]]) -> str:
    """Return the two parts as text."""
    parts = {
        name: [r for r in found if r["config"]["part"] == name] for name in ("landscape", "sets")
    }
    lines = [
        f"{'instance':8} {'K':>3} {'rate':>5} {'within 1%':>9} {'0.1%':>5} {'median excess':>13}"
    ]
    for record in sorted(
        parts["landscape"], key=lambda r: (r["config"]["instance"], r["config"]["K"])
    ):
        config, result = record["config"], record["result"]
        best = config["rates"].index(result["best_rate"])
        shares = result["reached"][best]
        lines.append(
            f"{config['instance']:8} {config['K']:3} {result['best_rate']:5g} {shares[0]:9.2f} "
            f"{shares[1]:5.2f} {np.median(result['excess'][best]):13.1e}"
        )
    lines.append(f"{'set':25} {'beta':>6} {'method':17} {'objective':>10} {'train':>7} {'test':>7}")
    for record in sorted(parts["sets"], key=lambda r: (r["config"]["set"], -r["result"]["beta"])):
        result = record["result"]
        rows = [(name, result[key]) for name, key in (("linear", "linear"), ("two", "two_layers"))]
        for kind, methods in result["kinds"].items():
            rows += [(f"{kind} {name}", methods[name]) for name in ("generated", "sampled")]
            rows += [(f"{kind} {name}", methods[name]["alone"]) for name in BASELINES]
        for name, scores in rows:
            lines.append(
                f"{record['config']['set'][:25]:25} {result['beta']:6.3g} {name:17} "
                f"{scores['objective']:10.3f} {scores['train_accuracy']:7.4f} "
                f"{scores['test_accuracy']:7.4f}"
            )
    return "\n".join(lines)


def comparison(found: Sequence[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """One row for each set and beta that has the methods of a kind (``"decay"`` or ``"path"``).

    *best* is the baseline with the lowest objective when every run has the time of the search,
    *tuned* the lowest when a whole grid has it.
    """
    rows = []
    for record in found:
        if record["config"]["part"] != "sets" or kind not in record["result"]["kinds"]:
            continue
        result, methods = record["result"], record["result"]["kinds"][kind]
        lowest = {
            way: min((methods[name][way] for name in BASELINES), key=lambda run: run["objective"])
            for way in ("alone", "tuned")
        }
        rows.append(
            {
                "set": record["config"]["set"],
                "rows": result["rows"],
                "beta": result["beta"],
                "generated": methods["generated"],
                **{name: methods[name]["alone"] for name in BASELINES},
                "best": lowest["alone"],
                "tuned": lowest["tuned"],
                "two layers": result["two_layers"],
                "linear": result["linear"],
            }
        )
    return sorted(rows, key=lambda row: (row["set"], -row["beta"]))


def leads(found: Sequence[dict[str, Any]], kind: str) -> dict[str, list[float]]:
    """By how much the better of Adam and SGD ends above the search, for every beta of every set.

    Each is the median over its seeds, the better one is chosen in hindsight.
    """
    by_set: dict[str, list[float]] = {}
    for record in found:
        if record["config"]["part"] != "sets":
            continue
        methods = record["result"]["kinds"][kind]
        rivals = [np.median(methods[name]["alone"]["by_seed"]) for name in BASELINES]
        lead = min(rivals) / np.median(methods["generated"]["by_seed"]) - 1.0
        by_set.setdefault(record["config"]["set"], []).append(float(lead))
    return by_set


def sets_won(by_set: dict[str, list[float]]) -> tuple[int, int]:
    """Sets with a lead of more than `EQUAL` at some beta and a lag at none, and the reverse."""
    signs = [{int(np.sign(x)) for x in part if abs(x) > EQUAL} for part in by_set.values()]
    return signs.count({1}), signs.count({-1})


def by_signs(wins: int, losses: int) -> str:
    """The verdict on a lead: reproduced if a two-sided sign test without the ties agrees at 5 %."""
    certain = wins > losses and binomtest(wins, wins + losses).pvalue < LEVEL
    return "reproduced" if certain else "not reproduced"


def reached(found: Sequence[dict[str, Any]]) -> dict[str, dict[int, float]]:
    """The share of Adam's runs at the best rate that end within 1 %, by instance and K."""
    shares: dict[str, dict[int, float]] = {}
    for record in found:
        config, result = record["config"], record["result"]
        if config["part"] == "landscape":
            runs = np.array(result["excess"][config["rates"].index(result["best_rate"])])
            share = float((runs <= CLOSE[0]).mean())
            shares.setdefault(config["instance"], {})[config["K"]] = share
    return shares


def objectives(found: Sequence[dict[str, Any]], kind: str) -> str:
    """A table in Markdown: objectives of the search, and by how much others end above it."""
    lines = [
        "| Data (n, d) | $\\beta$ | T in s | Generated | (other seeds) | Adam | SGD | grid in T |",
        "|:--|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in comparison(found, kind):
        ours = row["generated"]
        above = [_above(row[name], ours) for name in ("adam", "sgd", "tuned")]
        others = ", ".join(f"{value / ours['objective'] - 1:+.1%}" for value in ours["by_seed"][1:])
        cells = [
            f"{row['set']} ({row['rows'][0]}, {row['rows'][1]})",
            f"{row['beta']:.3g}",
            f"{ours['seconds']:.1f}",
            f"{ours['objective']:.2f}",
            others,
            *(f"{value:+.1%}" for value in above),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def accuracies(found: Sequence[dict[str, Any]], kind: str) -> str:
    """A table in Markdown: test accuracies."""
    names = ("generated", "adam", "sgd", "two layers", "linear")
    lines = [
        "| Data (test rows) | $\\beta$ | Generated | Adam | SGD | Two layers | Linear |",
        "|:--|--:|--:|--:|--:|--:|--:|",
    ]
    for row in comparison(found, kind):
        cells = [f"{row['set']} ({row['rows'][2]})", f"{row['beta']:.3g}"]
        cells += [f"{row[name]['test_accuracy']:.1%}" for name in names]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def verdict(found: Sequence[dict[str, Any]], kind: str) -> dict[str, Any]:
    """Wins, ties and losses of the search against the best baseline of every set and beta.

    Objectives within `EQUAL` tie; test accuracies tie if equal. ``above`` and ``tuned above`` are
    the relative excesses of the baselines' objectives, ``points`` the search's lead in test
    accuracy.
    """
    rows = comparison(found, kind)
    above = np.array([_above(row["best"], row["generated"]) for row in rows])
    tuned = np.array([_above(row["tuned"], row["generated"]) for row in rows])
    points = {
        name: np.array(
            [row["generated"]["test_accuracy"] - row[name]["test_accuracy"] for row in rows]
        )
        for name in ("best", "two layers", "linear")
    }
    return {
        "settings": len(rows),
        "sets": len({row["set"] for row in rows}),
        "objective": _counts(above, EQUAL),
        "tuned": _counts(tuned, EQUAL),
        "above": above,
        "tuned above": tuned,
        "test": {name: _counts(lead, 1e-9) for name, lead in points.items()},
        "points": points,
    }


def summary(found: Sequence[dict[str, Any]], kind: str) -> str:
    """The verdict as a table in Markdown."""
    result = verdict(found, kind)
    lines = [
        f"| Generated, {result['settings']} settings on {result['sets']} sets | Wins | Ties "
        "| Losses | Lead: median (range) |",
        "|:--|--:|--:|--:|:--|",
    ]
    rows = [
        ("objective, best of Adam and SGD by hindsight", "objective", result["above"], "%"),
        ("objective, best of a grid in T", "tuned", result["tuned above"], "%"),
    ]
    for words, key, lead, unit in rows:
        lines.append(_line(words, result[key], 100.0 * lead, unit))
    for words, key in (
        ("the same of Adam and SGD", "best"),
        ("two layers", "two layers"),
        ("linear", "linear"),
    ):
        lead = 100.0 * result["points"][key]
        lines.append(_line(f"test accuracy, {words}", result["test"][key], lead, " points"))
    return "\n".join(lines)


def _line(words: str, counts: tuple[int, int, int], lead: np.ndarray, unit: str) -> str:
    spread = f"{np.median(lead):+.1f} ({lead.min():+.1f} to {lead.max():+.1f}){unit}"
    return f"| {words} | {counts[0]} | {counts[1]} | {counts[2]} | {spread} |"


def _above(run: dict[str, Any], ours: dict[str, Any]) -> float:
    """The relative excess of a run's objective over the search's."""
    return float(run["objective"] / ours["objective"] - 1.0)


def _counts(lead: np.ndarray, level: float) -> tuple[int, int, int]:
    """Wins, ties and losses."""
    wins, losses = int((lead > level).sum()), int((lead < -level).sum())
    return wins, len(lead) - wins - losses, losses
