"""Semismooth Newton on known optima, all losses, hard inputs, float32, interrupts and memory."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer
from torch.utils._python_dispatch import TorchDispatchMode

import convexlib as cl
from convexlib.errors import unwarned
from convexlib.solvers.base import Tracker
from convexlib.solvers.ssnal import blocks as curvature
from convexlib.solvers.ssnal import ssnal
from tests.helpers.checks import check_record, check_result
from tests.helpers.interrupts import interrupt_after
from tests.helpers.two_layer import at_fraction, random_problem


def planted(n, d, n_patterns):
    """Ten planted neurons with noise; unit columns and ||y||^2 = n."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, d))
    W, signs = rng.standard_normal((d, 10)) / np.sqrt(d), rng.choice([-1.0, 1.0], 10)
    y = np.maximum(X @ W, 0) @ signs
    return X, y + 0.1 * y.std() * rng.standard_normal(n), n_patterns


def cancer():
    X, label = load_breast_cancer(return_X_y=True)
    return (X - X.mean(0)) / X.std(0), 2.0 * label - 1, 300


INSTANCES = {"s": lambda: planted(200, 10, 50), "a": lambda: planted(500, 20, 200), "c": cancer}
# Found by another implementation, to about ten digits; beta is a fraction of the gated beta_max.
OPTIMA = [
    ("s", True, 1e-2, 4.21586921),
    ("a", True, 1e-1, 72.438532885),
    ("a", True, 1e-2, 10.8774817905),
    ("a", True, 1e-3, 1.20085321),
    ("c", True, 1e-2, 42.396205841),
    ("s", False, 1e-2, 13.1120783),
    ("a", False, 1e-2, 45.58516145),
]


@pytest.mark.parametrize(("name", "gated", "fraction", "optimum"), OPTIMA)
def test_known_optima(name, gated, fraction, optimum):
    X, y, n_patterns = INSTANCES[name]()
    X, y = X / np.linalg.norm(X, axis=0), y * np.sqrt(len(y)) / np.linalg.norm(y)
    gates = np.random.default_rng(1).standard_normal((X.shape[1], n_patterns)).T
    masks = torch.from_numpy(gates @ X.T > 0)
    patterns = cl.Arrangements(masks, torch.from_numpy(gates.copy()))
    problem = cl.TwoLayer(X, y, beta=1.0, arrangements=patterns, gated=True)
    beta = fraction * problem.beta_max()
    problem = cl.TwoLayer(X, y, beta=beta, arrangements=patterns, gated=gated)
    result = ssnal(problem, tol=1e-8)
    check_record(problem, result, 1e-8)
    assert result.converged
    # The gap of this solve and the digits of the other one.
    assert result.value == pytest.approx(optimum, rel=1e-8 + 5e-9)
    assert result.dual <= optimum * (1 + 5e-9)
    assert problem.violation(result.weights) <= 1e-12


def program(loss, gated, fraction, n=25, d=3, seed=0, n_patterns=20):
    return random_problem(n, d, seed, fraction, loss=loss, gated=gated, n_patterns=n_patterns)


def badly_scaled():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((60, 5)), rng.standard_normal(60)
    U, _ = np.linalg.qr(rng.standard_normal((60, 5)))
    V, _ = np.linalg.qr(rng.standard_normal((5, 5)))
    return {
        "condition": ((U * np.logspace(0, -8, 5)) @ V, y),
        "columns": (X * np.logspace(0, -8, 5), y),
        "rows": (X * np.logspace(-6, 6, 60)[:, None], y),
        "rank": (X[:, :2] @ rng.standard_normal((2, 5)), y),
        "duplicates": (np.repeat(X[:6], 10, axis=0), y),
        "one sample": (X[:1], y[:1]),
        "wide": (rng.standard_normal((6, 20)), y[:6]),
        "zero targets": (X, 0.0 * y),
        "tiny targets": (X, 1e-30 * y),
        "huge data": (1e60 * X, y),
        "tiny data": (1e-60 * X, y),
    }


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("kind", badly_scaled())
@pytest.mark.parametrize("loss", ["squared", "squared_hinge"])
def test_hard_inputs_converge(kind, gated, loss):
    X, y = badly_scaled()[kind]
    y = y if loss == "squared" else np.where(y >= 0, 1.0, -1.0)
    patterns = cl.sample_arrangements(X, 30, seed=0)
    problem = cl.TwoLayer(X, y, beta=1.0, arrangements=patterns, gated=gated, loss=loss)
    problem = problem.with_beta(1e-2 * problem.beta_max() or 1.0)
    result = ssnal(problem)
    check_record(problem, result, 1e-6)
    assert result.converged


@pytest.mark.parametrize("size", [1e5, 1e7, 1e9])
def test_columns_of_sizes_that_are_far_apart(size):
    """The penalty grows until the small column moves, and cones as thin as 1 / size are met."""
    X = np.column_stack([[-2.0, -1.0, 0.0, 1.0, 2.0, 3.0], np.full(6, size)])
    problem = cl.TwoLayer(X, [1.0, -1.0, 1.0, -1.0, 1.0, -1.0], beta=0.1)
    result = ssnal(problem)
    check_record(problem, result, 1e-6)
    assert result.converged
    assert result.value == pytest.approx(cl.solve(problem, method="oracle").value, rel=2e-6)
    assert problem.objective(problem.to_network(result)) == pytest.approx(result.value, rel=1e-6)


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("fraction", [1e-6, 1e-4, 0.99, 1.0 - 1e-9, 1.0 + 1e-9, 10.0])
def test_beta_from_next_to_nothing_to_above_the_largest(gated, fraction):
    problem = program("squared", gated, fraction)
    result = ssnal(problem)
    check_result(problem, result)
    assert result.converged
    if fraction > 1:
        assert not result.weights.any()
        assert result.n_iter == 0


