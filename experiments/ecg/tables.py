"""ECG: the records as text, and what is wrong with one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from convexlib.result import relative_gap
from experiments.ecg.methods import METHODS
from experiments.variations import ratio_of

ORDER = ("generated", "sampled", "gated", *METHODS)
TIGHT = 1e-5  # a gap below which the bound itself is the reference
LOWER = 1e-9  # relative: below a bound by rounding only
SEARCHED = 10  # times the tolerance: what the estimated gap may be where none is proven


def comparisons(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records that compare methods: fewest lags and samples, largest beta first."""
    chosen = [record for record in found if record["config"]["part"] == "compare"]
    return sorted(chosen, key=lambda r: (r["config"]["lags"], r["config"]["n_train"], -ratio_of(r)))


def gap(result: dict[str, Any]) -> float:
    """Return the proven relative gap of the lowest convex network."""
    lowest = min(run["objective"] for run in result["methods"]["generated"])
    return relative_gap(lowest, result["bound"]["dual"])


def is_proven(result: dict[str, Any], tol: float) -> bool:
    """Whether the convex network is proven to be within `tol` of the optimum over all widths."""
    return bool(result["bound"]["rigorous"]) and gap(result) <= tol


def reference(result: dict[str, Any]) -> float:
    """Return the certified bound where it is tight, else the lowest value of the convex program."""
    if is_proven(result, TIGHT):
        return float(result["bound"]["dual"])
    return min(run["objective"] for run in result["methods"]["generated"])


def excess(result: dict[str, Any], name: str, part: str = "methods") -> list[float]:
    """Return how far the runs of a method end above the reference, relative to it.

    `part` is "methods" or, from He's own start, "he".
    """
    base = reference(result)
    return [run["objective"] / base - 1.0 for run in result[part][name]]


def loss_and_penalty(result: dict[str, Any], run: dict[str, Any]) -> tuple[float, float]:
    """Return the two terms of a run's objective: half its squared errors, and its weight decay."""
    loss = 0.5 * result["rows"][0] * run["train_mse"]
    return loss, run["objective"] - loss


def split(result: dict[str, Any], name: str, part: str = "methods") -> tuple[float, float]:
    """Return the loss part and the penalty part of a method's mean excess.

    They are differences to the lowest convex network, relative to the reference, and add up to the
    excess but for that network's own.
    """
    lowest = min(result["methods"]["generated"], key=lambda run: run["objective"])
    optimum = np.array(loss_and_penalty(result, lowest))
    runs = [loss_and_penalty(result, run) for run in result[part][name]]
    loss, penalty = (np.mean(runs, axis=0) - optimum) / reference(result)
    return float(loss), float(penalty)


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
    bound = result["bound"]["dual"] if compares else runs[0]["dual"]
    for name, others in result.get("methods", {}).items():
        if name != "gated" and min(run["objective"] for run in others) < bound * (1.0 - LOWER):
            return f"{name} ends below the lower bound {bound:.8g}"
    return None


def table(found: Sequence[dict[str, Any]]) -> str:
    """Return the comparisons and the errors by kind of beat as text.

    Excesses are relative to the certified bound where that is tight, elsewhere to the lowest value
    of the convex program: best and worst seed at equal time from the best scale of the start, its
    mean split into loss and weight decay, the best seed from He's start, and the best with more
    time.
    """
    head = ("lags", "n", "beta/max", "method", "objective", "best", "worst", "loss", "decay")
    lines = ["{:>4} {:>6} {:>8} {:12} {:>10} {:>6} {:>6} {:>6} {:>6}".format(*head)]
    lines[0] += f" {'He':>6} {'longer':>6} {'train':>8} {'test mse':>8} {'scale':>5} {'gap':>6}"
    for record in comparisons(found):
        config, result = record["config"], record["result"]
        start = f"{config['lags']:4} {config['n_train']:6} {ratio_of(record):8.5g} "
        for name in (name for name in ORDER if name in result["methods"]):
            runs = result["methods"][name]
            ends: list[float | None] = [None] * 6
            if name != "gated":  # whose objective is that of another model: no excess can be told
                ends[:2] = min(excess(result, name)), max(excess(result, name))
            if name in METHODS:
                ends[2:4] = split(result, name)
                ends[4] = min(excess(result, name, "he"), default=None)
            if name in result["longer"]:
                ends[5] = result["longer"][name]["objective"] / reference(result) - 1.0
            cells = ["" if value is None else f"{value:.0e}" for value in ends]
            scale = f"{runs[0]['scale']:g}" if "scale" in runs[0] else ""
            proven = f"{gap(result):.0e}" if name == "generated" else ""
            lines.append(
                f"{start}{name:12} {min(run['objective'] for run in runs):10.6g} "
                + "".join(f"{cell:>6} " for cell in cells)
                + f"{np.mean([run['train_mse'] for run in runs]):8.6f} "
                f"{np.mean([run['test_mse'] for run in runs]):8.5f} {scale:>5} {proven:>6}"
            )
        linear = result["linear"]
        lines.append(
            f"{start}{'linear':12} {'':53}{linear['train_mse']:8.6f} {linear['test_mse']:8.5f}"
        )
        if "tested" in result:
            lines.append(f"{start}on the {result['tested']} samples that are left to test")
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


