"""What may enter the library, and how everything else is refused.

Nothing is imputed, moved to another device or lowered in precision: numpy input becomes float64
CPU tensors, torch input keeps its dtype and device, and whatever does not fit is refused with a
message that says what was got, what was expected and what to do. First numbers, switches, choices
and indices among the arguments, then data, targets and weights.
"""

from __future__ import annotations

import datetime
import math
import numbers
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from convexlib.errors import InputError, first_line


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


def check_seconds(value: Any) -> float:
    """Return a time of at least 0 seconds, perhaps infinite."""
    infinite = isinstance(value, float) and value == math.inf
    seconds = math.inf if infinite else check_real(value, "max_seconds")
    if seconds < 0.0:
        raise InputError(f"max_seconds is {seconds:g}; expected at least 0 seconds.")
    return seconds


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


FLOATS = (torch.float32, torch.float64)
TABLE_ADVICE = (
    "If it comes from a file, compare the file's separator and decimal sign with those it was read "
    "with, as in pandas.read_csv(path, sep=';', decimal=',')."
)
_DATES = (datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64)
_SHOWN = 4  # columns that a message names


def as_tensor(values: Any, name: str) -> Tensor:
    """Return `values` as a real floating tensor without losing precision.

    Tables are read column by column, since their columns may be of several kinds.

    Raises
    ------
    InputError
        If `values` is not numeric, is complex, or is a torch tensor that is neither float32 nor
        float64; for columns of one name, and columns that `check_kinds` refuses.
    """
    if isinstance(values, Tensor):
        if values.dtype not in FLOATS:
            raise InputError(
                f"{name} is a torch tensor of dtype {values.dtype}; expected torch.float64 or "
                f"torch.float32. Convert it with {name}.double()."
            )
        check_dense(values, name)
        return values.detach()
    check_dense(values, name)
    check_unmasked(values, name)
    if is_frame(values) or hasattr(values, "isna"):  # of pandas
        check_kinds(values, name, numeric=True)
        array = _numbers_of(values)
    else:
        array = _read(values, name)
    if array.dtype.kind not in "fiub":
        raise InputError(
            f"{name} has dtype {array.dtype}; expected real numbers. "
            "Encode categories as numbers first."
        )
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        raise InputError(
            f"{name} has dtype {array.dtype}; expected float64 or less, since torch holds no more "
            f"and convexlib does not lower precision silently. Convert it with "
            f"{name}.astype(float)."
        )
    check_integers(array, name)
    return torch.from_numpy(np.array(array, dtype=np.float64, order="C"))


def is_frame(values: Any) -> bool:
    """Whether `values` is a table whose columns have names, of pandas or alike."""
    return hasattr(values, "dtypes") and hasattr(values, "columns")


def _numbers_of(values: Any) -> NDArray[Any]:
    """A frame or a column that `check_kinds` has passed, as an array of numbers."""
    if is_frame(values):
        columns = [_numbers_of(values[name]) for name in values.columns]
        return np.stack(columns, axis=1) if columns else np.empty(values.shape)
    array = plain(values)
    return array.astype(np.float64) if array.dtype.kind == "O" else array


def plain(values: Any) -> NDArray[Any]:
    """A column as an array; one that may have gaps, and has none, in the dtype of its values."""
    return np.asarray(values, dtype=getattr(values.dtype, "numpy_dtype", None))


def _read(values: Any, name: str) -> NDArray[Any]:
    """What numpy makes of `values`, or a refusal."""
    try:
        return np.asarray(values)
    # Ragged lists, lists of tensors with a graph or on a GPU.
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(
            f"{name} cannot be read as an array ({error}); expected equally long rows of numbers."
        ) from error


def check_kinds(part: Any, name: str, *, numeric: bool) -> None:
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
        part = _read(part, name)
    if is_frame(part):
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
        _refuse_kind(values, label, numeric=numeric)
        count = _count_missing(values)
        if count:
            missing.append((label, count))
        elif numeric and getattr(values.dtype, "kind", "") in ("i", "u"):
            check_integers(plain(values), label)
        elif numeric and getattr(values.dtype, "kind", "") == "O":
            _check_objects(np.asarray(values).ravel(), label)
    if missing:
        shown = ", ".join(f"{label}: {count}" for label, count in missing[:_SHOWN])
        more = f" and {len(missing) - _SHOWN} more columns" if len(missing) > _SHOWN else ""
        raise InputError(
            f"values are missing (NaN): {shown}{more}; expected numbers. Drop these rows "
            "(DataFrame.dropna), or fill them in by a rule that is learnt on the training rows "
            "only, as sklearn's SimpleImputer in a pipeline does."
        )


