"""Data, targets and weights: what they must be to become tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convexlib.errors import InputError

FLOATS = (torch.float32, torch.float64)


def as_tensor(values: Any, name: str) -> Tensor:
    """Return `values` as a real floating tensor without losing precision.

    Raises
    ------
    InputError
        If `values` is not numeric, is complex, or is a torch tensor that is neither float32 nor
        float64.
    """
    if isinstance(values, Tensor):
        if values.dtype not in FLOATS:
            raise InputError(
                f"{name} is a torch tensor of dtype {values.dtype}; expected torch.float64 or "
                f"torch.float32. Convert it with {name}.double()."
            )
        if values.layout != torch.strided:
            raise InputError(
                f"{name} is a sparse tensor ({values.layout}); expected a dense one. "
                f"Convert it with {name}.to_dense()."
            )
        return values.detach()
    if hasattr(values, "toarray"):
        raise InputError(
            f"{name} is a sparse matrix ({type(values).__name__}); expected a dense array. "
            f"Convert it with {name}.toarray()."
        )
    if np.ma.is_masked(values):
        raise InputError(
            f"{name} is a masked array with {int(np.ma.count_masked(values))} masked entries. "
            "Impute or drop them; convexlib never fills missing data."
        )
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InputError(
            f"{name} cannot be read as an array ({error}); expected equally long rows of numbers."
        ) from error
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
    wide = np.abs(array).max(initial=0) if array.dtype.kind in "iu" else 0
    if int(wide) > 2**53:
        raise InputError(
            f"{name} holds integers up to {int(wide)}, beyond 2**53, which float64 cannot "
            f"represent exactly. Rescale them first."
        )
    return torch.from_numpy(np.array(array, dtype=np.float64, order="C"))


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


def check_same_kind(X: Tensor, other: Tensor, name: str, x_name: str = "X") -> None:
    """Refuse two tensors of different dtype or device."""
    if other.dtype != X.dtype:
        raise InputError(
            f"{x_name} has dtype {X.dtype} but {name} has dtype {other.dtype}; expected the same. "
            f"Convert one of them; convexlib never lowers precision silently."
        )
    if other.device != X.device:
        raise InputError(
            f"{x_name} is on device {X.device} but {name} is on device {other.device}; expected "
            f"the same. Move one of them with .to(device)."
        )


def check_vector(values: Any, length: int, name: str) -> Tensor:
    """Return `values` as a finite tensor of shape (length,)."""
    values = as_tensor(values, name)
    if values.ndim != 1:
        hint = f" Use {name}.ravel()." if values.numel() == length else ""
        raise InputError(f"{name} has shape {tuple(values.shape)}; expected ({length},).{hint}")
    if len(values) != length:
        raise InputError(f"{name} has {len(values)} entries; expected {length}, one per row of X.")
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


def check_outputs(X: Any, Y: Any) -> tuple[Tensor, Tensor]:
    """Return data (n, d) and targets of several outputs (n, c) as `check_data` returns one."""
    X, Y = as_tensor(X, "X"), as_tensor(Y, "Y")
    check_same_kind(X, Y, "Y")
    X, Y = check_matrix(X), check_matrix(Y, "Y")
    if len(Y) != len(X):
        raise InputError(f"Y has {len(Y)} rows; expected {len(X)}, one per row of X.")
    check_scale(X, "X")
    check_scale(Y, "Y")
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
        if tensor.layout != torch.strided:
            raise InputError(
                f"{name} is a sparse tensor ({tensor.layout}); expected a dense one. "
                f"Convert it with {name}.to_dense()."
            )
