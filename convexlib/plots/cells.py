r"""Activation cells, and the zonotope whose vertices are the activation patterns.

The cells of two-column data are drawn in the plane of a neuron's weights. For
:math:`Z = \{X^T h : h \in [0, 1]^n\}` and every u, :math:`\max_{z \in Z} u^T z = 1^T (Xu)_+`,
attained at :math:`X^T D 1` with :math:`D = \mathrm{diag}(1[Xu \ge 0])`. Vertices are patterns and
normal cones are cells (Pilanci and Ergen 2020; the picture is classical).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Polygon, Wedge
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from scipy.spatial import ConvexHull

from convexlib.arrangements import enumerate_arrangements
from convexlib.checks import check_matrix, check_scale
from convexlib.errors import InputError
from convexlib.plots.style import ACTIVE, GREY, TAG, active_colour, arrows, axes_for, outer_label

MAX_LABELS = 16
MAX_CONES = 60
MAX_ARROWS = 24
ANGLE_TOLERANCE = 1e-13


def two_columns(X: Any, picture: str) -> np.ndarray:
    """Return X as float64 numpy of shape (n, 2), or refuse it."""
    checked = check_matrix(X)
    check_scale(checked, "X")
    data = checked.double().cpu().numpy()
    if data.shape[1] != 2:
        hint = (
            " Append a column of ones for one feature and a bias."
            if data.shape[1] == 1
            else " Keep two columns, or project the data to a plane first."
        )
        raise InputError(f"X has shape {data.shape}; {picture} needs 2 columns.{hint}")
    return data


def cell_sectors(X: Any) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the full-dimensional activation cells of data with two columns, by angle.

    The lines :math:`x_i^T u = 0` cut the plane of :math:`u` into sectors, on each of which the
    pattern :math:`1[X u \ge 0]` is constant.

    Parameters
    ----------
    X : array of shape (n, 2)
        Data. Rows of zeros bound no cell; collinear rows share a line.

    Returns
    -------
    sectors : ndarray of shape (P, 2)
        First and last angle of each cell in radians, counter-clockwise, first angles increasing.
    masks : ndarray of shape (P, n), bool
        The pattern of each cell; all rows differ.

    Raises
    ------
    InputError
        If X does not have two columns.

    Examples
    --------
    >>> import numpy as np
    >>> from convexlib import plots
    >>> sectors, masks = plots.cell_sectors(np.array([[1.0, 0.0], [0.0, 1.0]]))
    >>> np.degrees(sectors).round().tolist()
    [[0.0, 90.0], [90.0, 180.0], [180.0, 270.0], [270.0, 360.0]]
    >>> masks.tolist()
    [[True, True], [False, True], [False, False], [True, False]]
    """
    data = two_columns(X, "a picture of cells")
    rows = data[np.linalg.norm(data, axis=1) > 0]
    walls = np.sort(np.mod(np.arctan2(rows[:, 1], rows[:, 0]) + np.pi / 2, np.pi))  # (n,)
    if len(walls):
        # Angles are modulo pi, so the last wall may repeat the first one.
        gaps = np.diff(walls, append=walls[0] + np.pi)
        walls = walls[gaps > ANGLE_TOLERANCE]
    starts = np.concatenate([walls, walls + np.pi]) if len(walls) else np.zeros(1)
    stops = np.append(starts[1:], starts[0] + 2 * np.pi)
    sectors = np.stack([starts, stops], axis=1)  # (P, 2)
    middles = sectors.mean(axis=1)
    gates = np.stack([np.cos(middles), np.sin(middles)], axis=1)  # (P, 2)
    return sectors, gates @ data.T >= 0


def spread(angles: np.ndarray, gap: float) -> np.ndarray:
    """Return increasing angles on the circle moved apart until neighbours differ by about `gap`."""
    moved = angles.copy()
    gap = min(gap, 2 * np.pi / len(angles))
    for _ in range(200):
        ahead = np.append(moved[1:], moved[0] + 2 * np.pi)
        push = np.maximum(gap - (ahead - moved), 0) / 2
        if push.max() < 1e-3:
            break
        moved += np.roll(push, 1) - push
    return moved


