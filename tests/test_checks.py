"""What may enter the library: every refusal and its message, and what is let in unchanged."""

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

from convexlib.checks import (
    check_beta,
    check_choice,
    check_data,
    check_index,
    check_matrix,
    check_positive_int,
    check_real,
    check_same_kind,
    check_vector,
)
from convexlib.errors import ConvexlibError, InputError
from tests.helpers.refusals import refused

X = np.arange(6.0).reshape(3, 2)
y = np.array([1.0, -1.0, 0.5])
META = torch.device("meta")


def holed(*places, value=np.nan, shape=(3, 2)):
    array = np.ones(shape)
    for place in places:
        array[place] = value
    return array


BAD_MATRICES = [
    (holed((1, 0)), r"X contains 1 non-finite value \(at row 1, column 0\)"),
    (
        holed((0, 1), (2, 0), (2, 1), value=np.inf),
        r"X contains 3 non-finite values \(first at row 0, column 1\)\. Impute or drop",
    ),
    (y, r"X has shape \(3,\); expected two axes, \(n, d\)\. Use X\.reshape\(-1, 1\)"),
    (np.ones((2, 2, 2)), r"X has shape \(2, 2, 2\); expected two axes"),
    (3.0, r"X has shape \(\); expected two axes"),
    (np.ones((0, 2)), r"X has shape \(0, 2\); expected at least one row"),
    (np.ones((2, 0)), r"X has shape \(2, 0\); expected at least one row"),
    ([["a", "b"]], r"X has dtype <U1; expected real numbers\. Encode categories"),
    ([[None, 1.0]], r"X has dtype object; expected real numbers"),
    (X * 1j, r"X has dtype complex128; expected real numbers"),
    (X.astype(np.longdouble), r"X has dtype \S+; expected float64 or less"),
    ([[2**53 + 2, 0]], r"X holds integers up to 9007199254740994, beyond 2\*\*53"),
    ([[-(2**60), 0]], r"beyond 2\*\*53"),
    ([[1.0, 2.0], [3.0]], r"X cannot be read as an array .*equally long rows"),
    (scipy.sparse.eye(3).tocsr(), r"X is a sparse matrix \(csr_\w+\).*X\.toarray\(\)"),
    (torch.eye(3).to_sparse(), r"X is a sparse tensor .*X\.to_dense\(\)"),
    (torch.ones(2, 2, dtype=torch.int64), r"dtype torch\.int64; expected torch"),
    (torch.ones(2, 2, dtype=torch.float16), r"dtype torch\.float16.*X\.double\(\)"),
    (np.ma.masked_array(X, mask=X > 3), r"X is a masked array with 2 masked entries"),
    (torch.ones(2, 2, device=META), r"X is on device meta, which holds no numbers"),
]


