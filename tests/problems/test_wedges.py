"""The Lasso over wedge features against programs that know nothing of wedges."""

import cvxpy as cp
import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn

import convexlib as cl
from convexlib.errors import InputError, ProblemError, SolverError
from tests.helpers.checks import check_record
from tests.helpers.refusals import COUNT, EYE, refused
from tests.helpers.searches import least_found
from tests.helpers.two_layer import gaussian


def instance(seed):
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(2, 7)), int(rng.integers(1, 4))
    X, y = rng.standard_normal((n, d)), rng.standard_normal(n)
    if seed % 3 == 1:
        X = np.round(X)  # grids: zero, equal and parallel samples
    if seed % 5 == 2:
        X[:, -1] = 1.0  # a regularised bias
    return X, y, 10 ** rng.uniform(-2.5, -0.2)


def network_program(X, y, beta, bias, norm=1):
    """The convex program over all patterns, a cone and an l1 norm per block, for CVXPY."""
    d = X.shape[1]
    A = np.hstack([X, np.ones((len(X), 1))]) if bias else X
    masks = cl.enumerate_arrangements(A).masks.numpy().astype(float)
    V, W = cp.Variable((len(masks), A.shape[1])), cp.Variable((len(masks), A.shape[1]))
    fitted = cp.sum(cp.multiply(A @ (V - W).T, masks.T), axis=1)
    if bias:
        fitted = fitted + cp.Variable()
    penalty = sum(cp.sum(cp.norm(block[:, :d], norm, axis=1)) for block in (V, W))
    cones = [cp.multiply(2 * masks - 1, block @ A.T) >= 0 for block in (V, W)]
    objective = 0.5 * cp.sum_squares(fitted - y) + beta * penalty
    program = cp.Problem(cp.Minimize(objective), cones)
    return program.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)


def best_neuron(X, z, bias):
    """max |z^T (Xw + b)_+| over ||w||_1 <= 1: a linear program for every cell and sign."""
    d = X.shape[1]
    A = np.hstack([X, np.ones((len(X), 1))]) if bias else X
    width, best = A.shape[1], 0.0
    for mask in cl.enumerate_arrangements(A).masks.numpy():
        c = (A * mask[:, None]).T @ z
        # Variables u and t >= |w|.
        signs = np.where(mask, -1.0, 1.0)[:, None] * A
        eye = np.eye(d, width)
        A_ub = np.block(
            [
                [signs, np.zeros((len(A), d))],
                [eye, -np.eye(d)],
                [-eye, -np.eye(d)],
                [np.zeros((1, width)), np.ones((1, d))],
            ]
        )
        b_ub = np.append(np.zeros(len(A) + 2 * d), 1.0)
        for side in (1.0, -1.0):
            cost = np.append(-side * c, np.zeros(d))
            found = linprog(cost, A_ub=A_ub, b_ub=b_ub, bounds=(None, None))
            assert found.status == 0
            best = max(best, -found.fun)
    return best


