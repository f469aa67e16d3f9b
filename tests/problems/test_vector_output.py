"""Several outputs: programs against CVXPY, networks, the reduction to one output, refusals.

And how far the programs are from an ordinary network, whose outputs share neurons.
"""

import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.errors import (
    ConvergenceWarning,
    InputError,
    NotCertifiableError,
    ProblemError,
    TooManyArrangementsError,
)
from convexlib.networks import TwoLayerGatedReLU
from tests.helpers.checks import best_in_cone, check_record
from tests.helpers.references import (
    NAMES,
    as_numpy,
    dual_value,
    loss_value,
    program_value,
    targets_for,
)
from tests.helpers.refusals import refused
from tests.helpers.searches import least_found

KINDS = {
    "nuclear": {"gated": True, "penalty": "nuclear"},
    "one-output gated": {"gated": True},
    "one-output relu": {},
}


def instance(seed, kind, loss="squared", *, n=None, c=None, fraction=None):
    """A random problem with n <= 7, d <= 3, c <= 3, beta between 0.02 and 0.8 of beta_max."""
    rng = np.random.default_rng(seed)
    n, d, c = n or int(rng.integers(2, 8)), int(rng.integers(1, 4)), c or int(rng.integers(1, 4))
    X, Y = rng.standard_normal((n, d)), targets_for(loss, rng.standard_normal((n, c)))
    fraction = fraction or 10 ** rng.uniform(-1.7, np.log10(0.8))
    arrangements = cl.sample_arrangements(X, 12, seed=seed)
    options = {"arrangements": arrangements, "loss": loss} | KINDS[kind]
    problem = cl.VectorOutput(X, Y, beta=1.0, **options)
    return problem.with_beta(fraction * problem.beta_max())


def written_out(problem):
    """The optimum by CVXPY."""
    options = {"gated": problem.gated, "penalty": problem.penalty_name, "loss": problem.loss.name}
    masks = problem.arrangements.masks
    return program_value(problem.X, problem.y, problem.beta, masks, **options)