def test_a_stall_is_said():
    problem = program("squared", False, 1e-3)
    with pytest.warns(cl.errors.ConvergenceWarning, match=r"ssnal on .*: stopped"):
        result = cl.solve(problem, tol=1e-30)
    check_record(problem, result, 1e-30)
    assert not result.converged
    assert result.gap < 1e-12


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_float32_problems_are_solved_in_float64(gated, seed):
    """To the tolerance of the others: rounded weights cost the square of a rounding error."""
    rng = np.random.default_rng(seed)
    X = torch.from_numpy(rng.standard_normal((60, 5))).float()
    y = torch.from_numpy(rng.standard_normal(60)).float()
    patterns = cl.sample_arrangements(X, 20, seed=seed)
    single = at_fraction(X, y, 10.0 ** (-(seed + 1)), arrangements=patterns, gated=gated)
    result = ssnal(single)
    check_record(single, result, 1e-6)
    assert result.converged
    assert result.weights.dtype == torch.float32
    assert result.z.dtype == torch.float64
    assert result.arrangements is single.arrangements
    same = single.double()
    assert same.X.dtype == same.masks.dtype == torch.float64
    assert same.double() is same
    assert result.value == pytest.approx(same.value(result.weights.double()), rel=1e-13)
    assert result.dual == pytest.approx(same.dual_value(result.z), rel=1e-13)
    assert single.dual_norm(result.z) == same.dual_norm(result.z) <= same.beta * (1 + 1e-13)
    assert result.value == pytest.approx(ssnal(same).value, rel=2e-6)
    assert single.to_network(result).U.dtype == torch.float32
    # What is said of a tolerance below the rounding of the weights is what came of it.
    with unwarned():
        check_record(single, ssnal(single, tol=1e-13), 1e-13)


@pytest.mark.parametrize("gated", [True, False])
def test_an_interrupted_solve_gives_the_best_so_far(monkeypatch, gated):
    problem = program("squared", gated, 1e-3)
    full = cl.solve(problem)
    interrupt_after(monkeypatch, 4)
    with pytest.warns(cl.errors.ConvergenceWarning, match="ssnal on .*interrupted"):
        result = cl.solve(problem)
    assert result.status is cl.Status.INTERRUPTED
    check_record(problem, result, 1e-6)
    assert result.dual <= full.value <= result.value
    assert 0 < result.gap < 1
    monkeypatch.undo()
    interrupt_after(monkeypatch, 4)
    with pytest.raises(KeyboardInterrupt):  # without the door there is nobody to label it
        ssnal(problem)


def test_interrupted_before_it_began(monkeypatch):
    problem = program("squared", True, 1e-2)

    def stop(self, *_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Tracker, "__init__", stop)
    with pytest.raises(KeyboardInterrupt):
        cl.solve(problem)


class LargestTensor(TorchDispatchMode):
    """Remembers the largest tensor that an operation returns."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.numel = max(self.numel, out.untyped_storage().nbytes() // 8)
        return out


@pytest.mark.slow
@pytest.mark.parametrize("gated", [True, False])
def test_the_design_matrix_is_never_formed(monkeypatch, gated):
    problem = program("squared", gated, 0.05, n=300, d=12, n_patterns=150)
    n, d, P = 300, 12, problem.n_patterns
    monkeypatch.setattr(curvature, "_FEW", 0)
    with LargestTensor() as largest:
        assert ssnal(problem).converged
    assert largest.numel <= n * max(n, P + d)
    assert largest.numel < n * P * d / 4


def test_faces_with_and_without_columns(monkeypatch):
    problem = program("squared", False, 0.01, n=60, d=6)
    columns = ssnal(problem, tol=1e-9)
    monkeypatch.setattr(curvature, "_FEW", 0)
    products = ssnal(problem, tol=1e-9)
    check_result(problem, products, tol=1e-9)
    assert products.value == pytest.approx(columns.value, rel=2e-9)


# --- Semismooth Newton: starts, exact feasibility, and hard but legal programs ---


def relu(n=15, d=4, seed=0, fraction=0.01, **options):
    return random_problem(n, d, seed, fraction, n_patterns=60, **options)


def test_starts_do_not_change_the_value_and_good_ones_save_steps():
    problem = relu()
    cold = ssnal(problem, tol=1e-9)
    warm = ssnal(problem, tol=1e-9, start=cold.weights, start_z=cold.z)
    assert warm.value == pytest.approx(cold.value, rel=2e-9)
    assert warm.n_iter < cold.n_iter
    rng = np.random.default_rng(1)
    wild = torch.from_numpy(rng.standard_normal(15)) * 100
    far = ssnal(problem, tol=1e-9, start_z=wild)
    assert far.converged
    assert far.value == pytest.approx(cold.value, rel=2e-9)


def test_repeated_patterns_do_no_harm():
    problem = relu(fraction=0.05)
    twice = torch.arange(len(problem.arrangements)).repeat(2)
    doubled = problem.with_arrangements(problem.arrangements.select(twice))
    result = ssnal(doubled)
    check_result(doubled, result)
    assert result.converged
    assert result.value == pytest.approx(ssnal(problem).value, rel=2e-6)
