"""`MirrorRegressor` against the Lasso that it stands for, and as scikit-learn uses it."""

import cvxpy as cp
import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

import convexlib as cl
from convexlib.errors import InputError, ProblemError
from tests.helpers.refusals import refused


def steps(n=25, seed=0):
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(-2, 2, n))
    return x, np.where(x > 0, 1.0, -1.0) + 0.3 * x + 0.1 * rng.standard_normal(n)


def ramps_lasso(x, y, beta):
    """The Lasso over the ramps of both directions at every input, written out for CVXPY."""
    left = np.maximum(x[:, None] - x, 0)
    A = np.concatenate([left, np.maximum(x - x[:, None], 0)], axis=1)
    z, xi = cp.Variable(A.shape[1]), cp.Variable()
    objective = cp.sum_squares(A @ z + xi - y) / 2 + beta * cp.norm1(z)
    return float(cp.Problem(cp.Minimize(objective)).solve(solver=cp.CLARABEL))


def test_two_layers_reach_the_lasso_over_ramps():
    x, y = steps()
    estimator = cl.MirrorRegressor(beta=0.2).fit(x[:, None], y)
    network = estimator.network_
    weights = [network.weights, network.alpha]
    decay = sum(float((part.detach() ** 2).sum()) for part in weights) / 2  # biases are free
    objective = 0.5 * np.sum((estimator.predict(x) - y) ** 2) + 0.2 * decay
    assert objective == pytest.approx(ramps_lasso(x, y, 0.2), rel=1e-7)
    assert estimator.gap_ <= 1e-6
    assert estimator.n_neurons_ == network.n_units > 0


@pytest.mark.parametrize(
    "arguments",
    [
        {"activation": "abs", "depth": 3},
        {"activation": "relu", "depth": 3},
        {"activation": "leaky", "depth": 3, "slope": 0.3},
        {"activation": "sign", "depth": 3, "widths": 3},
        {"activation": "threshold"},
        {"loss": "quantile", "quantile": 0.8},
    ],
)
def test_every_kind_of_network_is_that_of_the_problem(arguments):
    x, y = steps(12)
    estimator = cl.MirrorRegressor(beta=0.1, **arguments).fit(x, y)
    problem = cl.Mirrors(x, y, beta=0.1, **arguments)
    result = cl.solve(problem)
    assert problem.objective(estimator.network_) == pytest.approx(result.value, rel=1e-9)
    assert estimator.gap_ <= 1e-6
    with torch.no_grad():
        outputs = estimator.network_(torch.from_numpy(x))
    np.testing.assert_allclose(outputs.numpy(), estimator.predict(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("activation", "power"), [("relu", 1), ("sign", 0), ("threshold", 0)])
def test_scale_of_x_goes_into_beta_unless_units_switch(activation, power):
    x, y = steps()
    one = cl.MirrorRegressor(beta=0.2, activation=activation).fit(x, y)
    two = cl.MirrorRegressor(beta=0.2 * 10**power, activation=activation).fit(10 * x, y)
    np.testing.assert_allclose(one.predict(x), two.predict(10 * x), rtol=0, atol=1e-8)


def test_parameters_are_searched():
    x, y = steps(40)
    grid = {"beta": [0.1, 1e3], "depth": [2, 3]}
    search = GridSearchCV(cl.MirrorRegressor(), grid, cv=4).fit(x[:, None], y)
    assert search.best_params_["beta"] == 0.1


def test_at_beta_max_the_network_is_the_mean():
    x, y = steps()
    beta = cl.Mirrors(x, y, beta=1.0).beta_max()
    constant = cl.MirrorRegressor(beta=1.001 * beta).fit(x, y)
    assert constant.n_neurons_ == 0
    np.testing.assert_allclose(constant.predict(x[:3]), y.mean(), rtol=1e-12)


def test_what_did_not_converge_warns():
    x, y = steps(60)
    with pytest.warns(
        ConvergenceWarning, match=r"MirrorRegressor: the certified gap_ is .*Raise max_iter"
    ):
        cl.MirrorRegressor(beta=1e-4, max_iter=1).fit(x, y)


def refusals():
    x, y = steps()
    return [
        (lambda: cl.MirrorRegressor().fit(np.column_stack([x, x]), y),
         InputError, r"X has shape \(25, 2\); expected one feature.*ConvexReLU"),
        (lambda: cl.MirrorRegressor(depth=1).fit(x, y),
         InputError, "depth is 1; expected an integer >= 2"),
        (lambda: cl.MirrorRegressor(beta=-1.0).fit(x, y),
         InputError, "beta is -1; expected beta > 0"),
        (lambda: cl.MirrorRegressor(max_features=10).fit(x, y),
         ProblemError, "more than max_features=10"),
        (lambda: cl.MirrorRegressor().fit(np.where(x > 1, np.nan, x), y),
         InputError, r"values are missing \(NaN\)"),
        (lambda: cl.MirrorRegressor().fit(x, y).predict(np.zeros((25, 3))),
         InputError, r"X has shape \(25, 3\)"),
        (lambda: cl.MirrorRegressor(random_state="a").fit(x, y),
         ValueError, "'a' cannot be used to seed"),
        (lambda: cl.MirrorRegressor(random_state=-1).fit(x, y), ValueError, "Seed must be between"),
    ]  # fmt: skip


test_refusals = refused(refusals())
