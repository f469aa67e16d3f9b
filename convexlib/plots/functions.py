"""The function that a two-layer network has learned, on one or two inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from torch import nn

from convexlib.plots.neurons import (
    bias_column,
    evaluate,
    live_neurons,
    neuron_kinks,
    with_ones,
)
from convexlib.plots.style import (
    GREY,
    NEGATIVE,
    POSITIVE,
    axes_for,
    legend_above,
    outline,
    style,
)
from convexlib.validation import check_data, check_flag, check_positive_int

__all__ = ["plot_function", "plot_input_cells"]


def plot_function(
    net: nn.Module,
    X: Any,
    y: Any,
    ax: Axes | None = None,
    bias: bool | None = None,
    contributions: bool = False,
    legend: bool = True,
) -> Axes:
    r"""Draw a learned function of one feature with its data and the neurons' kinks.

    A triangle on the axis marks each kink :math:`-b_j / w_j` in view: upwards where the output
    weight is positive, downwards where it is negative.

    Parameters
    ----------
    net : TwoLayerReLU, TwoLayerGatedReLU or nn.Sequential(Linear, ReLU, Linear)
        Network trained on X.
    X : array of shape (n, 1) or (n, 2)
        One feature, or one feature and a column of ones.
    y : array of shape (n,)
        Targets.
    ax : Axes, optional
        Where to draw; a new figure by default.
    bias : bool, optional
        Whether the last column is a bias; by default it is when there are two and it is all ones.
    contributions : bool
        Also draw each neuron's own :math:`\alpha_j (w_j x + b_j)_+`, thin.
    legend : bool
        Explain the marks.

    Returns
    -------
    Axes

    Raises
    ------
    InputError
        If X does not have one feature, or the network does not fit it.
    """
    X, y = (part.double().cpu().numpy() for part in check_data(X, y))
    has_bias = bias_column(X, bias, features=1)
    neurons = live_neurons(net, 1, columns=X.shape[1])
    kinks, signs = neuron_kinks(net)
    x = X[:, 0]
    margin = 0.08 * float(_spread(x))
    low, high = x.min() - margin, x.max() + margin
    shown = (kinks > low) & (kinks < high)
    # The kinks are among the points, so that corners are drawn sharp.
    line = np.unique(np.concatenate([np.linspace(low, high, 401), kinks[shown]]))
    inputs = with_ones(line[:, None], has_bias)

    ax = axes_for(ax, (6.0, 3.6))
    if check_flag(contributions, "contributions"):
        parts = neurons.contributions(line[:, None])  # (m, k)
        for part, weight in zip(parts, neurons.alpha, strict=True):
            colour, dash = (POSITIVE, "-") if weight > 0 else (NEGATIVE, "--")
            ax.plot(line, part, color=colour, lw=0.8, ls=dash, alpha=0.9, label="_neuron")
    ax.plot(x, y, "o", color=GREY, ms=4.5, label="data")
    ax.plot(line, evaluate(net, inputs), color=POSITIVE, lw=2, ls="-", label="network")
    ax.set_xlim(low, high)
    for sign, marker, colour, text in (
        (1, "^", POSITIVE, r"kink, $\alpha_j > 0$"),
        (-1, "v", NEGATIVE, r"kink, $\alpha_j < 0$"),
    ):
        at = kinks[shown & (signs == sign)]
        if len(at):
            ax.plot(
                at,
                np.zeros(len(at)),
                marker,
                color=colour,
                ms=7,
                zorder=5,
                label=text,
                clip_on=False,
                transform=ax.get_xaxis_transform(),
            )
    ax.set(xlabel="$x$", ylabel="$f(x)$")
    if check_flag(legend, "legend"):
        legend_above(ax, columns=4)
    return ax


def plot_input_cells(
    net: nn.Module,
    X: Any,
    y: Any,
    ax: Axes | None = None,
    bias: bool | None = None,
    resolution: int = 200,
    colorbar: bool = True,
) -> Axes:
    r"""Draw a learned piecewise-linear map of two features with its activation cells.

    Filled contours show f. White lines :math:`u_j^T x = 0` are the neurons' boundaries, solid for
    a positive output weight and dashed for a negative one; between them f is linear. The dots are
    the data, coloured by their target on the scale of f.

    Parameters
    ----------
    net : TwoLayerReLU, TwoLayerGatedReLU or nn.Sequential(Linear, ReLU, Linear)
        Network trained on X.
    X : array of shape (n, 2) or (n, 3)
        Two features, or two features and a column of ones.
    y : array of shape (n,)
        Targets.
    ax : Axes, optional
        Where to draw; a new figure by default.
    bias : bool, optional
        Whether the last column is a bias; by default it is when it is all ones.
    resolution : int
        Points of the grid along each axis.
    colorbar : bool
        Draw the scale of f beside the axes.

    Returns
    -------
    Axes

    Raises
    ------
    InputError
        If X does not have two features, or the network does not fit it.
    """
    X, y = (part.double().cpu().numpy() for part in check_data(X, y))
    resolution = check_positive_int(resolution, "resolution", minimum=2)
    has_bias = bias_column(X, bias, features=2)
    neurons = live_neurons(net, 2, columns=X.shape[1])
    margin = 0.1 * _spread(X[:, :2])
    low, high = X[:, :2].min(axis=0) - margin, X[:, :2].max(axis=0) + margin
    grid = np.meshgrid(*np.linspace(low, high, resolution).T)
    points = with_ones(np.stack([axis.ravel() for axis in grid], axis=1), has_bias)
    values = evaluate(net, points).reshape(resolution, resolution)

    ax = axes_for(ax, (5.6, 4.4))
    bottom, top = min(values.min(), y.min()), max(values.max(), y.max())
    if top - bottom <= 1e-12 * max(abs(top), abs(bottom), 1e-300):
        bottom, top = bottom - 0.5, top + 0.5
    levels = MaxNLocator(nbins=18).tick_values(bottom, top)
    filled = ax.contourf(*grid, values, levels=levels, cmap="viridis")
    corners = np.array([low, (low[0], high[1]), high, (high[0], low[1])])
    for row, weight in zip(neurons.gates, neurons.alpha, strict=True):
        side = with_ones(corners, True) @ row
        if side.min() < 0 < side.max():
            ax.add_line(boundary(row, low, high, dashed=bool(weight < 0)))
    dots = ax.scatter(X[:, 0], X[:, 1], c=y, cmap="viridis", s=26, zorder=4)
    dots.set_norm(filled.norm)
    dots.set(edgecolor="white", linewidth=0.9, path_effects=outline(2.2))
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xlabel="$x_1$", ylabel="$x_2$")
    if check_flag(colorbar, "colorbar"):
        with style():
            scale = ax.figure.colorbar(filled, ax=ax, label="$f(x)$", ticks=levels[::2])
        scale.outline.set_visible(False)
    return ax


def _spread(values: np.ndarray) -> np.ndarray:
    """The range of every column, or one that can be drawn where all its values agree."""
    size = np.abs(values).max(axis=0)
    spread = np.ptp(values, axis=0)
    return np.where(spread > 1e-12 * size, spread, np.maximum(1.0, 1e-3 * size))


def boundary(row: np.ndarray, low: np.ndarray, high: np.ndarray, dashed: bool) -> Line2D:
    """Return the line u^T (x, 1) = 0 of a neuron, from end to end of the box [low, high]."""
    # Solve for the coordinate with the larger weight in box units, which is never zero.
    solve = int(np.argmax(np.abs(row[:2]) * (high - low)))
    free = 1 - solve
    ends = np.empty((2, 2))
    ends[:, free] = low[free], high[free]
    ends[:, solve] = -(row[free] * ends[:, free] + row[2]) / row[solve]
    line = Line2D(*ends.T, color="white", lw=1.2, ls=(0, (4, 2)) if dashed else "-")
    line.set(path_effects=outline(2.2), label="_boundary", solid_capstyle="butt")
    return line
