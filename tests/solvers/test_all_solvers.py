"""One battery for every solver of the two-layer programs, every loss, gated and ReLU."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import convexlib as cl
from convexlib.errors import ConvergenceWarning, InputError, SolverError, unwarned
from convexlib.solvers import solve as solvers
from convexlib.solvers.base import NEEDS
from tests.helpers.checks import check_record, check_result
from tests.helpers.references import NAMES, dual_value, loss_value, program_value, targets_for
from tests.helpers.two_layer import at_fraction, gaussian

METHODS = {
    "ssnal": (True, False),
    "oracle": (True, False),
    "admm": (True, False),
    "fista": (True,),
    "proximal_gradient": (True,),
}
CASES = [
    pytest.param(method, loss, gated, id=f"{method}-{loss}-{'gated' if gated else 'relu'}")
    for method, kinds in METHODS.items()
    for loss in NAMES
    for gated in kinds
]
ITERATIVE = [case for case in CASES if case.values[0] != "oracle"]


def problem_of(X, y, loss, gated, fraction=0.3, arrangements=None):
    y = targets_for(loss, np.asarray(y, dtype=float))
    options = {"gated": gated, "loss": loss, "arrangements": arrangements}
    return at_fraction(X, y, fraction, **options)


# --- the optimum, its conditions and its network -------------------------------------------------


@pytest.mark.parametrize(("method", "loss", "gated"), CASES)
@pytest.mark.parametrize("fraction", [0.8, 0.2])
def test_optimum_of_the_program_written_out(method, loss, gated, fraction):
    problem = problem_of(*gaussian(8), loss, gated, fraction)
    result = cl.solve(problem, method=method)
    check_result(problem, result)
    assert result.converged
    assert result.method == method
    assert problem.violation(result.weights) <= 1e-12
    masks = problem.arrangements.masks
    expected = program_value(problem.X, problem.y, problem.beta, masks, gated=gated, loss=loss)
    assert result.value == pytest.approx(expected, rel=1.1e-6)


DEGENERATE = {
    "one sample": (np.array([[1.5, -0.5]]), [0.7]),
    "one feature": (np.array([[1.0], [-2.0], [0.5]]), [1.0, -0.3, 2.0]),
    "wide": gaussian(3, 6, seed=1),
    "equal rows": (np.repeat(gaussian(3, seed=2)[0], 2, axis=0), [1.0, -1.0, 0.5, 2.0, -2.0, -1.0]),
    "zero row": (np.array([[0.0, 0.0], [1.0, 2.0], [-1.0, 1.0]]), [1.0, 2.0, -1.0]),
    "no data": (np.zeros((3, 2)), [1.0, -2.0, 0.5]),
    "equal targets": (gaussian(8)[0], np.zeros(8)),  # labels are then all 1
    "opposite labels": (np.ones((2, 1)), [1.0, -1.0]),
}


@pytest.mark.parametrize(("method", "loss", "gated"), CASES)
@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_data(method, loss, gated, name):
    problem = problem_of(*DEGENERATE[name], loss, gated)
    result = cl.solve(problem, method=method)
    check_result(problem, result)
    assert result.converged
    if name in ("no data", "opposite labels") or (name, loss) == ("equal targets", "squared"):
        # An interior point is never exactly zero.
        assert method == "oracle" or not result.weights.any()
        nothing = loss_value(loss, np.zeros(len(problem.y)), problem.y.numpy())
        assert result.value == pytest.approx(nothing, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("method", "loss", "gated"), CASES)
@pytest.mark.parametrize("active", ["all", "some", "none"])
def test_a_single_pattern(method, loss, gated, active):
    X, y = gaussian(8, seed=5)
    X = X if active == "some" else np.abs(X)
    gate = torch.tensor([[1.0, 1.0]], dtype=torch.float64) * (-1.0 if active == "none" else 1.0)
    arrangements = cl.Arrangements(gate @ torch.from_numpy(X).T >= 0, gate)
    problem = problem_of(X, y, loss, gated, arrangements=arrangements)
    result = cl.solve(problem, method=method)
    check_result(problem, result)
    assert result.converged
    assert bool(result.weights.any()) == (active != "none")


# --- unfinished solves and refusals ---------------------------------------------------------------


UNFINISHED = [(*case.values, None, {"max_iter": 1}) for case in ITERATIVE]
UNFINISHED += [
    ("generate", "squared", False, "generate", {limit: 1}) for limit in ("max_iter", "max_nodes")
]


@pytest.mark.parametrize(("method", "loss", "gated", "arrangements", "limit"), UNFINISHED)
def test_unfinished_solves_warn_once_and_stay_true(method, loss, gated, arrangements, limit):
    data = gaussian(10, 3)
    optimum = cl.solve(problem_of(*data, loss, gated, fraction=1e-3), tol=1e-9)
    problem = problem_of(*data, loss, gated, 1e-3, arrangements)
    with pytest.warns(ConvergenceWarning) as caught:
        result = cl.solve(problem, method=method, **limit)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    message = str(caught[0].message)
    assert message.startswith(f"{method} on TwoLayer")
    assert str(result.status) in message
    assert f"Relative gap {result.gap:.1e}" in message
    check_record(problem, result, 1e-6)
    assert result.value >= optimum.dual
    assert result.dual <= optimum.value
    objective = problem.objective(problem.to_network(result))
    assert objective == pytest.approx(result.value, rel=1e-9)


@given(
    case=st.sampled_from(ITERATIVE),
    seed=st.integers(0, 10_000),
    max_iter=st.integers(1, 40),
    fraction=st.sampled_from([0.02, 0.2, 0.9]),
)
def test_dual_below_optimum_below_primal_wherever_a_solve_stops(case, seed, max_iter, fraction):
    method, loss, gated = case.values
    rng = np.random.default_rng(seed)
    X, y = gaussian(int(rng.integers(1, 7)), int(rng.integers(1, 4)), seed)
    problem = problem_of(X, y, loss, gated, fraction)
    with unwarned():  # it is cut short
        optimum = cl.solve(problem, method="oracle")
        result = cl.solve(problem, method=method, max_iter=max_iter)
    assert result.dual <= optimum.value * (1 + 1e-9)
    assert result.value >= optimum.dual * (1 - 1e-9)
    assert result.dual == pytest.approx(dual_value(loss, result.z, problem.y), abs=1e-9)
    assert problem.dual_norm(result.z) <= problem.beta * (1 + 1e-12)


def every_problem(beta=0.3):
    X, y = gaussian(5)
    labels = np.sign(y)
    Y = np.stack([y, -y], axis=1)
    return {
        "relu": cl.TwoLayer(X, y, beta=beta),
        "gated": cl.TwoLayer(X, y, beta=beta, gated=True),
        "classes": cl.TwoLayer(X, labels, beta=beta, gated=True, loss="logistic"),
        "generate": cl.TwoLayer(X, y, beta=beta, arrangements="generate"),
        "batchnorm": cl.BatchNorm(X, y, beta=beta),
        "threshold": cl.Threshold(np.column_stack([X, np.ones(5)]), y, beta=beta),
        "columns": cl.VectorOutput(X, Y, beta=beta),
        "nuclear": cl.VectorOutput(X, Y, beta=beta, gated=True, penalty="nuclear"),
        "convolution": cl.Convolution(X.reshape(5, 2, 1), y, beta=beta),
        "attention": cl.Attention(X[:4].reshape(2, 2, 2), X[:4].reshape(2, 2, 2), beta=beta),
        "mirrors": cl.Mirrors(X[:, 0], y, beta=beta),
        "wedges": cl.WedgeLasso(X, y, beta=beta),
        "reflections": cl.ReflectionLasso(X, y, beta=beta),
        "three layers": cl.ThreeLayer(X[:3], y[:3], beta=beta),
        "path": cl.PathRegularized(X[:3], y[:3], beta=beta),
        "units": cl.ThreeLayer(X[:3], y[:3], beta=beta, units="generate"),
    }


ALL = {
    "relu": ("ssnal", "admm", "oracle"),
    "gated": ("ssnal", "admm", "fista", "proximal_gradient", "oracle", "irls"),
    "classes": ("ssnal", "admm", "fista", "proximal_gradient", "oracle"),
    "generate": ("generate",),
    "batchnorm": ("ssnal", "admm", "oracle"),
    "threshold": ("ssnal", "admm", "fista", "proximal_gradient", "oracle", "irls"),
    "columns": ("ssnal", "admm", "oracle"),
    "nuclear": ("admm", "fista", "proximal_gradient", "oracle"),
    "convolution": ("oracle", "admm"),
    "attention": ("admm", "fista", "proximal_gradient", "oracle"),
    "mirrors": ("lasso",),
    "wedges": ("wedge",),
    "reflections": ("wedge",),
    "three layers": ("units", "oracle"),
    "path": ("units", "oracle"),
    "units": ("units",),
}  # fmt: skip


@pytest.mark.parametrize("kind", ALL)
def test_a_problem_is_solved_by_the_methods_that_it_names_and_by_no_other(kind):
    problem = every_problem()[kind]
    assert problem.methods == ALL[kind]
    values = []
    for method in solvers.METHODS:
        if method in problem.methods:
            result = cl.solve(problem, method=method, tol=1e-4)
            assert result.method == method
            assert result.scope == problem.scope
            values.append(result.value)
            continue
        names = "', '".join(problem.methods[:-1]) + "' or '" if problem.methods[1:] else ""
        listed = re.escape(f"solved with method='{names}{problem.methods[-1]}'.")
        with pytest.raises(
            SolverError, match=f"^{method} needs {NEEDS[method]}; got {type(problem).__name__}"
        ):
            cl.solve(problem, method=method)
        with pytest.raises(SolverError, match=listed):
            cl.solve(problem, method=method)
    assert cl.solve(problem, tol=1e-4).method == problem.methods[0]
    np.testing.assert_allclose(values, values[0], rtol=2.1e-4)


@pytest.mark.parametrize("kind", ALL)
def test_with_beta_is_the_problem_with_that_beta(kind):
    moved, fresh = every_problem()[kind].with_beta(0.2), every_problem(0.2)[kind]
    assert type(moved) is type(fresh)
    assert repr(moved) == repr(fresh)
    result = cl.solve(fresh, tol=1e-8)
    assert cl.solve(moved, tol=1e-8).value == pytest.approx(result.value, rel=3e-8)
    assert moved.value(result.weights) == fresh.value(result.weights)
    assert moved.dual_norm(moved.y) == fresh.dual_norm(fresh.y)
    own = [getattr(moved, "rows", moved), *moved.each_output()]  # problems that it is made of
    assert {part.beta for part in own} == {0.2}
    for name in vars(fresh).keys() & vars(moved).keys():
        mine, its = vars(moved)[name], vars(fresh)[name]
        if isinstance(its, torch.Tensor | np.ndarray):
            assert np.array_equal(mine, its), name
        elif isinstance(its, float | int | str | tuple):
            assert mine == its, name
    assert every_problem()[kind].beta == 0.3


OPTIONS = {
    "ssnal": "tol, max_iter, max_steps, start, start_z or progress",
    "fista": "tol, max_iter or check_every",
    "oracle": "tol or max_design",
}


@pytest.mark.parametrize("method", solvers.METHODS)
def test_unknown_options_are_refused_with_those_that_exist(method):
    problem = next(p for p in every_problem().values() if method in p.methods)
    message = f"{method} does not know the option 'iterations'.*{OPTIONS.get(method, '')}"
    with pytest.raises(InputError, match=message):
        cl.solve(problem, method=method, iterations=3)
    with pytest.raises(InputError, match=message):
        cl.solution_path(problem, [0.1, 0.2], method=method, iterations=3)


GIVEN = cl.TwoLayer(np.eye(2), np.ones(2), beta=0.1)
OPEN = cl.TwoLayer(np.eye(2), np.ones(2), beta=0.1, arrangements="generate")
GATED = cl.TwoLayer(np.eye(2), np.ones(2), beta=0.1, gated=True)
COLUMNS = cl.VectorOutput(np.eye(2), np.ones((2, 3)), beta=0.1)


@pytest.mark.parametrize(
    ("problem", "options", "message"),
    [
        (GIVEN, {"method": "admm", "check_every": 0}, "check_every is 0; expected an integer >= 1"),
        (GIVEN, {"start": np.zeros((3, 2))}, "start has shape (3, 2); expected (2, 4, 2). Is it"),
        (GIVEN, {"start_z": np.zeros(3)}, "start_z has shape (3,); expected (2)"),
        (GIVEN, {"start_z": [1.0, np.nan]}, "start_z contains 1 non-finite"),
        (GATED, {"method": "irls", "start": [1.0]}, "start has shape (1,); expected (4)"),
        (GATED, {"method": "irls", "start": -np.ones(4)}, "has the entry -1; expected all > 0"),
        (COLUMNS, {"start": np.zeros((2, 4, 2))}, "expected (..., 3). Is it of another"),
        (OPEN, {"max_nodes": -1}, "max_nodes is -1; expected an integer >= 0"),
        (OPEN, {"directions": np.ones((1, 3))}, "directions has shape (1, 3); expected (m, 2)"),
        (OPEN, {"directions": [[np.inf, 0.0]]}, "directions contains 1 non-finite"),
    ],
)  # fmt: skip
def test_bad_options_are_refused(problem, options, message):
    with pytest.raises(InputError, match=re.escape(message)):
        cl.solve(problem, **options)


def test_starts_may_be_arrays():
    result = cl.solve(GIVEN, tol=1e-9)
    again = cl.solve(GIVEN, start=result.weights.numpy(), start_z=result.z.numpy(), tol=1e-9)
    assert again.value == pytest.approx(result.value, rel=1e-8)
    assert cl.solve(OPEN, directions=np.eye(2)).value == pytest.approx(result.value, rel=1e-5)


@pytest.mark.parametrize("method", [name for name in solvers.METHODS if name != "oracle"])
@pytest.mark.parametrize("max_iter", [0, -1, 2.5])
def test_bad_iteration_limits_are_refused(method, max_iter):
    problem = next(p for p in every_problem().values() if method in p.methods)
    with pytest.raises(InputError, match=rf"max_iter is {max_iter}; expected an integer >= 1"):
        cl.solve(problem, method=method, max_iter=max_iter)