@pytest.mark.parametrize(
    "values",
    [
        X,
        X.astype(np.float32),
        X.astype(np.float16),
        X.astype(np.int32),
        X.astype(np.uint8),
        X > 2,
        X.tolist(),
        np.asfortranarray(X),
        X[::-1, ::-1],
        np.ma.masked_array(X),
        np.array([[2**53, -(2**53)]]),
    ],
)
def test_numpy_becomes_float64_on_the_cpu(values):
    tensor = check_matrix(values)
    assert tensor.dtype == torch.float64
    assert tensor.device.type == "cpu"
    assert (tensor.numpy() == np.asarray(values, dtype=float)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torch_keeps_its_dtype(dtype):
    given = torch.ones(2, 3, dtype=dtype, requires_grad=True)
    tensor = check_matrix(given)
    assert tensor.dtype == dtype
    assert not tensor.requires_grad


def test_the_input_is_neither_changed_nor_shared():
    values = X.copy()
    check_matrix(values)[0, 0] = 17.0
    assert (values == X).all()


BAD_TARGETS = [
    (y[:, None], r"y has shape \(3, 1\); expected \(3,\)\. Use y\.ravel\(\)"),
    (np.ones((3, 2)), r"y has shape \(3, 2\); expected \(3,\)\.$"),
    (y[:2], r"y has 2 entries; expected 3, one per row of X"),
    (holed(2, shape=3), r"y contains 1 non-finite value \(at row 2\)"),
    (
        torch.ones(3),
        r"X has dtype torch\.float64 but y has dtype torch\.float32; expected the same",
    ),
    (
        torch.ones(3, dtype=torch.float64, device=META),
        r"X is on device cpu but y is on device meta; expected the same\. Move one",
    ),
    (y * 1e200, r"the largest entry of y is 1\.0e\+200; expected it between 1e-77 and"),
    (["a", "b", "c"], r"y has dtype <U1; expected real numbers"),
]


def test_zeros_are_data():
    data, targets = check_data(0 * X, 0 * y)
    assert not data.any()
    assert not targets.any()


def test_arguments_that_are_fine_come_back():
    for value in (0.5, 1, np.float32(0.5), Fraction(1, 2), torch.tensor(0.5)):
        assert check_real(value, "x") == float(value)
    assert check_beta(np.float64(1e-30)) == 1e-30
    assert check_positive_int(np.int64(3), "width") == 3
    assert check_positive_int(0, "width", minimum=0) == 0
    assert check_choice("b", ("a", "b"), "mode") == "b"
    assert check_vector([1, 2], 2, "w").tolist() == [1.0, 2.0]
    assert issubclass(InputError, ConvexlibError)
    assert issubclass(InputError, ValueError)


def test_indices_pick_what_they_name():
    for index in (slice(1, 3), [1, 2], torch.tensor([1, 2]), [-2, -1], [False, True, True]):
        np.testing.assert_array_equal(check_index(index, 3), [1, 2])
    assert check_index([], 3).shape == (0,)


def refusals():
    single = torch.ones(3, 2) * 1e12
    reals = [
        (True, "x is True; expected a real number"),
        (np.True_, "expected a real number"),
        (torch.tensor(True), "x is True; expected a real number"),
        ("1", "x is '1'; expected a real number"),
        (None, "x is None; expected a real number"),
        (1j, "expected a real number"),
        (np.ones(1), "expected a real number"),
        (float("nan"), "x is nan; expected a finite number"),
        (-np.inf, "x is -inf; expected a finite number"),
        (10**400, "x is inf; expected a finite number"),
        (torch.ones((), device=META), "x is on device meta"),
    ]
    betas = [
        (0, r"beta is 0; expected beta > 0.*problem\.beta_max\(\)"),
        (-0.5, r"beta is -0\.5; expected beta > 0"),
        (False, "beta is False; expected a real number"),
        (np.nan, "beta is nan"),
    ]
    integers = [
        (0, "width is 0; expected an integer >= 1"),
        (2.0, "width is 2.0; expected an integer >= 1"),
        (True, "width is True; expected an integer"),
        ("3", "width is '3'; expected an integer"),
    ]
    tables = [
        (check_matrix, BAD_MATRICES),
        (lambda value: check_data(X, value), BAD_TARGETS),
        (lambda value: check_real(value, "x"), reals),
        (check_beta, betas),
        (lambda value: check_positive_int(value, "width"), integers),
        (lambda value: check_choice(value, ("a", "b"), "mode"),
         [(value, r"mode is .*; expected one of 'a', 'b'\.") for value in ("c", 1, None, ["a"])]),
        (lambda scale: check_data(X * scale, y),
         [(scale, r"the largest entry of X is .*Rescale X") for scale in (1e-170, 1e200)]),
    ]  # fmt: skip
    return [
        *((lambda check=check, value=value: check(value), InputError, message)
          for check, rows in tables for value, message in rows),
        (lambda: check_data(single, single[:, 0] / 1e12),
         InputError, r"between 3e-10 and 4e\+09.*torch\.float32"),
        (lambda: check_same_kind(torch.ones(1), torch.ones(1).double(), "net"),
         InputError, r"X has dtype torch.float32 but net has dtype"),
        (lambda: check_index(torch.eye(2).to_sparse(), 2),
         InputError, "expected integers below 2"),
    ]  # fmt: skip


test_refusals = refused(refusals())


# --- Tables ---


def table(**columns):
    return pd.DataFrame({"a": [1.5, 2.5, 3.5]}).assign(**columns)


def test_a_table_is_read_column_by_column():
    mixed = table(b=[True, False, True], c=pd.array([1, 2, 3], dtype="Int64"))
    assert check_matrix(mixed).tolist() == [[1.5, 1.0, 1.0], [2.5, 0.0, 2.0], [3.5, 1.0, 3.0]]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (table(b=pd.Categorical([1, 2, 1])), "column 'b' of X is categorical; expected numbers"),
        (table(b=pd.array([1, None, 2], dtype="Int64")), r"missing \(NaN\): column 'b' of X: 1"),
        (table(b=pd.array([1, 2**60, 2], dtype="Int64")), "column 'b' of X holds integers up to"),
        (pd.DataFrame(np.ones((3, 2)), columns=["a", "a"]), "X has several columns named 'a'"),
    ],
)
def test_columns_of_a_table_are_refused_by_name(frame, message):
    with pytest.raises(InputError, match=message):
        check_matrix(frame)