def check(problem, result, tol=1e-6):
    """Primal value, dual feasibility, dual value and the network, all recomputed in numpy."""
    check_record(problem, result, tol)
    X, Y, Z = as_numpy(problem.X), as_numpy(problem.y), as_numpy(result.z)
    masks, weights = as_numpy(problem.arrangements.masks), as_numpy(result.weights)
    fitted, penalty = np.zeros(Y.shape), 0.0
    for side, blocks in enumerate(weights):
        sign = 1.0 - 2.0 * side
        for mask, block in zip(masks, blocks, strict=True):
            slope = sign * (X * mask[:, None]).T @ Z  # (d, c)
            if problem.penalty_name == "nuclear":
                penalty += np.linalg.svd(block, compute_uv=False).sum()
                assert np.linalg.norm(slope, 2) <= problem.beta * (1 + 1e-9)
            else:
                penalty += np.linalg.norm(block, axis=0).sum()
                for column in slope.T:
                    gated = np.linalg.norm(column)
                    reach = gated if problem.gated else best_in_cone(column, X, mask > 0)
                    assert reach <= problem.beta * (1 + 1e-9) + 1e-12
            if not problem.gated:
                slack = (2 * mask[:, None] - 1) * (X @ block)
                assert slack.min() >= -1e-11 * np.abs(X).max() * np.abs(weights).max()
            fitted += sign * mask[:, None] * (X @ block)
    loss = problem.loss.name
    primal = loss_value(loss, fitted, Y) + problem.beta * penalty
    np.testing.assert_allclose(result.value, primal, rtol=1e-9)
    np.testing.assert_allclose(result.dual, dual_value(loss, Z, Y), rtol=1e-9, atol=1e-12 * primal)

    network = problem.to_network(result)
    assert isinstance(network, TwoLayerGatedReLU) == problem.gated
    U, alpha = as_numpy(network.U), as_numpy(network.alpha)  # (m, d), (m, c)
    active = X @ (as_numpy(network.gates) if problem.gated else U).T >= 0
    outputs = (active * (X @ U.T)) @ alpha
    decay = 0.5 * problem.beta * ((U**2).sum() + (alpha**2).sum())
    np.testing.assert_allclose(loss_value(loss, outputs, Y) + decay, primal, rtol=1e-9)
    np.testing.assert_allclose(problem.objective(network), primal, rtol=1e-9)
    with torch.no_grad():
        np.testing.assert_allclose(as_numpy(network(problem.X)), outputs, atol=1e-12)
    per_neuron = (alpha != 0).sum(axis=1)
    if problem.penalty_name == "nuclear":
        assert network.n_neurons <= len(masks) * min(X.shape[1], Y.shape[1])
    else:
        assert (per_neuron == 1).all()
    return network


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("seed", "loss"),
    [*((seed, "squared") for seed in range(20)), (0, "logistic"), (1, "logistic"),
     (2, "squared_hinge"), (3, "squared_hinge")],
)  # fmt: skip
def test_value_is_that_of_the_program_written_out(seed, loss, kind):
    problem = instance(seed, kind, loss)
    result = cl.solve(problem, tol=1e-7)
    check(problem, result, tol=1e-7)
    assert result.converged
    assert result.value == pytest.approx(written_out(problem), rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loss", NAMES)
def test_one_output_is_the_scalar_program(loss, kind):
    problem = instance(5, kind, loss, n=8, c=1, fraction=0.1)
    scalar = cl.TwoLayer(
        problem.X,
        problem.y[:, 0],
        beta=problem.beta,
        arrangements=problem.arrangements,
        gated=problem.gated,
        loss=loss,
    )
    assert problem.beta_max() == pytest.approx(scalar.beta_max(), rel=1e-12)
    result, plain = cl.solve(problem, tol=1e-8), cl.solve(scalar, tol=1e-8)
    assert result.value == pytest.approx(plain.value, rel=2e-8)
    assert scalar.value(result.weights[..., 0]) == pytest.approx(result.value, rel=1e-12)
    assert problem.value(plain.weights[..., None]) == pytest.approx(plain.value, rel=1e-12)


def test_columns_that_share_nothing_add_up():
    problem = instance(6, "one-output relu", n=7, c=3, fraction=0.1)
    result = cl.solve(problem)
    parts = [cl.solve(column) for column in problem.columns]
    assert result.value == pytest.approx(sum(part.value for part in parts), rel=1e-13)
    assert result.dual == pytest.approx(sum(part.dual for part in parts), rel=1e-13)
    assert result.n_iter == sum(part.n_iter for part in parts)
    for column in problem.columns:
        assert column.masks.data_ptr() == problem.masks.data_ptr()


def test_the_joint_network_needs_no_more_than_the_separate_ones():
    """||Z||_* is at most the sum of the columns' norms, and at least the largest of them."""
    joint = instance(7, "nuclear", n=7, c=3, fraction=0.2)
    options = {"beta": joint.beta, "arrangements": joint.arrangements, "gated": True}
    separate = cl.VectorOutput(joint.X, joint.y, **options)
    low, high = cl.solve(joint), cl.solve(separate)
    assert low.value < high.dual
    assert joint.value(high.weights) <= high.value * (1 + 1e-12)


@pytest.mark.parametrize("seed", [0, 2, 5])
def test_an_ordinary_network_lies_between_the_programs(seed):
    """Its optimum is below the separate programs, and above those at a smaller beta."""
    rng = np.random.default_rng(seed)
    X, Y, beta = rng.standard_normal((5, 2)), rng.standard_normal((5, 2)), 0.2
    inputs, targets = torch.from_numpy(X), torch.from_numpy(Y)

    def objective(U, A):  # (s, m, 2), (s, m, 2): neurons that feed all outputs
        error = torch.relu(inputs @ U.mT) @ A - targets
        weights = (U**2).sum(dim=(1, 2)) + (A**2).sum(dim=(1, 2))
        return 0.5 * (error**2).sum(dim=(1, 2)) + 0.5 * beta * weights

    reached = least_found(objective, [(12, 2), (12, 2)], starts=16, steps=800, polished=4)
    separate, lower, gated = (
        cl.solve(cl.VectorOutput(X, Y, beta=b, **KINDS[kind]), tol=1e-8).value
        for b, kind in (
            (beta, "one-output relu"), (beta / 2**0.5, "one-output relu"), (beta, "nuclear"),
        )
    )  # fmt: skip
    assert max(lower, gated) <= reached * (1 + 1e-7)  # proven
    assert reached < 0.95 * separate  # 8 to 15 percent below on these data


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", ["one sample", "wide", "no data", "zero targets", "equal rows"])
def test_degenerate_data(kind, shape):
    rng = np.random.default_rng(11)
    n, d = {"one sample": (1, 2), "wide": (3, 5)}.get(shape, (6, 2))
    X, Y = rng.standard_normal((n, d)), rng.standard_normal((n, 2))
    if shape == "no data":
        X = 0 * X
    elif shape == "zero targets":
        Y = 0 * Y
    elif shape == "equal rows":
        X[3:] = X[:3]
    problem = cl.VectorOutput(X, Y, beta=0.1, **KINDS[kind])
    result = cl.solve(problem)
    check(problem, result)
    assert result.converged


@pytest.mark.parametrize("kind", KINDS)
def test_unfinished_solves_warn_once(kind):
    problem = instance(12, kind, n=7, c=3, fraction=0.02)
    with pytest.warns(ConvergenceWarning, match=r"on VectorOutput\(.*Relative gap") as caught:
        result = cl.solve(problem, max_iter=1)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    check(problem, result)
    best = cl.solve(problem)
    assert result.value >= best.dual
    assert result.dual <= best.value


X6, Y6 = np.random.default_rng(0).standard_normal((6, 2)), np.ones((6, 3))


def refusals():
    problem = cl.VectorOutput(X6, Y6, beta=0.1)
    cases = [
        ({"penalty": "nuclear"}, ProblemError,
         r'penalty="nuclear" needs gated=True: with cone constraints the norm .* NP-hard'),
        ({"penalty": "l1"}, InputError, "penalty is 'l1'; expected one of 'one-output'"),
        ({"penalty": "nuclear", "gated": X6}, InputError, "gated is .*True or False"),
        ({"arrangements": "generate"}, InputError,
         r"arrangements is 'generate'; .*solve TwoLayer\(X, Y\[:, k\]"),
        ({"Y": Y6[:, 0]}, InputError, r"Y has shape \(6,\); .*Y\.reshape\(-1, 1\)"),
        ({"Y": Y6[:4]}, InputError, "Y has 4 rows; expected 6, one per row of X"),
        ({"Y": Y6 * np.nan}, InputError, r"Y contains 18 non-finite values"),
        ({"Y": torch.ones(6, 2)}, InputError, "X has dtype torch.float64 but Y has dtype"),
        ({"Y": 1e200 * Y6}, InputError, r"the largest entry of Y is 1\.0e\+200"),
        ({"Y": np.eye(6)[:, :2], "loss": "logistic"}, InputError,
         r"10 of the 12 entries of y are not labels .*Use 2 \* y - 1"),
        ({"beta": 0}, InputError, "expected beta > 0"),
        ({"max_patterns": 3}, TooManyArrangementsError, "max_patterns=3"),
    ]  # fmt: skip
    return [
        *((lambda options=options: cl.VectorOutput(**{"X": X6, "Y": Y6, "beta": 0.1} | options),
           kind, message) for options, kind, message in cases),
        (lambda: problem.objective(torch.nn.Linear(2, 2)),
         InputError, r"network returns shape \(6, 2\); expected \(6, 3\)"),
        (lambda: problem.to_network(torch.zeros(2, 3)),
         InputError, r"weights have shape \(2, 3\); expected \(2, 12, 2, 3\)"),
        (lambda: cl.certify(problem.to_network(problem.zeros()), X6, Y6[:, 0], beta=0.1),
         NotCertifiableError, "has 3 outputs; expected 1"),
    ]  # fmt: skip


test_refusals = refused(refusals())


def test_a_problem_describes_itself_and_keeps_its_options():
    problem = instance(0, "nuclear", "logistic")
    assert repr(problem).startswith("VectorOutput(gated, nuclear, n=")
    assert "logistic" in repr(problem)
    again = problem.with_beta(0.3).with_arrangements(problem.arrangements)
    assert (again.beta, again.penalty_name, again.gated) == (0.3, "nuclear", True)
    assert again.loss.name == "logistic"


STALLED = np.array([[0.19, -0.52, 1.0], [-2.4, 1.8, 1.0], [-0.33, 0.77, 1.0]])
TINY = [[2.7e-62, -1.7e-64, 2.8e-68], [-1.7e-62, 2.7e-64, -2.7e-68], [-3e-62, 0.0, 0.0]]
SMALL = 1e-70 * np.array([[0.65, 1.6, 1.0], [2.2, -0.3, 1.0], [-1.5, -1.4, 1.0]])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("X", "Y", "gated", "tol"),
    [(STALLED, np.ones((3, 2)), True, 1e-6), (TINY, SMALL, False, 1e-300)],
)
def test_the_least_penalty_of_all_ends_without_a_fault(X, Y, gated, tol):
    """Columns that all converge may stall together; tiny data are not divided by zero."""
    result = cl.solve(cl.VectorOutput(X, Y, beta=5e-324, gated=gated), tol=tol)
    assert result.converged == (result.status is cl.Status.CONVERGED)
    rounding = 1e-15 * (Y**2).sum()  # of the terms of both, which cancel
    assert 0.0 <= result.dual <= result.value + rounding
