"""What all estimators do alike: the device, evaluating a network, and the warning."""

from __future__ import annotations

import datetime
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.utils.validation import validate_data
from torch import Tensor, nn
from tqdm import tqdm

from convexlib.checks import (
    FLOATS,
    as_tensor,
    check_dense,
    check_integers,
    check_numbers,
    check_predictions,
    check_scale,
    check_unmasked,
)
from convexlib.errors import InputError, warn
from convexlib.result import Result

Array = NDArray[np.float64]


_TEXT = re.compile(r"could not convert string to float: (.*)", re.DOTALL)
_TABLE = (
    "If it comes from a file, compare the file's separator and decimal sign with those it was read "
    "with, as in pandas.read_csv(path, sep=';', decimal=',')."
)
_LARGEST = 2 * 10**8  # entries of a sparse matrix that is written out: 1.6 GB
_DATES = (datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64)
_SHOWN = 4  # columns that a message names


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
            f"X has 0 feature(s) (shape=({shape[0]}, 0)) while a minimum of 1 is required. {_TABLE}"
        )
    if issparse(X):
        X = _written_out(X)
    for name, part in zip(("X", "y"), (X, *y), strict=False):
        _refuse_kinds(part, name, numeric=name == "X" or options.get("y_numeric", False))
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
        raise _of_text(found[1]) from error


def _of_text(text: str) -> InputError:
    """What is said of text in place of numbers."""
    return InputError(
        f"the data hold the text {text[:60]}; expected numbers. Convert numbers in text with "
        ".astype(float); encode categories as numbers first, with sklearn's OneHotEncoder or "
        f"pandas.get_dummies. {_TABLE}"
    )


def _written_out(X: Any) -> Any:
    """A sparse matrix as an array."""
    if len(X.shape) == 2 and X.shape[0] * X.shape[1] > _LARGEST:
        raise InputError(
            f"X is sparse, of shape {X.shape}; expected at most {_LARGEST:.0e} entries, zeros "
            "included, since the solvers compute with all of them. Reduce its columns first, with "
            "sklearn's TruncatedSVD for instance."
        )
    return X.toarray()


def _refuse_kinds(part: Any, name: str, *, numeric: bool) -> None:
    """Refuse what is no plain number, or is missing, with the columns of a frame that hold it.

    Labels of classes may be text and categories: they are not `numeric`.
    """
    check_dense(part, name)
    check_unmasked(part, name)
    if isinstance(part, Tensor):
        check_numbers(part, name)
        if part.is_floating_point() and part.dtype not in (*FLOATS, torch.float16):
            as_tensor(part, name)  # refuses bfloat16 and the like, which numpy does not know
        part = part.detach().cpu().numpy()
    elif isinstance(part, list | tuple):
        with suppress(ValueError, TypeError, RuntimeError):  # scikit-learn says what is wrong
            part = np.asarray(part)
    if hasattr(part, "dtypes") and hasattr(part, "columns"):  # a frame of pandas
        names = list(part.columns)
        twice = [column for place, column in enumerate(names) if column in names[:place]]
        if twice:
            raise InputError(
                f"{name} has several columns named {twice[0]!r}; expected names that differ. "
                "Rename or drop one."
            )
        columns = [(f"column {column!r} of {name}", part[column]) for column in names]
    else:
        columns = [(name, part)]
    missing = []
    for label, values in columns:
        if getattr(values, "dtype", None) is None:
            continue
        _refuse_kind(values, label, features=name == "X", numeric=numeric)
        count = _count_missing(values)
        if count:
            missing.append((label, count))
        elif numeric and getattr(values.dtype, "kind", "") in ("i", "u"):
            check_integers(np.asarray(values), label)
    if missing:
        shown = ", ".join(f"{label}: {count}" for label, count in missing[:_SHOWN])
        more = f" and {len(missing) - _SHOWN} more columns" if len(missing) > _SHOWN else ""
        raise InputError(
            f"values are missing (NaN): {shown}{more}; expected numbers. Drop these rows "
            "(DataFrame.dropna), or fill them in by a rule that is learnt on the training rows "
            "only, as sklearn's SimpleImputer in a pipeline does."
        )


def _refuse_kind(values: Any, label: str, *, features: bool, numeric: bool) -> None:
    """Refuse a column or an array by its dtype, or by the objects that it holds."""
    dtype = values.dtype
    kind = getattr(dtype, "kind", "")
    if kind == "c":  # in scikit-learn's words, which its own checks of estimators look for
        raise InputError(f"Complex data not supported: {label} has dtype {dtype}; expected reals.")
    objects = np.asarray(values).ravel() if kind == "O" else ()
    dated = any(isinstance(value, _DATES) for value in objects)
    if dated or kind in ("m", "M") or str(dtype).startswith(("period", "datetime")):
        raise InputError(
            f"{label} holds dates or durations ({dtype}); expected numbers. Make features of "
            "them that mean something, such as days since a start, or the month."
        )
    if str(dtype) == "category" and features:
        raise InputError(
            f"{label} is categorical; expected numbers. Give each category a column of 0 and "
            "1, with sklearn's OneHotEncoder or pandas.get_dummies."
        )
    texts = np.asarray(values).ravel()[:1].tolist() if kind in ("U", "S") else objects
    text = next((value for value in texts if isinstance(value, str | bytes)), None)
    # scikit-learn would read numbers in text.
    if numeric and text is not None:
        raise _of_text(repr(text))


def _count_missing(values: Any) -> int:
    """How many entries of a column or an array are missing."""
    if hasattr(values, "isna"):
        return int(np.sum(np.asarray(values.isna())))
    if not isinstance(values, np.ndarray):
        return 0
    if values.dtype.kind == "f":
        return int(np.isnan(values).sum())
    # Of objects, only a float that is no number differs from itself for sure.
    objects = values.ravel() if values.dtype.kind == "O" else ()
    return sum(value is None or (isinstance(value, float) and value != value) for value in objects)


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
