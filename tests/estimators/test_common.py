"""scikit-learn's own checks of what an estimator is."""

import dataclasses
import datetime
import io
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

import convexlib as cl
from convexlib.errors import InputError
from convexlib.estimators import (
    ConvexReLUClassifier,
    ConvexReLURegressor,
    MirrorRegressor,
    mirrors,
    training,
)
from tests.helpers.refusals import COUNT, refused

# The checks fit hundreds of small problems: one round each, and no attempt at a proof.
QUICK = {"max_iter": 1, "max_nodes": 0}


class FirstColumn(MirrorRegressor):
    """The checks draw several features, which `MirrorRegressor` refuses: this reads the first."""

    _two_axes = True

    @staticmethod
    def _column(X):
        return X[:, :1]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array, tags.input_tags.two_d_array = False, True
        tags.regressor_tags.poor_score = True  # the target depends on another column
        return tags


GATED = [
    ConvexReLURegressor(gated=True, n_patterns=20),
    ConvexReLUClassifier(gated=True, n_patterns=20, loss="squared_hinge"),
    FirstColumn(),
]
GENERATED = [ConvexReLURegressor(beta=20.0, **QUICK), ConvexReLUClassifier(**QUICK)]


# Repeated rows and weights give one program, whose solutions agree to the tolerance of a fit and
# not to the 1e-7 of that check; `tests/estimators/test_relu.py` compares the programs' values.
EQUIVALENT = "the same program, solved to tol=1e-4 and not to 1e-7"


def not_passed(estimator):
    if isinstance(estimator, MirrorRegressor):
        return {}
    checks = {
        "check_sample_weight_equivalence_on_dense_data": EQUIVALENT,
        "check_sample_weight_equivalence_on_sparse_data": EQUIVALENT,
    }
    if isinstance(estimator, ConvexReLUClassifier) and estimator.gated:
        checks["check_class_weight_classifiers"] = (
            "three one-against-all outputs: far from the heavy class each is extrapolated by itself"
        )
    return checks


@parametrize_with_checks(GATED, expected_failed_checks=not_passed)
def test_scikit_learn_accepts_gated_networks_and_mirrors(estimator, check):
    check(estimator)


@pytest.mark.slow
# Above rank 5 no fit reaches its tolerance, and says so.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(GENERATED, expected_failed_checks=not_passed)
def test_scikit_learn_accepts_generated_patterns(estimator, check):
    check(estimator)


def test_one_feature_is_declared_as_isotonic_regression_does():
    tags = MirrorRegressor().__sklearn_tags__().input_tags
    assert (tags.one_d_array, tags.two_d_array) == (True, False)


# --- Tables of text in place of numbers: refused in plain words ---


def test_a_table_read_with_the_wrong_separator_is_refused_in_plain_words():
    X = np.random.default_rng(0).standard_normal((10, 2))
    y = X @ [1.0, -0.5]
    text = pd.DataFrame(X, columns=["a", "b"]).assign(y=y).to_csv(sep=";", index=False)
    wrong = pd.read_csv(io.StringIO(text))
    assert wrong.shape == (10, 1)
    fitted = cl.ConvexReLURegressor(beta=1.0).fit(X, y)
    message = r"the data hold the text '.*;.*'; expected numbers\..*compare the file's separator"
    for fit in (
        lambda: cl.ConvexReLURegressor().fit(wrong, y),
        lambda: cl.ConvexReLURegressor().fit(X, wrong["a;b;y"]),
        lambda: cl.ConvexReLUClassifier().fit(wrong, y > 0),
        lambda: cl.MirrorRegressor().fit(wrong, y),
        lambda: fitted.predict(wrong.to_numpy()),
    ):
        with pytest.raises(InputError, match=message):
            fit()
    with pytest.raises(InputError, match=r"X has 0 feature\(s\) \(shape=\(10, 0\)\).*separator"):
        cl.ConvexReLURegressor().fit(wrong.iloc[:, :-1], y)
    commas = pd.read_csv(io.StringIO(text.replace(".", ",")), sep=";")
    with pytest.raises(InputError, match="decimal sign"):
        cl.ConvexReLURegressor().fit(commas[["a", "b"]], y)


