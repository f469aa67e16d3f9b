"""The two-layer theorem: program, network, oracle, certificate and training agree."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import convexlib as cl
from convexlib.errors import InputError, ProblemError, TooManyArrangementsError
from convexlib.networks import TwoLayerGatedReLU, TwoLayerReLU
from convexlib.problems.base import Problem
from tests.checks import best_in_cone, check_result, network_objective, small_instance
from tests.generators import EXACT, ROUNDED, degenerate_integers

REFERENCE = {0: (2.27291897, 1.340764), 1: (0.23882110, 0.164819)}


def reference_data(seed):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((6, 2)), rng.standard_normal(6)


def at_fraction(X, y, fraction, **options):
    """The problem with beta a fraction of its beta_max (or 1 if that is 0)."""
    problem = cl.TwoLayer(X, y, beta=1.0, **options)
    top = problem.beta_max()
    return problem.with_beta(fraction * top) if top > 1e-12 else problem


def train(X, y, beta, *, starts=60, neurons=12, steps=1000, seed=0):
    """Best training objective of many Adam runs in parallel, their rate decaying at the end."""
    rng = np.random.default_rng(seed)
    n, d = X.shape
    U = torch.from_numpy(rng.standard_normal((starts, neurons, d)))
    a = torch.from_numpy(rng.standard_normal((starts, neurons)))
    X, y = torch.from_numpy(X), torch.from_numpy(y)
    states = [[w, torch.zeros_like(w), torch.zeros_like(w)] for w in (U, a)]
    best = np.inf
    for step in range(1, steps + 1):
        hidden = torch.einsum("nd,smd->snm", X, U).relu_()
        residual = torch.einsum("snm,sm->sn", hidden, a) - y
        decay = (U**2).sum(dim=(1, 2)) + (a**2).sum(dim=1)
        best = min(best, float((0.5 * (residual**2).sum(dim=1) + 0.5 * beta * decay).min()))
        back = residual[:, :, None] * (hidden > 0) * a[:, None, :]
        gradients = (
            torch.einsum("snm,nd->smd", back, X) + beta * U,
            torch.einsum("sn,snm->sm", residual, hidden) + beta * a,
        )
        rate = 0.03 * min(1.0, 2.0 * (1.0 - step / (steps + 1)))
        for (weight, first, second), gradient in zip(states, gradients, strict=True):
            first.mul_(0.9).add_(0.1 * gradient)
            second.mul_(0.999).add_(0.001 * gradient**2)
            scale = (second / (1 - 0.999**step)).sqrt() + 1e-12
            weight.sub_(rate * first / (1 - 0.9**step) / scale)
    return best


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
    trained = train(X, y, 0.1)
    assert trained >= value * (1 - 1e-9)
    assert trained <= value * (1 + 1e-3)  # the search is serious: it comes close


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


# --- degenerate data ----------------------------------------------------------------------------

SMALL = {name: case[0] for name, case in (EXACT | ROUNDED).items() if case[1] <= 400}


@pytest.mark.parametrize("name", SMALL)
def test_degenerate_data(name):
    X = SMALL[name]
    y = np.random.default_rng(4).standard_normal(len(X))
    problem = at_fraction(X, y, 0.02)
    result = cl.solve(problem)
    check_result(problem, result)
    assert result.converged
    assert problem.violation(result.weights) <= 1e-12
    generating = cl.TwoLayer(X, y, beta=problem.beta, arrangements="generate")
    generated = cl.solve(generating)
    check_result(generating, generated)
    assert generated.converged
    assert generated.value == pytest.approx(result.value, rel=1e-6)


@given(
    case=degenerate_integers(max_n=6, max_d=3),
    seed=st.integers(0, 1000),
    fraction=st.sampled_from([1e-3, 0.1, 0.7]),
)
def test_bounds_bracket_the_optimum_on_integer_data(case, seed, fraction):
    X, _ = case
    y = np.random.default_rng(seed).integers(-3, 4, len(X)).astype(float)
    problem = at_fraction(X, y, fraction)
    result = cl.solve(problem)
    network = check_result(problem, result)
    assert result.converged
    generated = cl.solve(cl.TwoLayer(X, y, beta=problem.beta, arrangements="generate"))
    assert generated.value == pytest.approx(result.value, rel=1e-6, abs=1e-12)
    certificate = cl.certify(network, X, y, beta=problem.beta)
    bounds = result.dual, generated.dual, certificate.dual
    assert max(bounds) <= result.value * (1 + 1e-12)
    assert certificate.dual >= result.value * (1 - 2e-6) - 1e-12


@pytest.mark.parametrize("arrangements", [None, "generate"])
@pytest.mark.parametrize(("n", "d"), [(1, 1), (1, 4), (2, 6), (4, 9), (12, 1)])
def test_extreme_shapes(n, d, arrangements):
    rng = np.random.default_rng(5)
    X, y = rng.standard_normal((n, d)), rng.standard_normal(n)
    problem = at_fraction(X, y, 0.1, arrangements=arrangements)
    result = cl.solve(problem)
    check_result(problem, result)
    assert result.converged


@pytest.mark.parametrize("arrangements", [None, "generate"])
@pytest.mark.parametrize("empty", ["y", "X", "cancelling"])
def test_nothing_to_fit(empty, arrangements):
    X, y = reference_data(0)
    if empty == "y":
        y = 0 * y
    elif empty == "X":
        X = 0 * X
    else:  # X^T D y = 0 for every pattern
        X, y = np.ones((2, 1)), np.array([1.0, -1.0])
    problem = cl.TwoLayer(X, y, beta=0.1, arrangements=arrangements)
    assert problem.beta_max() <= 1e-12
    result = cl.solve(problem)
    check_result(problem, result)
    assert result.converged
    assert result.value == 0.5 * y @ y
    assert problem.to_network(result).n_neurons == 0


@pytest.mark.parametrize("arrangements", [None, "generate"])
def test_tiny_beta_nearly_interpolates(arrangements):
    X, y = reference_data(1)
    problem = at_fraction(X, y, 1e-4, arrangements=arrangements)
    result = cl.solve(problem)
    check_result(problem, result)
    assert result.converged
    again = at_fraction(X, y, 1e-6)
    assert cl.solve(again, tol=1e-5).converged


@pytest.mark.parametrize("kind", ["rows", "columns", "data", "targets"])
def test_badly_scaled_data(kind):
    rng = np.random.default_rng(6)
    data = X, y = rng.standard_normal((8, 3)), rng.standard_normal(8)
    if kind == "rows":
        X = X * np.logspace(-4, 4, 8)[:, None]
    elif kind == "columns":
        X = X * [1e-4, 1.0, 1e4]
    elif kind == "data":
        X = 1e12 * X
    else:
        y = 1e-12 * y
    problem = at_fraction(X, y, 0.1)
    result = cl.solve(problem)
    check_result(problem, result)
    assert result.converged
    if kind == "rows":
        assert cl.solve(problem, method="oracle").value == pytest.approx(result.value, rel=2e-6)
    elif kind != "columns":  # the value scales with the targets and not with the data
        scale = 1e-24 if kind == "targets" else 1.0
        plain = cl.solve(at_fraction(*data, 0.1))
        assert result.value == pytest.approx(scale * plain.value, rel=2e-6)


# --- dtypes and devices -------------------------------------------------------------------------


def test_inputs_of_every_kind_give_the_same_problem(solved):
    problem, result = solved
    X, y, beta = problem.X, problem.y, problem.beta
    for data, targets in (
        (X.numpy().tolist(), y.numpy().tolist()),
        (X.clone().requires_grad_(True), y.clone().requires_grad_(True)),
        (np.asfortranarray(X.numpy()), y.numpy()[::1]),
    ):
        same = cl.TwoLayer(data, targets, beta=np.float64(beta))
        assert cl.solve(same, tol=1e-9).value == result.value


def test_integers_are_data():
    problem = cl.TwoLayer(np.array([[1, 0], [2, -1], [0, 1]]), [1, -1, 2], beta=1)
    result = cl.solve(problem)
    check_result(problem, result)
    assert result.weights.dtype == torch.float64


@pytest.mark.parametrize(
    ("arrangements", "gated"), [(None, False), (None, True), ("generate", False)]
)
def test_float32_stays_float32_and_reaches_its_precision(arrangements, gated):
    X, y, _ = small_instance(12)
    exact = at_fraction(X, y, 0.05, gated=gated)
    data, targets = torch.from_numpy(X).float(), torch.from_numpy(y).float()
    problem = cl.TwoLayer(data, targets, beta=exact.beta, arrangements=arrangements, gated=gated)
    result = cl.solve(problem, tol=1e-3)
    network = problem.to_network(result)
    assert result.converged
    assert result.weights.dtype == result.z.dtype == torch.float32
    assert {p.dtype for p in network.state_dict().values()} == {torch.float32}
    assert network(data).dtype == torch.float32
    best = cl.solve(exact).value
    assert result.value == pytest.approx(best, rel=1.1e-3)
    assert problem.objective(network) == pytest.approx(result.value, rel=1e-5)


def test_problems_do_not_change_their_input():
    X, y = reference_data(0)
    data, targets = X.copy(), y.copy()
    problem = cl.TwoLayer(X, y, beta=0.1)
    network = problem.to_network(cl.solve(problem))
    problem.objective(network)
    np.testing.assert_array_equal(X, data)
    np.testing.assert_array_equal(y, targets)


# --- refusals and the rest of the surface -------------------------------------------------------

X6, Y6 = reference_data(0)
META = torch.device("meta")
PATTERNS = cl.sample_arrangements(X6, 5)
REFUSED = {
    "nan": (
        lambda: cl.TwoLayer(np.where(X6[2, 1] == X6, np.nan, X6), Y6, beta=0.1),
        InputError,
        r"X contains 1 non-finite value \(at row 2, column 1\)",
    ),
    "lengths": (lambda: cl.TwoLayer(X6, Y6[:4], beta=0.1), InputError, "y has 4 entries"),
    "beta zero": (lambda: cl.TwoLayer(X6, Y6, beta=0), InputError, "expected beta > 0"),
    "beta bool": (lambda: cl.TwoLayer(X6, Y6, beta=True), InputError, "beta is True"),
    "dtypes": (
        lambda: cl.TwoLayer(torch.from_numpy(X6), torch.from_numpy(Y6).float(), beta=0.1),
        InputError,
        r"X has dtype torch\.float64 but y has dtype torch\.float32",
    ),
    "devices": (
        lambda: cl.TwoLayer(torch.from_numpy(X6), torch.from_numpy(Y6).to(META), beta=0.1),
        InputError,
        "X is on device cpu but y is on device meta",
    ),
    "loss": (
        lambda: cl.TwoLayer(X6, Y6, beta=0.1, loss="hinge"),
        InputError,
        "loss is 'hinge'; expected one of 'squared'",
    ),
    "too many": (
        lambda: cl.TwoLayer(X6, Y6, beta=0.1, max_patterns=3),
        TooManyArrangementsError,
        "max_patterns=3",
    ),
    "max_patterns": (
        lambda: cl.TwoLayer(X6, Y6, beta=0.1, max_patterns=0),
        InputError,
        "max_patterns is 0; expected an integer >= 1",
    ),
    "arrangements": (
        lambda: cl.TwoLayer(X6, Y6, beta=0.1, arrangements="sample"),
        InputError,
        r"arrangements is str 'sample'; expected Arrangements, None or \"generate\"",
    ),
    "masks": (
        lambda: cl.TwoLayer(X6, Y6, beta=0.1, arrangements=PATTERNS.masks),
        InputError,
        "arrangements is Tensor",
    ),
    "other data": (
        lambda: cl.TwoLayer(X6[:5], Y6[:5], beta=0.1, arrangements=PATTERNS),
        InputError,
        r"arrangements\.masks has shape \(\d+, 6\); expected \(P, 5\)",
    ),
    "no patterns": (
        lambda: cl.TwoLayer(X6, Y6, beta=0.1, arrangements=PATTERNS.select([])),
        InputError,
        r"arrangements\.masks has shape \(0, 6\); expected \(P, 6\) with P >= 1",
    ),
    "pattern device": (
        lambda: cl.TwoLayer(
            X6,
            Y6,
            beta=0.1,
            arrangements=cl.Arrangements(PATTERNS.masks.to(META), PATTERNS.gates.to(META)),
        ),
        InputError,
        "X is on device cpu but arrangements are on device meta",
    ),
    "gated generation": (
        lambda: cl.TwoLayer(X6, Y6, beta=0.1, gated=True, arrangements="generate"),
        ProblemError,
        "needs cone constraints; a gated problem has none",
    ),
    "weights of another problem": (
        lambda: cl.TwoLayer(X6, Y6, beta=0.1).to_network(torch.zeros(2, 3, 2)),
        InputError,
        r"weights have shape \(2, 3, 2\); expected \(2, 12, 2\)\. Do they belong to another",
    ),
    "gated weights": (
        lambda: cl.TwoLayer(X6, Y6, beta=0.1, gated=True).to_network(torch.zeros(2, 12, 2)),
        InputError,
        r"expected \(1, 12, 2\)",
    ),
    "not a result": (
        lambda: cl.TwoLayer(X6, Y6, beta=0.1).to_network("best"),
        InputError,
        "got str; expected the Result of solve",
    ),
    "masks of generate": (
        lambda: cl.TwoLayer(X6, Y6, beta=0.1, arrangements="generate").masks,
        ProblemError,
        "no patterns of its own",
    ),
    "network device": (
        lambda: cl.TwoLayer(X6, Y6, beta=0.1).objective(torch.nn.Linear(2, 1, device=META)),
        InputError,
        "X is on device cpu but the network is on device meta",
    ),
    "not a network": (
        lambda: cl.TwoLayer(X6, Y6, beta=0.1).objective("net"),
        InputError,
        r"network is str; expected a torch\.nn\.Module",
    ),
    "two outputs": (
        lambda: cl.TwoLayer(X6, Y6, beta=0.1).objective(torch.nn.Linear(2, 2).double()),
        InputError,
        r"the network returns shape \(6, 2\)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case):
    call, kind, message = REFUSED[case]
    with pytest.raises(kind, match=message):
        call()


def test_weights_of_another_dimension_are_refused_with_generated_patterns():
    problem = cl.TwoLayer(X6, Y6, beta=0.1, arrangements="generate")
    with pytest.raises(InputError, match=r"weights have shape \(2, 3, 5\); expected \(2, P, 2\)"):
        problem.to_network(torch.zeros(2, 3, 5, dtype=torch.float64))


def test_violation_is_measured_in_unit_lengths():
    arrangements = cl.Arrangements(
        torch.tensor([[True, False]]), torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    )
    problem = cl.TwoLayer([[3.0, 0.0], [0.0, 5.0]], [1.0, 1.0], beta=1.0, arrangements=arrangements)
    weights = problem.zeros()
    assert problem.violation(weights) == 0.0
    weights[0, 0] = torch.tensor([-0.25, 0.5], dtype=torch.float64)
    assert problem.violation(weights) == pytest.approx(0.5)
    weights[0, 0] = torch.tensor([0.25, -0.5], dtype=torch.float64)
    assert problem.violation(weights) == 0.0


def test_objective_is_computed_in_float64_and_leaves_the_network_alone():
    problem = cl.TwoLayer(X6, Y6, beta=0.1)
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
    expected = network_objective(network, X6, Y6, 0.1)
    assert problem.objective(network) == pytest.approx(expected, rel=1e-13)
    assert all(p.dtype == torch.float32 for p in network.parameters())


def test_problem_describes_itself():
    problem = cl.TwoLayer(X6, Y6, beta=0.1)
    assert isinstance(problem, Problem)
    assert repr(problem) == "TwoLayer(relu, n=6, d=2, 12 patterns, beta=0.1)"
    generating = cl.TwoLayer(X6, Y6, beta=0.1, arrangements="generate")
    assert repr(generating) == "TwoLayer(relu, n=6, d=2, generated, beta=0.1)"
    assert generating.n_patterns == 0
    assert generating.with_beta(0.2).arrangements is None
    assert problem.with_beta(0.2).arrangements is problem.arrangements
    assert problem.with_beta(0.2).beta == 0.2