def path_objective(network, X, y, beta, norm=1):
    """1/2 sum of squared errors + beta/2 sum (||u||_p^2 + alpha^2), biases free."""
    if isinstance(network, nn.Sequential):
        U, b = network[0].weight.detach().numpy(), network[0].bias.detach().numpy()
        alpha, b0 = network[2].weight.detach().numpy()[0], network[2].bias.item()
    else:
        U, alpha = network.U.detach().numpy(), network.alpha.detach().numpy()
        b, b0 = 0.0, 0.0
    fitted = np.maximum(X @ U.T + b, 0.0) @ alpha + b0
    decay = np.sum(np.linalg.norm(U, norm, axis=1) ** 2) + np.sum(alpha**2)
    return 0.5 * np.sum((fitted - y) ** 2) + 0.5 * beta * decay


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_the_exact_dictionary_has_the_optimum_of_all_networks(seed, bias):
    X, y, fraction = instance(seed)
    problem = cl.WedgeLasso(X, y, beta=1.0, bias=bias)
    beta = fraction * problem.beta_max() or 1.0
    problem = problem.with_beta(beta)
    result = cl.solve(problem, tol=1e-9)
    check_record(problem, result, 1e-9)
    assert result.converged
    assert result.scope == "network"
    expected = network_program(X, y, beta, bias)
    assert result.value == pytest.approx(expected, rel=1e-6, abs=1e-8)

    state = torch.random.get_rng_state()
    network = problem.to_network(result)
    assert torch.equal(state, torch.random.get_rng_state())  # nothing is drawn
    assert path_objective(network, X, y, beta) == pytest.approx(result.value, rel=1e-10)
    assert problem.objective(network) == pytest.approx(result.value, rel=1e-10)

    # No neuron violates the dual constraint, neither a vertex of a cell nor a random one.
    z = result.z.numpy()
    assert y @ z - 0.5 * z @ z == pytest.approx(result.dual, rel=1e-9)
    rng = np.random.default_rng(seed)
    W = rng.standard_normal((5000, X.shape[1])) * rng.integers(0, 2, (5000, X.shape[1]))
    W /= np.maximum(np.abs(W).sum(axis=1, keepdims=True), 1e-300)
    b = rng.standard_normal(5000) * np.abs(X).max() if bias else 0.0
    assert np.abs(z @ np.maximum(X @ W.T + b, 0.0)).max() <= beta * (1 + 1e-9)
    assert best_neuron(X, z, bias) <= beta * (1 + 1e-7)
    z = rng.standard_normal(len(X))
    z -= z.mean() if bias else 0.0
    norm = problem.dual_norm(torch.from_numpy(z))
    assert norm == pytest.approx(best_neuron(X, z, bias), rel=1e-8, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_no_network_of_a_serious_search_is_below(seed, bias):
    X, y = gaussian(7, 2, seed)
    value = cl.solve(cl.WedgeLasso(X, y, beta=0.1, bias=bias), tol=1e-10).value
    inputs, targets = torch.from_numpy(X), torch.from_numpy(y)

    def objective(U, b, alpha, b0):
        hidden = torch.relu(inputs @ U.mT + b[:, None] * bias)  # (S, n, m)
        fitted = torch.einsum("snm,sm->sn", hidden, alpha) + b0 * bias
        squares = (U.abs().sum(dim=2) ** 2).sum(dim=1) + (alpha**2).sum(dim=1)
        return 0.5 * ((fitted - targets) ** 2).sum(dim=1) + 0.05 * squares

    found = least_found(objective, [(10, 2), (10,), (10,), (1,)], seed=seed)
    # The search ends within 1e-4 of the optimum; 5 % are left to the luck of its starts.
    assert value * (1 - 1e-9) <= found <= value * 1.05


def test_samples_alone_are_not_exact():
    X, z = gaussian(3, 3, 42)
    exact = cl.WedgeLasso(X, z, beta=1.0).beta_max()
    data = cl.WedgeLasso(X, z, beta=1.0, atoms="data").beta_max()
    assert exact == pytest.approx(best_neuron(X, z, False))
    assert data < 0.01 * exact
    values = [
        cl.solve(cl.WedgeLasso(X, z, beta=0.4 * exact, atoms=atoms)).value
        for atoms in ("exact", "data")
    ]
    assert values[1] > 1.05 * values[0]


def test_gates_at_random_rays_are_not_better_than_gaussian_ones():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 3))
    y = np.maximum(X @ rng.standard_normal((3, 3)), 0) @ [1.0, -1.0, 1.0]
    values = {}
    for method in ("gaussian", "geometric"):
        found = []
        for seed in range(7):
            gates = cl.sample_arrangements(X, 400, seed, method=method).select(slice(0, 20))
            found.append(cl.solve(cl.TwoLayer(X, y, beta=0.5, arrangements=gates), tol=1e-3).value)
        values[method] = np.median(found)
    # Medians of seven draws; they are a quarter apart, ten times the solver's tolerance and more.
    assert values["geometric"] > 1.1 * values["gaussian"]