# --- Networks leave the library: torch.export, TorchScript, state dictionaries, ONNX ---


BATCH = torch.export.Dim("batch")


def fitted(kind):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 2))
    y = np.abs(X[:, 0]) - X[:, 1]
    if kind == "classes":
        return cl.ConvexReLUClassifier(gated=True, n_patterns=10).fit(X, np.digitize(y, [0, 1])), X
    if kind in ("abs", "sign"):
        return cl.MirrorRegressor(beta=0.1, depth=3, activation=kind).fit(X[:, 0], y), X[:, :1]
    estimator = cl.ConvexReLURegressor(gated=kind == "gated", n_patterns=10)
    return estimator.fit(X, y), X


@pytest.fixture(scope="module", params=["relu", "gated", "classes", "abs", "sign"])
def exported(request):
    """A network with data of another length than it is exported with, and its outputs there."""
    estimator, X = fitted(request.param)
    outputs = estimator.decision_function if request.param == "classes" else estimator.predict
    expected = outputs(X[:7])
    return estimator.network_, torch.from_numpy(X), expected.reshape(7, -1)


def agree(outputs, expected):
    outputs = outputs.detach().numpy() if isinstance(outputs, torch.Tensor) else outputs
    np.testing.assert_allclose(outputs.reshape(7, -1), expected, rtol=0, atol=1e-12)


# The layers of a mirror network are rows of one parameter, which torch saves as views of it.
@pytest.mark.filterwarnings("ignore:No complete tensor found in the group:UserWarning")
def test_torch_export_takes_any_number_of_rows(exported):
    network, X, expected = exported
    program = torch.export.export(network, (X,), dynamic_shapes=({0: BATCH},))
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    agree(torch.export.load(file).module()(X[:7]), expected)


# The layers of a mirror network are iterated over; their number is part of the network.
@pytest.mark.filterwarnings("ignore:Iterating over a tensor:torch.jit.TracerWarning")
def test_torchscript_still_works(exported):
    network, X, expected = exported
    with warnings.catch_warnings():
        # From torch 2.13 on it is deprecated, with one category or another.
        warnings.filterwarnings("ignore", message=r".torch\.jit\.\w+. is deprecated")
        # Without TorchScript's own comparison, which would trace a second time.
        traced = torch.jit.trace(network, X, check_trace=False)
        file = io.BytesIO()
        torch.jit.save(traced, file)
        file.seek(0)
        loaded = torch.jit.load(file)
    agree(loaded(X[:7]), expected)


def test_a_plain_torch_model_takes_the_weights():
    estimator, X = fitted("relu")
    state = estimator.network_.state_dict()
    width = len(state["0.bias"])
    plain = nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, 1, bias=False)).double()
    plain.load_state_dict(state)
    agree(plain(torch.from_numpy(X[:7])), estimator.predict(X[:7]).reshape(7, 1))


@pytest.mark.slow
def test_onnx_computes_the_same(exported):
    pytest.importorskip("onnxscript", reason="needs the export extra: pip install .[export]")
    reference = pytest.importorskip("onnx.reference", reason="needs the export extra")
    network, X, expected = exported
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter uses what torch has deprecated
        program = torch.onnx.export(
            network,
            (X,),
            input_names=["X"],
            dynamic_shapes=({0: BATCH},),
            dynamo=True,
            verbose=False,
        )
    model = reference.ReferenceEvaluator(program.model_proto)
    agree(model.run(None, {"X": X[:7].numpy()})[0], expected)


@pytest.mark.parametrize(
    "estimator", [cl.ConvexReLURegressor, cl.ConvexReLUClassifier, cl.MirrorRegressor]
)
def test_estimators_take_tensors_with_a_graph(estimator):
    x = torch.linspace(-1, 1, 6, dtype=torch.float64)[:, None].requires_grad_()
    y = torch.tensor([0.0, 0.0, 1.0, 1.0, 0.0, 1.0], dtype=torch.float64, requires_grad=True)
    model = estimator(beta=0.1).fit(x, y)
    plain = estimator(beta=0.1).fit(x.detach().numpy(), y.detach().numpy())
    # To the tolerance of the fit: where arrays lie in memory decides how sums are rounded.
    np.testing.assert_allclose(model.predict(x), plain.predict(x.detach().numpy()), atol=1e-4)


