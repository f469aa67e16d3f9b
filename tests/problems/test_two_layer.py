"""The two-layer theorem: program, network, oracle, certificate and training agree."""

import itertools

import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.networks import TwoLayerGatedReLU, TwoLayerReLU
from tests.checks import best_in_cone, check_result, network_objective, small_instance
from tests.searches import least_found
from tests.two_layer_instances import at_fraction, reference_data

REFERENCE = {0: (2.27291897, 1.340764), 1: (0.23882110, 0.164819)}


# --- values -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", REFERENCE)
@pytest.mark.parametrize("method", ["auto", "oracle"])
def test_reference_values(seed, method):
    X, y = reference_data(seed)
    relu, gated = REFERENCE[seed]
    problem = cl.TwoLayer(X, y, beta=0.1)
    result = cl.solve(problem, tol=1e-9, method=method)
    check_result(problem, result, tol=1e-9)
    assert result.value == pytest.approx(relu, abs=2e-8)
    problem = cl.TwoLayer(X, y, beta=0.1, gated=True)
    result = cl.solve(problem, tol=1e-9, method=method)
    check_result(problem, result, tol=1e-9)
    assert result.value == pytest.approx(gated, abs=6e-7)


@pytest.mark.parametrize("seed", range(50))
def test_solver_oracle_network_certificate_and_generation_agree(seed):
    X, y, fraction = small_instance(seed)
    problem = at_fraction(X, y, fraction)
    beta = problem.beta
    result = cl.solve(problem)
    network = check_result(problem, result)
    value = result.value
    assert cl.solve(problem, method="oracle").value == pytest.approx(value, rel=1e-6)
    assert network_objective(network, X, y, beta) == pytest.approx(value, rel=1e-9)
    generating = cl.TwoLayer(X, y, beta=beta, arrangements="generate")
    generated = cl.solve(generating)
    check_result(generating, generated)
    assert generated.converged
    assert generated.value == pytest.approx(value, rel=1e-6)
    # Every bound lies below every value.
    certificate = cl.certify(network, X, y, beta=beta)
    assert certificate.rigorous
    values = (value, generated.value, certificate.primal)
    bounds = (result.dual, generated.dual, certificate.dual)
    assert max(bounds) <= min(values) * (1 + 1e-12)
    assert min(bounds) >= max(values) * (1 - 2e-6)


@pytest.mark.parametrize("seed", [0, 1])
def test_training_never_gets_below_the_optimum(seed):
    X, y = reference_data(seed)
    value = cl.solve(cl.TwoLayer(X, y, beta=0.1), tol=1e-9).value
    X, y = torch.from_numpy(X), torch.from_numpy(y)

    def objective(U, alpha):
        outputs = torch.einsum("snm,sm->sn", torch.einsum("nd,smd->snm", X, U).relu(), alpha)
        decay = (U**2).sum(dim=(1, 2)) + (alpha**2).sum(dim=1)
        return 0.5 * ((outputs - y) ** 2).sum(dim=1) + 0.05 * decay

    trained = least_found(objective, [(12, 2), (12,)])
    assert trained >= value * (1 - 1e-9)
    # The search is serious: from three seeds it comes within 4e-6, of which this is a multiple.
    assert trained <= value * (1 + 1e-3)


def test_fitted_values_are_those_of_the_network():
    X, y, fraction = small_instance(7)
    for gated in (False, True):
        problem = at_fraction(X, y, fraction, gated=gated)
        result = cl.solve(problem)
        with torch.no_grad():
            outputs = problem.to_network(result)(problem.X)
        torch.testing.assert_close(problem.fitted(result.weights), outputs)


@pytest.mark.parametrize("seed", range(6))
def test_gated_optimum_is_strictly_lower(seed):
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((8, 2)), rng.standard_normal(8)
    relu = cl.solve(at_fraction(X, y, 0.1))
    problem = cl.TwoLayer(X, y, beta=at_fraction(X, y, 0.1).beta, gated=True)
    gated = cl.solve(problem)
    assert isinstance(problem.to_network(gated), TwoLayerGatedReLU)
    check_result(problem, gated)
    assert gated.value < relu.dual


# --- beta_max -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["enumerated", "gated", "generate"])
@pytest.mark.parametrize("seed", range(4))
def test_zero_network_from_beta_max_on(kind, seed):
    X, y, _ = small_instance(100 + seed)
    options = {"gated": {"gated": True}, "generate": {"arrangements": "generate"}}.get(kind, {})
    above = cl.solve(at_fraction(X, y, 1 + 1e-6, **options))
    assert not above.weights.any()
    assert above.value == pytest.approx(0.5 * y @ y, rel=1e-14)
    problem = at_fraction(X, y, 1 - 1e-3, **options)
    below = cl.solve(problem, tol=1e-9)
    assert below.weights.any()
    assert below.value < above.value
    assert problem.to_network(below).n_neurons > 0


def test_beta_max_is_the_best_neuron_over_all_cells():
    X, y, _ = small_instance(3)
    masks = cl.enumerate_arrangements(X).masks.numpy()
    expected = max(
        best_in_cone(sign * (X * mask[:, None]).T @ y, X, mask)
        for mask, sign in itertools.product(masks, (1, -1))
    )
    for arrangements in (None, "generate"):
        problem = cl.TwoLayer(X, y, beta=1.0, arrangements=arrangements)
        assert problem.beta_max() == pytest.approx(expected, rel=1e-8)


