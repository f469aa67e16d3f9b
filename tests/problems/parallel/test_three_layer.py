"""Three layers: the circle instance with its wrong variants, other formulations, and networks."""

import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.errors import (
    ConvergenceWarning,
    InputError,
    ProblemError,
    SolverError,
    TooManyArrangementsError,
)
from tests.helpers.refusals import refused
from tests.helpers.searches import least_found
from tests.helpers.three_layer import circle, degenerate, forward, program_value, seed_one

EXACT = 0.07265342213  # proven on the circle, over all networks of width 2


def check_network(problem: cl.ThreeLayer, result: cl.Result) -> None:
    """The network has the program's value, by loops, and respects its constraint."""
    network = problem.to_network(result)
    X, y = problem.X.numpy(), problem.y.numpy()
    w_2, w_3 = network.inner[0].detach(), network.alpha.detach()
    decay = float((w_2**2).sum() + (w_3**2).sum())
    value = 0.5 * np.sum((forward(network, X) - y) ** 2) + 0.5 * problem.beta * decay
    np.testing.assert_allclose(value, result.value, rtol=1e-10)
    np.testing.assert_allclose(problem.objective(network), result.value, rtol=1e-10)
    norms = torch.linalg.vector_norm(network.U, dim=(1, 2)).detach().numpy()
    np.testing.assert_allclose(norms, 1.0, rtol=1e-12)
    assert network.n_subnetworks <= len(y) + 1
    assert problem.violation(result.weights) <= 1e-10


def solved_over(units: cl.Units) -> cl.Result:
    X, y, beta = circle()
    return cl.solve(cl.ThreeLayer(X, y, beta=beta, units=units))


def test_circle_is_solved_over_all_networks() -> None:
    X, y, beta = circle()
    problem = cl.ThreeLayer(X, y, beta=beta, width=2)
    result = cl.solve(problem, tol=1e-8)
    assert result.converged
    assert result.scope == "network"
    assert problem.scope == "network"
    assert result.dual - 1e-11 <= EXACT <= result.value + 1e-11
    assert abs(result.value - EXACT) < 1e-9
    assert result.value < 0.072739  # the best non-convex run known
    check_network(problem, result)
    assert repr(problem).startswith("ThreeLayer(n=9, d=2, widths=(2,), all ")
    # The bound does not lean on the solver: no random unit exceeds beta at z.
    z = result.z.numpy()
    rng = np.random.default_rng(0)
    U = rng.standard_normal((20000, 2, 2)) * rng.random((20000, 2, 1))
    for signs in ([1, 1], [1, -1]):
        hidden = np.maximum(np.einsum("td,kjd->ktj", X, U), 0.0) @ np.array(signs, dtype=float)
        heights = np.maximum(hidden, 0.0) @ z / np.linalg.norm(U, axis=2).sum(axis=1)
        assert np.abs(heights).max() <= beta


def test_circle_rejects_wrong_variants() -> None:
    X, y, beta = circle()
    units = cl.enumerate_units(X)
    shared = units.select((units.leaves[:, 0] == units.leaves[:, 1]).all(axis=1))
    assert not shared.exhaustive
    assert solved_over(shared).value == pytest.approx(0.130659, abs=1e-6)
    assert solved_over(shared).scope == "program"
    plus = units.select((units.inner[0] == 1).all(axis=(1, 2)))
    assert solved_over(plus).value == pytest.approx(0.146395, abs=1e-6)
    two = cl.solve(cl.TwoLayer(X, y, beta=beta)).value
    assert two == pytest.approx(0.146395, abs=1e-6)
    one = cl.solve(cl.ThreeLayer(X, y, beta=beta, width=1)).value
    assert one == pytest.approx(two, rel=1e-6)


def test_units_of_other_data_bound_no_network() -> None:
    """Those of samples on a line are all of theirs, and miss most of what the plane has."""
    X, y, beta = circle()
    line = cl.enumerate_units(X * [1.0, 0.0])
    assert line.exhaustive
    restricted = cl.solve(cl.ThreeLayer(X, y, beta=beta, units=line))
    assert restricted.dual > 2.0 * EXACT  # above what a network attains
    assert restricted.scope == "program"
    assert "some" in repr(cl.ThreeLayer(X, y, beta=beta, units=line))


@pytest.mark.parametrize("seed", range(3))
def test_sampled_units_give_an_upper_bound(seed: int) -> None:
    X, y, beta = circle()
    units = cl.sample_units(X, 1000, seed=seed)
    results = []
    for count in (100, len(units)):
        problem = cl.ThreeLayer(X, y, beta=beta, units=units.select(slice(count)))
        results.append(cl.solve(problem))
        assert results[-1].scope == "program"
        assert results[-1].converged
        check_network(problem, results[-1])
    # More of the same units: no larger, up to the solver's gap; none below the optimum.
    assert results[1].value >= EXACT - 1e-9
    assert results[1].dual <= results[0].value


def test_no_descent_goes_below() -> None:
    X, y, beta = circle()
    problem = cl.ThreeLayer(X, y, beta=beta)
    result = cl.solve(problem)

    def objective(U, w, a):
        unit = U / torch.linalg.vector_norm(U, dim=(2, 3), keepdim=True)
        hidden = torch.relu(torch.einsum("td,skjd->stkj", problem.X, unit))
        fitted = (torch.relu((hidden * w[:, None]).sum(dim=3)) * a[:, None]).sum(dim=2)
        decay = (w**2).sum(dim=(1, 2)) + (a**2).sum(dim=1)
        return 0.5 * ((fitted - problem.y) ** 2).sum(dim=1) + 0.5 * beta * decay

    start = problem.to_network(result)
    centre = [part.detach() for part in (start.U, start.inner[0][:, 0], start.alpha)]
    shapes = [tuple(part.shape) for part in centre]
    reached = least_found(objective, shapes, around=centre, starts=16, steps=400, polished=4)
    assert result.dual <= reached < 0.12


