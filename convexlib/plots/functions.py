"""The function that a two-layer network has learned, on one or two inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from torch import Tensor, nn

from convexlib.checks import check_data, check_finite, check_flag
from convexlib.errors import InputError, NotCertifiableError
from convexlib.networks import TwoLayerGatedReLU, outputs, read_two_layer
from convexlib.plots.style import GREY, NEGATIVE, POSITIVE, axes_for, legend_above, outline, style

GRID = 200  # points of a map along each axis


def live_neurons(
    net: nn.Module, features: int, columns: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    r"""Return what switches the neurons that are not zero, and their output weights.

    Parameters
    ----------
    net : nn.Module
        Two-layer network on `features` inputs.
    features : int
        Their number f.
    columns : int, optional
        How many columns the network is given; a column beyond the features is a bias.

    Returns
    -------
    gates : ndarray of shape (m, f + 1)
        Neuron j is active where :math:`h_j^T (x, 1) \ge 0`: weights of the features, then the sum
        of what is a bias.
    alpha : ndarray of shape (m,)
        Output weights.
    """
    inner_bias = False
    if isinstance(net, TwoLayerGatedReLU):
        U, gates, alpha = net.U.detach(), net.gates, net.alpha.detach()
    else:
        try:
            read = read_two_layer(net)
        except NotCertifiableError as error:
            raise InputError(
                f"net is a {type(net).__name__}; expected a TwoLayerReLU, a TwoLayerGatedReLU or "
                "nn.Sequential(Linear, ReLU, Linear) with one output."
            ) from error
        U = gates = read.U
        alpha, inner_bias = read.alpha, read.has_bias
    check_finite(U, "the first layer of net")
    check_finite(alpha, "the last layer of net")
    taken = U.shape[1] - inner_bias
    if taken not in ((features, features + 1) if columns is None else (columns,)):
        wanted = f"{features} or {features + 1}" if columns is None else f"{columns}"
        raise InputError(
            f"net takes {taken} columns; expected {wanted}, features and bias column counted. "
            "Pass the X that it was trained on."
        )
    live = (U.abs().amax(dim=1) > 0) & (alpha != 0)
    gates = gates[live]
    biases = gates[:, features:].sum(1, keepdim=True)
    return numpy(torch.cat([gates[:, :features], biases], dim=1)), numpy(alpha[live])


def numpy(values: Tensor) -> np.ndarray:
    """Return a tensor as float64 numpy."""
    return values.detach().double().cpu().numpy()


def evaluate(net: nn.Module, points: np.ndarray) -> np.ndarray:
    """Return the outputs (k,) of the network at (k, d) points."""
    like = next(net.parameters())
    return numpy(outputs(net, torch.from_numpy(points).to(like)))


def bias_column(data: np.ndarray, features: int) -> bool:
    """Return whether the last column of (n, d) is a bias, or refuse data of other dimension."""
    has_bias = bool((data[:, -1] == 1).all()) and data.shape[1] > 1
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


def neuron_kinks(net: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    """Return where the neurons of a network of one feature switch, and their output signs.

    Parameters
    ----------
    net : TwoLayerReLU, TwoLayerGatedReLU or nn.Sequential(Linear, ReLU, Linear)
        Network on x, or on x and a column of ones.

    Returns
    -------
    kinks : ndarray of shape (k,)
        The points -b/w, increasing (0 without a bias). Neurons that are constant in x, whose
        weight is zero or whose output weight is zero, have none.
    signs : ndarray of shape (k,)
        The sign of each neuron's output weight.

    Raises
    ------
    InputError
        If the network is of another kind or takes more columns.

    Examples
    --------
    >>> import torch
    >>> import convexlib as cl
    >>> from convexlib import plots
    >>> U = torch.tensor([[1.0, -1.0], [-2.0, 1.0]])
    >>> network = cl.TwoLayerReLU(U, torch.tensor([1.0, -1.0]))
    >>> kinks, signs = plots.neuron_kinks(network)
    >>> kinks.tolist(), signs.tolist()
    ([0.5, 1.0], [-1.0, 1.0])
    """
    return kinks_of(*live_neurons(net, features=1))


def kinks_of(gates: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the kinks of neurons (m, 2) of one feature, increasing, and their output signs."""
    slopes, offsets = gates.T
    sloped = slopes != 0
    kinks = -offsets[sloped] / slopes[sloped] + 0.0  # + 0.0 turns -0.0 into 0.0
    order = np.argsort(kinks, kind="stable")
    return kinks[order], np.sign(alpha[sloped][order])


