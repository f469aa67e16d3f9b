"""Data as people have them: sound, degenerate, of any scale, dtype and container, or wrong."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import torch
from hypothesis import strategies as st
from torch import nn

import convexlib as cl

Draw = st.DrawFn

KINDS = (
    "gaussian", "gaussian", "gaussian", "bias", "integers", "zero rows", "zero columns", "zeros",
    "duplicates", "parallel", "nearly parallel", "constant", "rank one", "one-hot", "rows apart",
    "columns apart", "line",
)  # fmt: skip
SCALES = (1.0,) * 64 + (1e3, 1e-3, 1e20, 1e-20, 1e70, 1e-70, 1e150, 1e-150, 1e308, 5e-324)
HOLES = (np.nan, np.inf, -np.inf)
BETAS = (1.0, 0.1, 0.5, 0.01, 1e-3, 10.0, 0.2, 0.05, 2.0, 0.3, 1e-4, 0.7,
         1e-6, 1e3, 1e-12, 1e-150, 1e150, 1e300, 5e-324, 1, np.float32(0.25),
         np.float64(0.3), np.array(0.2), torch.tensor(0.5), Fraction(1, 3))  # fmt: skip


def wrong_values() -> list[Any]:
    """Values that most arguments do not take, made anew each time."""
    return [
        None, np.nan, np.inf, -np.inf, -1, -1.0, 0, 0.0, 1, 2.5, True, 10**30, -(10**30), 10**400,
        "", "text", "generate", "squared", "\0", "é\u2028", b"x", 1j, Decimal("0.5"), np.int64(3),
        [], [1.0], [[1.0, 2.0], [3.0]], [None], ["a"], (), {}, {"a": 1}, set(), range(3), object(),
        print, int, np.array([]), np.zeros((0, 2)), np.zeros((2, 0)), np.zeros(()), np.ones(3),
        np.ones((2, 2)), np.ones((2, 2, 2)), np.full((3, 2), np.nan), np.array(["a", "b"]),
        np.ones((3, 2), dtype=complex), np.ones((3, 2), dtype=object),
        np.array([["2020-01-01"]], dtype="datetime64[D]"), np.ma.masked_all((3, 2)),
        np.array([[10**30, 1]], dtype=object), pd.DataFrame({"a": ["x", "y"]}), pd.Series([1.0]),
        torch.ones(3), torch.ones(()), torch.ones(2, 2).half(), torch.ones(2, 2, device="meta"),
        torch.ones(3, 2).long(), torch.ones(3, 2).to_sparse(), torch.ones(0, 2),
        torch.eye(2).bool(),
        torch.full((3, 2), torch.nan), torch.ones(3, 2, dtype=torch.complex64),
        torch.ones(1, dtype=torch.bfloat16),
        nn.Linear(2, 1), nn.Sequential(), cl.Status.CONVERGED,
        cl.Arrangements(torch.ones(1, 3, dtype=torch.bool), torch.ones(1, 2)),
    ]  # fmt: skip


N_WRONG = len(wrong_values())


def wrong() -> st.SearchStrategy[Any]:
    """One of the wrong values."""
    return st.integers(0, N_WRONG - 1).map(lambda k: wrong_values()[k])


def matrix(kind: str, n: int, d: int, seed: int) -> np.ndarray:
    """A matrix (n, d) of one of the KINDS."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    if kind == "bias":
        X[:, -1] = 1.0
    elif kind == "integers":
        X = rng.integers(-2, 3, (n, d)).astype(float)
    elif kind == "zero rows":
        X[rng.random(n) < 0.5] = 0.0
    elif kind == "zero columns":
        X[:, rng.random(d) < 0.5] = 0.0
    elif kind == "zeros":
        X[:] = 0.0
    elif kind == "duplicates":
        X = X[rng.integers(0, (n + 1) // 2, n)]
    elif kind in ("parallel", "nearly parallel"):
        X = rng.choice([1.0, -1.0, 3.0, 0.1], n)[:, None] * X[rng.integers(0, (n + 1) // 2, n)]
        X += (kind == "nearly parallel") * 1e-15 * rng.standard_normal((n, d))
    elif kind == "constant":
        X[:] = X[0, 0]
    elif kind == "rank one":
        X = X[:, :1] * X[:1]
    elif kind == "one-hot":
        X = np.eye(d)[rng.integers(0, d, n)]
    elif kind == "rows apart":
        X *= 10.0 ** rng.uniform(-12, 12, (n, 1))
    elif kind == "columns apart":
        X *= 10.0 ** rng.uniform(-12, 12, (1, d))
    elif kind == "line":
        X = np.arange(n * d, dtype=float).reshape(n, d)
    return X


def apart(array: np.ndarray) -> np.ndarray:
    """The same numbers with gaps between them in memory."""
    wide = np.empty([2 * size for size in array.shape])
    view = wide[tuple(slice(None, None, 2) for _ in array.shape)]
    view[...] = array
    return view


def frozen(array: np.ndarray) -> np.ndarray:
    """A copy that cannot be written to."""
    copy = array.copy()
    copy.flags.writeable = False
    return copy


CONTAINERS = {
    "array": lambda a: a,
    "tensor": torch.from_numpy,
    "list": lambda a: a.tolist(),
    "apart": apart,
    "frozen": frozen,
    "fortran": np.asfortranarray,
    "backwards": lambda a: a[::-1].copy()[::-1],
    "tensor apart": lambda a: torch.from_numpy(np.asfortranarray(a)),
    "leaf": lambda a: torch.from_numpy(a.copy()).requires_grad_(),
    "frame": lambda a: pd.DataFrame(a) if a.ndim == 2 else pd.Series(a.ravel()),
    "other bytes": lambda a: a.astype(">f8"),
}
SINGLE = {
    "array 32": lambda a: a.astype(np.float32),
    "tensor 32": lambda a: torch.from_numpy(a).float(),
}


def sizes(most_n: int, most_d: int) -> st.SearchStrategy[tuple[int, int]]:
    """Numbers of samples and features."""
    return st.tuples(st.integers(1, most_n), st.integers(1, most_d))


@st.composite
def numbers(draw: Draw, shape: tuple[int, ...], hostile: bool = True) -> np.ndarray:
    """Float64 numbers of a shape: degenerate, of any scale, now and then with a hole."""
    rows, columns = int(np.prod(shape[:-1], dtype=int)), shape[-1]
    with np.errstate(over="ignore", under="ignore"):
        array = matrix(draw(st.sampled_from(KINDS)), rows, columns, draw(st.integers(0, 999))) * (
            draw(st.sampled_from(SCALES)) if hostile else 1.0
        )
    array = array.reshape(shape)
    if hostile and draw(st.integers(0, 39)) == 17 and array.size:
        array.flat[draw(st.integers(0, array.size - 1))] = draw(st.sampled_from(HOLES))
    return array


def contained(draw: Draw, *arrays: np.ndarray) -> tuple[Any, ...]:
    """The arrays in containers: mostly alike, sometimes in others, sometimes in float32."""
    if draw(st.integers(0, 7)) == 3:
        name = draw(st.sampled_from(sorted(SINGLE)))
        with np.errstate(over="ignore", under="ignore"):
            return tuple(SINGLE[name](array) for array in arrays)
    names = sorted(CONTAINERS)
    if draw(st.booleans()):
        return tuple(CONTAINERS[draw(st.sampled_from(("array", "tensor")))](a) for a in arrays)
    return tuple(CONTAINERS[draw(st.sampled_from(names))](array) for array in arrays)


@st.composite
def one(draw: Draw, name: str, most: tuple[int, ...]) -> dict[str, Any]:
    """One array argument, with as many axes as `most` has entries."""
    shape = tuple(draw(st.integers(1, largest)) for largest in most)
    return {name: contained(draw, draw(numbers(shape)))[0]}


@st.composite
def targets(draw: Draw, X: np.ndarray) -> np.ndarray:
    """Targets (n,): noise, labels, a neuron's output, a constant."""
    n, rng = len(X), np.random.default_rng(draw(st.integers(0, 999)))
    kind = draw(st.sampled_from(("noise", "noise", "labels", "neuron", "constant", "zeros", "one")))
    y = rng.standard_normal(n)
    if kind == "labels":
        return np.where(y > 0, 1.0, -1.0)
    if kind == "neuron":
        with np.errstate(all="ignore"):
            y = np.maximum(X.reshape(n, -1) @ rng.standard_normal(X[0].size), 0.0)
    elif kind in ("constant", "zeros"):
        y = np.full(n, 3.0 * (kind == "constant"))
    elif kind == "one":
        y = np.eye(1, n)[0]
    with np.errstate(over="ignore", under="ignore"):
        return y * draw(st.sampled_from(SCALES))


@st.composite
def tables(draw: Draw, most_n: int, most_d: int, x: str = "X") -> dict[str, Any]:
    """X (n, d) and y (n,), called as the function calls them."""
    X = draw(numbers(draw(sizes(most_n, most_d))))
    X, y = contained(draw, X, draw(targets(X)))
    return {x: X, "y": y}


def betas() -> st.SearchStrategy[Any]:
    """Regularisation: sound values of any size; what is no such value comes from `wrong`."""
    return st.sampled_from(BETAS)
