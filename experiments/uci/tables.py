"""UCI: performance profiles: how many problems a method solves to an accuracy, and how fast.

A problem is solved to a tolerance when ``(objective - best) / best <= tol``, where best is the
lowest objective that any of the compared methods has reached on it (Dolan and More, 2002, with the
accuracies of Mishkin, Sahiner and Pilanci, 2022).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import rankdata

from convexlib.plots.style import COLOURS, DASHES, GREY
from experiments.uci.methods import CONVEX

ACCURACIES = (1.0, 0.5, 0.1)  # of the authors' figures
TOLERANCES = (*ACCURACIES, 1e-2, 1e-3, 1e-6)
PROBLEMS = 438
# The authors' two panels: a program, and descent on networks of its own class.
GATED = ("gated", "sgd-gated", "adam-gated")
RELU = ("relu", "sgd-relu-2000", "adam-relu-2000")
SHORT = ("relu", "sgd-relu", "adam-relu")
# Gated networks are another class, with other optima: a pool that mixes them with ReLU networks is
# ours, and so is descent that tunes each output by itself.
OWN = ("relu", "sgd", "adam")
MIXED = ("gated", *OWN)
POOLS = (
    GATED,
    RELU,
    SHORT,
    OWN,
    MIXED,
    ("relu", "generated", "sgd-relu-2000", "adam-relu-2000"),
    ("gated", "pyscnn"),
)
# What is varied on a sample of problems, and beside which methods.
VARIANTS = {
    "-relu-2000": "2,000 epochs instead of 100",
    "-he": "He's start instead of torch's",
    "-narrow": "50 neurons instead of the program's",
    "-separate": "a network and a rate for each output",
}
RUNS = ("-relu", "-relu-2000", "-gated", "-gated-2000")
# A method has the same colour in every picture; those that share one are never compared.
PLACE = {"gated": 0, "relu": 1, "sgd": 2, "adam": 3, "pyscnn": 4, "generated": 4}
PLACE |= {f"{name}{variant}": PLACE[name] for name in ("sgd", "adam") for variant in RUNS}
ROUNDING = 1e-9  # a curve keeps eight digits
Key = tuple[str, float]
Results = Mapping[Key, Mapping[str, Mapping[str, Any]]]


def by_problem(
    found: Sequence[Mapping[str, Any]], methods: Sequence[str]
) -> dict[Key, dict[str, dict[str, Any]]]:
    """Return the results of `methods` of every problem (data, lambda) that has all of them."""
    results: dict[Key, dict[str, dict[str, Any]]] = defaultdict(dict)
    for record in found:
        config = record["config"]
        if config["method"] in methods:
            results[config["data"], config["lambda"]][config["method"]] = record["result"]
    return {key: part for key, part in sorted(results.items()) if len(part) == len(methods)}


def times_to(
    problems: Results, methods: Sequence[str], tol: float, alone: bool = True
) -> dict[str, NDArray[np.float64]]:
    """Return each method's seconds until each problem is solved to `tol`; infinite where it is not.

    A grid of runs counts by the quickest of them, as if its rate and seed had been known; with
    ``alone=False`` it counts in full.
    """
    times: dict[str, list[float]] = {method: [] for method in methods}
    for results in problems.values():
        best = min(results[method]["objective"] for method in methods)
        for method in methods:
            result = results[method]
            if result.get("failed", 0) == result.get("runs", 1):
                times[method].append(np.inf)  # every run has failed
                continue
            if result["objective"] > best * (1.0 + tol + ROUNDING):
                times[method].append(np.inf)
                continue
            curve = result["curve"] if alone else result.get("grid", result["curve"])
            # Runs that are one tensor program have equal parts of its time.
            share = result.get("runs", 1) if alone and "grid" not in result else 1
            # The last point stands for the network that was scored: digits may hide it.
            values = np.array([*curve["objective"][:-1], result["objective"]])
            first = int((values <= best * (1.0 + tol + ROUNDING)).argmax())
            times[method].append(curve["seconds"][first] / share)
    return {method: np.array(values) for method, values in times.items()}


@dataclass(frozen=True)
class Panel:
    """How many problems each of some methods solves to each of some accuracies.

    Attributes
    ----------
    every, live : int
        Problems with all methods, and those of them whose program, the first method, has a neuron:
        the others are solved by whoever does nothing, and do not count, as in the authors' code.
    shares : dict
        Of the live ones, by method and accuracy.
    seconds, grid : dict
        Median times to the accuracies, of the best run and of the whole grid; infinite where less
        than half are solved.
    """

    methods: tuple[str, ...]
    every: int
    live: int
    shares: dict[str, dict[float, float]]
    seconds: dict[str, dict[float, float]]
    grid: dict[str, dict[float, float]]

    def leads(self) -> list[bool]:
        """Whether the program's share is larger than every rival's, for each accuracy."""
        program, *rivals = (self.shares[method] for method in self.methods)
        return [program[tol] > max(rival[tol] for rival in rivals) for tol in program]


def panel(
    found: Sequence[Mapping[str, Any]],
    methods: tuple[str, ...],
    tolerances: Sequence[float] = ACCURACIES,
) -> Panel:
    """Count a pool of methods, the first of which is the program."""
    problems = by_problem(found, methods)
    live = {key: part for key, part in problems.items() if part[methods[0]]["neurons"] > 0}
    alone = {tol: times_to(live, methods, tol) for tol in tolerances}
    whole = {tol: times_to(live, methods, tol, alone=False) for tol in tolerances}

    def by_method(
        times: Mapping[float, Mapping[str, Any]], statistic: Callable[[Any], Any]
    ) -> dict[str, dict[float, float]]:
        return {
            method: {tol: float(statistic(times[tol][method])) for tol in tolerances}
            for method in methods
        }

    return Panel(
        methods,
        len(problems),
        len(live),
        by_method(alone, lambda times: np.isfinite(times).mean() if len(times) else np.nan),
        by_method(alone, lambda times: np.median(times) if len(times) else np.nan),
        by_method(whole, lambda times: np.median(times) if len(times) else np.nan),
    )


def effects(
    found: Sequence[Mapping[str, Any]],
) -> dict[tuple[str, str], tuple[Panel, Panel, NDArray[np.float64]]]:
    """Return what each variant of a setting does to descent, by variant and optimiser.

    The panels of the ReLU program and the optimiser with the usual setting and with the other one,
    and the ratios of its objectives, the other to the usual one.
    """
    changed = {}
    for variant in VARIANTS:
        for name in ("sgd", "adam"):
            usual, other = f"{name}-relu", name + variant
            both = by_problem(found, ("relu", usual, other))
            own = [r for r in found if (r["config"]["data"], r["config"]["lambda"]) in both]
            ratios = [p[other]["objective"] / p[usual]["objective"] for p in both.values()]
            panels = panel(own, ("relu", usual)), panel(own, ("relu", other))
            changed[variant, name] = *panels, np.array(ratios)
    return changed


def value_at(result: Mapping[str, Any], seconds: float) -> float:
    """Return the lowest objective that a method had reached by then; at first that of no neuron."""
    times, values = result["curve"]["seconds"], result["curve"]["objective"]
    return min([result["zero"], *(v for t, v in zip(times, values, strict=True) if t <= seconds)])


def profile(times: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return seconds and the share of all problems that are solved by then, as a step function."""
    solved = np.sort(times[np.isfinite(times)])
    return solved, np.arange(1, len(solved) + 1) / max(len(times), 1)


