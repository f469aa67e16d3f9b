"""What `Mirrors` accepts, and the dictionary that its arguments name."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from typing import Any

from torch import Tensor

from convexlib.arrays import Floats
from convexlib.errors import InputError, ProblemError
from convexlib.losses import Loss, SquaredLoss
from convexlib.problems.mirrors.chains import abs_chains, abs_count, leaky_chains, leaky_count
from convexlib.problems.mirrors.dictionaries import (
    Chains,
    ClippedRamps,
    Dictionary,
    Ramps,
    Switches,
)
from convexlib.problems.mirrors.features import SWITCHING
from convexlib.problems.mirrors.losses import QuantileLoss
from convexlib.validation import (
    as_tensor,
    check_choice,
    check_flag,
    check_positive_int,
    check_real,
    readable_count,
)

COUNTED = 40  # counts grow with depth, and those of this many layers are hopeless


def as_column(x: Any) -> Tensor:
    """Return inputs (n,) or (n, 1) as (n, 1)."""
    x = as_tensor(x, "x")
    if x.ndim == 1:
        x = x[:, None]
    if x.ndim != 2 or x.shape[1] != 1:
        raise InputError(
            f"x has shape {tuple(x.shape)}; expected (n,) or (n, 1). Mirrors has one feature; use "
            "TwoLayer for more."
        )
    return x


def check_slope(slope: Any) -> float:
    """Return the slope of a leaky ReLU, strictly between 0 and 1."""
    value = check_real(slope, "slope")
    if not 0.0 < value < 1.0:
        raise InputError(
            f"slope is {value:g}; expected 0 < slope < 1. Use activation='relu' for 0 and 'abs' "
            "for -1."
        )
    return value


def check_widths(widths: Any, depth: int, activation: str) -> tuple[int, ...]:
    """Return the numbers of children per layer of a tree; empty for two layers and chains."""
    if activation not in SWITCHING or depth == 2:
        if widths is not None:
            raise InputError(
                f"widths is {widths!r} with activation={activation!r} and depth={depth}; expected "
                "None. Only sign and threshold networks of depth >= 3 have widths."
            )
        return ()
    if widths is None:
        return (2,)
    if isinstance(widths, Sequence) and not isinstance(widths, str):
        if len(widths) != depth - 2:
            raise InputError(
                f"widths has {len(widths)} entries; expected depth - 2 = {depth - 2}, the numbers "
                "of children from the leaves upwards, or one int for parallel units."
            )
        return tuple(check_positive_int(width, "widths") for width in widths)
    return (check_positive_int(widths, "widths"),)


def check_reflections(reflections: Any, depth: int, activation: str) -> bool:
    """Return whether ReLU features with kinks at reflections are wanted."""
    wanted = check_flag(reflections, "reflections")
    if wanted and (activation != "relu" or depth < 4):
        raise InputError(
            f"reflections=True with activation={activation!r} and depth={depth}; expected "
            "activation='relu' and depth >= 4. The dictionary of 'abs' has its own from "
            "depth 3 on; leave reflections out."
        )
    return wanted


def make_loss(name: str, quantile: Any) -> Loss:
    """Return the squared loss or the pinball loss of a quantile in (0, 1)."""
    check_choice(name, ("squared", "quantile"), "loss")
    tau = check_real(quantile, "quantile")
    if not 0.0 < tau < 1.0:
        raise InputError(f"quantile is {tau:g}; expected 0 < quantile < 1.")
    return QuantileLoss(tau=tau) if name == "quantile" else SquaredLoss()


def make_dictionary(
    x: Floats,
    depth: int,
    activation: str,
    *,
    slope: float,
    switches: int,
    reflections: bool,
    limit: int,
) -> Dictionary:
    """Return the dictionary over the distinct increasing inputs x.

    Raises
    ------
    ProblemError
        If more than `limit` candidate columns would have to be examined.
    """
    n = len(x)
    if n == 1:  # every unit is constant
        return Ramps(x, activation, slope)
    deep = min(depth, COUNTED)
    if activation in SWITCHING:
        count = sum(comb(n - 1, k) for k in range(1, min(switches, n - 1) + 1))
    elif depth == 2:
        count = n
    elif activation == "relu":
        count = ClippedRamps.size(n, reflections)
    else:
        count = leaky_count(n, deep) if activation == "leaky" else abs_count(n, deep)
    if count > limit:
        narrower = " or widths" if activation in SWITCHING else ""
        plainer = ", leave reflections out" if reflections else ""
        raise ProblemError(
            f"{n} distinct inputs, activation={activation!r} and depth={depth} give up to "
            f"{readable_count(count)} candidate features, more than max_features={limit}. Round x "
            f"to fewer distinct values, lower depth{narrower}{plainer}, or raise max_features."
        )
    if activation in SWITCHING:
        return Switches(x, activation, switches)
    if depth == 2:
        return Ramps(x, activation, slope)
    if activation == "relu":
        return ClippedRamps(x, depth, reflections)
    if activation == "leaky":
        return Chains(x, "leaky", *leaky_chains(x, depth, slope), slope)
    return Chains(x, "abs", *abs_chains(x, depth))
