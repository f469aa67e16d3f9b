"""How fast a solver closes its gap, and how training compares with the certified optimum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from convexlib.checks import as_tensor, check_choice, check_flag, check_numbers, check_real
from convexlib.errors import InputError
from convexlib.plots.style import COLOURS, DASHES, GREY, NEGATIVE, POSITIVE, axes_for, legend_above
from convexlib.result import Record, Result

_TOP = 1e300  # what diverged beyond this counts as infinite: matplotlib's ticks overflow there
BOUND_TOLERANCE = 1e-7


def plot_convergence(
    history: Result | Sequence[Record],
    ax: Axes | None = None,
    optimum: float | None = None,
    x: str = "iteration",
    gap: bool = False,
) -> Axes:
    r"""Draw a solver's primal and dual values, or their gap on a log axis.

    Parameters
    ----------
    history : Result or sequence of Record
        A result, or its history: records of ``iteration, seconds, primal, dual``.
        Values that are not finite (no dual point yet) are left out.
    ax : Axes, optional
        Where to draw; a new figure by default.
    optimum : float, optional
        Known optimal value: a horizontal line, or with `gap` the curve of
        (primal - optimum) / primal.
    x : {"iteration", "seconds"}
        What runs along the axis.
    gap : bool
        Draw the relative gap :math:`(\text{primal} - \text{dual}) / \text{primal}` on a log axis
        instead. Gaps of 0 or less have no place on it and are left out.

    Returns
    -------
    Axes

    Raises
    ------
    InputError
        If the history is empty or `x` is not a column of it.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> from convexlib import plots
    >>> X = np.array([[-2.0, 1.0], [-1.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    >>> result = cl.solve(cl.TwoLayer(X, np.array([2.0, 0.0, 0.0, 1.0]), beta=0.1))
    >>> ax = plots.plot_convergence(result, gap=True)
    >>> ax.get_xlabel(), ax.get_yscale()
    ('iteration', 'log')
    """
    records = list(history.history) if isinstance(history, Result) else history
    if not isinstance(records, Sequence) or not all(isinstance(r, Record) for r in records):
        raise InputError(
            f"history is {type(history).__name__}; expected a Result or a sequence of Records."
        )
    gap = check_flag(gap, "gap")
    optimum = None if optimum is None else check_real(optimum, "optimum")
    column = check_choice(x, ("iteration", "seconds"), "x")
    if not records:
        raise InputError(
            "history is empty; expected at least one record. Solve with a solver that keeps a "
            "history, or plot the result's value and gap as text."
        )
    along = np.array([getattr(record, column) for record in records], dtype=float)
    primal = finite([record.primal for record in records])
    dual = finite([record.dual for record in records])
    ax = axes_for(ax, (6.0, 3.6))
    marker = "o" if len(records) <= 40 else None
    if gap:
        size = np.where(primal > 0, primal, np.nan)
        closed = positive((primal - dual) / size)
        ax.plot(along, closed, color=POSITIVE, ls="-", marker=marker, ms=3, label="duality gap")
        if optimum is not None:
            over = positive((primal - optimum) / size)
            ax.plot(along, over, color=NEGATIVE, ls="--", marker=marker, ms=3, label="true error")
        ax.set(yscale="log", ylabel="relative gap")
    else:
        ax.fill_between(along, dual, primal, color=GREY, alpha=0.15, linewidth=0)
        ax.plot(along, primal, color=POSITIVE, ls="-", marker=marker, ms=3, label="primal value")
        ax.plot(along, dual, color=NEGATIVE, ls="--", marker=marker, ms=3, label="dual bound")
        if optimum is not None:
            ax.axhline(optimum, color=GREY, lw=1.2, ls=":", label="optimum")
        ax.set_ylabel("objective")
    ax.set_xlabel(column)
    legend_above(ax, columns=3)
    return ax


def finite(values: Sequence[float]) -> np.ndarray:
    """Return the values with NaN, which matplotlib leaves out, in place of infinities."""
    array = np.array(values, dtype=float)
    return np.where(np.isfinite(array), array, np.nan)


def positive(values: np.ndarray) -> np.ndarray:
    """Return the values with NaN where a log axis has no place for them."""
    return np.where((values > 0) & (values < _TOP), values, np.nan)


def seed_band(seconds: Any, objective: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return common times (T,) and the minimum, median and maximum over seeds there, (3, T).

    Parameters
    ----------
    seconds : array of shape (T,) or (S, T)
        Times, increasing; with one row per seed, each run has its own clock and counts with its
        latest value at every time in the range that all runs cover.
    objective : array of shape (T,) or (S, T)
        Values at those times, one row per seed. NaN counts as infinite: a run that diverged.

    Raises
    ------
    InputError
        If the shapes do not fit each other.

    Examples
    --------
    >>> import numpy as np
    >>> from convexlib import plots
    >>> seconds, band = plots.seed_band([0.0, 1.0], [[3.0, 1.0], [5.0, 2.0], [4.0, 3.0]])
    >>> seconds.tolist(), band.tolist()
    ([0.0, 1.0], [[3.0, 1.0], [4.0, 2.0], [5.0, 3.0]])
    """
    clocks, heights = as_tensor(seconds, "seconds"), as_tensor(objective, "objective")
    check_numbers(clocks, "seconds")
    check_numbers(heights, "objective")
    times, values = clocks.double().cpu().numpy(), np.atleast_2d(heights.double().cpu().numpy())
    if times.shape not in (values.shape, values.shape[1:]) or values.ndim != 2 or not values.size:
        raise InputError(
            f"seconds has shape {times.shape} and objective {np.shape(objective)}; expected (T,) "
            "for both, or objective (S, T) with seconds (T,) or (S, T), T >= 1."
        )
    values = np.where(np.isnan(values), np.inf, values)
    if times.ndim == 2:
        first, last = times[:, 0].max(), times[:, -1].min()
        common = np.unique(times[(times >= first) & (times <= last)])
        if not len(common):
            raise InputError("The runs in seconds share no time; expected overlapping clocks.")
        latest = [np.searchsorted(clock, common, side="right") - 1 for clock in times]
        values = np.stack([row[at] for row, at in zip(values, latest, strict=True)])
        times = common
    with np.errstate(over="ignore"):  # the middle of two runs that diverged
        median = np.median(values, axis=0)
    return times, np.stack([values.min(axis=0), median, values.max(axis=0)])


def _pair(name: str, curve: Any) -> tuple[Any, Any]:
    try:
        seconds, values = curve
    except (TypeError, ValueError):  # it is no sequence, or not of two
        raise InputError(
            f"the curve {name!r} is {type(curve).__name__}; expected a pair (seconds, values)."
        ) from None
    return seconds, values


def plot_training(
    curves: Mapping[str, tuple[Any, Any]],
    optimum: float,
    dual: float | None = None,
    ax: Axes | None = None,
    log_time: bool = False,
    legend: bool = True,
) -> Axes:
    """Draw training objectives against seconds beside the certified optimum.

    Parameters
    ----------
    curves : dict of str to (seconds, objective)
        Per method, arrays as `seed_band` takes them. Several seeds are drawn as their median
        with a band from minimum to maximum.
    optimum : float
        Objective of the certified network, a horizontal line.
    dual : float, optional
        Its dual bound. The log axis then shows (objective - dual) / |dual|, so that the line
        stands at the certified gap; without it the objective itself. Values at the bound are left
        out: a log axis has no place for them.
    ax : Axes, optional
        Where to draw; a new figure by default.
    log_time : bool
        Log axis for the seconds too.
    legend : bool
        Name the methods above the axes.

    Returns
    -------
    Axes

    Raises
    ------
    InputError
        If there is no curve, a curve's shapes do not fit, or an objective (`optimum` too) lies
        below `dual`: by weak duality it then is not the objective that was certified.

    Examples
    --------
    >>> import numpy as np
    >>> from convexlib import plots
    >>> seconds, objective = np.array([1.0, 2.0, 3.0]), np.array([[5.0, 3.0, 2.5], [6.0, 4.0, 2.1]])
    >>> ax = plots.plot_training({"Adam": (seconds, objective)}, optimum=2.0)  # two seeds
    >>> ax.get_xlabel()
    'seconds'
    """
    optimum = check_real(optimum, "optimum")
    log_time = check_flag(log_time, "log_time")
    if not isinstance(curves, Mapping) or not curves:
        got = "empty" if isinstance(curves, Mapping) else type(curves).__name__
        raise InputError(
            f"curves is {got}; expected at least one method: {{name: (seconds, values)}}."
        )
    bands = {name: seed_band(*_pair(name, curve)) for name, curve in curves.items()}
    if dual is not None:
        dual = check_real(dual, "dual")
        lowest = {name: float(values.min()) for name, (_, values) in bands.items()}
        for name, value in {"the optimum": optimum, **lowest}.items():
            if value < dual - BOUND_TOLERANCE * max(1.0, abs(dual)):
                raise InputError(
                    f"{name} reaches {value:.9g}, below the dual bound {dual:.9g}; expected no "
                    "objective below it. Score all methods by the objective that was certified."
                )
    base, size = (0.0, 1.0) if dual is None else (dual, abs(dual) or 1.0)
    ax = axes_for(ax, (6.4, 3.8))
    drawn = False
    for index, (name, (times, values)) in enumerate(bands.items()):
        colour = COLOURS[index % len(COLOURS)]
        with np.errstate(over="ignore"):  # of runs that diverged
            low, median, high = positive((values - base) / size)
        drawn = drawn or bool(np.isfinite(median).any())
        ax.plot(times, median, color=colour, ls=DASHES[index % len(DASHES)], label=name)
        if np.any(values[0] < values[2]):
            ax.fill_between(times, low, high, color=colour, alpha=0.28, linewidth=0)
    if base < optimum < _TOP * size:
        ax.axhline((optimum - base) / size, color=GREY, lw=1.4, label="certified optimum")
    ax.set(
        yscale="log",
        xlabel="seconds",
        xscale="log" if log_time and drawn else "linear",  # empty axes have no log scale
    )
    ax.set_ylabel("training objective" if dual is None else "(objective $-$ bound) / bound")
    if check_flag(legend, "legend"):
        legend_above(ax, columns=3)
    return ax