def ranks(problems: Results, methods: Sequence[str], score: str = "test_accuracy") -> Any:
    """Return the mean rank of each method's `score` (1 is the highest; ties share their ranks)."""
    if not problems:
        return {method: float("nan") for method in methods}
    scores = np.array([[part[method][score] for method in methods] for part in problems.values()])
    return dict(zip(methods, rankdata(-scores, axis=1).mean(axis=0).tolist(), strict=True))


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """Return the shares solved, times, gaps and accuracies as text."""
    if not any(by_problem(found, methods) for methods in POOLS):
        return _each(found)
    lines = []
    for methods in POOLS:
        problems = by_problem(found, methods)
        lines.append(f"{len(problems)} problems with {', '.join(methods)}")
        if not problems:
            continue
        lines.append(f"{'solved to':12}" + "".join(f"{tol:>10g}" for tol in TOLERANCES))
        reached = {tol: times_to(problems, methods, tol) for tol in TOLERANCES}
        for method in methods:
            shares = [float(np.isfinite(reached[tol][method]).mean()) for tol in TOLERANCES]
            lines.append(f"{method:12}" + "".join(f"{share:10.3f}" for share in shares))
        lines.append(f"{'median s':12}" + "".join(f"{tol:>10g}" for tol in TOLERANCES))
        for method in methods:
            medians = [float(np.median(reached[tol][method])) for tol in TOLERANCES]
            lines.append(f"{method:12}" + "".join(f"{value:10.3g}" for value in medians))
        rank = ranks(problems, methods)
        lines.append(f"{'method':12}{'test':>10}{'rank':>10}{'seconds':>10}{'max gap':>10}")
        for method in methods:
            lines.append(_summary(method, [part[method] for part in problems.values()], rank))
        lines.append("")
    return "\n".join(lines).rstrip()