KINDS = ("general", "negative sign", "bias", "zero row", "twice the same row", "opposite rows",
         "rank one", "one column")  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_the_program_without_reductions(kind: str, seed: int) -> None:
    # 24 instances against the program written in CVXPY with all units and no reduction.
    number = 100 * KINDS.index(kind) + seed
    X, y = degenerate(kind, number, n=2 if seed == 0 and kind in KINDS[:3] else 3)
    beta = 10 ** np.random.default_rng(number).uniform(-2, -0.5)
    problem = cl.ThreeLayer(X, y, beta=beta)
    result = cl.solve(problem, tol=1e-8)
    assert result.scope == "network"
    expected = program_value(X, y, beta, "sum")
    assert result.value == pytest.approx(expected, rel=1e-6)
    check_network(problem, result)


def test_scaling_and_signs() -> None:
    X, y, beta = seed_one()
    units = cl.enumerate_units(X)
    for factor in (-1.0, 1e-4, 1e5):
        problem = cl.ThreeLayer(X, factor * y, beta=abs(factor) * beta, units=units)
        assert cl.solve(problem).value == pytest.approx(factor**2 * 0.08329119, rel=1e-6)
    for factor in (1e-3, 1e4):
        problem = cl.ThreeLayer(factor * X, y, beta=factor * beta, units=units)
        assert cl.solve(problem).value == pytest.approx(0.08329119, rel=1e-6)


def test_a_stopped_solve_says_so_and_its_bound_holds() -> None:
    X, y, beta = circle()
    problem = cl.ThreeLayer(X, y, beta=beta)
    with pytest.warns(ConvergenceWarning, match="units on ThreeLayer.*stopped at"):
        result = cl.solve(problem, max_iter=4)
    assert not result.converged
    assert result.n_iter == 4
    assert result.dual < EXACT < result.value
    check_network(problem, result)


def refusals():
    X, y, beta = seed_one()
    problem = cl.ThreeLayer(X, y, beta=beta)
    network = problem.to_network(problem.zeros() + 1.0)
    double = cl.ParallelReLU(2 * network.U, list(network.inner), network.alpha)
    large, ones = np.random.default_rng(0).standard_normal((500, 30)), np.ones(500)
    deep = cl.sample_units(X, 3, depth=4)
    ways_out = r"Raise max_units, or pass units=sample_units\(X, n_units=..., width"
    return [
        (lambda: problem.objective(double), ProblemError, "Frobenius norm 2; expected at most 1"),
        (lambda: problem.objective(torch.nn.Linear(2, 1)),
         ProblemError, "expected a ParallelReLU with one inner"),
        (lambda: cl.ThreeLayer(X, y, beta=beta, width=1).objective(network),
         ProblemError, "have width 2; expected at most 1"),
        (lambda: cl.ThreeLayer(X, y, beta=beta, units="all"),
         InputError, "units is str 'all'; expected Units from"),
        (lambda: cl.ThreeLayer(X, y, beta=beta, width=1, units=problem.units),
         InputError, r"units have widths \(2,\) and 4 samples; expected"),
        # Narrower units are some of the network's, but their list was proven to be all.
        *((lambda units=units: problem.with_units(units), InputError, message)
          for units, message in (
            (cl.enumerate_units(X, width=1), r"units have widths \(1,\) and 4 samples; expected"),
            (deep, r"units have widths \(2, 2\) and 4 samples; expected"),
            (cl.enumerate_units(X[:3]), r"units have widths \(2,\) and 3 samples; expected"),
            (None, "units is NoneType 'None'; expected Units from"),
            ("generate", "units is str 'generate'; expected Units from"),
        )),
        (lambda: cl.PathRegularized(X, y, beta=beta, depth=4, units=deep).with_units(
            deep.select([])), ProblemError, "with depth=4: only sub-networks of depth 3"),
        (lambda: problem.to_network(torch.zeros(1, 2)),
         InputError, r"weights have shape \(1, 2\); expected"),
        (lambda: cl.solve(cl.TwoLayer(X, y, beta=beta), method="units"),
         SolverError, "units needs ThreeLayer or PathRegularized; got Two"),
        (lambda: cl.solve(problem, method="fista"),
         SolverError, "fista needs .*; got ThreeLayer.*'units' or 'oracle'"),
        (lambda: cl.ThreeLayer(large[:20, :4], ones[:20], beta=0.1),
         TooManyArrangementsError, rf"up to 8074760 choices of units of width.*{ways_out}=2"),
        (lambda: cl.ThreeLayer(large[:12, :4], ones[:12], beta=0.1, width=6),
         TooManyArrangementsError, rf"up to [0-9.e+]+ choices.*{ways_out}=6.*units=\"generate\""),
        (lambda: cl.ThreeLayer(large, ones, beta=0.1),
         TooManyArrangementsError, r"X has shape \(500, 30\): up to .* patterns"),
    ]  # fmt: skip


test_refusals = refused(refusals())
