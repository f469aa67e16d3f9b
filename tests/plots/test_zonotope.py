"""Zonotopes: volume, vertices, normal cones and facets."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.patches import Polygon, Wedge
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from scipy.spatial import ConvexHull

from convexlib import plots
from convexlib.errors import InputError
from tests.helpers.refusals import EYE, refused


def wedges(ax):
    """The cells of `plot_cells`, or the normal cones of `plot_zonotope`."""
    return [patch for patch in ax.patches if isinstance(patch, Wedge)]


def polygon_area(corners):
    across, up = corners.T
    return 0.5 * abs(across @ np.roll(up, -1) - up @ np.roll(across, -1))


def test_polygon_has_the_volume_of_the_zonotope(planar, drawn):
    X = planar
    ax = drawn(plots.plot_zonotope(X))
    corners = next(p for p in ax.patches if isinstance(p, Polygon)).get_xy()[:-1]
    volume = sum(abs(np.linalg.det(pair)) for pair in itertools.combinations(X, 2))
    assert polygon_area(corners) == pytest.approx(volume, abs=1e-12)
    np.testing.assert_allclose(
        np.unique(corners.round(9), axis=0),
        np.unique(plots.zonotope_vertices(X).numpy().round(9), axis=0),
    )


def test_normal_cones_are_the_cells_and_arrows_maximise_at_their_vertex(fan, drawn):
    ax = drawn(plots.plot_zonotope(fan))
    cones = wedges(ax)
    sectors, _ = plots.cell_sectors(fan)
    np.testing.assert_allclose([(c.theta1, c.theta2) for c in cones], np.degrees(sectors))
    corners = np.array([cone.center for cone in cones])
    arrows = next(c for c in ax.collections if hasattr(c, "U"))
    directions = np.stack([arrows.U, arrows.V], axis=1)
    np.testing.assert_array_equal((corners @ directions.T).argmax(axis=0), np.arange(len(corners)))
    support = np.maximum(fan @ directions.T, 0).sum(axis=0)
    np.testing.assert_allclose((corners * directions).sum(axis=1), support)


def test_a_vertex_has_the_colour_of_its_cell(fan):
    cells, cones = (
        [to_hex(patch.get_facecolor()) for patch in wedges(picture)]
        for picture in (plots.plot_cells(fan), plots.plot_zonotope(fan))
    )
    assert cones == cells
    assert len(set(cones)) == 5  # 0 to 4 active samples


@pytest.mark.parametrize("d", [2, 3, 4])
def test_vertices_are_distinct_extreme_points(d):
    X = np.random.default_rng(2).standard_normal((5, d))
    vertices = plots.zonotope_vertices(X).numpy()
    corners = np.array(list(itertools.product([0.0, 1.0], repeat=5))) @ X
    expected = corners[ConvexHull(corners).vertices]
    np.testing.assert_allclose(
        np.unique(vertices.round(9), axis=0), np.unique(expected.round(9), axis=0)
    )
    assert len(vertices) == len(expected)


def test_vertices_keep_the_dtype(fan):
    assert plots.zonotope_vertices(torch.tensor(fan, dtype=torch.float32)).dtype == torch.float32


SPACE = {
    "cube": (np.eye(3), 6),
    # The rhombic dodecahedron, and the same with a plane of three vectors: two hexagons.
    "four in general position": (np.vstack([np.eye(3), np.ones(3)]), 12),
    "hexagonal prism": (np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1.0]]), 8),
    "flat": (np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0.0]]), 1),
    "segment": (np.array([[1, 2, 3], [2, 4, 6.0]]), 1),
}


@pytest.mark.parametrize("name", SPACE)
def test_facets_are_whole(name, drawn):
    X, count = SPACE[name]
    vertices = plots.zonotope_vertices(X).numpy()
    facets = plots.zonotope_facets(vertices)
    assert len(facets) == count
    if count > 1:
        edges = sum(len(facet) for facet in facets) // 2
        assert len(vertices) - edges + count == 2  # Euler
        volume = sum(abs(np.linalg.det(three)) for three in itertools.combinations(X, 3))
        assert ConvexHull(vertices).volume == pytest.approx(volume)
    ax = drawn(plots.plot_zonotope(X))
    assert ax.name == "3d"
    dots = next(c for c in ax.collections if not isinstance(c, Poly3DCollection))
    np.testing.assert_allclose(np.stack(dots._offsets3d, axis=1), vertices)


def test_hexagonal_facets_go_round_their_edge():
    vertices = plots.zonotope_vertices(SPACE["hexagonal prism"][0]).numpy()
    hexagons = [facet for facet in plots.zonotope_facets(vertices) if len(facet) == 6]
    assert len(hexagons) == 2
    assert polygon_area(hexagons[0][:, :2]) == pytest.approx(3.0)


def test_half_of_the_facets_face_the_viewer(drawn):
    ax = plots.plot_zonotope(SPACE["four in general position"][0])
    solid = next(c for c in ax.collections if isinstance(c, Poly3DCollection))
    drawn(ax)
    assert len(solid.get_paths()) == 6


REFUSALS = [
    (lambda: plots.plot_zonotope(np.ones((2, 4))),
     InputError, r"\(2, 4\); plot_zonotope needs 2 or 3 columns"),
    (lambda: plots.plot_zonotope(np.eye(3), ax=plt.figure().add_subplot()),
     InputError, "projection 'rectilinear'; expected '3d'"),
    (lambda: plots.plot_zonotope(np.eye(2), ax=plt.figure().add_subplot(projection="3d")),
     InputError, "projection '3d'; expected 'rectilinear'"),
    (lambda: plots.zonotope_facets("squared"), InputError, "vertices has dtype"),
    (lambda: plots.zonotope_facets(1e150 * np.eye(3)),
     InputError, "largest entry of vertices is 1.0e.150"),
    (lambda: plots.zonotope_facets(EYE), InputError, "expected .P, 3."),
]  # fmt: skip
test_refusals = refused(REFUSALS)