@pytest.mark.parametrize(
    "estimator",
    [
        cl.ConvexReLURegressor(beta=0.01, max_nodes=0),
        cl.ConvexReLUClassifier(beta=0.01, max_nodes=0),
    ],
)
def test_outputs_that_overflow_are_refused(estimator):
    X = np.random.default_rng(0).standard_normal((40, 2))
    model = estimator.fit(X, (np.abs(X[:, 0]) > X[:, 1]) * 5)
    far = [[0.0, 1.0], [1e308, -1e308], [-1e308, 1e308]]
    with pytest.raises(InputError, match=r"row \d has values too far from those of the fit"):
        model.predict(far)


# --- What tables hold ---


def cars(n=30):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"power": rng.normal(100, 30, n), "weight": rng.normal(3000, 500, n)})
    return frame, 40 - frame.weight / 100 + rng.normal(0, 1, n)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pd.date_range("2020-01-01", periods=30), r"column 'new' of X holds dates .*datetime64"),
        (pd.to_timedelta(range(30), "D"), r"column 'new' of X holds dates or durations"),
        (pd.period_range("2020-01", periods=30, freq="M"), r"column 'new' of X holds dates"),
        (pd.Categorical([4, 6, 8] * 10), r"column 'new' of X is categorical.*OneHotEncoder"),
        (["a", "b", "c"] * 10, r"the data hold the text 'a'.*OneHotEncoder"),
        ([None, 1.0, 2.0] * 10, r"missing \(NaN\): column 'new' of X: 10; .*SimpleImputer"),
        (pd.array([None, 1, 2] * 10, dtype="Int64"), r"missing \(NaN\): column 'new' of X: 10"),
    ],
)
def test_columns_that_hold_no_numbers_are_refused_by_name(column, message):
    X, y = cars()
    with pytest.raises(InputError, match=message):
        cl.ConvexReLURegressor().fit(X.assign(new=column), y)


def test_missing_and_dated_targets_are_refused():
    X, y = cars()
    with pytest.raises(InputError, match=r"values are missing \(NaN\): y: 1; expected numbers"):
        cl.ConvexReLURegressor().fit(X, y.where(y.index > 0))
    with pytest.raises(InputError, match="y holds dates"):
        cl.ConvexReLURegressor().fit(X, pd.Series(pd.date_range("2020-01-01", periods=30)))


