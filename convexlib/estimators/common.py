"""What all estimators do alike: the device, evaluating a network, and the warning."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import validate_data
from torch import Tensor, nn

from convexlib.checks import as_tensor
from convexlib.errors import InputError, warn
from convexlib.result import Result

Array = NDArray[np.float64]


_TEXT = re.compile(r"could not convert string to float: (.*)", re.DOTALL)
_TABLE = (
    "If it comes from a file, compare the file's separator and decimal sign with those it was read "
    "with, as in pandas.read_csv(path, sep=';', decimal=',')."
)


def validated(estimator: Any, X: Any, *y: Any, **options: Any) -> Any:
    """scikit-learn's check of X, or of X and y, in float64; plain words for a table of text.

    Raises
    ------
    InputError
        For text in place of numbers, and a table without columns.
    """
    shape: tuple[int, ...] = getattr(X, "shape", ())
    if len(shape) == 2 and shape[0] and not shape[1]:
        # In scikit-learn's words, which its own checks of estimators look for.
        raise InputError(
            f"X has 0 feature(s) (shape=({shape[0]}, 0)) while a minimum of 1 is required. {_TABLE}"
        )
    # A tensor without its graph, which scikit-learn's checks could not read.
    given = (part.detach() if isinstance(part, Tensor) else part for part in (X, *y))
    try:
        # Its test for finite values adds up inf and -inf, of which numpy would warn.
        with np.errstate(invalid="ignore"):
            return validate_data(estimator, *given, dtype=np.float64, **options)
    except ValueError as error:
        found = _TEXT.search(str(error))
        if found is None:
            raise
        raise InputError(
            f"the data hold the text {found[1][:60]}; expected numbers. Encode categories as "
            f"numbers first. {_TABLE}"
        ) from error


def check_device(name: Any) -> torch.device:
    """Return a device that exists."""
    try:
        device = torch.device(name)
        torch.zeros(1, dtype=torch.float64, device=device).item()  # meta holds none
    except (RuntimeError, TypeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"device is {name!r}, which cannot hold float64 numbers here ({reason}); expected "
            "'cpu', or 'cuda' on a machine that has it."
        ) from error
    return device


def evaluate(network: nn.Module, X: Array, device: str) -> Array:
    """Outputs (n, c) of a network for a checked array (n, d)."""
    with torch.no_grad():
        result: Array = network(as_tensor(X, "X").to(device)).cpu().numpy()
    return result.reshape(len(X), -1)


def warn_of_gap(
    estimator: Any, results: Sequence[Result], gaps: Sequence[float], tol: float, advice: str
) -> None:
    """Say once, of all programs of a fit, that some were not solved to the tolerance.

    What counts is the gap that is proven in the end: a solver may stop before it knows that its
    point is good enough.
    """
    left = [result for result, gap in zip(results, gaps, strict=True) if gap > tol]
    if not left:
        return
    status = "" if left[0].converged else f" {left[0].status}."
    detail = f" {left[0].detail}" if left[0].detail else ""
    warn(
        f"{type(estimator).__name__}: {len(left)} of {len(results)} programs missed tol={tol:g}, "
        f"with gaps of up to {max(gaps):.1e}.{status[:1]}{status[1:].capitalize()}{detail} All "
        f"together: gap_ = {estimator.gap_:.1e}. The network can be used as it is, and the gap is "
        f"valid; {advice}.",
    )
