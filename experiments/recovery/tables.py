"""Sparse recovery: the table, where the transitions are, and what contradicts a theorem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, kendalltau

from convexlib.arrays import Floats

Counts = NDArray[np.int_]

LEVEL = 0.05  # of a test
_FLAT = 0.01  # slope of a curve that rises by a factor of e^440 in n, which is none


def half_point(
    ratios: Sequence[float], successes: Sequence[int], trials: int
) -> tuple[float, float] | None:
    r"""The n/d at which half of the trials succeed, and its standard error; None if none is.

    That of the `logistic` curve; the error comes from the Fisher information, by the delta method.
    """
    if not min(successes) < trials / 2 < max(successes):
        return None
    b, information = logistic(ratios, successes, trials)
    point = float(np.exp(-b[0] / b[1]))
    slope = np.array([-1.0, b[0] / b[1]]) / b[1]  # of log(point) in b
    return point, point * float(np.sqrt(slope @ np.linalg.solve(information, slope)))


def logistic(
    ratios: Sequence[float], successes: Sequence[int], trials: int
) -> tuple[Floats, Floats]:
    r"""A logistic curve in :math:`\log(n/d)`: constant and slope (2,), their information (2, 2).

    By maximum likelihood with Newton's method, half a success and half a failure added to every
    count, so that the maximum exists.
    """
    design = np.column_stack([np.ones(len(ratios)), np.log(ratios)])  # (R, 2)
    counts = np.asarray(successes) + 0.5
    size = trials + 1.0
    middle = np.interp(0.5, np.maximum.accumulate(counts) / size, design[:, 1])
    b = np.array([-4.0 * middle, 4.0])
    for _ in range(100):
        p = 1.0 / (1.0 + np.exp(-np.clip(design @ b, -500.0, 500.0)))
        information = (design.T * (size * p * (1.0 - p))) @ design
        step = np.linalg.solve(information, design.T @ (counts - size * p))
        b += step * 2.0 / max(float(np.abs(step).max()), 2.0)
        if np.abs(step).max() < 1e-10:
            break
    return b, information


def half_points(
    found: Sequence[Mapping[str, Any]], teacher: str, key: str
) -> list[tuple[float, float] | None]:
    """The half points of a teacher of the map, by increasing d; key is a count of its rows.

    Of ``"all_active"`` the half point of the whitened program over all gates, which fails exactly
    where all samples can be active.
    """
    chosen = [r for r in found if r["config"]["part"] == "map"]
    chosen = [r for r in chosen if r["config"]["teacher"] == teacher]
    points = []
    for record in sorted(chosen, key=lambda r: r["config"]["d"]):
        trials = len(record["config"]["seeds"])
        counts = [row[key] for row in record["result"]["rows"]]
        if key == "all_active":
            counts = [trials - count for count in counts]
        points.append(half_point(record["config"]["ratios"], counts, trials))
    return points


def factors(found: Sequence[Mapping[str, Any]], teacher: str) -> dict[int, float]:
    """The factor in n from 10 % to 90 % of teachers recovered in the map, by increasing d."""
    chosen = [r for r in found if r["config"]["part"] == "map"]
    chosen = [r for r in chosen if r["config"]["teacher"] == teacher]
    return {
        record["config"]["d"]: rise(
            record["config"]["ratios"],
            [row["minimal"] for row in record["result"]["rows"]],
            len(record["config"]["seeds"]),
        )
        for record in sorted(chosen, key=lambda r: r["config"]["d"])
    }


def rise(ratios: Sequence[float], successes: Sequence[int], trials: int) -> float:
    """The factor in n from 10 % to 90 %, infinite if one of them is not seen.

    The shares, made increasing, are interpolated in log n.
    """
    shares = np.maximum.accumulate(np.asarray(successes)) / trials
    ends = []
    for share in (0.1, 0.9):
        after = int(np.argmax(shares >= share))
        if not shares[after] >= share or after == 0:
            return np.inf
        pair = slice(after - 1, after + 1)
        ends.append(np.interp(share, shares[pair], np.log(ratios[pair])))
    return float(np.exp(ends[1] - ends[0]))


def sharpens(by_dimension: Mapping[int, float]) -> bool:
    """Whether factors fall with d: by Kendall's rank correlation, two-sided at 5 %."""
    if len(by_dimension) < 2:
        return False
    order = kendalltau(list(by_dimension), list(by_dimension.values()))
    return bool(order.statistic < 0 and order.pvalue < LEVEL)


