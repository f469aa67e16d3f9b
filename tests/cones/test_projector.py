"""Projection onto pattern cones against scipy's nonnegative least squares, and its bounds."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import nnls

from convexlib.cones import ConeProjector
from convexlib.cones import projector as module
from convexlib.cones.projector import (
    group_soft_threshold,
    shrink_into_cones,
    shrink_singular_values,
)
from tests.helpers.patterns import EXACT, degenerate_integers

CASES = {name: X for name, (X, _) in EXACT.items()} | {
    "one sample": np.array([[2.0, -1.0, 0.5]]),
    "one column": np.array([[1.0], [-2.0], [0.5]]),
    "nearly parallel": np.array([[1.0, 0.0, 0.0], [1.0, 1e-9, 0.0], [1.0, -1e-9, 1e-9], [0, 1, 1]]),
    "many": np.random.default_rng(0).standard_normal((60, 8)),
    "chunks": np.random.default_rng(1).standard_normal((300, 8)),  # more than are looked at at once
}


def projector_of(X, n_patterns=6, copies=1, seed=0):
    gates = np.random.default_rng(seed).standard_normal((n_patterns, X.shape[1]))
    masks = gates @ X.T >= 0
    return ConeProjector(torch.from_numpy(X), torch.from_numpy(masks), copies), masks


def reference(X, mask, c):
    """Project by Moreau: c + N^T lam with lam >= 0 making it shortest."""
    lengths = np.linalg.norm(X, axis=1)
    normals = np.where(mask, 1.0, -1.0)[lengths > 0, None] * X[lengths > 0]
    normals /= lengths[lengths > 0, None]
    if not len(normals):
        return c
    return c + normals.T @ nnls(normals.T, -c)[0]


def check_projection(X, c, projector, masks, atol):
    u = projector(torch.from_numpy(c)).numpy()
    for b in range(len(c)):
        mask = masks[b % len(masks)]
        np.testing.assert_allclose(u[b], reference(X, mask, c[b]), atol=atol)
        slack = np.where(mask, 1.0, -1.0) * (X @ u[b])
        scale = np.linalg.norm(X, axis=1) * np.linalg.norm(c[b])
        assert (slack >= -1e-12 * scale).all()
        # Moreau: the residual is orthogonal to the projection.
        assert abs(u[b] @ (c[b] - u[b])) <= 1e-12 * (c[b] @ c[b])
    return u


@pytest.mark.parametrize("name", CASES)
def test_projection_is_that_of_nnls(name):
    X = CASES[name]
    projector, masks = projector_of(X)
    rng = np.random.default_rng(1)
    for scale in (1.0, 1e-6, 1e6):  # the second and third calls start warm
        c = scale * rng.standard_normal((len(masks), X.shape[1]))
        check_projection(X, c, projector, masks, atol=1e-9 * scale)


@given(case=degenerate_integers(), seed=st.integers(0, 100))
def test_projection_on_degenerate_integers(case, seed):
    X, _ = case
    rng = np.random.default_rng(seed)
    projector, masks = projector_of(X, seed=seed)
    for _ in range(2):
        c = rng.integers(-3, 4, (len(masks), X.shape[1])).astype(float)
        check_projection(X, c, projector, masks, atol=1e-10)


@pytest.mark.parametrize("size", [1e4, 1e6])
def test_thin_cones_are_met_however_long_the_point(size):
    """In the plane the projection is that onto the nearer one of two rays."""
    x = np.array([-2.0, -1.0, 0.0, 1.0, 2.0, 3.0])
    X = np.column_stack([x, np.full(6, size)])
    masks = np.array([x > place for place in (-1.5, -0.5, 0.5, 1.5, 2.5)])
    points = np.random.default_rng(0).standard_normal((40, 2)) * [1.0, size]
    for point in points:
        projector = ConeProjector(torch.from_numpy(X), torch.from_numpy(masks))
        u = projector(torch.from_numpy(np.tile(point, (len(masks), 1)))).numpy()
        for mask, projected in zip(masks, u, strict=True):
            length = np.linalg.norm(projected)
            slacks = np.where(mask, 1.0, -1.0) * (X @ projected)
            assert (slacks >= -1e-12 * size * length).all()
            # (w, b) with x w + size b >= 0 where active, and <= 0 elsewhere.
            rays = np.array([[1.0, -x[mask].min() / size], [1.0, -x[~mask].max() / size]])
            rays /= np.linalg.norm(rays, axis=1, keepdims=True)
            assert length == pytest.approx(max(0.0, *(rays @ point)), rel=1e-6, abs=1e-6)


def test_points_on_faces_and_in_the_cone_stay():
    X = CASES["many"]
    projector, masks = projector_of(X)
    c = np.random.default_rng(2).standard_normal((len(masks), X.shape[1]))
    u = projector(torch.from_numpy(c))
    torch.testing.assert_close(projector(u), u, rtol=0, atol=1e-12)
    again = projector_of(X)[0](u)  # and without the warm start
    torch.testing.assert_close(again, u, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["many", "grid 3", "duplicates", "antipodal", "nearly parallel"])
def test_warm_starts_do_not_change_the_result(name):
    X = CASES[name]
    rng = np.random.default_rng(3)
    warm, masks = projector_of(X)
    c = rng.standard_normal((len(masks), X.shape[1]))
    for step in range(10):
        c = c + 0.3 * rng.standard_normal(c.shape)
        if step == 5:
            c = -c
        cold, _ = projector_of(X)
        expected = cold(torch.from_numpy(c))
        torch.testing.assert_close(warm(torch.from_numpy(c)), expected, rtol=0, atol=1e-11)


def test_blocks_beyond_the_patterns_repeat_them():
    X = CASES["many"]
    double, masks = projector_of(X, copies=2)
    single, _ = projector_of(X)
    c = torch.from_numpy(np.random.default_rng(4).standard_normal((2 * len(masks), X.shape[1])))
    projected = double(c)
    for half in (slice(0, len(masks)), slice(len(masks), None)):
        torch.testing.assert_close(projected[half], single(c[half]), rtol=0, atol=1e-11)


def test_short_projections_become_zero():
    X = CASES["many"]
    projector, masks = projector_of(X)
    c = torch.from_numpy(np.random.default_rng(5).standard_normal((len(masks), X.shape[1])))
    lengths = torch.linalg.vector_norm(projector(c), dim=1)
    threshold = 1.001 * float(lengths.median())
    cut, _ = projector_of(X)
    kept = torch.linalg.vector_norm(cut(c, threshold), dim=1)
    assert (kept[lengths <= threshold] == 0).all()
    longer = lengths > threshold
    torch.testing.assert_close(kept[longer], lengths[longer])
    # The multipliers kept for those that were cut prove that they are short.
    assert (cut.support_bounds(c) <= lengths.clamp(min=threshold) * (1 + 1e-9)).all()


@pytest.mark.parametrize("name", CASES)
def test_what_earlier_points_left_behind_changes_no_projection(name):
    """Points that move a little, turn around, grow: some are short by what the last one lost."""
    X = CASES[name]
    warm, masks = projector_of(X)
    rng = np.random.default_rng(12)
    c = rng.standard_normal((len(masks), X.shape[1]))
    for step in range(60):
        moves = (
            c + 10.0 ** rng.uniform(-4, 0) * rng.standard_normal(c.shape),
            -c,
            1e6 * c,
            1e-6 * c,
        )
        c = moves[0 if step % 10 else rng.integers(4)]
        points = torch.from_numpy(c)
        exact = projector_of(X)[0](points)
        lengths = torch.linalg.vector_norm(exact, dim=1)
        threshold = float(rng.choice([0.0, 0.5, 1.5])) * float(lengths.median())
        found = warm(points, threshold)
        sure = (lengths - threshold).abs() > 1e-9 * (np.linalg.norm(c, axis=1).max() + 1e-300)
        expected = torch.where(lengths[:, None] > threshold, exact, 0.0)
        atol = 1e-10 * float(np.abs(c).max())
        torch.testing.assert_close(found[sure], expected[sure], rtol=0, atol=atol)


@pytest.mark.parametrize("name", ["many", "chunks", "grid 3", "duplicates", "one sample"])
def test_the_longest_projection(name):
    X = CASES[name]
    full, masks = projector_of(X, n_patterns=300, copies=2)
    quick, _ = projector_of(X, n_patterns=300, copies=2)
    c = torch.from_numpy(np.random.default_rng(7).standard_normal((2 * len(masks), X.shape[1])))
    expected = float(torch.linalg.vector_norm(full(c), dim=1).max())
    for floor in (0.0, 0.5 * expected, 2.0 * expected):
        assert quick.longest(c, floor) == pytest.approx(max(expected, floor), rel=1e-12)
    assert quick.longest(torch.zeros_like(c)) == 0.0


@pytest.mark.parametrize("name", ["many", "chunks", "grid 3", "duplicates"])
def test_the_longest_few_projections_are_exact_and_the_others_are_not_longer(name):
    X = CASES[name]
    full, masks = projector_of(X, n_patterns=300, copies=2)
    c = torch.from_numpy(np.random.default_rng(8).standard_normal((2 * len(masks), X.shape[1])))
    blocks = np.arange(1, 2 * len(masks), 2)
    expected = torch.linalg.vector_norm(full(c), dim=1)[blocks]
    for count in (1, 7, len(blocks), 2 * len(blocks)):
        quick, _ = projector_of(X, n_patterns=300, copies=2)
        found = quick.lengths(c[blocks], 0.1, count, blocks)
        least = expected.topk(min(count, len(blocks))).values[-1]
        sure = expected > 1.000001 * max(0.1, float(least))
        torch.testing.assert_close(found[sure], expected[sure], rtol=1e-11, atol=0)
        exact = (found - expected).abs() <= 1e-11 * expected
        assert bool((exact | (found == 0.0)).all())


@pytest.mark.parametrize("scale", [1.0, 1e-150, 1e150])
@pytest.mark.parametrize("kind", ["general", "fewer rows", "low rank", "repeated", "binary"])
def test_projections_in_high_dimension(kind, scale):
    """Cold, warm after small and large moves, and often enough to factor anew."""
    rng = np.random.default_rng(9)
    n, d = (40, 80) if kind == "fewer rows" else (240, 80)
    X = rng.standard_normal((n, d))
    if kind == "low rank":
        X = X[:, :30] @ rng.standard_normal((30, d))
    if kind == "repeated":
        X[1::3], X[2::3], X[5] = X[::3], -2.0 * X[::3], 0.0
    if kind == "binary":
        X = (X > 0.5).astype(float)
    projector, masks = projector_of(X, n_patterns=3)
    c = scale * rng.standard_normal((len(masks), d))
    for step in (0.0, 0.03, 0.3, 3.0, 0.3):
        c = c + scale * step * rng.standard_normal(c.shape)
        check_projection(X, c, projector, masks, atol=1e-10 * float(np.abs(c).max()))


@pytest.mark.parametrize("name", ["many", "grid 3", "general", "zero row", "one sample"])
def test_support_bounds_hold_for_any_multipliers(name):
    X = CASES[name]
    rng = np.random.default_rng(6)
    projector, masks = projector_of(X)
    c = rng.standard_normal((len(masks), X.shape[1]))
    points = torch.from_numpy(c)
    exact = [np.linalg.norm(reference(X, mask, row)) for mask, row in zip(masks, c, strict=True)]
    for trial in range(20):
        if trial % 2:
            projector(torch.from_numpy(rng.standard_normal(c.shape)))  # those of other points
        else:
            projector.sizes[:] = rng.integers(0, projector.active.shape[1] + 1, len(c))
            projector.active[:] = rng.integers(0, len(X), projector.active.shape)
            projector.multipliers[:] = rng.exponential(size=projector.active.shape)
            projector.ages[:] = -1  # no factors belong to these active sets
        assert (projector.support_bounds(points).numpy() >= np.array(exact)).all()
    projector(points)
    np.testing.assert_allclose(projector.support_bounds(points).numpy(), exact, atol=1e-12)
    assert (projector.support_bounds(points).numpy() >= np.array(exact) - 1e-15).all()


def test_support_bounds_cover_directions_of_the_cell():
    X = CASES["many"]
    projector, masks = projector_of(X, n_patterns=1)
    rng = np.random.default_rng(7)
    c = rng.standard_normal((1, X.shape[1]))
    projector(torch.from_numpy(c))
    bound = float(projector.support_bounds(torch.from_numpy(c))[0])
    inside = projector_of(X, n_patterns=1)[0]
    for _ in range(200):
        u = inside(torch.from_numpy(c + rng.standard_normal(c.shape))).numpy()[0]
        assert c[0] @ u <= bound * np.linalg.norm(u) + 1e-15


def test_zero_points_and_zero_data():
    projector = ConeProjector(torch.zeros(3, 2), torch.ones(1, 3, dtype=torch.bool))
    point = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    torch.testing.assert_close(projector(point), point)
    assert not projector(0 * point).any()
    assert float(projector.support_bounds(point)[0]) == pytest.approx(5**0.5)


def test_float32_points_come_back_as_float32():
    projector, masks = projector_of(CASES["many"])
    points = torch.ones(len(masks), 8)
    assert projector(points).dtype == torch.float32


# --- Proximal maps against their definition: no other point has a lower objective ---


def blocks_of(seed, shape=(2, 5, 3)):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def test_soft_threshold_shortens_each_block():
    blocks = blocks_of(0)
    shrunk = group_soft_threshold(blocks, 1.5)
    norms = torch.linalg.vector_norm(blocks, dim=2)
    expected = (norms - 1.5).clamp(min=0)
    torch.testing.assert_close(torch.linalg.vector_norm(shrunk, dim=2), expected)
    torch.testing.assert_close(shrunk * norms[..., None], blocks * expected[..., None])
    assert (expected == 0).any()
    assert (expected > 0).any()


def test_soft_threshold_by_zero_and_of_zero():
    blocks = blocks_of(1)
    torch.testing.assert_close(group_soft_threshold(blocks, 0.0), blocks)
    for dtype in (torch.float32, torch.float64):
        zeros = torch.zeros(2, 3, dtype=dtype)
        assert torch.equal(group_soft_threshold(zeros, 1.0), zeros)


@pytest.mark.parametrize("threshold", [0.0, 0.4, 2.0])
def test_shrinking_into_cones_is_a_proximal_map(threshold):
    rng = np.random.default_rng(2)
    X = rng.standard_normal((8, 3))
    gates = rng.standard_normal((5, 3))
    masks = gates @ X.T >= 0
    projector = ConeProjector(torch.from_numpy(X), torch.from_numpy(masks), copies=2)
    blocks = blocks_of(3)
    point = shrink_into_cones(blocks, projector, threshold).numpy()

    def objective(u, c):
        return 0.5 * ((u - c) ** 2).sum() + threshold * np.linalg.norm(u)

    for side in range(2):
        for k in range(5):
            signs = np.where(masks[k], 1.0, -1.0)
            c, u = blocks[side, k].numpy(), point[side, k]
            assert (signs * (X @ u) >= -1e-12).all()
            # Feasible rivals: nearby, along the ray, inside the cone, and zero.
            rivals = [0.9 * u, 1.1 * u, 0 * u, gates[k], u + 0.1 * gates[k], u + 1e-3 * gates[k]]
            trials = u + 0.05 * rng.standard_normal((300, 3))
            rivals += [t for t in trials if (signs * (X @ t) >= 0).all()]
            assert all(objective(u, c) <= objective(rival, c) + 1e-12 for rival in rivals)


def test_without_a_projector_only_the_threshold_acts():
    blocks = blocks_of(4)
    torch.testing.assert_close(
        shrink_into_cones(blocks, None, 0.7), group_soft_threshold(blocks, 0.7)
    )
    assert shrink_into_cones(blocks, None) is blocks


@pytest.mark.parametrize("shape", [(5, 3), (2, 6), (4, 1)])
@pytest.mark.parametrize("threshold", [0.0, 0.8, 100.0])
def test_shrinking_singular_values_is_a_proximal_map(shape, threshold):
    """The difference to the point is in the threshold times the subdifferential of the norm."""
    blocks = blocks_of(5, (2, 3, *shape))
    point = shrink_singular_values(blocks, threshold)
    difference = blocks - point
    largest = torch.linalg.matrix_norm(difference, ord=2)
    assert float(largest.max()) <= threshold + 1e-12
    nuclear = torch.linalg.svdvals(point).sum(dim=-1)
    torch.testing.assert_close((difference * point).sum(dim=(-2, -1)), threshold * nuclear)


def test_singular_values_of_one_column_are_its_length():
    blocks = blocks_of(6, (7, 4, 1))
    shrunk = shrink_singular_values(blocks, 1.2)[..., 0]
    torch.testing.assert_close(shrunk, group_soft_threshold(blocks[..., 0], 1.2))


def test_threads_change_nothing(monkeypatch):
    """The kernel for many cones is compiled for threads, and is another one in numba's cache."""
    X, points = CASES["many"], np.random.default_rng(2).standard_normal((24, 8))
    (alone, _), (together, _) = (projector_of(X, 24) for _ in range(2))
    monkeypatch.setattr(module, "project_many", None)
    expected = alone(torch.from_numpy(points))
    monkeypatch.undo()
    monkeypatch.setattr(module, "project_few", None)
    monkeypatch.setattr(module, "_PARALLEL", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    np.testing.assert_allclose(together(torch.from_numpy(points)), expected, atol=1e-12)
    np.testing.assert_array_equal(together.sizes, alone.sizes)
