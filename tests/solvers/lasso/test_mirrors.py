"""The Lasso solver against scikit-learn, HiGHS, closed forms and its own certificate."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso, QuantileRegressor

import convexlib as cl
from convexlib.errors import ConvergenceWarning, InputError, ProblemError, SolverError
from convexlib.solvers.interpolation import interpolate, interpolation_norm
from convexlib.solvers.lasso import lasso_path, optimal_set, solve_path
from convexlib.solvers.lasso.active_set import ActiveSet, stages
from tests.helpers.references import least_norm
from tests.helpers.refusals import COUNT, refused


def wave(seed, n):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(n)
    return x, np.sin(3 * x) + 0.3 * rng.standard_normal(n)


def check_optimal(problem, result, slack=1e-8):
    """First-order conditions from scratch: they prove the value, whatever the solver did."""
    A, y = problem.matrix().numpy(), problem.y.numpy()
    z, bias = result.weights[:-1].numpy(), float(result.weights[-1])
    residual = y - A @ z - bias
    scale = np.abs(A).max() * np.abs(y).max() * len(y) * 1e-13
    assert abs(residual.sum()) <= scale
    correlations = A.T @ residual
    assert np.abs(correlations).max() <= problem.beta * (1 + slack) + scale
    active = z != 0
    assert np.allclose(
        correlations[active], problem.beta * np.sign(z[active]), rtol=slack, atol=scale
    )


@pytest.mark.parametrize("options", [{}, {"depth": 3}, {"depth": 3, "activation": "abs"}], ids=str)
@pytest.mark.parametrize("fraction", [0.3, 1e-2, 1e-4])
def test_optimality_conditions(options, fraction):
    x, y = wave(0, 25)
    problem = cl.Mirrors(x, y, beta=1.0, **options)
    problem = problem.with_beta(fraction * problem.beta_max())
    result = cl.solve(problem, tol=1e-10)
    assert result.converged
    assert result.gap < 1e-10
    assert np.count_nonzero(result.weights[:-1]) < len(y)
    check_optimal(problem, result)


def test_agrees_with_scikit_learn():
    x, y = wave(1, 40)
    problem = cl.Mirrors(x, y, beta=0.5)
    model = Lasso(alpha=0.5 / len(y), tol=1e-10, max_iter=200_000)  # 1 / (2n) there
    model.fit(problem.matrix().numpy(), y)
    fitted = model.predict(problem.matrix().numpy())
    value = 0.5 * np.sum((fitted - y) ** 2) + 0.5 * np.abs(model.coef_).sum()
    result = cl.solve(problem)
    assert result.value == pytest.approx(value, rel=1e-7)
    assert np.allclose(problem.fitted(result.weights), fitted, atol=1e-4)


@pytest.mark.parametrize("beta", [1e-14, 1e-12, 1e-8, 1e-4, 1.0])
def test_quantile_of_equal_targets_is_their_constant(beta):
    """Whatever beta: HiGHS refuses ratios of features to beta that it finds too large."""
    for x in ([-1e8, 0.5e8, 2e8], [0.0, 1e-9, 1.0, 1.0 + 1e-12, 2.0]):
        for height in (0.0, 1.0):
            y = np.full(len(x), height)
            problem = cl.Mirrors(x, y, beta=beta, loss="quantile", quantile=0.3)
            result = cl.solve(problem)
            assert result.converged
            assert result.value <= 1e-12
            assert np.allclose(problem.fitted(result.weights), y, rtol=0, atol=1e-12)


def test_quantile_agrees_with_scikit_learn():
    x, y = wave(2, 30)
    problem = cl.Mirrors(x, y, beta=0.3, loss="quantile", quantile=0.8)
    A = problem.matrix().numpy()
    model = QuantileRegressor(quantile=0.8, alpha=0.3 / len(y)).fit(A, y)
    residual = y - model.predict(A)
    pinball = np.maximum(0.8 * residual, -0.2 * residual).sum()
    result = cl.solve(problem, tol=1e-9)
    assert result.converged
    assert result.value == pytest.approx(pinball + 0.3 * np.abs(model.coef_).sum(), rel=1e-6)
    fitted = problem.fitted(result.weights)  # at any optimum, of which there may be many:
    assert float((problem.y < fitted - 1e-9).double().mean()) <= 0.8
    assert float((problem.y > fitted + 1e-9).double().mean()) <= 0.2 + 1e-12
    assert problem.objective(problem.to_network(result)) == pytest.approx(result.value, rel=1e-9)


@pytest.mark.parametrize("beta", [1e-2, 1e-5, 1e-8])
@pytest.mark.parametrize("depth", [2, 3])
def test_tiny_beta_is_certified(beta, depth):
    x, y = wave(3, 40)
    problem = cl.Mirrors(x, y, beta=beta, depth=depth)
    result = cl.solve(problem, tol=1e-8)
    assert result.converged
    # value / beta rises to the least norm of an interpolant.
    assert result.value / beta <= interpolation_norm(problem) * (1 + 1e-8)
    if beta == 1e-8:
        assert result.value / beta == pytest.approx(interpolation_norm(problem), rel=1e-3)


# The objective is rounding, squared, from 1e-30 down: no gap can be relative to it.
@pytest.mark.filterwarnings("ignore:lasso on Mirrors:convexlib.errors.ConvergenceWarning")
@pytest.mark.parametrize("beta", [1e-20, 1e-100, 1e-300, 5e-324])
def test_below_rounding_beta_changes_neither_faces_nor_network(beta, monkeypatch):
    """Where the fit is exact to rounding the residual is beta times a vector, and no noise."""
    ended = []
    solve = ActiveSet.solve

    def watched(self, max_steps):
        ended.append(solve(self, max_steps))
        return ended[-1]

    monkeypatch.setattr(ActiveSet, "solve", watched)
    x, y = wave(7, 8)
    y = np.sign(y)
    problem = cl.Mirrors(x, y, beta=beta, depth=4, slope=0.1)
    result = cl.solve(problem)
    assert all(ended)
    assert (problem.fitted(result.weights).numpy() - y) == pytest.approx(np.zeros(8), abs=1e-11)
    least = interpolation_norm(problem)
    assert float(result.weights[:-1].abs().sum()) == pytest.approx(least, rel=1e-9)


# The rounding of the loss alone is more than such a beta: the gap is open, and says so.
@pytest.mark.filterwarnings("ignore::convexlib.errors.ConvergenceWarning")
@pytest.mark.parametrize("beta", [1e-300, 5e-324])
@pytest.mark.parametrize(("seed", "depth"), [(5, 2), (7, 2), (35, 3), (35, 4)])
def test_columns_inside_stay_independent_at_ties(seed, depth, beta):
    """A column whose share is rounding does not leave for one that depends on the others."""
    rng = np.random.default_rng(seed)
    x, y = np.sort(rng.standard_normal(9)), np.sign(rng.standard_normal(9))
    problem = cl.Mirrors(x, y, beta=beta, depth=depth)
    result = cl.solve(problem)
    assert (problem.fitted(result.weights).numpy() - y) == pytest.approx(np.zeros(9), abs=1e-10)
    assert int((result.weights[:-1] != 0).sum()) <= len(x)


def test_repeated_inputs_are_merged_exactly():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 12, 200) / 4.0
    y = np.cos(x) + 0.2 * rng.standard_normal(200)
    problem = cl.Mirrors(x, y, beta=0.1, depth=3)
    check_optimal(problem, cl.solve(problem, tol=1e-10))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"depth": 3},
        {"activation": "abs"},
        {"activation": "leaky", "slope": 0.4},
        {"activation": "sign"},
        {"activation": "sign", "depth": 3, "widths": 2},
        {"activation": "sign", "depth": 3, "widths": 7},
        {"activation": "threshold", "depth": 3, "widths": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_least_norm_closed_forms(options, seed):
    x, y = wave(seed, 8)
    problem = cl.Mirrors(x, y, beta=1.0, **options)
    least = least_norm(problem.matrix().numpy(), y)
    assert interpolation_norm(problem) == pytest.approx(least, rel=1e-8)
    result = interpolate(problem)
    assert result.converged
    assert result.value == pytest.approx(least, rel=1e-8)
    assert np.allclose(problem.fitted(result.weights), y, atol=1e-8)


def test_interpolation_of_larger_dictionaries():
    x, y = wave(4, 60)
    for options in ({"depth": 3}, {"depth": 3, "activation": "abs"}):
        problem = cl.Mirrors(x, y, beta=1.0, **options)
        assert problem.n_features > 1000
        result = interpolate(problem)
        assert result.converged
        assert np.allclose(problem.fitted(result.weights), y, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"depth": 3}, {"activation": "sign"}], ids=str)
def test_the_exact_path(options):
    x, y = wave(6, 12)
    problem = cl.Mirrors(x, y, beta=1.0, **options)
    top = problem.beta_max()
    segments = lasso_path(problem, smallest=1e-4 * top)
    assert segments[0].high == pytest.approx(top)
    assert segments[-1].low == pytest.approx(1e-4 * top)
    A = problem.matrix().numpy()
    A, target = A - A.mean(axis=0), y - y.mean()
    for before, after in zip(segments, segments[1:], strict=False):
        assert before.low == after.high
    for segment in segments:
        for beta in (segment.high, 0.5 * (segment.high + segment.low), segment.low):
            z = segment.coefficients(beta)
            fitted = A[:, segment.index] @ z
            value = 0.5 * np.sum((fitted - target) ** 2) + beta * np.abs(z).sum()
            expected = cl.solve(problem.with_beta(beta), tol=1e-9).value
            assert value == pytest.approx(expected, rel=1e-7)


def test_the_set_of_optima_is_a_segment_where_two_ramps_can_share_a_kink():
    # The middle kink may be made by the right ramp or by the left one, the line absorbs the rest.
    x, y = np.array([0.0, 1.0, 2.0]), np.array([1.0, 0.0, 1.0])
    problem = cl.Mirrors(x, y, beta=0.05)
    result = cl.solve(problem, tol=1e-10)
    optima = optimal_set(problem, result)
    assert optima.dimension == 0
    assert optima.unique
    x, y = np.arange(4.0), np.array([0.0, 0.0, 1.0, 1.0])
    problem = cl.Mirrors(x, y, beta=0.01)
    result = cl.solve(problem, tol=1e-10)
    optima = optimal_set(problem, result)
    assert optima.dimension >= 1
    assert (optima.high - optima.low).max() > 0.1
    for weight in (0.0, 0.3, 1.0):
        point = weight * optima.ends[0] + (1 - weight) * optima.ends[1]
        assert problem.value(point) == pytest.approx(result.value, rel=1e-9)
        assert torch.allclose(problem.fitted(point), problem.fitted(result.weights), atol=1e-9)


def test_an_exhausted_budget_is_said():
    x, y = wave(0, 30)
    with pytest.warns(ConvergenceWarning, match="stopped at max_iter.*raise it or tol"):
        result = cl.solve(cl.Mirrors(x, y, beta=0.001), max_iter=3)
    assert not result.converged
    assert result.dual <= result.value


def test_a_beta_of_the_smallest_float_is_reached_in_stages():
    problem = cl.Mirrors(COUNT, COUNT, beta=5e-324)
    betas = stages(problem.beta_max(), problem.beta)
    assert betas[-1] == 5e-324
    assert betas == sorted(betas, reverse=True)
    assert np.isfinite(betas).all()


def refusals():
    x, y = wave(6, 12)
    small = cl.Mirrors(COUNT, COUNT, beta=0.1)
    deep = cl.Mirrors(x, y, beta=1.0, depth=3, activation="abs")
    wide = cl.Mirrors(x, y, beta=1.0, activation="sign", depth=3, widths=3)
    twice = cl.Mirrors(np.array([1.0, 2.0, 1.0]), np.array([0.0, 1.0, 2.0]), beta=1.0)
    quantile = cl.Mirrors(np.arange(4.0), [0.0, 0.0, 1.0, 1.0], beta=0.01, loss="quantile")
    return [
        (lambda: lasso_path(cl.Mirrors(x, y, beta=1.0), smallest=1e-6, max_kinks=2),
         SolverError, "more than max_kinks=2 kinks"),
        (lambda: lasso_path(quantile, smallest=0.1),
         SolverError, "got loss='quantile'.*solve_path"),
        *((call, InputError, "problem is NoneType; expected a problem such as") for call in (
            lambda: lasso_path(None, smallest=0.1),
            lambda: solve_path(None, [0.5]),
            lambda: interpolate(None),
            lambda: optimal_set(None, cl.solve(small)),
        )),
        (lambda: solve_path(small, np.array(0.5)),
         InputError, "betas is array.0.5.; expected a sequ"),
        (lambda: optimal_set(small, cl.solve(small), slack="a"),
         InputError, "slack is 'a'; expected"),
        (lambda: optimal_set(quantile, cl.solve(quantile)),
         InputError, "expected the squared loss and a gap"),
        (lambda: lasso_path(small, smallest=0.1, max_kinks="a"),
         InputError, "max_kinks is 'a'; expect"),
        (lambda: interpolation_norm(deep),
         ProblemError, "no closed form is known for activation='abs'"),
        (lambda: interpolation_norm(wide), ProblemError, "no closed form is known for 3 switches"),
        (lambda: interpolate(twice), InputError, "1 sample has another target .*first at row 0"),
    ]  # fmt: skip


test_refusals = refused(refusals())
