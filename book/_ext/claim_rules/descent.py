"""Rules on convex training against descent: electrocardiogram, stock exchange, three layers."""

from __future__ import annotations

import numpy as np
from scipy.stats import ttest_ind

from claim_rules.verdicts import LEVEL, Finding, by_signs, graded, stored
from convexlib.experiments import ecg_table, nyse_table, three_layer_table

CLOSE = 0.01  # of the optimum


def ecg_certified() -> Finding:
    """Compare SGD with the certified optimum, one or two lags.

    Reproduced if its best seed ends above the optimum by more than the certified gap in every
    setting; in part if in some.
    """
    found = [r for r in ecg_table.comparisons(stored("ecg")) if r["config"]["lags"] <= 2]
    above = [min(ecg_table.excess(r["result"], "sgd")) for r in found]
    gaps = [max(run["gap"] for run in r["result"]["methods"]["generated"]) for r in found]
    lower = [low > gap for low, gap in zip(above, gaps, strict=True)]
    text = (
        f"SGD ends above the optimum in {sum(lower)} of {len(lower)} settings, by {min(above):.0e} "
        f"to {max(above):.0e} (relative, its best seed); the certified gap is at most "
        f"{max(gaps):.0e}"
    )
    return text, graded(all(lower), any(lower))


def ecg_searched() -> Finding:
    """Compare SGD with the convex program, more lags.

    A win is a setting where its best seed ends above the program by more than the tolerance, a
    loss one where it ends below by more. Reproduced if a sign test agrees at 5 %; in part if there
    are more wins than losses.
    """
    found = [r for r in ecg_table.comparisons(stored("ecg")) if r["config"]["lags"] > 2]
    ends = [(r["config"]["tol"], ecg_table.excess(r["result"], "sgd")) for r in found]
    wins = sum(min(above) > tol for tol, above in ends)
    losses = sum(min(above) < -tol for tol, above in ends)
    text = (
        f"lower in {wins} of {len(ends)} settings, higher in {losses}, level in the others "
        f"(tolerance {max(tol for tol, _ in ends):.0e}); no proof, the bounds are loose"
    )
    return text, by_signs(wins, losses)


def nyse_validation() -> Finding:
    """Compare validation errors, each method with its own best beta.

    Reproduced if the mean over the seeds is below that of SGD and of Adam, and Welch's test agrees
    at 5 % for both; in part if the means are below.
    """
    errors = {
        name: [run["validation"] for run in nyse_table.chosen(stored("nyse"), name)[1]]
        for name in ("convex", "sgd-cosine", "adam-cosine")
    }
    mean = {name: float(np.mean(values)) for name, values in errors.items()}
    rivals = ("sgd-cosine", "adam-cosine")
    p = {
        name: float(ttest_ind(errors["convex"], errors[name], equal_var=False).pvalue)
        for name in rivals
    }
    lower = [mean["convex"] < mean[name] for name in rivals]
    text = f"{mean['convex']:.4f} against " + " and ".join(
        f"{mean[name]:.4f} ({label}, p = {p[name]:.3f})"
        for name, label in zip(rivals, ("SGD", "Adam"), strict=True)
    )
    return text, graded(all(lower) and max(p.values()) < LEVEL, all(lower))


def parallel_training(kind: str) -> Finding:
    """Compare the search with the better of Adam and SGD, chosen in hindsight."""
    found = three_layer_table.verdict(stored("three_layer"), kind)
    wins, ties, losses = found["objective"]
    text = (
        f"of {found['settings']} settings {wins} are won, {ties} tied and {losses} lost, on "
        f"{found['sets']} sets; the lead is {100 * np.median(found['above']):.1f} % in the median "
        f"({100 * found['above'].min():.1f} to {100 * found['above'].max():.1f} %)"
    )
    return text, by_signs(wins, losses)


def three_layer_descent() -> Finding:
    """Compare objectives at equal time, weight decay.

    A win is a setting where the better of Adam and SGD, chosen in hindsight, ends above the convex
    search by more than 0.1 %, a loss one where it ends below by more. Reproduced if a sign test
    agrees at 5 %; in part if there are more wins than losses.
    """
    return parallel_training("decay")


def path_descent() -> Finding:
    """Compare objectives at equal time, path norm.

    Wins and losses are counted as for three layers with weight decay, and so is the verdict found.
    """
    return parallel_training("path")


def landscape() -> Finding:
    """Compare the shares of Adam's runs that end within 1 % of the optimum.

    Reproduced if on every instance the share is larger with the most sub-networks than with one,
    and at least one half; in part if it is larger.
    """
    shares: dict[str, dict[int, float]] = {}
    for record in stored("three_layer"):
        config, result = record["config"], record["result"]
        if config["part"] == "landscape":
            runs = np.array(result["excess"][config["rates"].index(result["best_rate"])])
            shares.setdefault(config["instance"], {})[config["K"]] = float((runs <= CLOSE).mean())
    ends = {name: (min(part), max(part)) for name, part in shares.items()}
    pairs = {name: tuple(shares[name][k] for k in ends[name]) for name in shares}
    text = "; ".join(
        f"{name}: {100 * pairs[name][0]:.0f} % (K = {ends[name][0]}) to "
        f"{100 * pairs[name][1]:.0f} % (K = {ends[name][1]})"
        for name in sorted(shares)
    )
    better = all(last > first for first, last in pairs.values())
    return text, graded(better and min(last for _, last in pairs.values()) >= 0.5, better)


RULES = (
    ecg_certified,
    ecg_searched,
    nyse_validation,
    three_layer_descent,
    path_descent,
    landscape,
)
