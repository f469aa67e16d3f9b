"""The two-layer theorem: program, network, oracle, certificate and training agree."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import convexlib as cl
from convexlib.errors import InputError, ProblemError, TooManyArrangementsError
from convexlib.networks import TwoLayerGatedReLU
from convexlib.problems.base import Problem
from tests.helpers.checks import best_in_cone, check_result, network_objective, solved
from tests.helpers.patterns import EXACT, ROUNDED, degenerate_integers
from tests.helpers.references import NAMES, program_value, targets_for
from tests.helpers.refusals import COUNT, EYE, refused
from tests.helpers.searches import least_found
from tests.helpers.two_layer import at_fraction, gaussian, small_instance

REFERENCE = {0: (2.27291897, 1.340764), 1: (0.23882110, 0.164819)}


def drawn(seed, loss, *, gated=False, fraction=None):
    """A random problem with n <= 9, d <= 3 and beta between 0.01 and 0.8 of beta_max."""
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(2, 10)), int(rng.integers(1, 4))
    X, y = rng.standard_normal((n, d)), targets_for(loss, rng.standard_normal(n))
    fraction = fraction or 10 ** rng.uniform(-2, np.log10(0.8))
    problem = cl.TwoLayer(X, y, beta=1.0, gated=gated, loss=loss)
    return problem.with_beta(fraction * problem.beta_max())


# --- values -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", REFERENCE)
@pytest.mark.parametrize("method", ["auto", "oracle"])
def test_reference_values(seed, method):
    X, y = gaussian(6, 2, seed)
    for gated, accuracy in ((False, 2e-8), (True, 6e-7)):
        problem = cl.TwoLayer(X, y, beta=0.1, gated=gated)
        result = solved(problem, tol=1e-9, method=method)
        assert result.value == pytest.approx(REFERENCE[seed][gated], abs=accuracy)


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
    generated = solved(generating)
    assert generated.value == pytest.approx(value, rel=1e-6)
    # Every bound lies below every value.
    certificate = cl.certify(network, X, y, beta=beta)
    assert certificate.rigorous
    values = (value, generated.value, certificate.primal)
    bounds = (result.dual, generated.dual, certificate.dual)
    assert max(bounds) <= min(values) * (1 + 1e-12)
    assert min(bounds) >= max(values) * (1 - 2e-6)


@pytest.mark.parametrize("loss", NAMES)
def test_training_never_gets_below_the_optimum(loss):
    problem = drawn(5, loss, fraction=0.05)
    best = cl.solve(problem, tol=1e-9).value
    X, y = problem.X, problem.y
    losses = {
        "squared": lambda outputs: 0.5 * (outputs - y) ** 2,
        "logistic": lambda outputs: torch.nn.functional.softplus(-y * outputs),
        "squared_hinge": lambda outputs: 0.5 * torch.relu(1 - y * outputs) ** 2,
    }

    def objective(U, alpha):
        outputs = torch.einsum("snm,sm->sn", torch.einsum("nd,smd->snm", X, U).relu(), alpha)
        decay = (U**2).sum(dim=(1, 2)) + (alpha**2).sum(dim=1)
        return losses[loss](outputs).sum(dim=1) + 0.5 * problem.beta * decay

    trained = least_found(objective, [(12, X.shape[1]), (12,)])
    assert trained >= best * (1 - 1e-9)
    assert trained <= best * (1 + 1e-3)  # the search is serious: it comes this close, and closer


@pytest.mark.parametrize("seed", range(6))
def test_gated_optimum_is_strictly_lower(seed):
    X, y = gaussian(8, 2, seed)
    relu = cl.solve(at_fraction(X, y, 0.1))
    problem = cl.TwoLayer(X, y, beta=at_fraction(X, y, 0.1).beta, gated=True)
    gated = cl.solve(problem)
    assert isinstance(problem.to_network(gated), TwoLayerGatedReLU)
    check_result(problem, gated)
    assert gated.value < relu.dual


# --- beta_max -----------------------------------------------------------------------------------


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


# --- metamorphic relations ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def base():
    problem = at_fraction(*gaussian(9, 3, 42), 0.05)
    return problem, solved(problem, tol=1e-9)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("change", ["permute", "rotate", "scale", "negate", "zero column"])
def test_metamorphic(base, change, gated):
    problem, _ = base
    X, y, beta = problem.X.numpy(), problem.y.numpy(), problem.beta
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


def test_a_duplicated_column_is_worth_one_longer_column(base):
    problem, _ = base
    X, y = problem.X.numpy(), problem.y.numpy()
    doubled = cl.TwoLayer(np.column_stack([X, X[:, 0]]), y, beta=problem.beta)
    longer = cl.TwoLayer(X * [2**0.5, 1, 1], y, beta=problem.beta)
    values = [cl.solve(p, tol=1e-9).value for p in (doubled, longer)]
    assert values[0] == pytest.approx(values[1], rel=3e-9)


def test_adding_patterns_never_raises_the_value(base):
    problem, full = base
    arrangements = problem.arrangements
    order = np.random.default_rng(2).permutation(len(arrangements))
    values = []
    for size in (1, 2, 5, 10, 30, len(order)):
        part = problem.with_arrangements(arrangements.select(order[:size]))
        result = solved(part, tol=1e-9)
        values.append(result.value)
    assert all(a >= b * (1 - 2e-9) for a, b in itertools.pairwise(values))
    assert values[0] > values[-1]
    assert values[-1] == pytest.approx(full.value, rel=3e-9)


def test_a_pattern_that_no_neuron_has_adds_nothing(base):
    problem, full = base
    arrangements = problem.arrangements
    known = {tuple(mask) for mask in arrangements.masks.tolist()}
    rng = np.random.default_rng(3)
    alien = next(m for m in rng.random((500, 9)) > 0.5 if tuple(m.tolist()) not in known)
    extended = cl.Arrangements(
        torch.cat([arrangements.masks, torch.from_numpy(alien)[None]]),
        torch.cat([arrangements.gates, arrangements.gates[:1]]),
    )
    result = solved(problem.with_arrangements(extended), tol=1e-9)
    assert result.value == pytest.approx(full.value, rel=3e-9)


# --- data of every kind -------------------------------------------------------------------------


def every_kind():
    """(X, y, beta / beta_max): degenerate, wide, badly scaled, and with nothing to fit."""
    X, y = gaussian(6, 2)
    rows, heights = gaussian(8, 3, 6)
    shapes = [(1, 1), (1, 4), (2, 6), (4, 9), (12, 1)]
    return {
        **{name: (case[0], np.random.default_rng(4).standard_normal(len(case[0])), 0.02)
           for name, case in (EXACT | ROUNDED).items() if case[1] <= 400},
        **{f"{n} x {d}": (*gaussian(n, d, 5), 0.1) for n, d in shapes},
        "tiny beta": (*gaussian(6, 2, 1), 1e-4),
        "scaled rows": (rows * np.logspace(-4, 4, 8)[:, None], heights, 0.1),
        "scaled columns": (rows * [1e-4, 1.0, 1e4], heights, 0.1),
        "zero targets": (X, 0 * y, 0.1),
        "zero data": (0 * X, y, 0.1),
        "cancelling": (np.ones((2, 1)), np.array([1.0, -1.0]), 0.1),  # X^T D y = 0 for every D
    }  # fmt: skip


@pytest.mark.parametrize(("X", "y", "fraction"), every_kind().values(), ids=every_kind())
def test_data_of_every_kind(X, y, fraction):
    problem = at_fraction(X, y, fraction)
    result = solved(problem)
    assert problem.violation(result.weights) <= 1e-12
    generated = solved(cl.TwoLayer(X, y, beta=problem.beta, arrangements="generate"))
    assert generated.value == pytest.approx(result.value, rel=1e-6)
    if problem.beta_max() <= 1e-12:
        assert result.value == pytest.approx(0.5 * y @ y, rel=1e-14, abs=0.0)
        assert not result.weights.any()


@pytest.mark.parametrize(("size", "height"), [(1e12, 1.0), (1.0, 1e-12)])
def test_the_value_scales_with_the_targets_and_not_with_the_data(size, height):
    X, y = gaussian(8, 3, 6)
    result, plain = solved(at_fraction(size * X, height * y, 0.1)), solved(at_fraction(X, y, 0.1))
    assert result.value == pytest.approx(height**2 * plain.value, rel=2e-6)


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


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("loss", NAMES)
@pytest.mark.parametrize("seed", range(20))
def test_value_is_that_of_the_program_written_out(seed, loss, gated):
    problem = drawn(seed, loss, gated=gated)
    result = solved(problem, tol=1e-7)
    masks = problem.arrangements.masks
    expected = program_value(problem.X, problem.y, problem.beta, masks, gated=gated, loss=loss)
    assert result.value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("loss", ["logistic", "squared_hinge"])
def test_beta_max_at_zero_outputs_is_half_or_all_of_the_squared_one(loss):
    problem = drawn(4, loss)
    squared = cl.TwoLayer(problem.X, problem.y, beta=1.0)
    factor = {"logistic": 0.5, "squared_hinge": 1.0}[loss]  # the slope of each loss at 0
    assert problem.beta_max() == pytest.approx(factor * squared.beta_max(), rel=1e-12)


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("loss", ["logistic", "squared_hinge"])
@pytest.mark.parametrize("seed", [6, 7, 8])
def test_generated_patterns_give_the_optimum_over_all(seed, loss, repeated):
    problem = drawn(seed, loss, fraction=0.05)
    if repeated:  # equal samples, with equal and with opposite labels
        X = torch.cat([problem.X, problem.X[:3]])
        y = torch.cat([problem.y, problem.y[:2], -problem.y[2:3]])
        problem = cl.TwoLayer(X, y, beta=problem.beta, loss=loss)
    generating = cl.TwoLayer(
        problem.X, problem.y, beta=problem.beta, arrangements="generate", loss=loss
    )
    generated = solved(generating)
    assert generated.scope == "network"
    assert generated.value == pytest.approx(cl.solve(problem).value, rel=2e-6)


@pytest.mark.parametrize("loss", NAMES)
@pytest.mark.parametrize("fraction", [0.01, 0.5, 3.0])
def test_a_dual_point_is_scaled_to_the_best_multiple(loss, fraction):
    """No multiple on a grid up to the feasible ones is better; the norm is that of the cones."""
    problem = drawn(5, loss, fraction=fraction)
    rng = np.random.default_rng(0)
    target = problem.loss.dual_point(torch.zeros_like(problem.y), problem.y)
    for noise in (0.0, 0.3, 2.0):
        z = target + noise * torch.from_numpy(rng.standard_normal(len(target)))
        scaled = problem.dual_scaling(z)
        restricted = problem.loss.restrict(z, problem.y)
        assert problem.dual_norm(scaled) <= problem.beta * (1 + 1e-12)
        limit = problem.beta / max(problem.dual_norm(restricted), 1e-300)
        grid = [
            problem.dual_value(s * restricted) for s in min(limit, 5.0) * np.linspace(0, 1, 200)
        ]
        assert problem.dual_value(scaled) >= max(grid) - 1e-9 * abs(max(grid))


# --- What `TwoLayer` refuses, and what it says about itself ---


X6, Y6 = gaussian(6, 2)
META = torch.device("meta")
PATTERNS = cl.sample_arrangements(X6, 5)
REFUSALS = [
    (lambda: cl.TwoLayer(np.where(X6[2, 1] == X6, np.nan, X6), Y6, beta=0.1),
     InputError, r"X contains 1 non-finite value \(at row 2, column 1\)"),
    (lambda: cl.TwoLayer(X6, Y6[:4], beta=0.1), InputError, "y has 4 entries"),
    (lambda: cl.TwoLayer(X6, Y6, beta=0), InputError, "expected beta > 0"),
    (lambda: cl.TwoLayer(X6, Y6, beta=True), InputError, "beta is True"),
    (lambda: cl.TwoLayer(torch.from_numpy(X6), torch.from_numpy(Y6).float(), beta=0.1),
     InputError, r"X has dtype torch\.float64 but y has dtype torch\.float32"),
    (lambda: cl.TwoLayer(torch.from_numpy(X6), torch.from_numpy(Y6).to(META), beta=0.1),
     InputError, "X is on device cpu but y is on device meta"),
    (lambda: cl.TwoLayer(X6, Y6, beta=0.1, loss="hinge"),
     InputError, "loss is 'hinge'; expected one of 'squared'"),
    (lambda: cl.TwoLayer(X6, Y6, beta=0.1, max_patterns=3),
     TooManyArrangementsError, "max_patterns=3"),
    (lambda: cl.TwoLayer(X6, Y6, beta=0.1, max_patterns=0),
     InputError, "max_patterns is 0; expected an integer >= 1"),
    (lambda: cl.TwoLayer(X6, Y6, beta=0.1, arrangements="sample"),
     InputError, r"arrangements is str 'sample'; expected Arrangements, None or \"generate\""),
    (lambda: cl.TwoLayer(X6, Y6, beta=0.1, arrangements=PATTERNS.masks),
     InputError, "arrangements is Tensor"),
    (lambda: cl.TwoLayer(X6[:5], Y6[:5], beta=0.1, arrangements=PATTERNS),
     InputError, r"arrangements\.masks has shape \(\d+, 6\); expected \(P, 5\)"),
    (lambda: cl.TwoLayer(X6, Y6, beta=0.1, arrangements=PATTERNS.select([])),
     InputError, r"arrangements\.masks has shape \(0, 6\); expected \(P, 6\) with P >= 1"),
    (lambda: cl.TwoLayer(-2.0 * X6[::-1] + 1.0, Y6, beta=0.1, gated=True, arrangements=PATTERNS),
     InputError, "gates that do not have its masks on X: they are of other data"),
    (lambda: cl.TwoLayer(X6, Y6, beta=0.1, gated=True, arrangements="generate"),
     ProblemError, "needs cone constraints; a gated problem has none"),
    (lambda: cl.TwoLayer(X6, Y6, beta=0.1).to_network(torch.zeros(2, 3, 2)),
     InputError, r"have shape \(2, 3, 2\); expected \(2, 12, 2\)\. Do they belong to another"),
    (lambda: cl.TwoLayer(X6, Y6, beta=0.1, gated=True).to_network(torch.zeros(2, 12, 2)),
     InputError, r"expected \(1, 12, 2\)"),
    (lambda: cl.TwoLayer(X6, Y6, beta=0.1).to_network("best"),
     InputError, "got str; expected the Result of solve"),
    (lambda: cl.TwoLayer(X6, Y6, beta=0.1, arrangements="generate").to_network(
        torch.zeros(2, 3, 5)),
     InputError, r"weights have shape \(2, 3, 5\); expected \(2, P, 2\)"),
    (lambda: cl.TwoLayer(EYE, [0.0, 1.0, 1.0], beta=0.1, loss="logistic"),
     InputError, r"1 of the 3 entries of y are not labels .*0, 1.*'logistic'\. Use 2 \* y - 1"),
    (lambda: cl.TwoLayer(EYE, [0.5, -1.0, 2.0], beta=0.1, loss="squared_hinge"),
     InputError, r"2 of the 3 entries .*are -1, 0\.5, 2.*'squared_hinge'\. Code one class as 1"),
    (lambda: cl.TwoLayer(X6, Y6, beta=0.1, arrangements="generate").masks,
     ProblemError, "no patterns of its own"),
    (lambda: cl.TwoLayer(X6, Y6, beta=0.1).objective(torch.nn.Linear(2, 1, device=META)),
     InputError, "X is on device cpu but the network is on device meta"),
    (lambda: cl.TwoLayer(X6, Y6, beta=0.1).objective("net"),
     InputError, r"network is str; expected a torch\.nn\.Module"),
    (lambda: cl.TwoLayer(X6, Y6, beta=0.1).objective(torch.nn.Linear(2, 2).double()),
     InputError, r"the network returns shape \(6, 2\)"),
    (lambda: cl.TwoLayer(EYE, COUNT, beta=1.0, gated=EYE), InputError, "gated is .*True or False"),
    (lambda: cl.TwoLayer(EYE, COUNT, beta=1.0, gated="no"), InputError, "gated is 'no'; expected"),
    (lambda: cl.TwoLayer(X6, Y6, beta=0.1, arrangements=cl.Arrangements(
        PATTERNS.masks.to(META), PATTERNS.gates.to(META))),
     InputError, "X is on device cpu but arrangements are on device meta"),
]  # fmt: skip
test_refusals = refused(REFUSALS)


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


@pytest.mark.parametrize("loss", NAMES)
def test_objective_is_computed_in_float64_and_leaves_the_network_alone(loss):
    problem = cl.TwoLayer(X6, targets_for(loss, Y6), beta=0.1, loss=loss)
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
    expected = network_objective(network, X6, problem.y, 0.1, loss)
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
    logistic = drawn(8, "logistic")
    assert "logistic" in repr(logistic)
    for same in (logistic.with_beta(0.3), logistic.with_arrangements(logistic.arrangements)):
        assert same.loss.name == "logistic"


def test_patterns_of_data_with_other_columns_are_refused():
    X = np.random.default_rng(0).standard_normal((6, 3))
    patterns = cl.sample_arrangements(X, 5, seed=0)
    with pytest.raises(InputError, match="gates has 3 columns; expected 2, as X has"):
        cl.TwoLayer(X[:, :2], X[:, 2], beta=1.0, arrangements=patterns)