def _refuse_kind(values: Any, label: str, *, numeric: bool) -> None:
    """Refuse a column or an array by its dtype, or by the objects that it holds."""
    dtype = values.dtype
    kind = getattr(dtype, "kind", "")
    if kind == "c":  # in scikit-learn's words, which its own checks of estimators look for
        raise InputError(f"Complex data not supported: {label} has dtype {dtype}; expected reals.")
    if kind == "V":
        raise InputError(
            f"{label} is a structured array ({dtype}); expected one kind of numbers. Use "
            "numpy.lib.recfunctions.structured_to_unstructured."
        )
    objects = np.asarray(values).ravel() if kind == "O" else ()
    dated = any(isinstance(value, _DATES) for value in objects)
    if dated or kind in ("m", "M") or str(dtype).startswith(("period", "datetime")):
        raise InputError(
            f"{label} holds dates or durations ({dtype}); expected numbers. Make features of "
            "them that mean something, such as days since a start, or the month."
        )
    if str(dtype) == "category" and numeric:
        raise InputError(
            f"{label} is categorical; expected numbers. Give each category a column of 0 and "
            "1, with sklearn's OneHotEncoder or pandas.get_dummies; convert categories that are "
            "numbers with .astype(float)."
        )
    texts = np.asarray(values).ravel()[:1].tolist() if kind in ("U", "S") else objects
    text = next((value for value in texts if isinstance(value, str | bytes)), None)
    # scikit-learn would read numbers in text.
    if numeric and text is not None:
        raise text_error(repr(text))


def _count_missing(values: Any) -> int:
    """How many entries of a column or an array are missing."""
    if hasattr(values, "isna"):
        return int(np.sum(np.asarray(values.isna())))
    if not isinstance(values, np.ndarray):
        return 0
    if values.dtype.kind == "f":
        return int(np.isnan(values).sum())
    objects = values.ravel() if values.dtype.kind == "O" else ()
    return sum(map(_is_missing, objects))


def _is_missing(value: Any) -> bool:
    """Whether an object stands for a gap: None, NaN, or one of pandas."""
    # Of objects, only a float that is no number differs from itself for sure.
    unequal = isinstance(value, float) and value != value
    return value is None or unequal or type(value).__name__ in ("NAType", "NaTType")


class _NoNumberError(InputError, TypeError):
    """An object in place of a number: also what Python raises, and scikit-learn's checks expect."""