def plot_function(
    net: nn.Module, X: Any, y: Any, ax: Axes | None = None, legend: bool = True
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
    legend : bool
        Explain the marks.

    Returns
    -------
    Axes

    Raises
    ------
    InputError
        If X does not have one feature, or the network does not fit it.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> from convexlib import plots
    >>> X = np.array([[-2.0, 1.0], [-1.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    >>> y = np.array([2.0, 0.0, 0.0, 1.0])
    >>> problem = cl.TwoLayer(X, y, beta=0.1)
    >>> ax = plots.plot_function(problem.to_network(cl.solve(problem)), X, y)
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('$x$', '$f(x)$')
    """
    X, y = (part.double().cpu().numpy() for part in check_data(X, y))
    has_bias = bias_column(X, features=1)
    kinks, signs = kinks_of(*live_neurons(net, 1, columns=X.shape[1]))
    x = X[:, 0]
    margin = 0.08 * float(_spread(x))
    low, high = x.min() - margin, x.max() + margin
    shown = (kinks > low) & (kinks < high)
    # The kinks are among the points, so that corners are drawn sharp.
    line = np.unique(np.concatenate([np.linspace(low, high, 401), kinks[shown]]))
    inputs = with_ones(line[:, None], has_bias)

    ax = axes_for(ax, (6.0, 3.6))
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


def plot_input_cells(net: nn.Module, X: Any, y: Any, ax: Axes | None = None) -> Axes:
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

    Returns
    -------
    Axes

    Raises
    ------
    InputError
        If X does not have two features, or the network does not fit it.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> import convexlib as cl
    >>> from convexlib import plots
    >>> U = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    >>> network = cl.TwoLayerReLU(U, torch.tensor([1.0, -1.0]))
    >>> X, y = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]), np.array([0.0, 1.0, 0.0])
    >>> ax = plots.plot_input_cells(network, X, y)
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('$x_1$', '$x_2$')
    """
    X, y = (part.double().cpu().numpy() for part in check_data(X, y))
    has_bias = bias_column(X, features=2)
    gates, alpha = live_neurons(net, 2, columns=X.shape[1])
    margin = 0.1 * _spread(X[:, :2])
    low, high = X[:, :2].min(axis=0) - margin, X[:, :2].max(axis=0) + margin
    grid = np.meshgrid(*np.linspace(low, high, GRID).T)
    points = with_ones(np.stack([axis.ravel() for axis in grid], axis=1), has_bias)
    values = evaluate(net, points).reshape(GRID, GRID)

    ax = axes_for(ax, (5.6, 4.4))
    bottom, top = min(values.min(), y.min()), max(values.max(), y.max())
    if top - bottom <= 1e-12 * max(abs(top), abs(bottom), 1e-300):
        bottom, top = bottom - 0.5, top + 0.5
    levels = MaxNLocator(nbins=18).tick_values(bottom, top)
    filled = ax.contourf(*grid, values, levels=levels, cmap="viridis")
    corners = np.array([low, (low[0], high[1]), high, (high[0], low[1])])
    for row, weight in zip(gates, alpha, strict=True):
        side = with_ones(corners, True) @ row
        if side.min() < 0 < side.max():
            ax.add_line(boundary(row, low, high, dashed=bool(weight < 0)))
    dots = ax.scatter(X[:, 0], X[:, 1], c=y, cmap="viridis", s=26, zorder=4)
    dots.set_norm(filled.norm)
    dots.set(edgecolor="white", linewidth=0.9, path_effects=outline(2.2))
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xlabel="$x_1$", ylabel="$x_2$")
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
