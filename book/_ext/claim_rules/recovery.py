"""Rules on the recovery of planted networks."""

from __future__ import annotations

import numpy as np

from claim_rules.verdicts import Finding, graded, stored
from experiments.recovery.tables import half_point


def transitions(teacher: str, key: str) -> list[tuple[float, float] | None]:
    """Return the n/d at which half of the trials succeed, with errors, by increasing d."""
    found = [r for r in stored("recovery") if r["config"]["part"] == "map"]
    found = [r for r in found if r["config"]["teacher"] == teacher]
    points = []
    for record in sorted(found, key=lambda r: r["config"]["d"]):
        trials = len(record["config"]["seeds"])
        counts = [row[key] for row in record["result"]["rows"]]
        if key == "all_active":  # the whitened program fails if and only if all can be active
            counts = [trials - count for count in counts]
        points.append(half_point(record["config"]["ratios"], counts, trials))
    return points


def recovery_isometry() -> Finding:
    """Count the solved programs where the condition holds and the teacher is beaten.

    Reproduced if there is none.
    """
    found = [r for r in stored("recovery") if r["config"]["part"] == "map"]
    refuted = sum(row["refuted"] for r in found for row in r["result"]["rows"])
    solved = sum(r["config"]["solved"] * len(r["config"]["ratios"]) for r in found)
    text = f"{refuted} counterexamples in at least {solved} programs solved, besides the proof"
    return text, graded(refuted == 0)


def recovery_transition() -> Finding:
    """Look for the n/d at which half of the teachers are recovered, one line or one neuron.

    Reproduced if it is inside the measured range for both, for every d from the third on; in part
    if for one of the two.
    """
    found = {name: transitions(name, "minimal")[2:] for name in ("linear", "neuron")}
    seen = [all(points) for points in found.values()]
    last = {name: points[-1] for name, points in found.items()}
    text = ", ".join(
        f"{name}: half at n/d = {at[0]:.2f} ± {at[1]:.2f}" for name, at in last.items() if at
    )
    return f"at the largest d, {text}", graded(all(seen), any(seen))


def recovery_linear() -> Finding:
    """Pool the half points of the whitened program.

    Reproduced if the mean is within 0.1 of 2.
    """
    points = [at for at in transitions("linear", "all_active") if at]
    weights = np.array([error**-2 for _, error in points])
    pooled = float(weights @ np.array([at for at, _ in points]) / weights.sum())
    text = (
        f"half at n/d = {pooled:.2f} ± {weights.sum() ** -0.5:.2f}, from {len(points)} values of d"
    )
    return text, graded(abs(pooled - 2.0) < 0.1)


def recovery_gates() -> Finding:
    """Look at the half point of random gates, at the largest d.

    Reproduced if it is within 0.1 of 2 too; in part if it is lower, which means recovery from fewer
    samples.
    """
    at = transitions("linear", "minimal")[-1]
    assert at is not None
    text = f"half at n/d = {at[0]:.2f} ± {at[1]:.2f} with 51 gates: it depends on the gates"
    return text, graded(abs(at[0] - 2.0) < 0.1, at[0] < 2.0)


def recovery_noise() -> Finding:
    """Count the neurons of the programs on noisy targets.

    Reproduced if their median is at most three times the teacher's number at every measured beta
    and noise; in part if at the largest beta.
    """
    found = [r for r in stored("recovery") if r["config"]["part"] == "noise"]
    counts: dict[float, list[float]] = {}
    simple: dict[float, list[bool]] = {}
    for record in found:
        for ratio, row in zip(record["config"]["ratios"], record["result"]["rows"], strict=True):
            middle = float(np.median(row["neurons"]))
            counts.setdefault(ratio, []).append(middle)
            simple.setdefault(ratio, []).append(middle <= 3 * record["config"]["neurons"])
    text = "median neurons of one or two planted: " + ", ".join(
        f"{min(c):g} to {max(c):g} at {ratio:g} of the largest beta" for ratio, c in counts.items()
    )
    return text, graded(all(map(all, simple.values())), all(simple[max(simple)]))


RULES = (
    recovery_isometry,
    recovery_transition,
    recovery_linear,
    recovery_gates,
    recovery_noise,
)