def _check_objects(objects: NDArray[Any], label: str) -> None:
    """Refuse objects that are no numbers, and integers that float64 would round."""
    for value in objects:
        if isinstance(value, numbers.Integral):
            _refuse_wide(abs(int(value)), label)
        try:
            float(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise _NoNumberError(
                f"{label} holds {type(value).__name__} {_shown(value)} ({first_line(error)}); "
                "expected real numbers. Convert them, or drop the column."
            ) from error


def text_error(text: str) -> InputError:
    """What is said of text in place of numbers."""
    return InputError(
        f"the data hold the text {text[:60]}; expected numbers. Convert numbers in text with "
        ".astype(float); encode categories as numbers first, with sklearn's OneHotEncoder or "
        f"pandas.get_dummies. {TABLE_ADVICE}"
    )


def check_unmasked(values: Any, name: str) -> None:
    """Refuse a masked array of which something is masked."""
    if np.ma.is_masked(values):
        raise InputError(
            f"{name} is a masked array with {int(np.ma.count_masked(values))} masked entries. "
            "Impute or drop them; convexlib never fills missing data."
        )


def check_integers(array: NDArray[Any], name: str) -> None:
    """Refuse integers that float64 would round."""
    if array.dtype.kind not in "iu" or not array.size:
        return
    # Not by absolute values: that of the least int64 is itself, and below zero.
    _refuse_wide(max(int(array.max()), -int(array.min())), name)


def _refuse_wide(widest: int, name: str) -> None:
    """Refuse an integer that float64 may round."""
    if widest > 2**53:
        shown = widest if widest < 2**64 else readable_count(widest)
        raise InputError(
            f"{name} holds integers up to {shown}, beyond 2**53, which float64 cannot "
            f"represent exactly. Rescale them first."
        )


def check_dense(values: Any, name: str) -> None:
    """Refuse a sparse matrix and a sparse tensor."""
    if hasattr(values, "toarray"):
        raise InputError(
            f"{name} is a sparse matrix ({type(values).__name__}); expected a dense array. "
            f"Convert it with {name}.toarray()."
        )
    if isinstance(values, Tensor) and values.layout != torch.strided:
        raise InputError(
            f"{name} is a sparse tensor ({values.layout}); expected a dense one. "
            f"Convert it with {name}.to_dense()."
        )


def check_numbers(values: Tensor, name: str) -> None:
    """Refuse a tensor that holds none."""
    if values.is_meta:
        raise InputError(
            f"{name} is on device meta, which holds no numbers; expected data on a CPU or a GPU."
        )


def check_finite(values: Tensor, name: str) -> None:
    """Refuse NaN and infinities, saying how many there are and where the first one is."""
    check_numbers(values, name)
    bad = ~torch.isfinite(values)
    count = int(bad.sum())
    if count:
        first = bad.nonzero()[0].tolist()
        axes = ("row", "column", "output")
        place = ", ".join(f"{axis} {index}" for axis, index in zip(axes, first, strict=False))
        raise InputError(
            f"{name} contains {count} non-finite value{'s' if count > 1 else ''} "
            f"({'first ' if count > 1 else ''}at {place}). Impute or drop them; convexlib never "
            "fills missing data."
        )


def check_predictions(outputs: NDArray[np.float64]) -> None:
    """Refuse outputs (n, c) of which one is beyond the numbers: no class follows from it."""
    finite = np.isfinite(outputs).all(axis=1)
    if not finite.all():
        raise InputError(
            f"row {int(finite.argmin()) + 1} has values too far from those of the fit: its output "
            "is no finite number; expected the units of the table that was fitted."
        )


def check_matrix(X: Any, name: str = "X") -> Tensor:
    """Return a data matrix as a finite tensor of shape (n, d) with n, d >= 1."""
    X = as_tensor(X, name)
    if X.ndim != 2:
        hint = f" Use {name}.reshape(-1, 1) for one feature." if X.ndim == 1 else ""
        raise InputError(f"{name} has shape {tuple(X.shape)}; expected two axes, (n, d).{hint}")
    if 0 in X.shape:
        raise InputError(
            f"{name} has shape {tuple(X.shape)}; expected at least one row and one column."
        )
    check_finite(X, name)
    return X


def check_same_kind(X: Tensor, other: Tensor, name: str) -> None:
    """Refuse two tensors of different dtype or device."""
    if other.dtype != X.dtype:
        raise InputError(
            f"X has dtype {X.dtype} but {name} has dtype {other.dtype}; expected the same. "
            f"Convert one of them; convexlib never lowers precision silently."
        )
    if other.device != X.device:
        raise InputError(
            f"X is on device {X.device} but {name} is on device {other.device}; expected "
            f"the same. Move one of them with .to(device)."
        )


def check_vector(values: Any, length: int, name: str, of: str = "row of X") -> Tensor:
    """Return `values` as a finite tensor of shape (length,)."""
    values = as_tensor(values, name)
    if values.ndim != 1:
        hint = f" Use {name}.ravel()." if values.numel() == length else ""
        raise InputError(f"{name} has shape {tuple(values.shape)}; expected ({length},).{hint}")
    if len(values) != length:
        raise InputError(f"{name} has {len(values)} entries; expected {length}, one per {of}.")
    check_finite(values, name)
    return values


def check_scale(values: Tensor, name: str, power: int = 4) -> None:
    """Refuse magnitudes whose `power` would overflow or vanish, as sums of squares do."""
    largest, limits = float(values.abs().max()), torch.finfo(values.dtype)
    low, high = limits.tiny ** (1 / power), limits.max ** (1 / power)
    if largest and not low <= largest <= high:
        raise InputError(
            f"the largest entry of {name} is {largest:.1e}; expected it between {low:.0e} and "
            f"{high:.0e}, so that squares stay within {values.dtype}. Rescale {name}."
        )


def check_data(X: Any, y: Any) -> tuple[Tensor, Tensor]:
    """Return data (n, d) and targets (n,) as finite tensors of one dtype on one device."""
    X, y = as_tensor(X, "X"), as_tensor(y, "y")
    check_same_kind(X, y, "y")
    X = check_matrix(X)
    y = check_vector(y, X.shape[0], "y")
    check_scale(X, "X")
    check_scale(y, "y")
    return X, y


def check_outputs(X: Any, Y: Any, name: str = "Y") -> tuple[Tensor, Tensor]:
    """Return data (n, d) and targets of several outputs (n, c) as `check_data` returns one."""
    X, Y = as_tensor(X, "X"), as_tensor(Y, name)
    check_same_kind(X, Y, name)
    X, Y = check_matrix(X), check_matrix(Y, name)
    if len(Y) != len(X):
        raise InputError(f"{name} has {len(Y)} rows; expected {len(X)}, one per row of X.")
    check_scale(X, "X")
    check_scale(Y, name)
    return X, Y


def check_weights(tensors: Mapping[str, Any]) -> None:
    """Refuse what cannot be the parameters of a network."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            got = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise InputError(
                f"{name} is {got}; expected a floating-point torch.Tensor. Convert it with "
                f"torch.as_tensor({name}, dtype=torch.float64)."
            )
        check_dense(tensor, name)


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


def check_same_device(network: nn.Module, X: Tensor) -> None:
    """Refuse anything but a network, and a network on another device than the data."""
    if not isinstance(network, nn.Module):
        raise InputError(f"network is {type(network).__name__}; expected a torch.nn.Module.")
    for parameter in network.parameters():
        if parameter.device != X.device:
            raise InputError(
                f"X is on device {X.device} but the network is on device {parameter.device}; "
                "expected the same. Move one of them with .to(device)."
            )
