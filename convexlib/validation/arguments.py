"""Numbers, switches, choices and indices among the arguments."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from convexlib.errors import InputError


def check_real(value: Any, name: str) -> float:
    """Return a finite real scalar (booleans are refused)."""
    if isinstance(value, Tensor | np.ndarray) and value.ndim == 0:
        if isinstance(value, Tensor) and value.is_meta:
            raise InputError(
                f"{name} is on device meta, which holds no numbers; expected a number."
            )
        value = value.item()
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise InputError(f"{name} is {value!r}; expected a real number.")
    try:
        value = float(value)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise InputError(f"{name} is {value}; expected a finite number.")
    return value


def check_beta(beta: Any) -> float:
    """Return the regularisation strength as a positive finite float."""
    value = check_real(beta, "beta")
    if value <= 0:
        raise InputError(
            f"beta is {value:g}; expected beta > 0. The programs need regularisation; take a small "
            "fraction of problem.beta_max() for near-interpolation."
        )
    return value


def check_betas(betas: Any) -> list[float]:
    """Return regularisation strengths as positive finite floats, at least one."""
    values = check_sequence(betas, "betas")
    if not values:
        raise InputError("betas is empty; expected at least one beta > 0.")
    return [check_beta(beta) for beta in values]


def check_tol(value: Any) -> float:
    """Return a tolerance as a positive finite float."""
    tol = check_real(value, "tol")
    if tol <= 0:
        raise InputError(f"tol is {tol:g}; expected tol > 0, a relative duality gap.")
    return tol


def check_sequence(values: Any, name: str) -> list[Any]:
    """Return what is listed."""
    try:
        return list(values)
    except TypeError:  # also for tensors and arrays without axes
        raise InputError(f"{name} is {_shown(values)}; expected a sequence of numbers.") from None


def check_positive_int(value: Any, name: str, minimum: int = 1) -> int:
    """Return an integer of at least `minimum`."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral):
        raise InputError(f"{name} is {value!r}; expected an integer >= {minimum}.")
    if value < minimum:
        raise InputError(f"{name} is {int(value)}; expected an integer >= {minimum}.")
    return int(value)


def check_flag(value: Any, name: str) -> bool:
    """Return a truth value; 0 and 1 count, other numbers, texts and arrays do not."""
    if isinstance(value, bool | np.bool_ | numbers.Integral) and value in (0, 1):
        return bool(value)
    raise InputError(f"{name} is {_shown(value)}; expected True or False.")


def check_seed(value: Any, name: str = "seed") -> int:
    """Return the seed of a generator, 0 <= seed < 2**63."""
    seed = check_positive_int(value, name, minimum=0)
    if seed >= 2**63:
        raise InputError(f"{name} is {readable_count(seed)}; expected less than 2**63.")
    return seed


def check_index(index: Any, length: int) -> NDArray[np.int64]:
    """Return the places (k,) among `length` that integers, booleans or a slice pick."""
    if isinstance(index, slice):
        return np.arange(length)[index]
    try:
        array = np.asarray(index.detach().cpu() if isinstance(index, Tensor) else index).reshape(-1)
    except (ValueError, TypeError, RuntimeError):  # ragged lists, tensors that numpy does not know
        array = np.array([None])
    if not array.size:
        return np.zeros(0, dtype=np.int64)
    if array.dtype == bool and len(array) == length:
        return np.flatnonzero(array)
    if array.dtype.kind not in "iu" or not ((-length <= array) & (array < length)).all():
        raise InputError(
            f"index is {_shown(index)}; expected integers below {length}, the number of patterns "
            "or units, as many booleans, or a slice."
        )
    return array.astype(np.int64) % length


def check_choice(value: Any, options: Sequence[str], name: str) -> str:
    """Return `value` if it is one of `options`."""
    if not isinstance(value, str) or value not in options:
        listed = ", ".join(repr(option) for option in options)
        raise InputError(f"{name} is {value!r}; expected one of {listed}.")
    return value


def readable_count(count: int) -> str:
    """Return a count for a message: its digits, or a power of ten (which no float may reach)."""
    return str(count) if count < 10**7 else f"{Decimal(count):.1e}"


def _shown(value: Any) -> str:
    """Return a value for a message: short, on one line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{type(value).__name__} {text[:50]}..."
