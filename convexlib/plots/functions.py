"""The function that a two-layer network has learned, on one or two inputs."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from torch import Tensor

from convexlib.errors import InputError
from convexlib.plots.style import GREY, NEGATIVE, POSITIVE, axes_for, outline
from convexlib.validation import check_data, check_positive_int

__all__ = ["Network", "neuron_kinks", "plot_function", "plot_input_cells"]


class Network(Protocol):
    r"""A two-layer network :math:`x \mapsto \sum_j \alpha_j (u_j^T x)_+`."""

    U: Tensor
    alpha: Tensor

    def __call__(self, X: Tensor, /) -> Tensor:
        """Map (n, d) to (n,)."""


def weights(net: Network, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights (m, d) and (m,) of the live neurons, those that are not zero."""
    try:
        U, alpha = (part.detach().double().cpu().numpy() for part in (net.U, net.alpha))
    except AttributeError as error:
        raise InputError(
            f"net is a {type(net).__name__} without tensors U (m, d) and alpha (m,); expected a "
            "two-layer network with one output, as problem.to_network(result) returns."
        ) from error
    if U.ndim != 2 or U.shape[1] != d or alpha.shape != U.shape[:1]:
        raise InputError(
            f"net has U of shape {U.shape} and alpha of shape {alpha.shape}; expected (m, {d}) "
            f"and (m,) for X with {d} columns. Pass the X that the network was trained on."
        )
    live = (np.abs(U).max(axis=1, initial=0) > 0) & (alpha != 0)
    return U[live], alpha[live]


def evaluate(net: Network, points: np.ndarray) -> np.ndarray:
    """Return the outputs (k,) of the network at (k, d) points."""
    with torch.no_grad():
        return net(torch.from_numpy(points).to(net.U)).double().cpu().numpy()


def bias_column(data: np.ndarray, bias: bool | None, features: int) -> bool:
    """Return whether the last column of (n, d) is a bias, or refuse data of other dimension."""
    ones = bool((data[:, -1] == 1).all()) and data.shape[1] > 1
    if bias and not ones:
        raise InputError(
            f"bias=True but the last column of X (shape {data.shape}) is not all ones. Append a "
            "column of ones, or leave bias out."
        )
    has_bias = ones if bias is None else bias
    found = data.shape[1] - has_bias
    if found != features:
        other = {1: "plot_function", 2: "plot_input_cells"}.get(found)
        hint = f" Use {other}." if other else ""
        raise InputError(
            f"X has shape {data.shape}, which is {found} feature{'s' if found > 1 else ''} and "
            f"{'a' if has_bias else 'no'} bias column; expected {features} "
            f"feature{'s' if features > 1 else ''} with or without a last column of ones.{hint}"
        )
    return has_bias


def with_ones(points: np.ndarray, has_bias: bool) -> np.ndarray:
    """Append the column of ones to points (k, f) if the data have one."""
    return np.column_stack([points, np.ones(len(points))]) if has_bias else points


