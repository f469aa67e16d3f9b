"""Samples that are nearly equal: units that are told apart, and bounds in exact arithmetic.

Mirrors of samples at a distance of 1e-10 differ by as little, and beside a weak beta that decides.
The largest correlation of all units with the dual point of a result is computed in fractions.
"""

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.arrangements.zonotope import subset_normals
from convexlib.errors import ConvergenceWarning, InputError
from convexlib.problems.looking_glass import AbsoluteUnits

pytestmark = pytest.mark.filterwarnings(
    f"ignore::{ConvergenceWarning.__module__}.ConvergenceWarning"
)

KINDS = {
    ("relu", 2): (
        lambda x, y, beta: cl.Mirrors(x, y, beta=beta),
        lambda x, y, beta: cl.WedgeLasso(x[:, None], y, beta=beta, bias=True),
    ),
    **{
        ("abs", depth): (
            lambda x, y, beta, depth=depth: cl.Mirrors(
                x, y, beta=beta, activation="abs", depth=depth
            ),
            lambda x, y, beta, depth=depth: cl.ReflectionLasso(
                x[:, None], y, beta=beta, depth=depth
            ),
        )
        for depth in (2, 3)
    },
}  # fmt: skip


def fractions(values):
    return [Fraction(value) for value in values.tolist()]


def centred(z):
    return [value - sum(z) / len(z) for value in z]


def units_on_a_line(x, kind, depth):
    """All units that can be best, on the samples, from the theorems."""
    samples = fractions(x)
    points = set(samples)
    if kind == "relu":
        sides = [[side * (t - p) for t in samples] for p in points for side in (1, -1)]
        return [[max(t, 0) for t in side] for side in sides]
    if depth == 2:
        return [[abs(t - p) for t in samples] for p in points]
    folds = points | {(a + b) / 2 for a, b in combinations(points, 2)}
    return [[abs(abs(t - m) - abs(a - m)) for t in samples] for m in folds for a in points]


def units_in_the_plane(X, relu):
    """Units with a free bias and ||w||_1 = 1: lines through two samples, or one along an axis."""
    samples = [(*fractions(row), Fraction(1)) for row in X]
    one, zero = Fraction(1), Fraction(0)
    units = []
    for a, b in combinations({*samples, (one, zero, zero), (zero, one, zero)}, 2):
        u = [a[i - 2] * b[i - 1] - a[i - 1] * b[i - 2] for i in range(3)]
        size = abs(u[0]) + abs(u[1])
        if size:
            outputs = [sum(s * t for s, t in zip(u, row, strict=True)) / size for row in samples]
            if relu:
                units += [[max(t, 0) for t in outputs], [max(-t, 0) for t in outputs]]
            else:
                units.append([abs(t) for t in outputs])
    return units


def leaky_units(x, depth, slope):
    found = {tuple(fractions(x))}
    for _ in range(depth - 1):
        inner = [[s * (t - a) for t in h] for h in found for a in h for s in (1, -1)]
        found = {tuple(t if t >= 0 else Fraction(slope) * t for t in h) for h in inner}
    return found


def check_feasible(problem, result, units):
    """No unit has a larger correlation than beta with the dual point, to the last digit."""
    z = centred(fractions(result.z.numpy()))
    for unit in units:
        assert abs(sum(s * t for s, t in zip(unit, z, strict=True))) <= Fraction(problem.beta)
    y = fractions(problem.y.numpy())
    bound = sum(s * t - t * t / 2 for s, t in zip(y, z, strict=True))
    assert result.dual == pytest.approx(float(bound), rel=1e-12)


def near_equal(seed, d=None):
    """Up to five samples, one or two of them twice at a distance of 1e-8 to 1e-15, and a part."""
    rng = np.random.default_rng(seed)
    distance, part = 10 ** -rng.uniform(8, 15.5), 10 ** -rng.uniform(2, 12)
    n, twice = int(rng.integers(3, 5)), int(rng.integers(1, 3))
    shape = (n,) if d is None else (n, d)
    x = np.round(2 * rng.standard_normal(shape)) / 5 + (seed % 3) if seed % 2 else rng.random(shape)
    moved = x[:twice] + distance * rng.standard_normal(x[:twice].shape)
    x = np.concatenate([x, moved])
    return x, rng.standard_normal(len(x)), part


@pytest.mark.parametrize(("kind", "depth"), KINDS)
@pytest.mark.parametrize("seed", range(20))
def test_bounds_on_a_line_hold_exactly(seed, kind, depth):
    x, y, part = near_equal(seed)
    first, second = KINDS[kind, depth]
    beta = part * first(x, y, 1.0).beta_max() or 1.0
    results = []
    for problem in (first(x, y, beta), second(x, y, beta)):
        results.append(cl.solve(problem, tol=1e-8))
        check_feasible(problem, results[-1], units_on_a_line(x, kind, depth))
    # The value of one program is that of networks of the other.
    for one, other in (results, results[::-1]):
        assert one.dual <= other.value * (1 + 1e-12)


@pytest.mark.parametrize("kind", ["relu", "abs"])
@pytest.mark.parametrize("seed", range(10))
def test_bounds_in_the_plane_hold_exactly(seed, kind):
    X, y, part = near_equal(seed, 2)

    def problem(beta):
        if kind == "abs":
            return cl.ReflectionLasso(X, y, beta=beta, depth=2)
        return cl.WedgeLasso(X, y, beta=beta, bias=True)

    weak = problem(part * problem(1.0).beta_max() or 1.0)
    check_feasible(weak, cl.solve(weak, tol=1e-8), units_in_the_plane(X, kind == "relu"))


