"""The activation cells of two-column data, drawn in the plane of a neuron's weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Wedge

from convexlib.checks import check_matrix, check_scale
from convexlib.errors import InputError
from convexlib.plots.style import GREY, TAG, active_colour, arrows, axes_for, outer_label

MAX_LABELS = 16
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