def test_an_empty_network_is_returned_at_beta_max():
    X, y, _ = small_instance(3)
    problem = at_fraction(X, y, 2.0)
    network = problem.to_network(cl.solve(problem))
    assert isinstance(network, TwoLayerReLU)
    assert network.n_neurons == 0
    assert problem.objective(network) == pytest.approx(0.5 * y @ y)
    assert not network(problem.X).any()


# --- metamorphic relations ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def solved():
    rng = np.random.default_rng(42)
    X, y = rng.standard_normal((9, 3)), rng.standard_normal(9)
    problem = at_fraction(X, y, 0.05)
    return problem, cl.solve(problem, tol=1e-9)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("change", ["permute", "rotate", "scale", "negate", "zero column"])
def test_metamorphic(solved, change, gated):
    base = solved[0]
    X, y, beta = base.X.numpy(), base.y.numpy(), base.beta
    reference = cl.solve(cl.TwoLayer(X, y, beta=beta, gated=gated), tol=1e-9)
    rng = np.random.default_rng(1)
    c = 1.0
    if change == "permute":
        order = rng.permutation(len(X))
        X, y = X[order], y[order]
    elif change == "rotate":
        X = X @ np.linalg.qr(rng.standard_normal((3, 3)))[0]
    elif change == "scale":
        c = 7.3
        y, beta = c * y, c * beta
    elif change == "negate":
        y = -y
    else:
        X = np.column_stack([X, np.zeros(len(X))])
    result = cl.solve(cl.TwoLayer(X, y, beta=beta, gated=gated), tol=1e-9)
    assert result.value == pytest.approx(c**2 * reference.value, rel=3e-9)


def test_negated_targets_swap_v_and_w(solved):
    problem, result = solved
    mirrored = cl.TwoLayer(
        problem.X, -problem.y, beta=problem.beta, arrangements=problem.arrangements
    )
    swapped = cl.solve(mirrored, tol=1e-9)
    assert mirrored.value(result.weights.flip(0)) == pytest.approx(result.value, rel=1e-13)
    fitted = problem.fitted(result.weights)
    torch.testing.assert_close(mirrored.fitted(swapped.weights), -fitted, rtol=0, atol=1e-4)


def test_a_duplicated_column_is_worth_one_longer_column(solved):
    problem, _ = solved
    X, y = problem.X.numpy(), problem.y.numpy()
    doubled = cl.TwoLayer(np.column_stack([X, X[:, 0]]), y, beta=problem.beta)
    longer = cl.TwoLayer(X * [2**0.5, 1, 1], y, beta=problem.beta)
    values = [cl.solve(p, tol=1e-9).value for p in (doubled, longer)]
    assert values[0] == pytest.approx(values[1], rel=3e-9)


def test_adding_patterns_never_raises_the_value(solved):
    problem, full = solved
    arrangements = problem.arrangements
    order = np.random.default_rng(2).permutation(len(arrangements))
    values = []
    for size in (1, 2, 5, 10, 30, len(order)):
        part = problem.with_arrangements(arrangements.select(order[:size]))
        result = cl.solve(part, tol=1e-9)
        check_result(part, result, tol=1e-9)
        values.append(result.value)
    assert all(a >= b * (1 - 2e-9) for a, b in itertools.pairwise(values))
    assert values[0] > values[-1]
    assert values[-1] == pytest.approx(full.value, rel=3e-9)


def test_sampled_patterns_bound_from_above(solved):
    problem, full = solved
    sampled = cl.sample_arrangements(problem.X, 8, seed=0)
    result = cl.solve(problem.with_arrangements(sampled))
    assert result.value >= full.value * (1 - 1e-9)
    assert result.scope == "program"


def test_a_pattern_that_no_neuron_has_adds_nothing(solved):
    problem, full = solved
    arrangements = problem.arrangements
    known = {tuple(mask) for mask in arrangements.masks.tolist()}
    rng = np.random.default_rng(3)
    alien = next(m for m in rng.random((500, 9)) > 0.5 if tuple(m.tolist()) not in known)
    extended = cl.Arrangements(
        torch.cat([arrangements.masks, torch.from_numpy(alien)[None]]),
        torch.cat([arrangements.gates, arrangements.gates[:1]]),
    )
    result = cl.solve(problem.with_arrangements(extended), tol=1e-9)
    assert result.value == pytest.approx(full.value, rel=3e-9)


def test_without_cones_a_new_pattern_is_a_new_model(solved):
    problem, _ = solved
    gated = cl.TwoLayer(problem.X, problem.y, beta=problem.beta, gated=True)
    before = cl.solve(gated, tol=1e-9)
    # Of all 2^9 masks, the one that the dual point violates most.
    masks = torch.tensor(list(itertools.product([False, True], repeat=9)))
    norms = torch.linalg.vector_norm((masks * before.z) @ problem.X, dim=1)
    assert norms.max() > problem.beta
    best = masks[norms.argmax()]
    arrangements = problem.arrangements
    extended = cl.Arrangements(
        torch.cat([arrangements.masks, best[None]]),
        torch.cat([arrangements.gates, arrangements.gates[:1]]),
    )
    after = cl.solve(gated.with_arrangements(extended), tol=1e-9)
    assert after.value < before.value * (1 - 1e-6)


def test_value_does_not_increase_with_less_regularisation(solved):
    problem, _ = solved
    values = [cl.solve(problem.with_beta(problem.beta * f)).value for f in (4, 1, 0.1, 1e-3)]
    assert all(a > b for a, b in itertools.pairwise(values))
