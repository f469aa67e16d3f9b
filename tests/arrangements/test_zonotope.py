"""Cross products, wedge volumes and zonotopes."""

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull

import convexlib as cl
from convexlib.arrangements.zonotope import BLOCK, subset_blocks, subset_normals
from convexlib.errors import InputError
from tests.helpers.refusals import EYE, refused


def cofactors(U: np.ndarray) -> np.ndarray:
    d = U.shape[1]
    return np.array([(-1) ** i * np.linalg.det(np.delete(U, i, axis=1)) for i in range(d)])


@pytest.mark.parametrize("d", [1, 2, 3, 4, 5, 7])
def test_cross_product_is_the_vector_of_cofactors(d):
    rng = np.random.default_rng(d)
    for _ in range(5):
        U, x = rng.standard_normal((d - 1, d)), rng.standard_normal(d)
        cross = cl.cross_product(U).numpy()
        np.testing.assert_allclose(cross, cofactors(U), atol=1e-12)
        volume = np.linalg.det(np.vstack([x, U]))
        assert x @ cross == pytest.approx(volume, abs=1e-12)
        assert cl.wedge_volumes(x[None], U).item() == pytest.approx(volume, abs=1e-12)
        gram = np.linalg.det(U @ U.T) if d > 1 else 1.0
        assert np.linalg.norm(cross) == pytest.approx(np.sqrt(gram))


def test_cross_product_in_the_plane_and_in_space():
    np.testing.assert_allclose(cl.cross_product(np.array([[3.0, 4.0]])), [4.0, -3.0])
    u, v = np.array([1.0, 2.0, 3.0]), np.array([-1.0, 0.5, 2.0])
    np.testing.assert_allclose(cl.cross_product(np.stack([u, v])), np.cross(u, v))


def test_cross_products_of_a_stack_keep_the_dtype():
    stack = np.random.default_rng(0).standard_normal((2, 3, 3, 4))
    crosses = cl.cross_product(torch.tensor(stack, dtype=torch.float32))
    assert crosses.dtype == torch.float32
    assert crosses.shape == (2, 3, 4)
    np.testing.assert_allclose(crosses[1, 2], cofactors(stack[1, 2]), atol=1e-5)


def test_cross_product_of_dependent_vectors_is_zero():
    U = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]])
    np.testing.assert_allclose(cl.cross_product(U), 0.0, atol=1e-14)


def test_cross_product_of_nearly_parallel_vectors_is_orthogonal_to_them():
    rng = np.random.default_rng(1)
    u, v, w = rng.standard_normal((3, 4))
    U = np.stack([u, u + 1e-7 * v, u + 1e-7 * w])
    cross = cl.cross_product(U).numpy()
    cross /= np.linalg.norm(cross)
    assert np.abs(U @ cross).max() < 1e-14
    rough = cofactors(U) / np.linalg.norm(cofactors(U))
    assert np.abs(U @ rough).max() > 1e-12  # the formula with cofactors loses digits


def test_subset_normals_are_the_rays_of_the_arrangement():
    rows = np.random.default_rng(2).standard_normal((6, 3))
    normals = subset_normals(rows)
    assert len(normals) == 15
    for pair in combinations(range(6), 2):
        cross = np.cross(*rows[list(pair)])
        cross /= np.linalg.norm(cross)
        assert np.abs(np.abs(normals @ cross) - 1).min() < 1e-14
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0)


def test_subset_normals_list_a_repeated_ray_once():
    grid = np.array([[a, b, 1.0] for a in range(3) for b in range(3)])
    normals = subset_normals(grid)
    lines = {tuple(np.round(line / line[np.abs(line).argmax()], 9)) for line in normals}
    assert len(lines) == len(normals) == 20  # lines through two points of a 3 by 3 grid
    assert len(subset_normals(np.ones((1, 3)))) == 0
    np.testing.assert_array_equal(subset_normals(np.array([[2.0], [-3.0]])), [[1.0]])


def test_subsets_come_in_blocks():
    blocks = list(subset_blocks(40, 4))
    assert len(blocks) == -(-91390 // BLOCK)
    assert len(np.unique(np.concatenate(blocks), axis=0)) == 91390


@pytest.mark.parametrize(("n", "d"), [(5, 2), (6, 3), (5, 4)])
def test_zonotope_volume_is_that_of_the_hull_of_its_vertices(n, d):
    X = np.random.default_rng(n).standard_normal((n, d))
    hull = ConvexHull(cl.zonotope_vertices(X).numpy())
    assert cl.zonotope_volume(X) == pytest.approx(hull.volume)


def test_zonotope_volume_of_flat_and_known_ones():
    assert cl.zonotope_volume(np.eye(3)) == pytest.approx(1.0)
    assert cl.zonotope_volume(np.ones((4, 2))) == 0.0
    assert cl.zonotope_volume(np.ones((1, 2))) == 0.0
    assert cl.zonotope_volume(np.array([[2.0], [-3.0]])) == pytest.approx(5.0)


def test_volumes_at_the_ends_of_the_floats():
    assert cl.zonotope_volume(5e-324 * np.eye(3)) == 0.0
    assert cl.zonotope_volume(1e150 * np.eye(2)) == pytest.approx(1e300)
    assert cl.zonotope_volume(np.eye(2) * [1e200, 1e-200]) == pytest.approx(1.0)


REFUSALS = [
    (lambda: cl.cross_product(np.eye(2)),
     InputError, r"U has shape \(2, 2\); expected \(d - 1, d\)"),
    (lambda: cl.cross_product(np.array([[np.nan, 1.0]])),
     InputError, "U contains 1 non-finite value"),
    (lambda: cl.wedge_volumes(np.ones((4, 3)), np.ones((1, 2))),
     InputError, r"U has shape \(1, 2\); expected \(2, 3\)"),
    (lambda: cl.zonotope_volume(np.ones((100, 5))),
     InputError, "75287520 determinants, more than max_subsets=2000000"),
    (lambda: cl.cross_product(torch.tensor([[1e30, 0.0, 0.0], [0.0, 1e30, 0.0]])),
     InputError, "with entries up to 1.0e.30, is beyond torch.float32"),
    (lambda: cl.zonotope_vertices(1e308 * EYE),
     InputError, "largest entry of X is 1.0e.308; expected it bet"),
    (lambda: cl.zonotope_volume(1e308 * np.eye(3)),
     InputError, "in 3 dimensions are beyond floats; expec"),
]  # fmt: skip
test_refusals = refused(REFUSALS)
