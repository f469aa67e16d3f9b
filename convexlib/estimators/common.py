"""What all estimators do alike: the device, evaluating a network, and the warning."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.utils.validation import validate_data
from torch import Tensor, nn
from tqdm import tqdm

from convexlib.checks import (
    TABLE_ADVICE,
    as_tensor,
    check_kinds,
    check_predictions,
    check_scale,
    is_frame,
    plain,
    text_error,
)
from convexlib.errors import InputError, warn
from convexlib.result import Result

Array = NDArray[np.float64]


_TEXT = re.compile(r"could not convert string to float: (.*)", re.DOTALL)
_LARGEST = 2 * 10**8  # entries of a sparse matrix that is written out: 1.6 GB


def validated(estimator: Any, X: Any, *y: Any, **options: Any) -> Any:
    """scikit-learn's check of X, or of X and y, in float64; plain words for what tables hold.

    A sparse X is written out, since all that follows is dense.

    Raises
    ------
    InputError
        For text, dates, categories, complex numbers and integers beyond 2**53 in place of numbers,
        missing and masked values, columns of one name, a table without columns, tensors and sparse
        data that scikit-learn cannot read, and a sparse matrix too large to write out.
    """
    shape: tuple[int, ...] = getattr(X, "shape", ())
    if len(shape) == 2 and shape[0] and not shape[1]:
        # In scikit-learn's words, which its own checks of estimators look for.
        raise InputError(
            f"X has 0 feature(s) (shape=({shape[0]}, 0)) while a minimum of 1 is required. "
            f"{TABLE_ADVICE}"
        )
    if issparse(X) or (is_frame(X) and hasattr(X, "sparse")):  # a frame has it if all columns are
        X = _written_out(X)
    for name, part in zip(("X", "y"), (X, *y), strict=False):
        check_kinds(part, name, numeric=name == "X" or options.get("y_numeric", False))
    given = (_readable(X), *(_readable(part) for part in y))
    try:
        # Its test for finite values adds up inf and -inf, of which numpy would warn.
        with np.errstate(invalid="ignore"):
            return validate_data(estimator, *given, dtype=np.float64, **options)
    except ValueError as error:
        found = _TEXT.search(str(error))
        if found is None:
            raise
        raise text_error(found[1]) from error


def _readable(part: Any) -> Any:
    """What scikit-learn's checks read as it is.

    A tensor goes without its graph. A column that may have gaps, and has none, is an array of its
    values: they would make floats of integers and booleans.
    """
    if isinstance(part, Tensor):
        return part.detach()
    return plain(part) if hasattr(getattr(part, "dtype", None), "numpy_dtype") else part


def _written_out(X: Any) -> Any:
    """A sparse matrix as an array."""
    if len(X.shape) == 2 and X.shape[0] * X.shape[1] > _LARGEST:
        raise InputError(
            f"X is sparse, of shape {X.shape}; expected at most {_LARGEST:.0e} entries, zeros "
            "included, since the solvers compute with all of them. Reduce its columns first, with "
            "sklearn's TruncatedSVD for instance."
        )
    return X.toarray() if issparse(X) else X.sparse.to_dense()


def check_weights(sample_weight: Any, n: int, name: str = "sample_weight") -> Array | None:
    """Return weights (n,) of the samples, None where they are all the same.

    `name` is what a message blames.

    Raises
    ------
    InputError
        Unless they are finite numbers, none negative and not all zero, one for each sample.
    """
    if sample_weight is None:
        return None
    weights = as_tensor(sample_weight, name).double().cpu()
    if weights.shape != (n,):
        raise InputError(f"{name} has shape {tuple(weights.shape)}; expected ({n},), as y.")
    low, high = float(weights.min()), float(weights.max())
    if not bool(weights.isfinite().all()) or low < 0.0 or high == 0.0:
        raise InputError(
            f"{name} has entries from {low:g} to {high:g}; expected finite weights of at least "
            "zero, and one above."
        )
    check_scale(weights, name)
    array: Array = weights.numpy()
    return array


@contextmanager
def all_or_nothing(estimator: Any) -> Iterator[None]:
    """A fit that fails or is interrupted leaves the estimator as it was: classes, names and all."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:  # Ctrl-C as well; it is raised again
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def say(text: object) -> None:
    """Print on stderr, where progress belongs."""
    tqdm.write(str(text), file=sys.stderr)


def evaluate(network: nn.Module, X: Array, device: str) -> Array:
    """Outputs (n, c) of a network for a checked array (n, d).

    Raises
    ------
    InputError
        Where an output overflows.
    """
    with torch.no_grad():
        found: Array = network(as_tensor(X, "X").to(device)).cpu().numpy()
    result = found.reshape(len(X), -1)
    check_predictions(result)
    return result


def warn_of_gap(
    estimator: Any, results: Sequence[Result], gaps: Sequence[float], tol: float, advice: str
) -> None:
    """Say once, of all programs of a fit, that what is proven in the end misses the tolerance.

    The solver may have stopped before it knew that its point is good enough.
    """
    left = [result for result, gap in zip(results, gaps, strict=True) if gap > tol]
    if not left:
        return
    of_many = f" ({len(left)} of {len(results)} programs)" if len(results) > 1 else ""
    status = "" if left[0].converged else f" {left[0].status}."
    warn(
        f"{type(estimator).__name__}: the certified gap_ is {estimator.gap_:.1e}, above "
        f"tol={tol:g}{of_many}; the network can be used as it is.{status[:2].upper()}{status[2:]} "
        f"{advice}."
    )
