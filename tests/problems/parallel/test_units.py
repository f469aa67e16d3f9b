"""The list of units: complete, free of duplicates, and refused when it would explode."""

import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.cones.unit_cones import UnitCones
from convexlib.errors import InputError, TooManyArrangementsError
from convexlib.problems.parallel import Units
from convexlib.problems.parallel.units import units_of
from tests.helpers.refusals import EYE, refused
from tests.helpers.three_layer import circle, degenerate, planar_patterns


def keys(units: Units) -> set:
    """Units of depth 3 up to permutations, without those that reductions 3 and 4 leave out."""
    found = set()
    for leaves, (signs,), outputs in zip(units.leaves, units.inner[0], units.outputs, strict=True):
        positive = leaves[signs > 0].any(axis=0)
        if leaves.any(axis=1).all() and (leaves[signs < 0] & positive).any(axis=1).all():
            pairs = sorted((int(s), leaf.tobytes()) for s, leaf in zip(signs, leaves, strict=True))
            gate = outputs.any(axis=1)
            found.add((tuple(pairs), gate.tobytes()))
    return found


@pytest.mark.parametrize(
    "kind", ["general", "zero row", "opposite rows", "grid", "rank one", "bias"]
)
@pytest.mark.parametrize("width", [2, 3])
def test_every_sampled_unit_is_in_the_list(kind: str, width: int) -> None:
    X, _ = degenerate(kind, 4, n=6 if width == 2 else 4)
    units = cl.enumerate_units(X, width=width)
    assert units.exhaustive
    listed = keys(units)
    assert len(listed) == len(units)
    sampled = keys(cl.sample_units(X, 4000, width=width, seed=1))
    assert len(sampled) > 3
    assert sampled <= listed


def test_circle_units_are_complete_and_counted() -> None:
    X, _, _ = circle()
    units = cl.enumerate_units(X)
    assert units.exhaustive
    assert repr(units) == "Units(1593 units of 2 leaves, depth 3, 9 samples, exhaustive)"
    # All-plus pairs need one unit each: 18 patterns give 171 multisets.
    assert (units.inner[0] == 1).all(axis=(1, 2)).sum() == 171
    assert keys(cl.sample_units(X, 20000)) <= keys(units)


def test_second_layer_patterns_are_those_of_all_cells() -> None:
    # A plus and a minus leaf with the same pattern: the sum is D X (u_1 - u_2), u_1 - u_2 any
    # vector, so the second-layer patterns are those of the active samples, less the silent one.
    X, _, _ = circle()
    units = cl.enumerate_units(X)
    mixed = units.inner[0][:, 0].sum(axis=1) == 0
    for pattern in planar_patterns(X).T:
        same = mixed & (units.leaves == pattern).all(axis=(1, 2))
        gates = {gate.tobytes() for gate in units.outputs[same].any(axis=2)}
        expected = {gate.tobytes() for gate in planar_patterns(X[pattern]).T if gate.any()}
        assert same.sum() == len(gates) == len(expected)


@pytest.mark.parametrize(("width", "depth"), [(2, 3), (3, 3), ((2, 2), 4), ((1, 2, 1), 5)])
def test_a_unit_is_the_network_on_its_cone(width, depth: int) -> None:
    rng = np.random.default_rng(0)
    X = torch.from_numpy(rng.standard_normal((3, 2)))
    widths = (width,) * (depth - 2) if isinstance(width, int) else width
    m = int(np.prod(widths))
    drawn, nodes, K = [], m, 200
    U = torch.from_numpy(rng.standard_normal((K, m, 2)))
    for children in widths:
        nodes //= children
        drawn.append(torch.from_numpy(rng.choice([-1.0, 1.0], (K, nodes, children))))
    units = cl.enumerate_units(X, width, depth)
    cones = UnitCones(X.numpy(), units.leaves, units.nodes, units.outputs)
    z = rng.standard_normal(3)
    highest = {b: cones.maxima(z, np.arange(len(units)), b)[1].max() for b in (False, True)}
    network = cl.ParallelReLU(U, drawn, torch.ones(K, dtype=torch.float64))
    hidden = network.hidden(X).detach().numpy()
    for k in range(K):
        if not hidden[:, k].any():
            continue
        unit = units_of(X, U[k : k + 1], [signs[k : k + 1] for signs in drawn])
        np.testing.assert_allclose(
            np.einsum("tj,td,jd->t", unit.outputs[0], X, U[k]), hidden[:, k], atol=1e-12
        )
        # No network beats the list: its height at a dual point is below the support functions.
        norms = {False: U[k].norm(), True: U[k].norm(dim=1).sum()}
        for by_sum, norm in norms.items():
            assert z @ hidden[:, k] / float(norm) <= highest[by_sum] + 1e-12