def kinds():
    x = np.linspace(-1, 1, 8)[:, None]
    X, y, hidden = np.column_stack([x, x**2]), np.abs(x[:, 0]), np.arange(8) == 2
    masked_X, masked_y = np.ma.masked_array(X, mask=X > 0.9), np.ma.masked_array(y, mask=hidden)
    wide, day = np.full((8, 2), 2**60), np.array([datetime.date(2020, 1, 1)] * 8)
    tensor = torch.from_numpy(X)
    regressor = cl.ConvexReLURegressor(beta=0.1, max_nodes=0)
    classifier, mirrors = cl.ConvexReLUClassifier(max_nodes=0), cl.MirrorRegressor()
    masked = "is a masked array with . masked entries.*never fills missing"
    text = r"the data hold the text b?'-?\d.*\.astype\(float\)"
    duplicates = "X has several columns named 'a'; expected names that differ"
    return [
        (lambda: regressor.fit(masked_X, y), InputError, f"X {masked}"),
        (lambda: regressor.fit(X, masked_y), InputError, f"y {masked}"),
        (lambda: classifier.fit(masked_X, y > 0.5), InputError, f"X {masked}"),
        (lambda: mirrors.fit(x, masked_y), InputError, f"y {masked}"),
        (lambda: mirrors.fit(x, y).predict(masked_X[:, :1]), InputError, f"X {masked}"),
        (lambda: regressor.fit(wide, y), InputError, r"X holds integers up to \d+, beyond 2\*\*53"),
        (lambda: regressor.fit(wide.tolist(), y), InputError, "X holds integers up to"),
        (lambda: regressor.fit(torch.from_numpy(wide), y), InputError, "X holds integers up to"),
        (lambda: regressor.fit(pd.DataFrame(wide), y), InputError, "column 0 of X holds integers"),
        (lambda: mirrors.fit(x, -wide[:, 0]), InputError, "y holds integers up to"),
        (lambda: regressor.fit(X.astype(str), y), InputError, text),
        (lambda: regressor.fit(X.astype("S"), y), InputError, text),
        (lambda: regressor.fit(X.astype(str).astype(object), y), InputError, text),
        (lambda: mirrors.fit(x, y.astype(str)), InputError, text),
        (lambda: regressor.fit(pd.DataFrame(X, columns=["a", "a"]), y), InputError, duplicates),
        (lambda: regressor.fit(day[:, None], y), InputError, "X holds dates"),
        (lambda: classifier.fit(X, [None, "a", "b", "a"] * 2), InputError, "missing.*y: 2;"),
        (lambda: regressor.fit(X, csr_array(y[:, None])), InputError, "y is a sparse matrix"),
        (lambda: regressor.fit(tensor.to_sparse(), y), InputError, "X is a sparse tensor"),
        (lambda: regressor.fit(tensor.bfloat16(), y), InputError, "dtype torch.bfloat16; expected"),
        (lambda: regressor.fit(X + 1j, y), InputError,
         "^Complex data not supported: X has dtype complex128; expected reals.$"),
    ]  # fmt: skip


def objects(value):
    X = np.linspace(-1, 1, 16).reshape(8, 2).astype(object)
    X[3, 1] = value
    return X


def unreadable():
    fit, y = cl.ConvexReLURegressor(beta=0.1).fit, np.arange(8.0)
    classify = cl.ConvexReLUClassifier().fit
    plain, mixed = objects(0.0).astype(float), np.array(["a", 1] * 4, dtype=object)
    records = np.zeros(8, dtype=[("a", float), ("b", float)])
    spans = pd.DataFrame(plain).assign(span=pd.interval_range(0, 8))
    return [
        (lambda: fit(objects(pd.NA), y), InputError, r"missing \(NaN\): X: 1;"),
        (lambda: fit(objects(1 + 2j), y), InputError, r"X holds complex \(1\+2j\)"),
        (lambda: fit(objects(10**400), y), InputError, r"X holds integers up to 1.0e\+400"),
        (lambda: fit(spans, y), InputError, "column 'span' of X holds Interval"),
        (lambda: fit([[1, 2], [3]], [1, 2]), InputError, "X cannot be read as an array"),
        (lambda: fit(records, y), InputError, "X is a structured array"),
        (lambda: classify(plain, mixed), InputError, "y holds labels .* sorted, of int, str"),
    ]


test_what_cannot_be_read_is_refused_in_words = refused(unreadable())


@pytest.mark.parametrize("kind", ["boolean", "Int64"])
def test_labels_that_may_have_gaps_stay_what_they_are(kind):
    x, y = np.linspace(-1, 1, 8)[:, None], pd.Series([0, 1] * 4).astype(kind)
    classes = cl.ConvexReLUClassifier(beta=10.0, max_nodes=0).fit(x, y).classes_
    assert classes.dtype == y.dtype.numpy_dtype


def test_a_sparse_table_is_written_out():
    X, y = cars()
    plain = cl.ConvexReLURegressor(beta=1e7, max_nodes=0).fit(X, y)
    table = X.astype(pd.SparseDtype(float))
    assert (plain.fit(table, y).predict(table) == plain.predict(X)).all()


test_what_is_no_plain_number_is_refused_as_elsewhere = refused(kinds())


