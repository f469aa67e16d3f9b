"""Batch normalisation: the program on whitened data, its formula, and the PyTorch network agree."""

import cvxpy as cp
import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

import convexlib as cl
from convexlib.errors import InputError, NotCertifiableError, ProblemError, TooManyArrangementsError
from convexlib.whitening import whiten


def instance(seed, n=6, d=2):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) + rng.standard_normal(d), rng.standard_normal(n)


def whitened(X):
    """[U, 1/sqrt n], by numpy."""
    n = len(X)
    U, singular, _ = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
    return np.hstack([U[:, singular > 1e-9], np.full((n, 1), n**-0.5)])


def cvxpy_value(data, y, beta, masks):
    """The program of the theorem on any data and patterns, written without the library."""
    D = np.asarray(masks, dtype=float)
    V, W = cp.Variable((len(D), data.shape[1])), cp.Variable((len(D), data.shape[1]))
    fitted = cp.sum(cp.multiply(D.T, data @ (V - W).T), axis=1)
    penalty = cp.sum(cp.norm(V, 2, axis=1)) + cp.sum(cp.norm(W, 2, axis=1))
    cones = [cp.multiply(2 * D - 1, block @ data.T) >= 0 for block in (V, W)]
    program = cp.Problem(cp.Minimize(cp.sum_squares(fitted - y) / 2 + beta * penalty), cones)
    return program.solve(solver=cp.CLARABEL)


def objective_by_hand(network, X, Y, beta):
    """The objective from the definition of batch normalisation, neuron by neuron, in numpy."""
    first, norm, _, last = network
    n, Y = len(X), np.asarray(Y).reshape(len(X), -1)
    fitted, decay = np.zeros_like(Y), 0.0
    for j, w in enumerate(first.weight.detach().double().numpy()):
        inner = X @ w
        inner = inner - inner.mean()
        length = np.linalg.norm(inner)
        gamma = n**0.5 * float(norm.weight[j].detach())
        delta = n**0.5 * float(norm.bias[j].detach())
        neuron = np.maximum(gamma * inner / length + delta / n**0.5, 0.0)
        alpha = last.weight[:, j].detach().double().numpy()
        fitted += neuron[:, None] * alpha
        decay += gamma**2 + delta**2 + alpha @ alpha
    return 0.5 * np.sum((fitted - Y) ** 2) + 0.5 * beta * decay


def search(X, y, beta, *, starts=10, neurons=8, steps=500, seed=0):
    """Best objective of many Adam runs on the non-convex problem itself."""
    generator = torch.Generator().manual_seed(seed)
    X, y = torch.from_numpy(X), torch.from_numpy(y)
    n, d = X.shape
    shapes = [(starts, neurons, d), (starts, neurons), (starts, neurons), (starts, neurons)]
    draws = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    parameters = [draw.requires_grad_() for draw in draws]
    optimiser = torch.optim.Adam(parameters, lr=0.03)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.01, steps)
    best = np.inf
    for _ in range(steps):
        optimiser.zero_grad()
        W, gamma, delta, alpha = parameters
        inner = (X - X.mean(dim=0)) @ W.mT  # (starts, n, m)
        inner = inner / torch.linalg.vector_norm(inner, dim=1, keepdim=True)
        hidden = torch.relu(inner * gamma[:, None] + delta[:, None] / n**0.5)
        residual = torch.einsum("snm,sm->sn", hidden, alpha) - y
        decay = sum((part**2).sum(dim=1) for part in (gamma, delta, alpha))
        values = 0.5 * (residual**2).sum(dim=1) + 0.5 * beta * decay
        best = min(best, float(values.detach().min()))
        values.sum().backward()
        optimiser.step()
        schedule.step()
    return best