@pytest.mark.parametrize("seed", range(6))
def test_bounds_of_leaky_networks_hold_exactly(seed):
    x, y, part = near_equal(seed)
    free = cl.Mirrors(x[-4:], y[-4:], beta=1.0, activation="leaky", depth=3, slope=0.1)
    problem = free.with_beta(part * free.beta_max() or 1.0)
    check_feasible(problem, cl.solve(problem, tol=1e-8), leaky_units(x[-4:], 3, 0.1))


def test_a_network_below_what_was_a_bound():
    """Mirrors of samples nearer than 1e-10 were one: the bound was 2.2167."""
    x = np.array([-1.0, 0.3, 1.0, -0.9999999999519953, 0.29999999982294717])
    y = np.array([1.09664928622225, 0.272187751724020, 1.35652183313720, -0.710463436217125,
                  -2.09447365121968])  # fmt: skip
    beta = 1.504128511249239e-10
    lasso = cl.ReflectionLasso(x[:, None], y, beta=beta, depth=2)
    assert lasso.n_features == 5
    line = cl.Mirrors(x, y, beta=beta, activation="abs", depth=2)
    found = line.to_network(cl.solve(line))
    nothing = torch.zeros(0, found.n_units, dtype=torch.float64)
    network = AbsoluteUnits(
        found.weights[0][:, None], found.biases[0], nothing, nothing, found.alpha, found.bias
    )
    assert lasso.objective(network) == pytest.approx(2.105267, abs=1e-6)
    assert cl.solve(lasso).dual <= lasso.objective(network)


@pytest.mark.parametrize(
    ("beta", "value"), [(3.579e-11, 0.124106), (3.579e-10, 0.138583), (3.579e-9, 0.227201)]
)
def test_columns_of_nearly_equal_samples_are_told_apart(beta, value):
    """Of columns that agreed to nine digits one was kept: the first value was 0.128862."""
    x = np.array([-1.0, 0.3, 1.0, -0.9999999998769846, 0.30000002987455376])
    y = np.array([-0.274137855362218, -0.890591838757274, -0.454670785171723, -0.991646554996462,
                  0.0601436025974385])  # fmt: skip
    line = cl.Mirrors(x, y, beta=beta, activation="abs", depth=3)
    assert cl.solve(line, tol=1e-8).value == pytest.approx(value, abs=1e-6)
    plane = cl.ReflectionLasso(x[:, None], y, beta=beta, depth=3)
    assert cl.solve(plane, tol=1e-8).value == pytest.approx(value, abs=1e-6)


def test_wedges_of_samples_that_share_twelve_digits():
    """Normals that agreed to twelve digits were one: the bound was 1.255."""
    rng = np.random.default_rng(249)
    distance, part = 10 ** -rng.uniform(9, 12), 10 ** -rng.uniform(8, 12)
    base = np.array([-1.0, 0.3, 1.0])
    x = np.concatenate([base, base[:2] + distance * rng.normal(size=2)])
    y = rng.normal(size=5)
    line = cl.Mirrors(x, y, beta=1.0)
    line = line.with_beta(part * line.beta_max())
    wedges = cl.WedgeLasso(x[:, None], y, beta=line.beta, bias=True)
    assert wedges.n_features == 8  # two ramps at each sample, but for those that are zero
    assert cl.solve(wedges, tol=1e-8).dual <= cl.solve(line, tol=1e-8).value
    check_feasible(wedges, cl.solve(wedges), units_on_a_line(x, "relu", 2))


@pytest.mark.parametrize("step", [1.0, 0.1, 0.7 / 3])
def test_ties_of_a_grid_are_found_in_spite_of_rounding(step):
    x, y = step * np.arange(8), np.zeros(8)
    sizes = [
        cl.Mirrors(x, y, beta=1.0, activation=activation, depth=depth).n_features
        for activation in ("abs", "leaky")
        for depth in (3, 4)
    ]
    assert sizes == [40, 215, 85, 377]
    sizes = [
        cl.ReflectionLasso(x[:, None], y, beta=1.0, depth=depth).n_features for depth in (2, 3)
    ]
    assert sizes == [8, 68]
    grid = step * np.array([[a, b] for a in range(3) for b in range(3)], dtype=float)
    assert cl.WedgeLasso(grid, np.zeros(9), beta=1.0, bias=True).n_features == 36


@pytest.mark.parametrize("distance", [1e-6, 1e-9, 1e-12, 1e-14])
def test_normals_of_nearly_parallel_rows_are_told_apart(distance):
    rows = np.array([[1.0, 0.0], [0.6, 0.8], [0.6 - 0.8 * distance, 0.8 + 0.6 * distance]])
    assert len(subset_normals(rows)) == 3


@pytest.mark.parametrize("seed", range(8))
def test_beta_max_that_is_rounding_is_zero(seed):
    """Each sample twice, with targets of one mean: every network is a constant at best."""
    rng = np.random.default_rng(seed)
    x, a = np.repeat(rng.standard_normal(5), 2), 3.3 * rng.random(5)
    y = np.stack([a, 1.7 - a], axis=1).ravel()
    problems = [kind(x, y, 1.0) for pair in KINDS.values() for kind in pair]
    problems.append(cl.Mirrors(x, y, beta=1.0, activation="threshold"))
    problems.append(cl.Mirrors(x, y, beta=1.0, activation="leaky", depth=3))
    for problem in problems:
        assert problem.dual_norm(problem.y) < 1e-13
        assert problem.beta_max() == 0.0
        with pytest.raises(InputError, match="beta is 0; expected beta > 0"):
            problem.with_beta(0.1 * problem.beta_max())
    assert cl.Mirrors(x, y + (x == x[0]), beta=1.0).beta_max() > 0.1  # more than rounding