@pytest.mark.parametrize("seed", range(4))
def test_euclidean_wedges_of_samples_bound_the_two_layer_program(seed):
    X, y = gaussian(7, 2, seed)
    problem = cl.WedgeLasso(X, y, beta=0.1, norm=2)
    result = cl.solve(problem, tol=1e-9)
    assert result.scope == "program"
    optimum = cl.solve(cl.TwoLayer(X, y, beta=0.1), tol=1e-9).value
    angles = np.sort(np.arctan2(X[:, 1], X[:, 0]) % np.pi)
    widest = np.diff(np.append(angles, angles[0] + np.pi)).max()
    factor = np.cos(widest / 2)  # how far a unit neuron is from the walls of its cell
    assert optimum * (1 - 1e-9) <= result.value <= optimum / factor
    network = problem.to_network(result)
    assert cl.TwoLayer(X, y, beta=0.1).objective(network) == pytest.approx(result.value, rel=1e-9)


def test_ramps_on_a_line():
    x = np.array([[0.0], [1.0], [3.0]])
    problem = cl.WedgeLasso(x, np.array([0.0, 0.0, 4.0]), beta=1e-3, bias=True)
    lines = {tuple(u) for u in problem.neurons.numpy().round(12).tolist()}
    # (x - x_j)_+ and (x_j - x)_+ but those that are zero on the data
    assert lines == {(1.0, 0.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, 3.0)}
    wedge = cl.solve(problem)
    mirrors = cl.solve(cl.Mirrors(x, np.array([0.0, 0.0, 4.0]), beta=1e-3))
    assert wedge.value == pytest.approx(mirrors.value, rel=1e-9)
    kinks = problem.active_wedges(wedge)
    assert kinks
    for kink in kinks:
        (place,) = kink.samples
        slope, bias = kink.neuron.tolist()
        assert slope * x[place, 0] + bias == pytest.approx(0.0, abs=1e-14)
        assert kink.coordinates == ()


def test_features_are_signed_volumes():
    X, y = gaussian(6, 3)
    problem = cl.WedgeLasso(X, y, beta=0.05)
    stack = np.vstack([X, np.eye(3)])
    wedges = problem.active_wedges(cl.solve(problem))
    assert wedges
    for wedge in wedges:
        chosen = [*wedge.samples, *(6 + k for k in wedge.coordinates)]
        assert len(chosen) == 2
        cross = cl.cross_product(stack[chosen])
        cross = cross * torch.sign(cross @ wedge.neuron)
        torch.testing.assert_close(cross / cross.abs().sum(), wedge.neuron)
    assert problem.n_features <= 2 * 36


def test_the_program_for_cvxpy_agrees():
    X, y, _ = instance(3)
    for bias in (False, True):
        problem = cl.WedgeLasso(X, y, beta=0.2, bias=bias)
        program = problem.to_cvxpy()
        value = program.problem.solve(solver=cp.CLARABEL)
        assert value == pytest.approx(cl.solve(problem).value, rel=1e-6)
        assert problem.value(program.read_weights()) == pytest.approx(value, rel=1e-5)
        z = problem.dual_scaling(program.read_z())
        assert problem.dual_value(z) == pytest.approx(value, rel=1e-5)


def test_zero_data():
    nothing = cl.WedgeLasso(np.zeros((3, 2)), np.ones(3), beta=0.1)
    assert nothing.n_features == 0
    assert cl.solve(nothing).value == pytest.approx(1.5)


def test_wedges_of_any_size_and_penalty_are_solved():
    x = np.array([[-6.2e11, -2.1e11, 4.8e11]])  # beside which unit vectors once seemed to be zero
    large = cl.solve(cl.WedgeLasso(x, [1.0], beta=2.5e10, norm=1))
    plain = cl.solve(cl.WedgeLasso(x / 1e11, [1.0], beta=0.25, norm=1))
    smallest = cl.solve(cl.WedgeLasso(EYE, COUNT, beta=5e-324))
    assert large.value == pytest.approx(plain.value, rel=1e-9)
    assert smallest.value == pytest.approx(2.0, rel=1e-9)  # of y = 2 at x = 0
    assert smallest.converged