def pooled(points: Sequence[tuple[float, float] | None]) -> tuple[float, float]:
    """The mean of half points by their precision, and its standard error."""
    seen = [point for point in points if point is not None]
    weights = np.array([error**-2 for _, error in seen])
    mean = float(weights @ np.array([at for at, _ in seen]) / weights.sum())
    return mean, float(weights.sum() ** -0.5)


def solved(found: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """Programs of the map solved at least; of these, teachers beaten though the condition holds."""
    chosen = [record for record in found if record["config"]["part"] == "map"]
    least = sum(r["config"]["solved"] * len(r["config"]["ratios"]) for r in chosen)
    return least, sum(row["refuted"] for r in chosen for row in r["result"]["rows"])


@dataclass(frozen=True)
class Transition:
    """How often one neuron has the least norm of all ReLU networks, in one dimension.

    Attributes
    ----------
    d, trials : int
        Dimension, and draws for each number of samples.
    ratios : (R,) array
        n/d.
    minimal, isometry, active, undecided : (R,) array
        Draws in which it has, in which the condition of the shortest candidate holds, in which it
        is active on d samples, and that are undecided.
    """

    d: int
    trials: int
    ratios: Floats
    minimal: Counts
    isometry: Counts
    active: Counts
    undecided: Counts

    @property
    def half(self) -> tuple[float, float] | None:
        """The n/d at which half of them have it, with its standard error."""
        return half_point(list(self.ratios), list(self.minimal), self.trials)

    @property
    def rise(self) -> float:
        """The factor in n from 10 % to 90 % on the fitted curve; infinite where none rises."""
        if len(set(self.ratios)) < 2:
            return np.inf  # no curve is that of a single point
        (_, slope), _ = logistic(list(self.ratios), list(self.minimal), self.trials)
        if slope <= _FLAT:
            return np.inf
        return float(np.exp(2.0 * np.log(9.0) / slope))

    @property
    def crosses(self) -> bool:
        """Whether it is seen: from below a half to above nine tenths, outside of 95 % intervals.

        With a proof of all but one draw in a hundred.
        """
        low, high = self.intervals()
        decided = 100 * self.undecided.sum() <= self.trials * len(self.ratios)
        return bool(high[0] < 0.5 and low[-1] > 0.9 and decided)

    def intervals(self) -> Floats:
        """Wilson's 95 % intervals of the shares, (2, R)."""
        ends = [
            binomtest(int(count), self.trials).proportion_ci(method="wilson")
            for count in self.minimal
        ]
        return np.array([[end.low for end in ends], [end.high for end in ends]])


def neuron_transitions(found: Sequence[Mapping[str, Any]]) -> list[Transition]:
    """One for each dimension, from the records of an experiment."""
    chosen = [record for record in found if record["config"]["part"] == "transition"]
    return [
        Transition(
            record["config"]["d"],
            len(record["config"]["seeds"]),
            np.array(record["config"]["samples"]) / record["config"]["d"],
            *(
                np.array([row[key] for row in record["result"]["rows"]])
                for key in ("minimal", "isometry", "enough_active", "open")
            ),
        )
        for record in sorted(chosen, key=lambda record: record["config"]["d"])
    ]


def table(found: list[dict[str, Any]]) -> str:
    """Return the transitions and the averages as text."""
    parts: dict[str, list[dict[str, Any]]] = {}
    for record in found:
        parts.setdefault(record["config"]["part"], []).append(record)
    writers = {
        "map": _transitions,
        "relu": _transitions,
        "transition": _neurons,
        "spikes": _spikes,
        "noise": _noise,
        "descent": _descent,
    }
    lines = [line for part in writers if part in parts for line in writers[part](parts[part])]
    return "\n".join(lines)


def _transitions(found: list[dict[str, Any]]) -> list[str]:
    """One line for each teacher and d."""
    lines = [f"{'part':5} {'teacher':18} {'d':>3}  n/d at 50 %: minimal / isometry"]
    for record in sorted(found, key=lambda r: (_teacher(r), r["config"]["d"])):
        config, rows = record["config"], record["result"]["rows"]
        points = []
        for key in ("minimal", "isometry") if config["part"] == "map" else ("isometry",):
            at = half_point(config["ratios"], [r[key] for r in rows], len(config["seeds"]))
            points.append("-" if at is None else f"{at[0]:.2f} ± {at[1]:.2f}")
        lines.append(
            f"{config['part']:5} {_teacher(record):18} {config['d']:3}  {' / '.join(points)}"
        )
    return lines


def _neurons(found: list[dict[str, Any]]) -> list[str]:
    """The shares of one neuron among all ReLU neurons, for each d."""
    lines = [f"{'d':>3}  half at n/d, factor from 10 to 90 %, open; share of least norm by n/d"]
    for one in neuron_transitions(found):
        at = "-" if one.half is None else f"{one.half[0]:.2f} ± {one.half[1]:.2f}"
        shares = (
            f"{ratio:.2f}: {count / one.trials:.2f}"
            for ratio, count in zip(one.ratios, one.minimal, strict=True)
        )
        lines.append(f"{one.d:3}  {at}, {one.rise:.1f}, {one.undecided.sum()}; {', '.join(shares)}")
    return lines


def _teacher(record: dict[str, Any]) -> str:
    """A teacher's name, with what was done to the data."""
    config = record["config"]
    return config["teacher"] + (", whitened" if config.get("whitened") else "")


def _spikes(found: list[dict[str, Any]]) -> list[str]:
    """The share found for every number of kinks."""
    lines = [f"{'n':>4} {'spacing':>8}  share of functions found again, by their kinks"]
    for record in sorted(found, key=lambda r: (r["config"]["spacing"], r["config"]["n"])):
        config = record["config"]
        shares = (
            f"{r['k']}: {r['found'] / config['trials']:.2f}" for r in record["result"]["rows"]
        )
        lines.append(f"{config['n']:4} {config['spacing']:8.2f}  {', '.join(shares)}")
    return lines


def _noise(found: list[dict[str, Any]]) -> list[str]:
    """Medians over the trials for each noise and beta."""
    lines = [f"{'k':>2} {'noise':>6} {'beta':>6} {'neurons':>8} {'angle':>7} {'error':>7}"]
    for record in sorted(found, key=lambda r: (r["config"]["neurons"], r["config"]["noise"])):
        config = record["config"]
        for ratio, row in zip(config["ratios"], record["result"]["rows"], strict=True):
            middle = {key: float(np.median(values)) for key, values in row.items()}
            lines.append(
                f"{config['neurons']:2} {config['noise']:6.2f} {ratio:6.2f} "
                f"{middle['neurons']:8.1f} {middle['angle']:7.2f} {middle['error']:7.3f}"
            )
    return lines


def _descent(found: list[dict[str, Any]]) -> list[str]:
    """How many runs end within 1% of the optimum, with the teacher's number of neurons."""
    lines = [f"{'k':>2} {'beta':>6} {'scale':>6} {'within 1%':>10} {'k neurons':>10} {'angle':>7}"]

    def order(record: dict[str, Any]) -> list[float]:
        config = record["config"]
        # A part of beta_max, or beta itself where somebody has set it.
        return [config["neurons"], config.get("ratio", config.get("beta")), config["scale"]]

    for record in sorted(found, key=order):
        config, result = record["config"], record["result"]
        close = np.mean(np.array(result["excess"]) <= 1e-2)
        exact = np.mean(np.array(result["neurons"]) == config["neurons"])
        lines.append(
            f"{config['neurons']:2} {order(record)[1]:6g} {config['scale']:6.2f} {close:10.2f} "
            f"{exact:10.2f} {np.median(result['angle']):7.2f}"
        )
    return lines


def missed(record: dict[str, Any]) -> str | None:
    """Say which theorem a record contradicts, or None."""
    config, result = record["config"], record["result"]
    part, trials = config["part"], len(config.get("seeds", ()))
    name = f"{part} {config.get('teacher', config.get('n'))}"
    if part == "map" and any(row["refuted"] for row in result["rows"]):
        return f"{name}, d={config['d']}: the condition holds and yet the teacher is beaten"
    if part == "relu" and config["whitened"]:
        lost = [row for row in result["rows"] if row["isometry"] + row["open"] < trials]
        return f"{name}, d={config['d']}: fails on whitened data" if lost else None
    if part == "transition" and any(
        not row["isometry"] <= row["minimal"] <= row["enough_active"] for row in result["rows"]
    ):
        return (
            f"{part}, d={config['d']}: least norm without d active samples, or not where it holds"
        )
    if part == "spikes" and any(
        (row["agree"], row["found"]) != (row["programs"], row["separated"])
        for row in result["rows"]
    ):
        return f"{name}, spacing {config['spacing']:g}: separation does not decide recovery"
    if part == "descent" and min(result["excess"]) < -1e-4:
        return f"{name}: descent ended below a proven optimum"
    return None