def neuron_kinks(net: Network, bias: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return where the neurons of a one-feature network switch, and their output weights.

    Parameters
    ----------
    net : Network
        Two-layer network on (x, 1) if `bias`, else on x.
    bias : bool
        Whether the second input is the constant 1.

    Returns
    -------
    kinks : ndarray of shape (k,)
        The points -b/w, increasing (0 without a bias). Neurons that are constant in x have none.
    signs : ndarray of shape (k,)
        The sign of each neuron's output weight.

    Raises
    ------
    InputError
        If the network does not have one output and one (with a bias two) inputs.
    """
    U, alpha = weights(net, 1 + bias)
    sloped = U[:, 0] != 0
    U, alpha = U[sloped], alpha[sloped]
    kinks = -U[:, 1] / U[:, 0] if bias else np.zeros(len(U))
    order = np.argsort(kinks, kind="stable")
    return kinks[order] + 0.0, np.sign(alpha[order])


def plot_function(
    net: Network,
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
    net : Network
        Two-layer network with tensors ``U`` (m, d) and ``alpha`` (m,), called on (k, d).
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
    U, alpha = weights(net, X.shape[1])
    kinks, signs = neuron_kinks(net, has_bias)
    x = X[:, 0]
    margin = 0.08 * (float(np.ptp(x)) or 1.0)
    low, high = x.min() - margin, x.max() + margin
    shown = (kinks > low) & (kinks < high)
    # The kinks are among the points, so that corners are drawn sharp.
    line = np.unique(np.concatenate([np.linspace(low, high, 401), kinks[shown]]))
    inputs = with_ones(line[:, None], has_bias)

    ax = axes_for(ax, (6.0, 3.6))
    if contributions:
        for row, weight in zip(U, alpha, strict=True):
            colour, dash = (POSITIVE, "-") if weight > 0 else (NEGATIVE, "--")
            part = weight * np.maximum(inputs @ row, 0)
            ax.plot(line, part, color=colour, lw=0.8, ls=dash, alpha=0.75, label="_neuron")
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
    if legend:
        ax.legend(fontsize=9)
    return ax


def plot_input_cells(
    net: Network,
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
    net : Network
        Two-layer network with tensors ``U`` (m, d) and ``alpha`` (m,), called on (k, d).
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
    U, alpha = weights(net, X.shape[1])
    spans = np.ptp(X[:, :2], axis=0)
    margin = 0.1 * np.where(spans > 0, spans, 1)
    low, high = X[:, :2].min(axis=0) - margin, X[:, :2].max(axis=0) + margin
    grid = np.meshgrid(*np.linspace(low, high, resolution).T)
    points = with_ones(np.stack([axis.ravel() for axis in grid], axis=1), has_bias)
    values = evaluate(net, points).reshape(resolution, resolution)

    ax = axes_for(ax, (5.6, 4.4))
    bottom, top = min(values.min(), y.min()), max(values.max(), y.max())
    if top - bottom <= 1e-12 * max(abs(top), abs(bottom), 1e-300):
        bottom, top = bottom - 0.5, top + 0.5
    levels = np.linspace(bottom, top, 17)
    filled = ax.contourf(*grid, values, levels=levels, cmap="cividis")
    corners = with_ones(np.array([low, (low[0], high[1]), high, (high[0], low[1])]), has_bias)
    for row, weight in zip(U, alpha, strict=True):
        side = corners @ row
        if side.min() < 0 < side.max():
            ax.add_line(boundary(row, low, high, has_bias, dashed=bool(weight < 0)))
    dots = ax.scatter(*X[:, :2].T, c=y, cmap="cividis", vmin=bottom, vmax=top, s=26, zorder=4)
    dots.set(edgecolor="white", linewidth=0.9, path_effects=outline(2.2))
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xlabel="$x_1$", ylabel="$x_2$")
    if colorbar and ax.figure is not None:
        scale = ax.figure.colorbar(filled, ax=ax, label="$f(x)$")
        scale.outline.set_visible(False)  # type: ignore[operator]
        scale.ax.yaxis.label.set_color(GREY)
        scale.ax.tick_params(colors=GREY)
    return ax


def boundary(
    row: np.ndarray, low: np.ndarray, high: np.ndarray, bias: bool, dashed: bool
) -> Line2D:
    """Return the line u^T x = 0 of a neuron, from end to end of the box [low, high]."""
    offset = row[2] if bias else 0.0
    # Solve for the coordinate with the larger weight in box units, which is never zero.
    solve = int(np.argmax(np.abs(row[:2]) * (high - low)))
    free = 1 - solve
    ends = np.empty((2, 2))
    ends[:, free] = low[free], high[free]
    ends[:, solve] = -(row[free] * ends[:, free] + offset) / row[solve]
    line = Line2D(*ends.T, color="white", lw=1.2, ls=(0, (4, 2)) if dashed else "-")
    line.set(path_effects=outline(2.2), label="_boundary", solid_capstyle="butt")
    return line