@pytest.mark.parametrize("size", [1e-60, 1e-13, 1e-12, 1e8, 1e12, 1e60])
def test_units_of_the_data_change_nothing(size):
    x, y = np.array([[1.0], [2.0], [4.0], [5.0]]), np.array([0.0, 1.0, -1.0, 2.0])
    problem = cl.WedgeLasso(size * x, y, beta=0.05 * size, bias=True)
    result = cl.solve(problem, tol=1e-9)
    assert result.value == pytest.approx(0.2875, rel=1e-8)
    assert problem.objective(problem.to_network(result)) == pytest.approx(0.2875, rel=1e-8)
    assert problem.beta_max() == pytest.approx(2.0 * size)


@pytest.mark.parametrize(("size", "tol"), [(1e-6, 1e-7), (1e-12, 5e-2)])
def test_a_column_of_small_numbers_beside_one_of_ones(size, tol):
    """The ones are nearly free: what is left is the Lasso with a free bias, up to size.

    Dual points add up to at most beta = 0.1 size, which rounding of 1e-16 leaves to so many digits.
    """
    x, y = np.array([-2.0, -1.0, 1.0, 2.0]), np.array([2.0, -1.0, 0.0, 1.0])
    problem = cl.WedgeLasso(np.column_stack([size * x, np.ones(4)]), y, beta=0.1 * size)
    assert problem.n_features == 9
    free = cl.WedgeLasso(x[:, None], y, beta=0.1, bias=True)
    expected = cl.solve(free, tol=1e-9).value
    result = cl.solve(problem, tol=tol)
    assert result.value == pytest.approx(expected, rel=2 * tol + 10 * size)


def test_columns_of_subnormal_numbers_are_refused():
    X = np.array([[1e-320, 1.0], [2e-320, 1.0], [3e-320, 2.0]])
    for kind in (cl.WedgeLasso, cl.ReflectionLasso):
        with pytest.raises(InputError, match=r"Column 0 of X has entries of \de-320 at most"):
            kind(X, COUNT, beta=0.1)


def refusals():
    X, y = gaussian(60, 6)
    problem = cl.WedgeLasso(X[:, :2], y, beta=1.0)
    free = cl.WedgeLasso(X[:, :2], y, beta=1.0, bias=True)
    return [
        (lambda: cl.WedgeLasso(X, y, beta=1.0),
         ProblemError, "8936928 wedges of 5 among 66 vectors, more than max"),
        (lambda: cl.WedgeLasso(X, y, beta=1.0, bias=True),
         ProblemError, r"9\.1e\+7 wedges of 6 among 66 vectors"),
        (lambda: cl.WedgeLasso(X, y, beta=1.0, norm=2, atoms="exact"),
         ProblemError, "wedges are exact for norm=1"),
        (lambda: cl.WedgeLasso(X[:2], y[:2], beta=1.0, atoms="data"),
         ProblemError, r"X has rank 2 in 6 dimensions.*or use atoms="),
        (lambda: cl.WedgeLasso(X[:2], y[:2], beta=1.0, norm=2, bias=True),
         ProblemError, r"ones has rank 2 in 7.*Drop dependent columns\.$"),
        *((lambda norm=norm: cl.WedgeLasso(X, y, beta=1.0, norm=norm),
           InputError, "expected 1 or 2") for norm in (3, True, "1")),
        (lambda: cl.WedgeLasso(X, y, beta=1.0, atoms="all"),
         InputError, "atoms is 'all'; expected one of 'exact', 'data'"),
        (lambda: problem.objective(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))),
         InputError, r"Sequential; expected TwoLayerReLU"),
        (lambda: free.objective(cl.TwoLayerReLU(torch.ones(1, 2), torch.ones(1))),
         InputError, r"TwoLayerReLU; expected nn.Sequential"),
        (lambda: cl.solve(cl.TwoLayer(X[:5, :2], y[:5], beta=1.0), method="wedge"),
         SolverError, "wedge needs WedgeLasso; got TwoLayer"),
        (lambda: problem.to_network(torch.ones(3)), InputError, r"the weights have shape \(3,\)"),
        (lambda: cl.WedgeLasso(EYE, COUNT, beta=1.0, bias=EYE),
         InputError, "bias is .*True or False"),
        (lambda: cl.WedgeLasso(EYE, COUNT, beta=1.0, norm=EYE), InputError, "norm is"),
    ]  # fmt: skip


test_refusals = refused(refusals())
