"""Problems in float32: solved in float64, and given back in float32 with an honest gap.

Only the weights are rounded, since they become a network in the data's precision. The dual point is
a proof, not a part of the network, and stays in float64: a rounded one is feasible only after it
has been made smaller, which can cost far more than the tolerance.

Rounded weights may leave their cones by a rounding error, and their value may then be below the
optimum by as much. The bound, which is a bound all the same, is not left above it.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from convexlib.solvers.base import Tracker


def round_weights(tracker: Tracker, dtype: torch.dtype) -> None:
    """Put a float64 run's weights into another precision, with the value that they have there."""
    if dtype is torch.float64:
        return
    tracker.weights = tracker.weights.to(dtype)
    primal = tracker.problem.value(tracker.weights.double())
    tracker.primal, tracker.dual = primal, min(tracker.dual, primal)
    tracker.history = [
        replace(record, primal=max(record.primal, primal), dual=min(record.dual, primal))
        for record in tracker.history
    ]
    if tracker.history:
        tracker.history[-1] = replace(tracker.history[-1], primal=primal)
