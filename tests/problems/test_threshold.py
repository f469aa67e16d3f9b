r"""Threshold networks: all binary patterns as columns of a Lasso, and the two sup-norms they make.

A network of threshold units with two hidden layers or more can put out every pattern of zeros and
ones on distinct samples, at the price of its output weight alone. Training is then a Lasso over all
2^n - 1 nonzero patterns, whose penalty is, as a function of the outputs d,

    min { sum_S |w_S| : sum_S w_S 1_S = d }  =  max_t (d_t)_+  +  max_t (-d_t)_+ .

Proof. At the largest entry, max_t (d_t)_+ is a sum of weights, so at most the sum of the positive
ones; likewise for the smallest entry and the negative ones: ">=". For "<=", cut d_+ into layers:
with its distinct values 0 = a_0 < a_1 < ... the patterns {d >= a_k} with weights a_k - a_{k-1} sum
to d_+ and cost its maximum. The same for -d, with negative weights.
"""

from itertools import product

import cvxpy as cp
import numpy as np
import pytest
import torch
from scipy.optimize import linprog

import convexlib as cl
from convexlib.errors import InputError, ProblemError, TooManyArrangementsError
from convexlib.problems.threshold import ThresholdNetwork
from tests.helpers.references import cvxpy_loss, loss_value, targets_for
from tests.helpers.refusals import refused
from tests.helpers.two_layer import gaussian

ACCURATE = {"solver": cp.CLARABEL, "tol_gap_abs": 1e-11, "tol_gap_rel": 1e-11, "tol_feas": 1e-11}


def draw(seed: int) -> tuple[np.ndarray, float]:
    rng = np.random.default_rng(seed)
    n = 2 + seed % 7
    return rng.standard_normal(n), 10 ** rng.uniform(-2, 0)


def sup_norms(y: np.ndarray, beta: float, free_constant: bool = False) -> tuple[float, np.ndarray]:
    """Optimal value and outputs d of the program with two sup-norms."""
    d, constant = cp.Variable(len(y)), cp.Variable() if free_constant else 0.0
    penalty = cp.max(cp.pos(d)) + cp.max(cp.pos(-d))
    problem = cp.Problem(cp.Minimize(0.5 * cp.sum_squares(d + constant - y) + beta * penalty))
    return problem.solve(**ACCURATE), d.value


@pytest.mark.parametrize("seed", range(20))
def test_mirrors_with_enough_switches_have_all_patterns(seed: int) -> None:
    y, beta = draw(seed)
    x = np.random.default_rng(100 + seed).standard_normal(len(y))
    if len(y) < 3:
        x, y = np.append(x, 3.0), np.append(y, 0.5)
    problem = cl.Mirrors(x, y, beta=beta, depth=3, activation="threshold", widths=len(y))
    value = cl.solve(problem, tol=1e-8).value
    assert value == pytest.approx(sup_norms(y, beta, free_constant=True)[0], rel=1e-6, abs=1e-8)


def test_one_switch_is_enough_for_monotone_targets_only() -> None:
    rng = np.random.default_rng(0)
    x, y = np.sort(rng.standard_normal(7)), rng.standard_normal(7)
    for targets, equal in ((np.sort(y), True), (np.sort(y)[::-1].copy(), True), (y, False)):
        problem = cl.Mirrors(x, targets, beta=0.1, activation="threshold")
        shallow = cl.solve(problem, tol=1e-9).value
        deep = sup_norms(targets, 0.1, free_constant=True)[0]
        assert shallow >= deep * (1 - 1e-7)
        assert (shallow == pytest.approx(deep, rel=1e-6)) == equal


# --- Threshold networks: patterns by linear programs, the Lasso by CVXPY, networks by loops ---


def instance(seed, n=8, d=2, loss="squared", fraction=0.2):
    rng = np.random.default_rng(seed)
    X = np.column_stack([rng.standard_normal((n, d)), np.ones(n)])
    y = targets_for(loss, rng.standard_normal(n))
    problem = cl.Threshold(X, y, beta=1.0, loss=loss)
    return problem.with_beta(fraction * problem.beta_max())


def reachable(X):
    """All patterns 1[Xu >= 0], u anywhere: a linear program for every subset of the samples."""
    found = set()
    for pattern in product((False, True), repeat=len(X)):
        on = np.array(pattern)
        rows = np.concatenate([-X[on], X[~on]])
        limits = np.concatenate([np.zeros(on.sum()), -np.ones((~on).sum())])
        if linprog(np.zeros(X.shape[1]), rows, limits, bounds=(None, None)).status == 0:
            found.add(pattern)
    return found


def lasso(patterns, y, beta, loss):
    D = np.array(sorted(patterns), dtype=float).T
    w = cp.Variable(D.shape[1])
    problem = cp.Problem(cp.Minimize(cvxpy_loss(loss, D @ w, y) + beta * cp.norm1(w)))
    problem.solve(solver=cp.CLARABEL)
    return problem.value