@pytest.mark.parametrize("seed", range(10))
def test_program_network_and_cvxpy_agree(seed):
    X, y = instance(seed, n=5 + seed % 2, d=1 + seed % 2)
    problem = cl.BatchNorm(X, y, beta=0.1)
    result = cl.solve(problem, tol=1e-9)
    network = problem.to_network(result)
    data = whitened(X)
    assert problem.arrangements.exhaustive
    masks = cl.enumerate_arrangements(data).masks.numpy()
    assert {*map(tuple, masks.tolist())} == {*map(tuple, problem.arrangements.masks.tolist())}
    assert result.value == pytest.approx(cvxpy_value(data, y, 0.1, masks), abs=1e-6)
    assert result.value == pytest.approx(objective_by_hand(network, X, y, 0.1), abs=1e-10)
    assert result.value == pytest.approx(problem.objective(network), abs=1e-10)
    assert result.dual <= result.value
    generated = cl.BatchNorm(X, y, beta=0.1, arrangements="generate")
    other = cl.solve(generated, tol=1e-9)
    assert other.scope == "network"
    assert other.value == pytest.approx(result.value, abs=1e-8)
    assert generated.objective(generated.to_network(other)) == pytest.approx(other.value, abs=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_no_trained_network_is_below(seed):
    X, y = instance(seed)
    value = cl.solve(cl.BatchNorm(X, y, beta=0.1), tol=1e-9).value
    best = search(X, y, 0.1, seed=seed)
    assert best >= value - 1e-9
    assert best <= value * 1.05  # the search is a serious one


@pytest.mark.parametrize("seed", range(24))
def test_closed_form_program_network_and_cvxpy_agree(seed):
    rng = np.random.default_rng(seed)
    X, y = instance(seed, n=4, d=3 + seed % 3)
    y[rng.integers(4)] *= seed % 2
    beta = 0.6 * rng.random() * max(np.linalg.norm(y.clip(0)), np.linalg.norm(y.clip(max=0)))
    form = cl.batchnorm_closed_form(X, y, beta=beta)
    problem = cl.BatchNorm(X, y, beta=beta)
    assert len(problem.arrangements) == 16  # of four orthogonal samples: all sign vectors
    value = cl.solve(problem, tol=1e-9).value
    assert form.value == pytest.approx(value, abs=1e-7)
    assert form.value == pytest.approx(objective_by_hand(form.network, X, y, beta), abs=1e-10)
    assert form.value == pytest.approx(problem.objective(form.network), abs=1e-10)
    by_cvxpy = cvxpy_value(whitened(X), y, beta, problem.arrangements.masks.numpy())
    assert form.value == pytest.approx(by_cvxpy, abs=1e-6)
    # The dual point proves it: feasible, with the same value.
    assert problem.dual_norm(form.z) <= beta * (1 + 1e-9)
    assert problem.dual_value(form.z) == pytest.approx(form.value, abs=1e-10)


def test_closed_form_drops_short_and_missing_parts():
    X, _ = instance(0, n=4, d=4)
    y = np.array([1.0, 0.1, -0.05, -0.05])  # the negative part is shorter than beta
    form = cl.batchnorm_closed_form(X, y, beta=0.5)
    assert form.network[0].out_features == 1
    assert form.value == pytest.approx(0.5 * np.hypot(1, 0.1) - 0.125 + 0.5 * 2 * 0.05**2)
    positive = cl.batchnorm_closed_form(X, np.array([1.0, 2.0, 2.0, 0.0]), beta=1.0)
    assert positive.network[0].out_features == 1
    assert positive.value == pytest.approx(3 - 0.5)
    nothing = cl.batchnorm_closed_form(X, y, beta=5.0)
    assert nothing.value == pytest.approx(0.5 * y @ y)
    assert not nothing.network(torch.from_numpy(X)).any()
    # A constant part has gamma = 0, and any first layer.
    flat = cl.batchnorm_closed_form(X, np.ones(4), beta=1.0)
    assert abs(flat.network[1].weight[0].item()) < 1e-12
    assert flat.value == pytest.approx(objective_by_hand(flat.network, X, np.ones(4), 1.0))


def vector_value(Y, beta):
    """min over F = sum p_j w_j^T, p_j >= 0: by CVXPY, for two outputs, on a fine grid of w."""
    n = len(Y)
    angles = np.arange(0, 2 * np.pi, np.pi / 12)
    atoms = np.stack([np.cos(angles), np.sin(angles)])  # (2, A): unit output weights
    P = cp.Variable((n, len(angles)), nonneg=True)
    loss = cp.sum_squares(P @ atoms.T - Y) / 2 + beta * cp.sum(cp.norm(P, 2, axis=0))
    accuracy = {"tol_gap_abs": 1e-7, "tol_gap_rel": 1e-7, "tol_feas": 1e-7}
    return cp.Problem(cp.Minimize(loss)).solve(solver=cp.CLARABEL, **accuracy)


@pytest.mark.parametrize("seed", range(4))
def test_closed_form_of_vector_outputs(seed):
    rng = np.random.default_rng(seed)
    X, _ = instance(seed, n=6, d=7)
    Y = np.eye(2)[rng.permutation([0, 0, 0, 1, 1, 1])]
    if seed > 1:
        Y = Y * rng.standard_normal((6, 1))
    form = cl.batchnorm_closed_form(X, Y, beta=0.3)
    assert form.value == pytest.approx(vector_value(Y, 0.3), abs=2e-6)
    assert form.value == pytest.approx(objective_by_hand(form.network, X, Y, 0.3), abs=1e-10)
    assert form.network(torch.from_numpy(X)).shape == (6, 2)
    residual = Y - form.network(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_allclose(form.z, residual, atol=1e-12)
    if seed < 2:
        assert form.value == pytest.approx(2 * (0.3 * 3**0.5 - 0.3**2 / 2))
    # Sharing neurons would help if a row had two entries, so the formula must be refused there.
    Y[0] = 1.0
    with pytest.raises(ProblemError, match="row 0 of Y has more than one nonzero entry"):
        cl.batchnorm_closed_form(X, Y, beta=0.3)


def test_the_formula_is_wrong_where_outputs_share_neurons():
    Y = np.ones((3, 2))
    separate = 2 * (0.3 * 3**0.5 - 0.3**2 / 2)
    assert vector_value(Y, 0.3) < separate - 0.1


@pytest.mark.parametrize("seed", range(3))
def test_invariance_under_affine_maps(seed):
    rng = np.random.default_rng(100 + seed)
    X, y = instance(seed)
    moved = X @ rng.standard_normal((2, 2)) + 3 * rng.standard_normal(2)
    problems = [cl.BatchNorm(Z, y, beta=0.1) for Z in (X, moved)]
    results = [cl.solve(problem, tol=1e-9) for problem in problems]
    assert results[1].value == pytest.approx(results[0].value, rel=1e-8)
    fits = [p.fitted(r.weights) for p, r in zip(problems, results, strict=True)]
    torch.testing.assert_close(*fits, atol=1e-4, rtol=0)
    plain = [
        cl.solve(cl.TwoLayer(np.column_stack([Z, np.ones(6)]), y, beta=0.1), tol=1e-4).value
        for Z in (X, moved)
    ]
    assert abs(plain[1] - plain[0]) > 0.01 * plain[0]


def test_patterns_are_those_of_the_whitened_data():
    # Positive samples on a line have two patterns, the whitened ones a kink between any two.
    X = np.array([[1.0], [2.0], [3.0], [4.0], [5.0], [6.0]])
    y = np.array([1.0, 0.0, -1.0, 0.0, 1.0, 2.0])
    right = cl.BatchNorm(X, y, beta=0.05)
    of_X = cl.enumerate_arrangements(X)
    assert len(of_X) == 2
    assert len(right.arrangements) == cl.count_bound(6, 2) == 12
    value = cl.solve(right, tol=1e-9).value
    wrong = cvxpy_value(whitened(X), y, 0.05, of_X.masks.numpy())
    assert wrong > 2 * value
    for patterns in (of_X, cl.enumerate_arrangements(np.column_stack([X, 0.1 * y]))):
        with pytest.raises(InputError, match="not those of the whitened data, of shape"):
            cl.BatchNorm(X, y, beta=0.05, arrangements=patterns)
        with pytest.raises(InputError, match="not those of the whitened data"):
            right.with_arrangements(patterns)
    some = cl.sample_arrangements(right.X, 5)
    assert len(some) < 12
    assert cl.solve(right.with_arrangements(some), tol=1e-9).value >= value - 1e-9


def test_degenerate_data_are_enumerated_exactly():
    # A grid: whitening rounds it, and its triples of collinear points would look generic.
    grid = np.array([[a, b] for a in range(3) for b in range(3)], dtype=float)
    problem = cl.BatchNorm(grid, grid[:, 0] - grid[:, 1] ** 2, beta=0.1)
    listed = cl.enumerate_arrangements(np.column_stack([grid, np.ones(9)]))
    assert len(problem.arrangements) == len(listed) < cl.count_bound(9, 3)
    assert problem.arrangements.exhaustive
    assert 0 < problem.arrangements.perturbation < 1e-13
    result = cl.solve(problem, tol=1e-9)
    assert problem.objective(problem.to_network(result)) == pytest.approx(result.value, rel=1e-10)
    generated = cl.solve(
        cl.BatchNorm(grid, grid[:, 0] - grid[:, 1] ** 2, beta=0.1, arrangements="generate")
    )
    assert generated.value == pytest.approx(result.value, rel=2e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_eval_and_train_outputs_are_equal(dtype):
    X, y = (torch.from_numpy(part).to(dtype) for part in instance(3, n=8))
    problem = cl.BatchNorm(X, y, beta=0.05)
    result = cl.solve(problem, tol=1e-5)
    network = problem.to_network(result)
    assert [type(layer).__name__ for layer in network] == [
        "Linear",
        "BatchNorm1d",
        "ReLU",
        "Linear",
    ]
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    assert not network.training
    assert network[0].weight.dtype == dtype
    in_eval = network(X)
    for _ in range(2):  # training on all data must not move the statistics either
        torch.testing.assert_close(network.train()(X), in_eval, atol=tolerance, rtol=0)
    torch.testing.assert_close(network.eval()(X), in_eval, atol=0, rtol=0)
    torch.testing.assert_close(in_eval[:, 0], problem.fitted(result.weights), atol=1e-4, rtol=0)
    # One sample alone: only eval mode can do that.
    torch.testing.assert_close(network(X[:1]), in_eval[:1], atol=tolerance, rtol=0)


def test_a_new_network_does_not_move_the_random_state():
    X, y = instance(0)
    problem = cl.BatchNorm(X, y, beta=0.1)
    weights = cl.solve(problem).weights
    before = torch.get_rng_state()
    problem.to_network(weights)
    assert torch.equal(before, torch.get_rng_state())


def test_objective_counts_scale_shift_and_output_but_not_the_first_layer():
    X, y = instance(0)
    problem = cl.BatchNorm(X, y, beta=0.1)
    network = problem.to_network(cl.solve(problem))
    value = problem.objective(network)
    with torch.no_grad():
        network[0].weight.mul_(7.0)  # another scale of the first layer is the same network
        network[1].running_var.fill_(9.0)  # and the running statistics are not the batch's
    assert problem.objective(network) == pytest.approx(value, rel=1e-12)
    with torch.no_grad():
        network[1].weight.mul_(2.0)
        network[1].bias.mul_(2.0)
        network[3].weight.div_(2.0)
    # The same function with unbalanced weights has a larger penalty.
    squares = [float((p.detach() ** 2).sum()) for p in network.parameters()][1:]
    unbalanced = 0.05 * (6 * (squares[0] + squares[1]) + squares[2])
    balanced = 0.05 * (6 * (squares[0] + squares[1]) / 4 + squares[2] * 4)
    assert problem.objective(network) - value == pytest.approx(unbalanced - balanced)
    assert unbalanced > balanced


def test_pytorch_weight_decay_is_beta_times_sqrt_n():
    # Gradient descent with the optimiser's own weight decay has the program's optimum.
    X, y = instance(2, n=5, d=4)
    lam, root = 0.3, 5**0.5
    form = cl.batchnorm_closed_form(X, y, beta=lam / root)
    scale, shift, alpha = (
        part.detach()
        for part in (form.network[1].weight, form.network[1].bias, form.network[3].weight)
    )
    c = 5**0.25  # moves the balance to PyTorch's scale and shift
    fit = form.network(torch.from_numpy(X))[:, 0].detach() - torch.from_numpy(y)
    decay = 0.5 * lam * (((c * scale) ** 2 + (c * shift) ** 2).sum() + ((alpha / c) ** 2).sum())
    assert 0.5 * float(fit @ fit) + float(decay) == pytest.approx(form.value, rel=1e-10)


def test_truncation_restricts_the_network_to_the_largest_directions():
    rng = np.random.default_rng(5)
    X = rng.standard_normal((7, 3)) * [5.0, 1.0, 0.1]
    y = rng.standard_normal(7)
    values = []
    for k in (1, 2, 3):
        problem = cl.BatchNorm(X, y, beta=0.1, truncate=k)
        result = cl.solve(problem, tol=1e-8)
        network = problem.to_network(result)
        assert problem.X.shape == (7, k + 1)
        assert objective_by_hand(network, X, y, 0.1) == pytest.approx(result.value, abs=1e-9)
        right = np.linalg.svd(X - X.mean(axis=0))[2]
        np.testing.assert_allclose(network[0].weight.detach().numpy() @ right[k:].T, 0, atol=1e-8)
        values.append(result.value)
    assert values[0] > values[1] > values[2]
    full = cl.solve(cl.BatchNorm(X, y, beta=0.1), tol=1e-8).value
    assert values[2] == pytest.approx(full, rel=1e-8)


def test_zero_network_from_beta_max_on():
    X, y = instance(4)
    top = cl.BatchNorm(X, y, beta=1.0).beta_max()
    above = cl.BatchNorm(X, y, beta=1.001 * top)
    network = above.to_network(cl.solve(above))
    assert not network(torch.from_numpy(X)).any()
    assert not network.train()(torch.from_numpy(X)).any()
    assert above.objective(network) == pytest.approx(0.5 * y @ y)
    below = above.with_beta(0.99 * top)
    assert isinstance(below, cl.BatchNorm)
    assert cl.solve(below, tol=1e-10).value < 0.5 * y @ y * (1 - 1e-6)


def test_metamorphic_symmetries():
    X, y = instance(6)
    base = cl.BatchNorm(X, y, beta=0.1)
    value = cl.solve(base, tol=1e-9).value
    order = np.random.default_rng(0).permutation(6)
    assert cl.solve(cl.BatchNorm(X[order], y[order], beta=0.1), tol=1e-9).value == pytest.approx(
        value
    )
    assert cl.solve(cl.BatchNorm(X, -y, beta=0.1), tol=1e-9).value == pytest.approx(value)
    assert cl.solve(cl.BatchNorm(X, 3 * y, beta=0.3), tol=1e-9).value == pytest.approx(9 * value)
    constant = np.column_stack([X, np.full(6, 7.0)])  # a constant column is centred away
    assert cl.solve(cl.BatchNorm(constant, y, beta=0.1), tol=1e-9).value == pytest.approx(value)


def test_whitening():
    X = torch.from_numpy(instance(0, n=9, d=4)[0])
    white = whiten(X)
    data = white.features
    torch.testing.assert_close(data.T @ data, torch.eye(5).double())
    torch.testing.assert_close(white.U @ torch.diag(white.singular) @ white.V.T, X - X.mean(dim=0))
    assert white.proven
    assert 0 < white.rounding < 1e-12
    assert not whiten(X, truncate=2).proven
    # Rank-deficient, shown by integers; and with a column that is only rounding, not shown.
    whole = (8 * X).round()
    assert whiten(torch.column_stack([whole, whole[:, 0] - whole[:, 1]])).proven
    noisy = torch.column_stack([X, X[:, 0] / 3 + X[:, 1] / 7])
    assert whiten(noisy).U.shape[1] == 4
    assert not whiten(noisy).proven


def test_repr():
    X, y = instance(0)
    generated = cl.BatchNorm(X, y, beta=0.1, arrangements="generate")
    assert repr(generated) == "BatchNorm(n=6, d=2, directions=2, generated, beta=0.1)"
    assert "32 patterns" in repr(cl.BatchNorm(X, y, beta=0.1))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"X": np.ones((6, 2))}, InputError, "all 2 columns of X are constant over its 6 rows"),
        ({"X": np.ones((1, 2)), "y": np.ones(1)}, InputError, "are constant over its 1 rows"),
        ({"truncate": 3}, InputError, "truncate is 3; expected at most 2, the rank"),
        ({"truncate": 0}, InputError, "truncate is 0; expected an integer >= 1"),
        ({"beta": 0.0}, InputError, "expected beta > 0"),
        ({"arrangements": 7}, InputError, "arrangements is int"),
        (
            {"max_patterns": 5},
            TooManyArrangementsError,
            r"whitened data have shape \(6, 3\): up to 3.2e\+01 patterns, more than max_patterns=5",
        ),
        ({"y": np.full(6, np.nan)}, InputError, "y contains 6 non-finite values"),
    ],
)
def test_unusable_arguments_are_refused(options, error, message):
    X, y = instance(0)
    arguments = {"X": X, "y": y, "beta": 0.1, **options}
    with pytest.raises(error, match=message):
        cl.BatchNorm(**arguments)


