"""Rules on the recovery of planted networks."""

from __future__ import annotations

import numpy as np

from claim_rules.verdicts import Finding, graded, stored
from experiments.recovery.tables import (
    factors,
    half_points,
    neuron_transitions,
    pooled,
    sharpens,
    solved,
)


def transitions(teacher: str, key: str) -> list[tuple[float, float] | None]:
    """Return the n/d at which half of the trials succeed, with errors, by increasing d."""
    return half_points(stored("recovery"), teacher, key)


def recovery_isometry() -> Finding:
    """Count the solved programs where the condition holds and the teacher is beaten.

    Reproduced if there is none.
    """
    least, refuted = solved(stored("recovery"))
    text = f"{refuted} counterexamples in at least {least} programs solved, besides the proof"
    return text, graded(refuted == 0)


def recovery_transition() -> Finding:
    """Compare the factor in n from 10 % to 90 % of teachers recovered between dimensions.

    Reproduced if it falls with d, by a rank correlation at 5 %, for a line, one neuron and two; in
    part if for one of the three.
    """
    found = {name: factors(stored("recovery"), name) for name in ("linear", "neuron", "two")}
    text = "; ".join(
        f"{name}: " + ", ".join(f"{values[d]:.1f}" for d in (min(values), max(values)))
        for name, values in found.items()
        if values
    )
    seen = [sharpens(values) for values in found.values()]
    every = sorted({d for values in found.values() for d in values})
    text = f"factor in n from 10 % to 90 % at d = {every[0]} and {every[-1]}, 51 gates: {text}"
    return text, graded(all(seen), any(seen))


def recovery_linear() -> Finding:
    """Pool the half points of the whitened program.

    Reproduced if the mean is within 0.1 of 2.
    """
    points = [at for at in transitions("linear", "all_active") if at]
    mean, error = pooled(points)
    text = f"half at n/d = {mean:.2f} ± {error:.2f}, from {len(points)} values of d"
    return text, graded(abs(mean - 2.0) < 0.1)


def recovery_gates() -> Finding:
    """Look at the half point of random gates, at the largest d.

    Reproduced if it is within 0.1 of 2 too; in part if it is lower, which means recovery from fewer
    samples.
    """
    at = transitions("linear", "minimal")[-1]
    assert at is not None
    text = f"half at n/d = {at[0]:.2f} ± {at[1]:.2f} with 51 gates: it depends on the gates"
    return text, graded(abs(at[0] - 2.0) < 0.1, at[0] < 2.0)


def recovery_relu() -> Finding:
    """Decide draws of one neuron among all ReLU neurons, each with a proof, for every n/d.

    Reproduced if for every d the share of recovered ones is below a half at n = d and above nine
    tenths at n = 8d, outside of their 95 % intervals, with at most one draw in a hundred undecided;
    in part if for some d.
    """
    found = neuron_transitions(stored("recovery"))
    text = ", ".join(
        f"{one.half[0]:.2f} ± {one.half[1]:.2f} for d = {one.d}" for one in found if one.half
    )
    seen = [one.crosses for one in found]
    count = sum(one.trials * len(one.ratios) for one in found)
    undecided = sum(int(one.undecided.sum()) for one in found)
    return (
        f"{count} draws, {undecided} undecided; half at n/d = {text}",
        graded(bool(seen) and all(seen), any(seen)),
    )


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
    recovery_relu,
    recovery_noise,
)