def by_loops(network, X, y, beta, loss):
    U, s, a = (p.detach().numpy() for p in (network.U, network.amplitude, network.alpha))
    fitted = [sum(s[j] * a[j] for j in range(len(a)) if x @ U[j] >= 0) for x in np.asarray(X)]
    return loss_value(loss, np.array(fitted), y) + 0.5 * beta * ((s**2).sum() + (a**2).sum())


@pytest.mark.parametrize("loss", ["squared", "logistic", "squared_hinge"])
@pytest.mark.parametrize("seed", range(3))
def test_the_optimum_is_the_lasso_over_all_reachable_patterns(seed, loss):
    problem = instance(seed, n=7, loss=loss)
    X, y = problem.inputs.numpy(), problem.y.numpy()
    patterns = reachable(X)
    assert {tuple(m) for m in problem.arrangements.masks.tolist()} == patterns
    result = cl.solve(problem, tol=1e-8)
    assert result.converged
    assert result.value == pytest.approx(lasso(patterns, y, problem.beta, loss), rel=1e-6)
    network = problem.to_network(result)
    assert problem.objective(network) == pytest.approx(result.value, rel=1e-10)
    assert by_loops(network, X, y, problem.beta, loss) == pytest.approx(result.value, rel=1e-10)


def test_grids_have_all_their_patterns():
    X = np.array([(a, b, 1.0) for a in range(3) for b in range(2)])
    problem = cl.Threshold(X, np.arange(6.0), beta=0.1)
    assert {tuple(m) for m in problem.arrangements.masks.tolist()} == reachable(X)


def test_without_a_bias_hyperplanes_have_patterns_that_cells_lack():
    X, y = np.array([[1.0], [-1.0]]), np.ones(2)
    cells = cl.enumerate_arrangements(X)
    assert {tuple(m) for m in cells.masks.tolist()} == {(True, False), (False, True)}
    assert (True, True) in reachable(X)  # u = 0
    with pytest.raises(ProblemError, match="Append a column of ones"):
        cl.Threshold(X, y, beta=0.1)
    # The value over the cells alone would be too large: two units cost twice as much as one.
    given = cl.solve(cl.Threshold(X, y, beta=0.1, arrangements=cells), tol=1e-9).value
    assert given == pytest.approx(0.19, rel=1e-6)
    assert lasso(reachable(X), y, 0.1, "squared") == pytest.approx(0.0975, rel=1e-6)


def test_no_random_network_is_below():
    problem = instance(3)
    result = cl.solve(problem, tol=1e-9)
    rng = np.random.default_rng(0)
    for size in (0.1, 0.3, 1.0):
        for _ in range(200):
            U, (s, a) = rng.standard_normal((6, 3)), size * rng.standard_normal((2, 6))
            network = ThresholdNetwork(*map(torch.from_numpy, (U, s, a)))
            assert problem.objective(network) > result.dual
    network = problem.to_network(result)
    scaled = ThresholdNetwork(7.0 * network.U, network.amplitude, network.alpha)
    assert problem.objective(scaled) == problem.objective(network)
    unbalanced = ThresholdNetwork(network.U, 2.0 * network.amplitude, 0.5 * network.alpha)
    assert problem.objective(unbalanced) > problem.objective(network)


def test_sampled_patterns_give_upper_bounds():
    problem = instance(5, n=15)
    best = cl.solve(problem, tol=1e-8)
    sampled = problem.with_arrangements(cl.sample_arrangements(problem.inputs, 15, seed=0))
    assert cl.solve(sampled, tol=1e-8).value > best.value * (1 + 1e-4)
    assert "Threshold(n=15, d=3" in repr(sampled)


def refusals():
    X, y = np.ones((3, 1)), np.ones(3)
    problem, other = cl.Threshold(X, y, beta=0.1), cl.enumerate_arrangements(gaussian(4, 2, 7)[0])
    return [
        (lambda: cl.Threshold(X, y, beta=0.1, arrangements="generate"),
         InputError, "sample_arrangements"),
        (lambda: cl.Threshold(X, y, beta=0.1, arrangements=cl.enumerate_arrangements([[1.0]])),
         InputError, r"masks has shape \(2, 1\)"),
        (lambda: cl.Threshold(*gaussian(4, 2), beta=0.1, arrangements=other),
         InputError, "gates that do not have its masks on X"),
        (lambda: cl.Threshold(*gaussian(9, 3), beta=0.1, max_patterns=5),
         TooManyArrangementsError, "max_patterns=5"),
        (lambda: problem.objective(torch.nn.Linear(1, 1).double()),
         InputError, "expected a ThresholdNetwork"),
        (lambda: ThresholdNetwork(torch.ones(2, 1), torch.ones(2), torch.ones(3)),
         InputError, r"expected \(m, d\), \(m,\) and \(m,\)"),
    ]  # fmt: skip


test_refusals = refused(refusals())
