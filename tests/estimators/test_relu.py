"""The two-layer estimators against independent programs, and as scikit-learn uses them."""

import dataclasses
import re
import time
import warnings
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
import torch
from joblib import parallel_config
from scipy.optimize import minimize
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale

import convexlib as cl
from convexlib.errors import InputError
from convexlib.estimators import training
from convexlib.runtime import time_left
from convexlib.solvers import generate
from tests.helpers.checks import network_objective
from tests.helpers.references import cvxpy_loss, program_value
from tests.helpers.refusals import COUNT, EYE, refused

UNPROVEN = "ignore::sklearn.exceptions.ConvergenceWarning"  # above rank 5 the gap stays open


def planted(n=60, d=2, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    return X, np.abs(X[:, 0]) - X[:, -1] + 0.1 * rng.standard_normal(n)


def with_ones(X):
    return np.column_stack([X, np.ones(len(X))])


def best_linear(X, y, beta, loss):
    """min L(Xw) + 2 beta ||w||, by an interior-point solver where it is up to that loss."""
    if loss == "squared_hinge":
        return best_linear_hinge(X, y, beta)
    w = cp.Variable(X.shape[1])
    problem = cp.Problem(cp.Minimize(cvxpy_loss(loss, X @ w, y) + 2 * beta * cp.norm(w)))
    return float(problem.solve(solver=cp.CLARABEL))


def best_linear_hinge(X, y, beta):
    """The same in a and u with w = a u, whose norm is the least (a^2 + ||u||^2) / 2."""

    def value_and_slopes(point):
        a, u = point[0], point[1:]
        left = np.maximum(1 - y * (X @ u) * a, 0)
        back = -X.T @ (y * left)
        value = left @ left / 2 + beta * point @ point
        return value, np.concatenate([[back @ u], a * back]) + 2 * beta * point

    start = np.concatenate([[1.0], X.T @ y / np.linalg.norm(X.T @ y)])
    found = minimize(value_and_slopes, start, jac=True, method="BFGS", options={"gtol": 1e-8})
    assert np.abs(found.jac).max() < 1e-4
    return found.fun


def linear_data():
    X, _ = planted(80, 4)
    return X, X @ np.array([1.0, -2.0, 0.5, 0.0])


DATA = {
    "diabetes": load_diabetes(return_X_y=True),
    "cancer": load_breast_cancer(return_X_y=True),
    "wine": load_wine(return_X_y=True),
    "linear without noise": linear_data(),
}


@pytest.mark.parametrize("loss", ["squared", "logistic", "squared_hinge"])
@pytest.mark.parametrize("fit_bias", [True, False])
def test_the_gap_brackets_the_optimum_of_the_program(loss, fit_bias):
    X, y = planted(8)
    data = with_ones(X) if fit_bias else X
    drawn = np.random.default_rng(1).standard_normal((20_000, data.shape[1]))
    masks = np.unique(drawn @ data.T >= 0, axis=0)
    if loss == "squared":
        estimator = cl.ConvexReLURegressor(beta=0.5, fit_bias=fit_bias, tol=1e-6)
    else:
        y = np.where(y > np.median(y), 1.0, -1.0)
        estimator = cl.ConvexReLUClassifier(beta=0.5, loss=loss, fit_bias=fit_bias, tol=1e-6)
    estimator.fit(X, y)
    optimum = program_value(data, y, 0.5, masks, gated=False, loss=loss)
    certificate = estimator.certificate_
    assert certificate.rigorous
    assert certificate.dual <= optimum * (1 + 1e-7)
    objective = network_objective(estimator.network_, X, y, 0.5, loss)
    assert objective == pytest.approx(certificate.primal, rel=1e-12)
    assert optimum <= objective * (1 + 1e-7)
    assert estimator.gap_ == pytest.approx(1.0 - certificate.dual / objective, abs=1e-12)
    assert estimator.gap_ <= 1e-6


def test_certify_reads_the_network_and_agrees():
    X, y = planted()
    estimator = cl.ConvexReLURegressor(beta=2.0).fit(X, y)
    again = cl.certify(estimator.network_, X, y, beta=2.0)
    assert again.primal == pytest.approx(estimator.certificate_.primal, rel=1e-12)
    assert max(again.dual, estimator.certificate_.dual) <= min(
        again.primal, estimator.result_.value
    )
    with torch.no_grad():
        outputs = estimator.network_(torch.from_numpy(X))
    np.testing.assert_allclose(outputs[:, 0].numpy(), estimator.predict(X), rtol=0, atol=1e-12)
    assert estimator.n_neurons_ == estimator.network_[0].out_features


@pytest.mark.slow
@pytest.mark.filterwarnings(UNPROVEN)
@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("loss", ["squared", "logistic", "squared_hinge"])
@pytest.mark.parametrize("share", [0.02, 0.5])
def test_the_objective_is_never_above_that_of_the_best_linear_model(name, loss, share):
    X, y = (scale(part[:150]) for part in DATA[name])
    if loss != "squared":
        y = np.where(y > 0, 1.0, -1.0)
    beta = share * 0.5 * np.linalg.norm(with_ones(X).T @ y)  # above share = 1, w = 0
    if loss == "squared":
        estimator = cl.ConvexReLURegressor(beta=beta, max_iter=1, max_nodes=0)
    else:
        estimator = cl.ConvexReLUClassifier(beta=beta, loss=loss, max_iter=1, max_nodes=0)
    linear = best_linear(with_ones(X), y, beta, loss)
    estimator.fit(X, y)
    assert network_objective(estimator.network_, X, y, beta, loss) <= linear * (1 + 1e-5)
    estimator.set_params(gated=True, max_iter=None).fit(X, y)
    # Half of the price buys the linear neuron of a gated network.
    cheaper = best_linear(with_ones(X), y, 0.5 * beta, loss)
    gated = network_objective(estimator.network_[-1], with_ones(X), y, beta, loss)
    assert gated <= cheaper * (1 + 1e-4)


def test_on_symmetric_data_with_odd_targets_the_linear_model_is_the_optimum():
    half, _ = planted(12)
    X = np.concatenate([half, -half])
    y = np.sin(X[:, 0]) + X[:, 1] ** 3
    estimator = cl.ConvexReLURegressor(beta=1.0, fit_bias=False, tol=1e-6).fit(X, y)
    linear = best_linear(X, y, 1.0, "squared")
    assert estimator.certificate_.primal == pytest.approx(linear, rel=2e-6)
    assert estimator.certificate_.dual == pytest.approx(linear, rel=2e-6)


def test_a_bias_makes_a_network_cheaper_than_the_linear_model_on_odd_targets():
    X, y = np.array([[1.0], [-1.0]]), np.array([1.0, -1.0])
    network = cl.ConvexReLURegressor(beta=0.1, tol=1e-6).fit(X, y).certificate_
    linear = best_linear(with_ones(X), y, 0.1, "squared")
    assert linear == pytest.approx(0.19, rel=1e-6)  # slope 1 - beta
    assert network.primal < 0.8 * linear  # sqrt(2) beta in place of 2 beta, and a bit less


def test_several_outputs_are_the_single_ones_side_by_side():
    X, y = planted(40)
    Y = np.column_stack([y, y**2 - 1.0])
    joint = cl.ConvexReLURegressor(beta=2.0, random_state=0).fit(X, Y)
    singles = [cl.ConvexReLURegressor(beta=2.0, random_state=0).fit(X, column) for column in Y.T]
    predicted = np.column_stack([single.predict(X) for single in singles])
    np.testing.assert_allclose(joint.predict(X), predicted, rtol=0, atol=1e-10)
    assert joint.n_neurons_ == sum(single.n_neurons_ for single in singles)
    assert len(joint.certificate_) == len(joint.result_) == 2
    primal = sum(single.certificate_.primal for single in singles)
    dual = sum(single.certificate_.dual for single in singles)
    assert joint.gap_ == pytest.approx(1 - dual / primal, abs=1e-9)
    assert joint.predict(X[:1]).shape == (1, 2)


@pytest.mark.parametrize("gated", [False, True])
def test_classes_have_any_names(gated):
    X, y = load_iris(return_X_y=True)
    names = np.array(["virginica", "setosa", "versicolor"])[y]
    classifier = cl.ConvexReLUClassifier(gated=gated, max_nodes=0, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # max_nodes=0: no proof
        classifier.fit(X[:, 2:], names)
    assert list(classifier.classes_) == ["setosa", "versicolor", "virginica"]
    # 0.95 or more from four seeds, of 150 rows: some of those at the boundary may flip.
    assert classifier.score(X[:, 2:], names) > 0.9
    probabilities = classifier.predict_proba(X[:, 2:])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-12)
    assert (classifier.classes_[probabilities.argmax(axis=1)] == classifier.predict(X[:, 2:])).all()


def test_two_classes_have_one_output_and_probabilities_of_a_logistic_model():
    X, y = planted()
    classifier = cl.ConvexReLUClassifier().fit(X, y > 0)
    scores = classifier.decision_function(X)
    assert scores.shape == (60,)
    np.testing.assert_allclose(classifier.predict_proba(X)[:, 1], 1 / (1 + np.exp(-scores)))
    assert np.isfinite(classifier.predict_proba(1e6 * X)).all()
    assert not hasattr(cl.ConvexReLUClassifier(loss="squared_hinge"), "predict_proba")


def test_from_beta_max_on_the_network_is_zero():
    X, y = planted()
    beta_max = cl.TwoLayer(with_ones(X), y, beta=1.0, arrangements="generate").beta_max()
    zero = cl.ConvexReLURegressor(beta=1.01 * beta_max).fit(X, y)
    assert zero.n_neurons_ == 0
    assert (zero.predict(X) == 0.0).all()
    assert zero.gap_ <= 1e-4
    assert cl.ConvexReLURegressor(beta=0.99 * beta_max).fit(X, y).n_neurons_ > 0


@pytest.mark.parametrize("gated", [False, True])
def test_constant_targets_and_collinear_columns(gated):
    X, y = planted()
    X = np.column_stack([X, X[:, 0] + X[:, 1], np.full(60, 3.0)])
    estimator = cl.ConvexReLURegressor(gated=gated, random_state=0).fit(X, y)
    assert estimator.gap_ <= 1e-4  # the rank is 3
    assert estimator.score(X, y) > 0.97
    assert (estimator.fit(X, np.zeros(60)).predict(X) == 0.0).all()


def test_random_state_decides_and_torch_draws_nothing_else():
    X, y = planted()
    before = torch.get_rng_state()
    one, two = (cl.ConvexReLURegressor(gated=True, random_state=3).fit(X, y) for _ in range(2))
    cl.ConvexReLURegressor(random_state=3).fit(X, y)
    assert (one.predict(X) == two.predict(X)).all()
    other = cl.ConvexReLURegressor(gated=True, random_state=4).fit(X, y)
    assert (one.predict(X) != other.predict(X)).any()
    assert torch.equal(before, torch.get_rng_state())


def test_pipelines_are_searched_by_threads():
    X, y = planted(50)
    pipeline = make_pipeline(StandardScaler(), cl.ConvexReLURegressor(random_state=0))
    grid = {"convexreluregressor__beta": [0.3, 30.0]}
    with parallel_config("threading", n_jobs=2):
        search = GridSearchCV(pipeline, grid, cv=3).fit(1e3 * X + 5.0, y)
    assert search.best_params_ == {"convexreluregressor__beta": 0.3}
    assert search.best_estimator_[-1].gap_ <= 1e-4
    scores = cross_val_score(pipeline.set_params(convexreluregressor__beta=0.3), X, y, cv=3)
    assert scores.min() > 0.9


def test_what_did_not_converge_warns_once_and_says_what_to_do():
    X, y = planted(40, 7)
    estimator = cl.ConvexReLURegressor(beta=1.0, max_iter=1, max_nodes=1)
    words = r"the certified gap_ is \S+, above tol=0.0001; .*At rank 8 .*max_seconds"
    with pytest.warns(ConvergenceWarning, match=words) as caught:
        estimator.fit(X, y)
    assert len(caught) == 1
    assert 1e-4 < estimator.gap_ < 1.0


@pytest.mark.parametrize(
    ("d", "options", "words"),
    [
        (2, {"max_seconds": 0.0}, "Raise max_seconds to improve it and prove more, or tol"),
        (7, {"max_seconds": 0.0}, "raise max_seconds to search longer"),
        (2, {"max_iter": 1, "tol": 1e-9}, "Raise max_iter to improve it, max_nodes to prove more"),
        (2, {"max_seconds": 0.0, "gated": True}, "Raise max_seconds to improve it, or tol"),
        (2, {"max_iter": 1, "gated": True, "tol": 1e-9}, "Raise max_iter to improve it, or tol"),
    ],
)
def test_the_advice_is_more_of_what_ran_out(d, options, words):
    X, y = planted(60, d)
    with pytest.warns(ConvergenceWarning, match=words) as caught:
        cl.ConvexReLURegressor(beta=1e-2, **options).fit(X, y)
    said = str(caught[0].message)
    assert ("max_iter to" in said) == ("max_seconds" not in options)
    assert not options.get("gated") or "nodes" not in said


def unscaled(n: int = 392, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three features of sizes 15, 100 and 3000 and a target of 25, as of cars."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(3000, 850, n)
    power = weight / 28 + rng.normal(0, 18, n)
    acceleration = 25 - power / 12 + rng.normal(0, 1.8, n)
    y = 46 - 0.0075 * weight + 1.2e-6 * (weight - 3000) ** 2 - 0.03 * power + rng.normal(0, 3, n)
    return np.column_stack([power, weight, acceleration]), y


@pytest.mark.slow
def test_unscaled_features_end_with_a_valid_answer_and_a_word_on_scale() -> None:
    X, y = unscaled()
    began = time.process_time()
    with pytest.warns(ConvergenceWarning, match=r"sizes 2e\+02 apart.*StandardScaler") as caught:
        estimator = cl.ConvexReLURegressor(beta=1.0).fit(X, y)
    assert time.process_time() - began < 60.0  # it took more than 250 s; some 10 are usual
    assert len(caught) == 1
    certificate = cl.certify(estimator.network_, X, y, beta=1.0, refine=False, max_nodes=0)
    assert estimator.certificate_.dual <= certificate.primal
    assert certificate.primal == pytest.approx(estimator.certificate_.primal, rel=1e-9)
    linear = LinearRegression().fit(X, y)
    assert estimator.score(X, y) > linear.score(X, y)


def test_a_proof_by_the_certificate_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the solver knew when it stopped is not what is known in the end."""
    X, y = planted()
    true = training.solve

    def unsure(*arguments: Any, **options: Any) -> cl.Result:
        result = true(*arguments, **options)
        return dataclasses.replace(result, gap=2e-4, status=cl.Status.UNPROVEN)

    monkeypatch.setattr(training, "solve", unsure)
    estimator = cl.ConvexReLURegressor(beta=0.5).fit(X, y)
    assert estimator.gap_ <= 1e-4


# --- Weights, time, and what is said ---


def objective(estimator, X, y, weights):
    """The objective of the network as it stands, by hand."""
    with torch.no_grad():
        outputs = estimator.network_(torch.from_numpy(X)).numpy()[:, 0]
    loss = getattr(estimator, "loss", "squared")
    terms = {
        "squared": 0.5 * (outputs - y) ** 2,
        "logistic": np.logaddexp(0.0, -y * outputs),
        "squared_hinge": 0.5 * np.maximum(1.0 - y * outputs, 0.0) ** 2,
    }[loss]
    weight = sum(float((part**2).sum()) for part in estimator.network_.state_dict().values())
    return float(weights @ terms) + 0.5 * estimator.beta * weight


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("loss", ["squared", "logistic", "squared_hinge"])
def test_a_weight_of_two_is_a_sample_twice_and_none_leaves_it_out(loss, gated):
    X, y = planted(30, 2)
    labels = np.sign(y - np.median(y - 0.1))
    weights = np.random.default_rng(1).integers(0, 3, len(X)).astype(float)
    options = {"beta": 0.3, "tol": 1e-7, "gated": gated, "random_state": 0}
    made = (
        cl.ConvexReLURegressor(**options)
        if loss == "squared"
        else cl.ConvexReLUClassifier(loss=loss, **options)
    )
    targets = y if loss == "squared" else labels
    weighted = clone(made).fit(X, targets, sample_weight=weights)
    repeated = clone(made).fit(*(np.repeat(part, weights.astype(int), 0) for part in (X, targets)))
    assert weighted.gap_ <= 1e-7
    values = (
        [objective(each, X, targets, weights) for each in (weighted, repeated)]
        if not gated
        else [weighted.result_.value, repeated.result_.value]
    )
    assert values[0] == pytest.approx(values[1], rel=3e-7)
    if not gated:
        assert weighted.certificate_.primal == pytest.approx(values[0], rel=1e-9)
        assert weighted.certificate_.rigorous


def test_weights_that_are_no_whole_numbers_have_a_certified_optimum():
    X, y = planted(25, 2)
    labels = np.where(y > np.median(y), "yes", "no")
    weights = np.random.default_rng(2).uniform(0.1, 7.0, len(X))
    options = {"beta": 0.5, "tol": 1e-7, "loss": "logistic"}
    weighted = cl.ConvexReLUClassifier(**options).fit(X, labels, sample_weight=weights)
    value = objective(weighted, X, np.where(labels == "yes", 1.0, -1.0), weights)
    assert weighted.certificate_.dual <= value <= weighted.certificate_.dual * (1 + 2e-7)
    # Interior point, over all patterns, with the loss written by hand.
    data = np.column_stack([X, np.ones(len(X))])
    masks = cl.enumerate_arrangements(data).masks.numpy().astype(float)
    v, w = cp.Variable((len(masks), 3)), cp.Variable((len(masks), 3))
    signs = 2 * masks - 1
    outputs = cp.sum(cp.multiply(masks.T, data @ (v - w).T), axis=1)
    margins = cp.multiply(np.where(labels == "yes", 1.0, -1.0), outputs)
    loss = cp.sum(cp.multiply(weights, cp.logistic(-margins)))
    penalty = cp.sum(cp.norm(v, axis=1)) + cp.sum(cp.norm(w, axis=1))
    cones = [cp.multiply(signs.T, data @ part.T) >= 0 for part in (v, w)]
    program = cp.Problem(cp.Minimize(loss + 0.5 * penalty), cones)
    program.solve(solver=cp.CLARABEL)
    assert value == pytest.approx(program.value, rel=1e-5)


def test_balanced_classes_are_weights_of_their_samples():
    X, y = planted(40, 2)
    labels = np.where(y > np.quantile(y, 0.8), 1, 0)
    counts = np.bincount(labels)
    weights = (len(labels) / (2 * counts))[labels]
    options = {"beta": 0.5, "tol": 1e-6}
    balanced = cl.ConvexReLUClassifier(class_weight="balanced", **options).fit(X, labels)
    weighted = cl.ConvexReLUClassifier(**options).fit(X, labels, sample_weight=weights)
    assert balanced.certificate_.primal == pytest.approx(weighted.certificate_.primal, rel=3e-6)
    with pytest.raises(InputError, match="class_weight is 'heavy'"):
        cl.ConvexReLUClassifier(class_weight="heavy").fit(X, labels)


@pytest.mark.filterwarnings(UNPROVEN)
@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_a_limit_of_time_ends_a_fit_with_a_valid_gap(seconds):
    X, y = planted(400, 8)
    began = time.perf_counter()
    estimator = cl.ConvexReLURegressor(beta=0.01, max_seconds=seconds).fit(X, y)
    spent = time.perf_counter() - began
    certificate = estimator.certificate_
    assert certificate.dual <= certificate.primal
    # The network of the best linear model is found before anything else.
    assert certificate.primal <= best_linear(with_ones(X), y, 0.01, "squared") * (1 + 1e-5)
    assert spent < seconds + 30.0  # kernels, the last step and a loaded machine
    if estimator.gap_ > 1e-4:
        assert estimator.result_.status is cl.Status.OUT_OF_TIME


@pytest.mark.filterwarnings(UNPROVEN)
def test_what_closes_a_fit_has_a_part_of_the_limit(monkeypatch):
    X, y = planted(60, 12)
    left = {}

    def watched(module, name):
        true = getattr(module, name)

        def call(*arguments, **options):
            left[name] = time_left()
            return true(*arguments, **options)

        monkeypatch.setattr(module, name, call)

    watched(training, "certify_two_layer")
    watched(generate, "exact_price")
    cl.ConvexReLURegressor(beta=0.1).fit(X, y)
    assert min(left.values()) == np.inf
    cl.ConvexReLURegressor(beta=0.1, max_seconds=0.0).fit(X, y)
    assert left["certify_two_layer"] <= 0.0
    assert left["exact_price"] <= 0.2


@pytest.mark.filterwarnings(UNPROVEN)
def test_max_iter_limits_gated_networks_too():
    X, y = planted(100, 3)
    options = {"beta": 1e-3, "gated": True, "tol": 1e-9}
    estimator = cl.ConvexReLURegressor(max_iter=1, **options).fit(X, y)
    assert estimator.result_.status is cl.Status.MAX_ITER
    assert estimator.gap_ > cl.ConvexReLURegressor(**options).fit(X, y).gap_


def test_no_warning_where_no_proof_was_asked_for():
    X, y = planted(40, 7)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimator = cl.ConvexReLURegressor(beta=1.0, max_nodes=0).fit(X, y)
    assert estimator.gap_ > 1e-4


def test_a_verbose_fit_says_what_to_expect_and_how_it_ended(capsys):
    X, y = planted(30, 2)
    cl.ConvexReLURegressor(beta=0.5, verbose=True).fit(X, y)
    said = capsys.readouterr().err
    assert "30 samples (30 directions), 3 features of rank 3" in said
    assert "a proof is within reach" in said
    assert re.search(r"ConvexReLURegressor: \d+ neurons after \S+ s, certified gap \S+", said)


def refusals():
    X, y = planted(10)
    return [
        (lambda: cl.ConvexReLUClassifier(loss="hinge").fit(X, y > 0),
         InputError, "loss is 'hinge'; expected one of 'squared', 'logistic'"),
        (lambda: cl.ConvexReLUClassifier().fit(X, ["a"] * 10),
         InputError, "y holds one class, 'a'; expected at least two"),
        (lambda: cl.ConvexReLURegressor().fit(np.where(X > 1, np.nan, X), y),
         InputError, r"values are missing \(NaN\): X: \d+; expected numbers"),
        (lambda: cl.ConvexReLURegressor().fit(X, y, sample_weight=np.ones(9)),
         InputError, r"sample_weight has shape \(9,\); expected \(10,\)"),
        (lambda: cl.ConvexReLURegressor().fit(X, y, sample_weight=-np.ones(10)),
         InputError, "entries from -1 to -1; expected finite weights of at least zero"),
        (lambda: cl.ConvexReLUClassifier(class_weight={0: -1, 1: 1}).fit(X, y > 0),
         InputError, "class_weight has entries from -1 to 1; expected finite weights"),
        (lambda: cl.ConvexReLUClassifier().fit(X, y > 0, sample_weight=np.full(10, 1e300)),
         InputError, r"the largest entry of sample_weight is 1.0e\+300"),
        (lambda: cl.ConvexReLUClassifier(class_weight={0: 1e70, 1: 1}).fit(
            X, y > 0, sample_weight=np.full(10, 1e70)),
         InputError, "the largest entry of sample_weight times class_weight"),
        (lambda: cl.ConvexReLURegressor(beta=0.0).fit(X, y),
         InputError, "beta is 0; expected beta > 0"),
        (lambda: cl.ConvexReLURegressor(tol=-1.0).fit(X, y),
         InputError, "tol is -1; expected tol > 0"),
        (lambda: cl.ConvexReLURegressor(device="abacus").fit(X, y),
         InputError, "device is 'abacus', which cannot hold float64"),
        (lambda: cl.ConvexReLURegressor(n_patterns=0).fit(X, y),
         InputError, "n_patterns is 0; expected an integer >= 1"),
        (lambda: cl.ConvexReLURegressor(max_iter=0).fit(X, y),
         InputError, "max_iter is 0; expected an integer >= 1"),
        (lambda: cl.ConvexReLURegressor(max_nodes=-1).fit(X, y),
         InputError, "max_nodes is -1; expected an integer >= 0"),
        (lambda: cl.ConvexReLURegressor(device="meta").fit(EYE, COUNT),
         InputError, "device is 'meta', which cannot"),
        (lambda: cl.ConvexReLURegressor(fit_bias=EYE).fit(EYE, COUNT),
         InputError, "fit_bias is .*True or False"),
    ]  # fmt: skip


test_refusals = refused(refusals())