def plot_cells(X: Any, ax: Axes | None = None) -> Axes:
    r"""Draw the activation cells of data with two columns in the plane of the weights u.

    Each sample is an arrow :math:`x_i`; the line :math:`x_i^T u = 0` perpendicular to it is where
    it switches on or off. A sector's colour is the share of active samples (vermillion none,
    blue all), the colour of the vertex with the same pattern in `plot_zonotope`. Each cell's
    pattern is written beside it, sample 1 first, when there are at most 16 cells.

    Parameters
    ----------
    X : array of shape (n, 2)
        Data; a column of ones beside one feature makes the plane that of weight and bias.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes

    Raises
    ------
    InputError
        If X does not have two columns.

    Examples
    --------
    >>> import numpy as np
    >>> from convexlib import plots
    >>> ax = plots.plot_cells(np.array([[1.0, 0.0], [0.0, 1.0]]))
    >>> len(ax.patches)  # a sector for each pattern
    4
    """
    data = two_columns(X, "plot_cells")
    sectors, masks = cell_sectors(data)
    ax = axes_for(ax, (4.6, 4.6))
    radius = 1.2 * max(float(np.linalg.norm(data, axis=1).max()), 1e-300)

    for span, mask in zip(np.degrees(sectors), masks, strict=True):
        ax.add_patch(Wedge((0, 0), radius, *span, lw=0, fc=active_colour(mask), alpha=0.42))
    width = 1.1 if len(sectors) <= 32 else 0.5
    if len(sectors) > 1:
        for angle in sectors[: len(sectors) // 2, 0]:
            tip = 1.04 * radius * np.array([np.cos(angle), np.sin(angle)])
            ax.plot([-tip[0], tip[0]], [-tip[1], tip[1]], color=GREY, lw=width, ls="-")

    draw_samples(ax, data, radius)
    labelled = len(sectors) <= MAX_LABELS
    if labelled:
        label_sectors(ax, sectors, masks, radius)
    reach = radius * (1.06 + (0.065 * min(len(data), 14) + 0.1 if labelled else 0))
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[])
    ax.set(xlabel="$u_1$", ylabel="$u_2$", aspect="equal")
    ax.spines[:].set_visible(False)
    return ax


def draw_samples(ax: Axes, data: np.ndarray, radius: float) -> None:
    """Draw the rows of (n, 2) data as numbered arrows, or as dots when there are many."""
    if len(data) > MAX_ARROWS:
        ax.plot(data[:, 0], data[:, 1], ".", color=GREY, ms=4)
        return
    arrows(ax, np.zeros_like(data), data, GREY, width=0.008)
    for index, row in enumerate(data, 1):
        length = np.linalg.norm(row)
        away = row / length if length else np.array([0.7, -0.7])
        across, up = row + 0.075 * radius * away
        ax.text(
            across,
            up,
            f"$x_{{{index}}}$",
            ha="center",
            va="center",
            color="white",
            fontsize=9,
            zorder=4,
            bbox=TAG,
        )


def label_sectors(ax: Axes, sectors: np.ndarray, masks: np.ndarray, radius: float) -> None:
    """Write the patterns around the disc, moved apart where cells are narrow."""
    middles = sectors.mean(axis=1)
    placed = spread(middles, gap=0.13)
    for middle, angle, mask in zip(middles, placed, masks, strict=True):
        edge = radius * np.array([np.cos(middle), np.sin(middle)])
        far = 1.09 * radius * np.array([np.cos(angle), np.sin(angle)])
        ax.plot(*np.stack([edge, far], axis=1), color=GREY, lw=0.6, ls="-")
        outer_label(ax, 1.02 * far, np.array([np.cos(angle), np.sin(angle)]), mask)