@pytest.mark.parametrize(
    ("X", "Y", "error", "message"),
    [
        (np.eye(4)[:, :2], np.ones(4), ProblemError, "have rank 2; expected n - 1 = 3"),
        (np.eye(4), np.ones((4, 2, 1)), InputError, r"expected \(n,\) or \(n, K\)"),
        (np.eye(4), np.ones(3), InputError, "y has 3 entries; expected 4"),
        (np.eye(4), np.full((4, 1), np.inf), InputError, "Y contains 4 non-finite values"),
    ],
)
def test_the_closed_form_refuses_what_it_cannot_solve(X, Y, error, message):
    with pytest.raises(error, match=message):
        cl.batchnorm_closed_form(X, Y, beta=0.1)


def test_networks_that_cannot_be_read_are_refused():
    X, y = instance(0)
    problem = cl.BatchNorm(X, y, beta=0.1)
    nn = torch.nn
    with pytest.raises(NotCertifiableError, match="cannot read Linear -> ReLU -> Linear; expected"):
        problem.objective(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)))

    def network(d=2, outputs=1, **options):
        norm = nn.BatchNorm1d(3, **options)
        return nn.Sequential(nn.Linear(d, 3), norm, nn.ReLU(), nn.Linear(3, outputs)).double()

    with pytest.raises(NotCertifiableError, match="affine=False; expected a scale and a shift"):
        problem.objective(network(affine=False))
    with pytest.raises(InputError, match="takes 5 features but X has shape"):
        problem.objective(network(d=5))
    with pytest.raises(InputError, match="has 2 outputs; expected 1"):
        problem.objective(network(outputs=2))
    broken = network(eps=0.0)
    with torch.no_grad():
        broken[0].weight[1] = 0.0
    with pytest.raises(NotCertifiableError, match="neuron 1 of the network is constant on X"):
        problem.objective(broken)
    with torch.no_grad():
        broken[3].weight[0, 0] = np.nan
    with pytest.raises(NotCertifiableError, match="non-finite weights"):
        problem.objective(broken)
    with pytest.raises(InputError, match="expected a torch.nn.Module"):
        problem.objective("network")


def test_an_unfinished_solve_says_so():
    X, y = instance(0)
    with pytest.warns(ConvergenceWarning, match=r"BatchNorm\(n=6"):
        result = cl.solve(cl.BatchNorm(X, y, beta=0.01), tol=1e-12, max_iter=2)
    assert not result.converged
