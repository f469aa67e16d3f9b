"""Rules on convex training against descent: heartbeats, the exchange, three layers, images."""

from __future__ import annotations

import numpy as np

from claim_rules.verdicts import LEVEL, REPRODUCED, Finding, graded, stored
from experiments.ecg import tables as ecg_tables
from experiments.images import tables as image_tables
from experiments.nyse import tables as nyse_tables
from experiments.three_layer.tables import by_signs, leads, reached, sets_won


def ecg_certified() -> Finding:
    """Compare SGD with the certified optimum, one or two lags, at equal time.

    Reproduced if in every setting all seeds of SGD end above the optimum by more than the certified
    gap, in the objective, and above the convex network in the mean squared error of the training
    data too; in part if in the objective alone. (No network is below a certified objective.)
    """
    found = [r for r in ecg_tables.comparisons(stored("ecg")) if r["config"]["lags"] <= 2]
    margins = ecg_tables.margins(found)
    above, gaps = zip(*margins, strict=True)
    he = max(above for above, _ in ecg_tables.margins(found, part="he"))
    seeds = [len(r["result"]["methods"]["sgd"]) for r in found]
    lower = [low > gap for low, gap in margins]
    errors = sum(ecg_tables.fits_better(r["result"]) for r in found)
    text = (
        f"the objective of SGD, every seed ({min(seeds)} a setting), is above the optimum in "
        f"{sum(lower)} of {len(lower)} settings, by {min(above):.0e} to {max(above):.0e} "
        f"(relative, its best seed, from the best of the start's scales; up to {he:.1f} from He's "
        f"start); the certified gap is at most {max(gaps):.0e}. The training error alone "
        f"is lower than SGD's in {errors} of {len(found)}"
    )
    return text, graded(all(lower) and errors == len(found), all(lower))


def ecg_searched() -> Finding:
    """Compare SGD with the convex program, more lags, at equal time.

    A win is a setting where its best seed ends above the program's objective by more than the
    tolerance, a loss one where it ends below by more. Reproduced if a sign test agrees at 5 % and
    the mean training error is lower in every setting; in part if there are more wins than losses.
    """
    found = [r for r in ecg_tables.comparisons(stored("ecg")) if r["config"]["lags"] > 2]
    margins = ecg_tables.margins(found)
    wins = sum(above > tol for above, tol in margins)
    losses = sum(above < -tol for above, tol in margins)
    errors = sum(ecg_tables.fits_better(r["result"]) for r in found)
    gaps = [ecg_tables.gap(r["result"]) for r in found]
    text = (
        f"the objective is lower than that of SGD's best seed, from the best of the start's "
        f"scales, in {wins} of {len(margins)} settings, higher in {losses}, level in the others "
        f"(tolerance {max(tol for _, tol in margins):.0e}); proven gaps from {min(gaps):.0e} to "
        f"{max(gaps):.1f}. The training error alone is lower in {errors}"
    )
    everywhere = by_signs(wins, losses) == REPRODUCED and errors == len(found)
    return text, graded(everywhere, wins > losses)


def nyse_validation() -> Finding:
    """Compare validation errors, each method with its own best beta, over seeds and over days.

    Reproduced if the mean over the seeds is below that of SGD and of Adam, Welch's test agrees at
    5 % for both, and so do the intervals of the differences over blocks of days; in part if the
    means are below.
    """
    found = stored("nyse")
    errors = {
        name: [run["validation"] for run in nyse_tables.chosen(found, name)[1]]
        for name in ("convex", "sgd-cosine", "adam-cosine")
    }
    rivals = {"sgd-cosine": "SGD", "adam-cosine": "Adam"}
    parts, lower, sure = [], [], []
    for name, label in rivals.items():
        p = nyse_tables.seeds_apart(found, "convex", name, "validation")
        mean, half = nyse_tables.difference(found, "convex", name, "validation")
        lower.append(bool(np.mean(errors["convex"]) < np.mean(errors[name])))
        sure.append(p < LEVEL and mean + half < 0)
        parts.append(
            f"{np.mean(errors[name]):.4f} ({label}; the difference is {mean:+.4f} +- {half:.4f} "
            f"over blocks of days, 95 %, and p = {p:.2f} over the seeds)"
        )
    text = f"{np.mean(errors['convex']):.4f} against " + " and ".join(parts)
    return text, graded(all(lower) and all(sure), all(lower))