def zonotope_facets(vertices: np.ndarray) -> list[np.ndarray]:
    """Return the facets of a 3-D polytope, each as its vertices (k, 3) in cyclic order.

    A flat polytope has itself as its only facet, a segment its two ends. The triangles that a
    hull program returns are merged by plane, so that a hexagonal facet is one hexagon.

    Parameters
    ----------
    vertices : ndarray of shape (P, 3)
        The extreme points.

    Raises
    ------
    InputError
        If `vertices` is not a finite array (P, 3), P >= 1, of numbers whose squares are numbers.

    Examples
    --------
    >>> import itertools
    >>> import numpy as np
    >>> from convexlib import plots
    >>> cube = np.array(list(itertools.product([0.0, 1.0], repeat=3)))
    >>> [len(facet) for facet in plots.zonotope_facets(cube)]
    [4, 4, 4, 4, 4, 4]
    """
    points = check_matrix(vertices, "vertices")
    check_scale(points, "vertices")
    vertices = points.double().numpy()
    if vertices.shape[1] != 3:
        raise InputError(f"vertices has shape {vertices.shape}; expected (P, 3).")
    centred = vertices - vertices.mean(axis=0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    rank = int(np.sum(sizes > 1e-9 * max(sizes[0], 1e-300)))
    if rank < 3:
        return [vertices[cyclic(centred @ axes[:2].T)] if rank == 2 else vertices]
    hull = ConvexHull(vertices)
    slack = vertices @ hull.equations[:, :3].T + hull.equations[:, 3]  # (P, triangles)
    touching = np.abs(slack) <= 1e-8 * np.ptp(vertices, axis=0).max()
    facets = []
    for members in np.unique(touching.T, axis=0):
        face = vertices[members]
        plane = np.linalg.svd(face - face.mean(axis=0))[2][:2]
        facets.append(face[cyclic((face - face.mean(axis=0)) @ plane.T)])
    return facets


def cyclic(points: np.ndarray) -> np.ndarray:
    """Return the order of centred planar points (k, 2) by angle."""
    return np.argsort(np.arctan2(points[:, 1], points[:, 0]))


def plot_zonotope(X: Any, ax: Axes | None = None) -> Axes:
    r"""Draw the zonotope :math:`Z = \{p = X^T h : h \in [0, 1]^n\}` of data with 2 or 3 columns.

    In the plane each vertex :math:`X^T D_i 1` carries its normal cone, the cell of the directions
    u that it maximises, with an arrow along one of them; patterns are written when there are at
    most 16. In space the facets are drawn whole. A vertex has the colour of its share of active
    samples, as its cell has in `plot_cells`.

    Parameters
    ----------
    X : array of shape (n, 2) or (n, 3)
        Data.
    ax : Axes, optional
        Where to draw (3-D axes for three columns); a new figure by default.

    Returns
    -------
    Axes

    Raises
    ------
    InputError
        If X has another number of columns, or `ax` is flat for three columns or 3-D for two.
    TooManyArrangementsError
        If data with three columns may have too many patterns to enumerate.

    Examples
    --------
    >>> import numpy as np
    >>> from convexlib import plots
    >>> ax = plots.plot_zonotope(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    >>> ax.get_aspect()
    1.0
    """
    data = check_matrix(X).double().cpu().numpy()
    if data.shape[1] == 2:
        return plot_polygon(data, axes_for(ax, (4.8, 4.6)))
    if data.shape[1] == 3:
        masks = enumerate_arrangements(data).masks.numpy()
        return plot_polyhedron(data, masks, axes_for(ax, (5.2, 4.8), projection="3d"))
    raise InputError(
        f"X has shape {data.shape}; plot_zonotope needs 2 or 3 columns. Take "
        "zonotope_vertices(X) for the vertices in any dimension."
    )


def plot_polygon(data: np.ndarray, ax: Axes) -> Axes:
    """Draw the zonotope of (n, 2) data with its normal cones."""
    sectors, masks = cell_sectors(data)
    corners = masks @ data  # (P, 2), counter-clockwise because the cells are
    size = max(float(np.ptp(corners, axis=0).max()), 1e-300)
    ax.add_patch(Polygon(corners, facecolor=GREY, alpha=0.16, linewidth=0))
    ax.add_patch(Polygon(corners, fill=False, edgecolor=GREY, linewidth=1.4))
    colours = [active_colour(mask) for mask in masks]
    if len(sectors) <= MAX_CONES:
        middles = sectors.mean(axis=1)
        out = np.stack([np.cos(middles), np.sin(middles)], axis=1)  # (P, 2)
        for corner, span, colour in zip(corners, np.degrees(sectors), colours, strict=True):
            ax.add_patch(Wedge(tuple(corner), 0.13 * size, *span, lw=0, fc=colour, alpha=0.42))
        arrows(ax, corners, 0.15 * size * out, colours, width=0.006)
        if len(sectors) <= MAX_LABELS:
            for corner, direction, mask in zip(corners, out, masks, strict=True):
                outer_label(ax, corner + 0.17 * size * direction, direction, mask)
    ax.scatter(corners[:, 0], corners[:, 1], c=colours, s=34, zorder=3)
    ax.plot(0, 0, "+", color=GREY, ms=9)
    margin = size * (0.2 + (0.045 * len(data[:14]) if len(sectors) <= MAX_LABELS else 0))
    low, high = corners.min(axis=0) - margin, corners.max(axis=0) + margin
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xlabel="$p_1$", ylabel="$p_2$")
    ax.set_aspect("equal")
    return ax