def test_an_array_of_which_nothing_is_masked_is_plain_and_labels_are_any_numbers():
    x, y = np.linspace(-1, 1, 8)[:, None], np.linspace(0, 1, 8)
    plain = cl.MirrorRegressor().fit(x, y)
    unmasked = cl.MirrorRegressor().fit(np.ma.masked_array(x), np.ma.masked_array(y))
    assert (plain.predict(x) == unmasked.predict(np.ma.masked_array(x))).all()
    labels = [2**60, 2**60 + 1] * 4
    assert list(cl.ConvexReLUClassifier(max_nodes=0).fit(x, labels).classes_) == labels[:2]


def test_boolean_and_integer_columns_are_numbers():
    X, y = cars()
    mixed = X.assign(new=[True, False, True] * 10, count=range(30))
    fitted = cl.ConvexReLURegressor(beta=1e4).fit(mixed, y)
    again = cl.ConvexReLURegressor(beta=1e4).fit(mixed.astype(float), y)
    assert fitted.certificate_.primal == pytest.approx(again.certificate_.primal, rel=1e-4)


def test_a_sparse_matrix_is_written_out_unless_it_is_too_large():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 3)) * (rng.random((30, 3)) < 0.5)
    y = X[:, 0]
    dense = cl.ConvexReLURegressor(beta=1.0).fit(X, y)
    sparse = cl.ConvexReLURegressor(beta=1.0).fit(csr_array(X), y)
    assert sparse.certificate_.primal == pytest.approx(dense.certificate_.primal, rel=1e-6)
    np.testing.assert_allclose(sparse.predict(csr_array(X)), sparse.predict(X), rtol=1e-12)
    with pytest.raises(InputError, match=r"X is sparse, of shape \(1000000, 1000000\)"):
        cl.ConvexReLURegressor().fit(csr_array((10**6, 10**6)), np.zeros(10**6))


def test_infinities_of_both_signs_are_refused_without_a_warning():
    x = np.array([[np.inf], [-np.inf], [0.0]], dtype=np.float32)
    with pytest.raises(ValueError, match="contains infinity"):
        cl.MirrorRegressor(beta=0.1).fit(x, COUNT)


# --- Ctrl-C ---


def where_it_trains(estimator):
    return mirrors if isinstance(estimator, MirrorRegressor) else training


@pytest.mark.parametrize(
    "estimator",
    [
        cl.ConvexReLURegressor(),
        cl.ConvexReLURegressor(gated=True, n_patterns=5),
        cl.ConvexReLUClassifier(max_nodes=0),
        cl.MirrorRegressor(beta=0.1),
    ],
)
def test_an_interrupt_inside_of_a_solve_ends_the_fit(estimator, monkeypatch):
    module = where_it_trains(estimator)
    true = module.solve

    def stopped(*arguments, **options):
        result = true(*arguments, **options)
        return dataclasses.replace(result, status=cl.Status.INTERRUPTED)

    monkeypatch.setattr(module, "solve", stopped)
    x = np.linspace(-1, 1, 6)[:, None]
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(x, [0.0, 0.0, 1.0, 1.0, 0.0, 1.0])
    assert not hasattr(estimator, "network_")


def broken(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "estimator", [cl.ConvexReLURegressor(), cl.ConvexReLUClassifier(), cl.MirrorRegressor()]
)
def test_a_fit_that_fails_or_is_stopped_leaves_the_one_before(estimator, monkeypatch):
    old = pd.DataFrame({"old": np.linspace(-1, 1, 6)})
    new = pd.DataFrame({"new": np.linspace(-1, 1, 6)})
    estimator.set_params(beta=0.1).fit(old, [0, 0, 1, 1, 0, 1])
    known, before = dict(vars(estimator)), estimator.predict(old)
    with pytest.raises(InputError, match="beta"):
        estimator.set_params(beta=-1).fit(new, [2, 2, 3, 3, 2, 3])
    estimator.set_params(beta=0.1)
    monkeypatch.setattr(where_it_trains(estimator), "solve", broken)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(new, [2, 2, 3, 3, 2, 3])
    assert all(vars(estimator)[name] is value for name, value in known.items() if name != "beta")
    assert (estimator.predict(old) == before).all()
