"""Colours and settings shared by all pictures.

A figure has no background of its own, so that it can stand on a white page and on a near-black one
(#14181e). Text is then bounded by arithmetic: no colour has a contrast ratio (WCAG 2) above
4.22 with both pages at once. `GREY` reaches 4.2 with each; every colour of `COLOURS` reaches 3,
what WCAG 2 asks of graphics. The hues are those of Okabe and Ito (2008), which people with any
common colour-vision deficiency can tell apart; no picture relies on hue alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.patheffects import AbstractPathEffect, withStroke

from convexlib.errors import InputError

GREY = "#7b7b7b"
BLUE, VERMILLION, GREEN, PURPLE, BROWN = "#1878b8", "#d55e00", "#009e73", "#c8719f", "#a17c1b"
COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, BROWN)
POSITIVE, NEGATIVE = BLUE, VERMILLION
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)), (0, (9, 2)))
TAG = {"facecolor": "#4a4f57", "edgecolor": "none", "boxstyle": "round,pad=0.22"}

STYLE: dict[Any, Any] = {
    "figure.facecolor": "none",
    "figure.dpi": 120,
    "savefig.facecolor": "none",
    "savefig.edgecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "axes.titlecolor": GREY,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=COLOURS) + cycler(linestyle=DASHES),
    "text.color": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "grid.color": f"{GREY}38",
    "grid.alpha": 1.0,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.labelcolor": GREY,
    "lines.linewidth": 1.8,
    "font.size": 10,
    "mathtext.fontset": "dejavusans",
    "axes3d.xaxis.panecolor": (0.5, 0.5, 0.5, 0.08),
    "axes3d.yaxis.panecolor": (0.5, 0.5, 0.5, 0.08),
    "axes3d.zaxis.panecolor": (0.5, 0.5, 0.5, 0.08),
    "svg.hashsalt": "convexlib",
}

SHORT_PATTERN = 5

# Cells and zonotope vertices share this map: the share of active samples, from none to all.
ACTIVE = LinearSegmentedColormap.from_list("active", [VERMILLION, "#8a8a8a", BLUE])


@contextmanager
def style() -> Iterator[None]:
    """Draw with the book's settings inside a ``with`` block and restore the old ones after it.

    Examples
    --------
    >>> import matplotlib as mpl
    >>> import numpy as np
    >>> from convexlib import plots
    >>> before = dict(mpl.rcParams)
    >>> with plots.style():
    ...     ax = plots.plot_cells(np.eye(2))
    ...
    >>> dict(mpl.rcParams) == before
    True
    """
    with mpl.rc_context(STYLE):
        yield


def use_style() -> None:
    """Draw with the book's settings from here on, as the first cell of a chapter does.

    Examples
    --------
    >>> import matplotlib as mpl
    >>> from convexlib import plots
    >>> with mpl.rc_context():  # a notebook just calls it, once, at the top
    ...     plots.use_style()
    ...     mpl.rcParams["lines.linewidth"] == plots.STYLE["lines.linewidth"]
    ...
    True
    """
    mpl.rcParams.update(STYLE)


def axes_for(
    ax: Axes | None, figsize: tuple[float, float], projection: str = "rectilinear"
) -> Axes:
    """Return `ax`, or the axes of a new figure in the book's style.

    Raises
    ------
    InputError
        If `ax` has another projection than the picture needs.
    """
    if ax is None:
        with style():
            # matplotlib before 3.11.2 may shrink constrained axes in space to nothing.
            layout = "constrained" if projection == "rectilinear" else "none"
            figure = plt.figure(figsize=figsize, layout=layout)
            return figure.add_subplot(projection=projection)
    if not isinstance(ax, Axes):
        raise InputError(f"ax is {type(ax).__name__}; expected matplotlib Axes or None.")
    if ax.name != projection:
        raise InputError(
            f"ax has projection {ax.name!r}; expected {projection!r} for data of this dimension. "
            f"Create it with figure.add_subplot(projection={projection!r}), or leave ax out."
        )
    return ax


def active_colour(mask: np.ndarray) -> str:
    """Return the colour of an activation pattern (n,): vermillion all off, blue all on."""
    return to_hex(ACTIVE(float(np.mean(mask))))


def arrows(ax: Axes, tails: np.ndarray, steps: np.ndarray, color: Any, width: float) -> None:
    """Draw arrows from `tails` (k, 2) by `steps` (k, 2), both in data units."""
    ax.quiver(
        *tails.T,
        *steps.T,
        color=color,
        width=width,
        angles="xy",
        scale_units="xy",
        scale=1,
        zorder=3,
    )


def outer_label(ax: Axes, place: np.ndarray, direction: np.ndarray, mask: np.ndarray) -> None:
    """Write a pattern (n,) at `place`, ``0110``, away along the unit `direction`.

    Sample 1 comes first. Long patterns run along the direction, so that labels side by side need
    little room.
    """
    right, up = direction
    if len(mask) <= SHORT_PATTERN:
        turn = 0.0
        sideways = "left" if right > 0.25 else "right" if right < -0.25 else "center"
        upright = "bottom" if up > 0.25 else "top" if up < -0.25 else "center"
    else:
        turn = float(np.degrees(np.arctan2(up, right)))
        sideways, upright = ("left" if right >= 0 else "right"), "center"
        turn -= 0.0 if right >= 0 else 180.0
    ax.text(
        place[0],
        place[1],
        "".join("1" if active else "0" for active in mask),
        ha=sideways,
        va=upright,
        rotation=turn,
        rotation_mode="anchor",
        color=GREY,
        family="monospace",
        fontsize=9,
    )


def legend_above(ax: Axes, columns: int) -> None:
    """Put the legend over the axes, where it hides no curve."""
    ax.legend(
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=columns,
        fontsize=9,
        frameon=False,
        labelcolor=GREY,
        columnspacing=1.4,
        handlelength=2.6,
    )


def outline(width: float) -> list[AbstractPathEffect]:
    """Return an outline that keeps a white line or marker visible on light fills."""
    return [withStroke(linewidth=width, foreground="black")]