def test_depth_two_lists_the_patterns() -> None:
    X, _, _ = circle()
    units = cl.enumerate_units(X, depth=2)
    assert len(units) == 18
    assert units.inner == ()
    assert units.widths == ()


def test_data_of_zeros_have_one_silent_unit() -> None:
    units = cl.enumerate_units(np.zeros((3, 2)))
    problem = cl.ThreeLayer(np.zeros((3, 2)), np.ones(3), beta=0.1, units=units)
    assert cl.solve(problem).value == pytest.approx(1.5)


def test_a_violated_wall_of_a_node_is_measured_at_unit_length() -> None:
    problem = cl.ThreeLayer([[1.0]], [1.0], beta=1.0)
    signs, active = problem.units.inner[0][:, 0], problem.units.leaves.all(axis=(1, 2))
    (mixed,) = np.flatnonzero(active & (signs == [1, -1]).all(axis=1))
    weights = problem.zeros()
    weights[0, mixed] = torch.tensor([[1.0], [2.0]])  # the sum 1 - 2 should not be negative
    assert problem.violation(weights) == pytest.approx(2**-0.5)


UNITS = {
    "leaves": np.ones((2, 2, 3), dtype=bool),
    "inner": (np.ones((2, 1, 2), dtype=np.int8),),
    "nodes": np.ones((2, 1, 3, 2), dtype=np.int8),
    "outputs": np.ones((2, 3, 2), dtype=np.int8),
}


def test_arrays_and_lists_are_exhausted_too():
    units = cl.enumerate_units(EYE)
    assert units.exhausts(EYE)
    assert units.exhausts(EYE.tolist())
    assert not units.exhausts(2.0 * EYE)


def refusals():
    X = np.random.default_rng(0).standard_normal((40, 4))
    return [
        (lambda: cl.enumerate_units(X, max_units=1000),
         TooManyArrangementsError, r"up to \d+ patterns, more than max_units="),
        (lambda: cl.enumerate_units(X, max_units=1000),
         TooManyArrangementsError, r"units=sample_units\(X, n_units"),
        (lambda: cl.enumerate_units(X[:20], width=2, max_units=10_000),
         TooManyArrangementsError, "up to 8074760 choices of units of wid"),
        (lambda: cl.enumerate_units(circle()[0], max_units=400),
         TooManyArrangementsError, "more than .* units of width 2, more than"),
        (lambda: cl.enumerate_units(X, width=(2, 2)),
         InputError, "width has 2 entries; expected 1 for depth=3"),
        (lambda: cl.enumerate_units(X, width=0),
         InputError, "width is 0; expected an integer >= 1"),
        (lambda: units_of(torch.ones(3, 1), torch.ones(1, 2, 1), [torch.ones(1, 2, 1)]),
         InputError, "the tree ends in 2 nodes; expected one root"),
        (lambda: units_of(torch.ones(3, 1), -torch.ones(1, 1, 1), [torch.ones(1, 1, 1)]),
         InputError, "none of the given units is active"),
        (lambda: cl.enumerate_units(EYE).exhausts("a"), InputError, "X has dtype <U1; expected"),
        (lambda: cl.Units(**UNITS).select([9]), InputError, "index is .9.; expected integers"),
        (lambda: cl.Units(**{**UNITS, "inner": ""}), InputError, "inner.0. is NoneType"),
        (lambda: cl.Units(**{**UNITS, "outputs": UNITS["outputs"][:1]}),
         InputError, "outputs holds 1 units"),
        (lambda: cl.enumerate_units(EYE, width=10**30),
         InputError, "units of 1.0e.30 leaves; expected at most"),
        (lambda: cl.sample_units(EYE, 2, depth=10**30),
         InputError, "depth is 1.0e.30; expected at most 100"),
        (lambda: cl.sample_units(EYE, 10**30),
         InputError, "n_units is 1.0e.30, with 2 leaves each and 3 samples"),
        (lambda: cl.enumerate_units(EYE, width=5000, max_units=10),
         InputError, "at least .* choices of units"),
    ]  # fmt: skip


test_refusals = refused(refusals())