def plot_polyhedron(data: np.ndarray, masks: np.ndarray, ax: Any) -> Axes:
    """Draw the zonotope of (n, 3) data with patterns (P, n) on 3-D axes.

    What the solid hides from the axes' present view is drawn dashed and small.
    """
    vertices = masks @ data  # (P, 3)
    ax.set_proj_type("ortho")
    facets = zonotope_facets(vertices)
    front = [face for face in facets if faces_viewer(face, vertices, ax)]
    solid = Poly3DCollection(front, facecolor=GREY, edgecolor=GREY, alpha=0.25, linewidth=1.3)
    seen = {tuple(point) for face in front for point in face}
    for face in facets:
        if not faces_viewer(face, vertices, ax):
            closed = np.vstack([face, face[:1]])
            ax.plot(*closed.T, color=GREY, lw=0.8, ls=(0, (3, 3)))
    ax.add_collection3d(solid)
    colours = ACTIVE(masks.mean(axis=1))
    sizes = [34 if tuple(point) in seen else 12 for point in vertices]
    ax.scatter(*vertices.T, c=colours, s=sizes, depthshade=False)
    middle, half = vertices.mean(axis=0), 0.55 * (float(np.ptp(vertices, axis=0).max()) or 1.0)
    for name, centre in zip("xyz", middle, strict=True):
        ax.set(**{f"{name}lim": (centre - half, centre + half)})
        ax.locator_params(axis=name, nbins=4)
    ax.set(xlabel="$p_1$", ylabel="$p_2$", zlabel="$p_3$")
    ax.set_box_aspect((1, 1, 1), zoom=0.92)
    return ax


def faces_viewer(face: np.ndarray, vertices: np.ndarray, ax: Any) -> bool:
    """Return whether a facet (k, 3) of the hull of `vertices` is on the side of the viewer."""
    up, around = np.radians([ax.elev, ax.azim])
    eye = np.array([np.cos(up) * np.cos(around), np.cos(up) * np.sin(around), np.sin(up)])
    middle = face.mean(axis=0)
    normal = np.linalg.svd(face - middle)[2][2]
    outward = normal @ (middle - vertices.mean(axis=0))
    # A flat zonotope is its only facet, with no outside: it is always seen.
    return bool(outward * (normal @ eye) >= -1e-12)