def _each(found: Sequence[Mapping[str, Any]]) -> str:
    """One line for each record, where methods have no others to be compared with."""
    lines = [f"{'data':25}{'lambda':>9} {'method':16}{'objective':>11}{'test':>8}{'seconds':>9}"]
    for record in found:
        config, result = record["config"], record["result"]
        lines.append(
            f"{config['data'][:24]:25}{config['lambda']:9.2g} {config['method']:16}"
            f"{result['objective']:11.5g}{result['test_accuracy']:8.4f}{result['seconds']:9.3g}"
        )
    return "\n".join(lines)


def _summary(method: str, results: Sequence[Mapping[str, Any]], rank: Mapping[str, float]) -> str:
    """One line: mean test accuracy, its mean rank, mean seconds, the largest gap."""
    accuracy = np.mean([result["test_accuracy"] for result in results])
    seconds = np.mean([result["seconds"] for result in results])
    gaps = [result["relative_gap"] for result in results if "relative_gap" in result]
    gap = f"{max(gaps):10.1e}" if gaps else ""
    return f"{method:12}{accuracy:10.4f}{rank[method]:10.2f}{seconds:10.3g}{gap}"


def plot_profiles(
    found: Sequence[Mapping[str, Any]],
    methods: Sequence[str],
    tolerances: Sequence[float],
    alone: bool = True,
) -> Figure:
    """Draw the share of problems solved against seconds, one panel for each tolerance."""
    problems = by_problem(found, methods)
    columns = min(len(tolerances), 3)
    rows = -(-len(tolerances) // columns)
    size = (2.9 * columns, 2.5 * rows + 0.4)
    fig, axes = plt.subplots(
        rows, columns, sharey=True, squeeze=False, figsize=size, layout="constrained"
    )
    for ax in axes.flat[len(tolerances) :]:
        ax.remove()
    for ax, tol in zip(axes.flat, tolerances, strict=False):
        times = times_to(problems, methods, tol, alone=alone)
        finite = np.concatenate([part[np.isfinite(part) & (part > 0)] for part in times.values()])
        ends = (finite.min(), finite.max()) if len(finite) else (0.1, 1.0)
        for method in methods:
            seconds, shares = profile(times[method])
            last = shares[-1] if len(shares) else 0.0
            ax.step(
                np.concatenate([[0.8 * ends[0]], seconds, [1.25 * ends[1]]]),
                np.concatenate([[0.0], shares, [last]]),
                where="post",
                color=COLOURS[PLACE[method]],
                linestyle=DASHES[PLACE[method]],
                label=method,
            )
        ax.set(xscale="log", ylim=(-0.02, 1.02), title=f"to {tol:g}")
    fig.supxlabel("seconds", fontsize="medium", color=GREY)
    fig.supylabel("share of problems solved", fontsize="medium", color=GREY)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
    return fig


def missed(record: dict[str, Any]) -> str | None:
    """Say why a record misses its tolerance, or return None."""
    config, result = record["config"], record["result"]
    if config["method"] not in CONVEX or result["relative_gap"] <= config["tol"]:
        return None
    return (
        f"{config['method']} on {config['data']}, lambda {config['lambda']:.1e}: relative gap "
        f"{result['relative_gap']:.1e} > tol {config['tol']:.1e}"
    )