def mean_of(result: dict[str, Any], name: str, part: str) -> float:
    """Return the mean over the seeds of an entry such as "train_mse"."""
    return float(np.mean([run[part] for run in result["methods"][name]]))


def fits_better(result: dict[str, Any], name: str = "sgd") -> bool:
    """Whether the convex network has the lower squared error on the training data."""
    return mean_of(result, "generated", "train_mse") < mean_of(result, name, "train_mse")


def predicts_better(result: dict[str, Any]) -> bool:
    """Whether the convex network has a lower test error than the linear model."""
    return bool(mean_of(result, "generated", "test_mse") < result["linear"]["test_mse"])


def margins(
    found: Sequence[dict[str, Any]], name: str = "sgd", part: str = "methods"
) -> list[tuple[float, float]]:
    """Return for each comparison how far the best seed of a method is above, and the tolerance.

    That is the excess of the convex network itself where the bound is the reference, else the
    tolerance of the search.
    """
    rows = []
    for record in found:
        result = record["result"]
        proven = is_proven(result, TIGHT)
        tol = max(excess(result, "generated")) if proven else float(record["config"]["tol"])
        rows.append((min(excess(result, name, part)), tol))
    return rows


def strip(found: Sequence[dict[str, Any]]) -> str:
    """Return the claims of the chapter as a small table in Markdown, one line each."""
    compared = comparisons(found)
    lines = ["| Claim | Number | Verdict | Caveat |", "|:--|:--|:--|:--|"]
    for label, few in (("1, 2", True), ("5 to 15", False)):
        chosen = [record for record in compared if (record["config"]["lags"] <= 2) == few]
        wins = sum(above > tol for above, tol in margins(chosen))
        losses = sum(above < -tol for above, tol in margins(chosen))
        highest = max(above for above, _ in margins(chosen))
        he = max(above for above, _ in margins(chosen, part="he"))
        gaps = [gap(record["result"]) for record in chosen]
        caveat = f"from He's start {brief(he)}; " + (
            f"certified to {brief(max(gaps))}"
            if few
            else f"certified to {brief(min(gaps))} at best, {brief(max(gaps))} at worst"
        )
        verdict = "holds" if wins == len(chosen) else "in part" if wins > losses else "no"
        lines.append(
            f"| objective below SGD's, {label} lags | {wins} of {len(chosen)}, best seeds by at "
            f"most {brief(highest)} | {verdict} | {caveat} |"
        )
    for label, better, caveat in (
        ("loss alone below SGD's", fits_better, "the objective is what is minimised"),
        ("test error below a linear model's", predicts_better, "nobody claims it"),
    ):
        count = sum(better(record["result"]) for record in compared)
        verdict = "holds" if count == len(compared) else "does not hold"
        lines.append(f"| {label} | {count} of {len(compared)} | {verdict} | {caveat} |")
    return "\n".join(lines)


def brief(value: float) -> str:
    """Write a relative difference in few characters: as a multiple, in per cent, or as a power."""
    if value >= 1.0:
        return f"{1 + value:.1f} times"
    if value >= 1e-3:
        return f"{100 * value:.2g} %"
    digit, power = f"{value:.0e}".split("e")
    return f"{digit}e{int(power)}"