def parallel_training(kind: str) -> Finding:
    """Count the sets on which the search is ahead, and those on which it is behind."""
    by_set = leads(stored("three_layer"), kind)
    wins, losses = sets_won(by_set)
    every = np.concatenate(list(by_set.values()))
    text = (
        f"medians over seeds: of {len(by_set)} sets {wins} are won, {len(by_set) - wins - losses} "
        f"tied and {losses} lost, with {len(every)} settings; the lead is "
        f"{100 * np.median(every):.1f} % in their median ({100 * every.min():.1f} to "
        f"{100 * every.max():.1f} %)"
    )
    return text, by_signs(wins, losses)


def three_layer_descent() -> Finding:
    """Compare objectives at equal time, weight decay, in the median over the seeds of each method.

    A set is won if the better of Adam and SGD, chosen in hindsight, ends above the convex search by
    more than 0.1 % at one beta at least and below by more at none; lost the other way round.
    Reproduced if a sign test over the sets agrees at 5 %.
    """
    return parallel_training("decay")


def path_descent() -> Finding:
    """Compare objectives at equal time, path norm, in the median over the seeds of each method.

    Sets are won and lost as for three layers with weight decay, and so is the verdict found.
    """
    return parallel_training("path")


def landscape() -> Finding:
    """Compare the shares of Adam's runs that end within 1 % of the optimum.

    Reproduced if on every instance the share is larger with the most sub-networks than with one,
    and at least one half; in part if it is larger.
    """
    shares = reached(stored("three_layer"))
    ends = {name: (min(part), max(part)) for name, part in shares.items()}
    pairs = {name: tuple(shares[name][k] for k in ends[name]) for name in shares}
    text = "; ".join(
        f"{name}: {100 * pairs[name][0]:.0f} % (K = {ends[name][0]}) to "
        f"{100 * pairs[name][1]:.0f} % (K = {ends[name][1]})"
        for name in sorted(shares)
    )
    better = all(last > first for first, last in pairs.values())
    return text, graded(better and min(last for _, last in pairs.values()) >= 0.5, better)


def images_against_descent(network: str) -> Finding:
    """Count the settings in which the search is ahead, and those in which it is behind."""
    leads = [
        lead for (kind, _), lead in image_tables.leads(stored("images")).items() if kind == network
    ]
    wins = sum(lead > image_tables.EQUAL for lead in leads)
    losses = sum(lead < -image_tables.EQUAL for lead in leads)
    rows = {
        r["result"]["rows"][0] for r in stored("images") if r["config"].get("network") == network
    }
    text = (
        f"medians over seeds, {max(rows):,} images of digits, even against odd: of {len(leads)} "
        f"settings {wins} won, {len(leads) - wins - losses} tied, {losses} lost; relative to the "
        "search, the objective of the better of Adam and SGD is "
        f"{' and '.join(f'{100 * lead:+.1f} %' for lead in leads)}"
    )
    return text, by_signs(wins, losses)


def images_three_layer() -> Finding:
    """Compare objectives at equal time on images, three layers with weight decay.

    A setting is won if the better of Adam and SGD, chosen in hindsight, ends above the search by
    more than 1 %, in the median over seeds of each. Reproduced if a sign test agrees at 5 %.
    """
    return images_against_descent("decay")


def images_path() -> Finding:
    """Compare objectives at equal time on images, three layers with the path norm.

    Settings are won and lost as for weight decay, and so is the verdict found.
    """
    return images_against_descent("path")


def images_ten() -> Finding:
    """Ask whether gated programs are solved with all pixels and all ten classes.

    In part if every gated program is solved to its tolerance: the records hold a part of MNIST,
    and no colour images.
    """
    found = [r for r in stored("images") if r["config"]["part"] == "ten"]
    runs = [(r, r["result"]["methods"][name]) for r in found for name in ("gated", "nuclear")]
    solved = all(run["gap"] <= r["config"]["tol"] for r, run in runs)
    n, d, _ = found[0]["result"]["rows"]
    seconds = [run["seconds"] for _, run in runs]
    accuracies = [100 * run["test_accuracy"] for _, run in runs]
    text = (
        f"{n:,} of the 60,000 training images of MNIST, {d - 1} pixels, {runs[0][1]['patterns']} "
        f"patterns: {len(runs)} gated programs solved to relative gaps of at most "
        f"{max(run['gap'] for _, run in runs):.0e} in {min(seconds):.0f} to {max(seconds):.0f} s, "
        f"test accuracy {min(accuracies):.1f} to {max(accuracies):.1f} %; CIFAR-10 not at hand"
    )
    return text, graded(False, solved)


RULES = (
    ecg_certified,
    ecg_searched,
    nyse_validation,
    three_layer_descent,
    path_descent,
    landscape,
    images_three_layer,
    images_path,
    images_ten,
)
