"""Inputs for pictures, losses, and the solvers of chapters that `solve` does not offer."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from hypothesis import strategies as st

import convexlib as cl
from convexlib import losses, plots
from convexlib.arrangements import zonotope as geometry
from convexlib.result import Record
from convexlib.training import OPTIMIZERS, train
from tests.fuzz.calls import Arguments, entry
from tests.fuzz.data import numbers, one, sizes
from tests.fuzz.entries_networks import ALONE, trained
from tests.fuzz.entries_problems import LOSSES, with_beta
from tests.fuzz.valid import best_network, drawn, valid


def pictured(draw_it: Any) -> Any:
    """The same call, its figure closed even where it fails."""

    def call(**arguments: Any) -> None:
        try:
            drawn(draw_it(**arguments))
        finally:
            plt.close("all")

    return call


AX = {"ax": st.none()}


# A network under the name that pictures have for it, with data.
SHOWN = trained(beta=False).map(lambda given: {"net": given.pop("network"), **given})
entry("plot_cells", pictured(plots.plot_cells), one("X", (5, 2)), options=AX)
entry("plot_zonotope", pictured(plots.plot_zonotope), one("X", (5, 3)), options=AX)
entry(
    "plot_function", pictured(plots.plot_function), SHOWN,
    options={"legend": st.booleans(), **AX},
)  # fmt: skip
entry("plot_input_cells", pictured(plots.plot_input_cells), SHOWN, options=AX)
entry("cell_sectors", plots.cell_sectors, one("X", (6, 2)))


entry("neuron_kinks", plots.neuron_kinks, st.fixed_dictionaries({"net": ALONE}))
CORNERS = st.integers(1, 7).flatmap(lambda n: numbers((n, 3)))  # their hull may be flat
entry("zonotope_facets", plots.zonotope_facets, st.fixed_dictionaries({"vertices": CORNERS}))


@st.composite
def histories(draw: st.DrawFn) -> Arguments:
    """Records of a solver, with values as they may come."""
    values = st.sampled_from((1.0, 0.5, 0.0, -1.0, 1e300, np.inf, -np.inf, np.nan))
    count = draw(st.integers(0, 4))
    return {"history": [Record(k, 0.1 * k, draw(values), draw(values)) for k in range(count)]}


entry(
    "plot_convergence", pictured(plots.plot_convergence), histories(),
    options={"optimum": st.sampled_from((None, 0.5, 0.0)), "gap": st.booleans(),
             "x": st.sampled_from(("iteration", "seconds"))},
)  # fmt: skip


@st.composite
def clocks(draw: st.DrawFn) -> Arguments:
    """Curves of several runs."""
    S, T = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    seconds = np.cumsum(np.abs(draw(numbers((S, T), hostile=False))) + 0.01, axis=1)
    objective = np.abs(draw(numbers((S, T))))
    return {"seconds": seconds[0] if draw(st.booleans()) else seconds, "objective": objective}


entry("seed_band", plots.seed_band, clocks(), check=lambda found: valid(found[0]))


def training_plot(seconds: Any, objective: Any, **options: Any) -> Any:
    """One method's curves."""
    return pictured(plots.plot_training)(curves={"method": (seconds, objective)}, **options)


entry(
    "plot_training", training_plot, clocks(),
    options={"optimum": st.sampled_from((0.5, 1.0)), "dual": st.sampled_from((None, 0.4)),
             "log_time": st.booleans(), "legend": st.booleans()}, always=("optimum",),
)  # fmt: skip


def styled() -> None:
    """The settings of the book, for a while."""
    with plots.style():
        plots.use_style()


entry("style", styled, covers=("style", "use_style"), share=0.2)


@st.composite
def nonzero_rows(draw: st.DrawFn) -> Arguments:
    """Rows as `subset_normals` demands them."""
    X = draw(numbers(draw(sizes(5, 3)), hostile=False))
    return {"rows": X[np.abs(X).max(axis=1) > 0]}


entry("subset_normals", geometry.subset_normals, nonzero_rows(), kept=("rows",))


@st.composite
def samples(draw: st.DrawFn) -> Arguments:
    """Outputs, targets and a dual point of a loss."""
    n = draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    scale = draw(st.sampled_from((1.0, 1e-9, 1e9, 100.0, 1e20)))
    y = torch.from_numpy(np.sign(rng.standard_normal(n)))
    return {"f": scale * torch.from_numpy(rng.standard_normal(n)), "y": y}


def of_loss(f: Any, y: Any, name: Any = "squared") -> Any:
    """Everything that a loss says, and that weak duality holds."""
    loss = losses.get_loss(name)
    loss.check_targets(y)
    z = loss.restrict(loss.dual_point(f, y), y)
    value, dual = loss.value(f, y), loss.dual_value(z, y)
    scaled = loss.best_scale(z, y, 0.5) * z
    product = float(f @ z)
    # Fenchel and Young: L(f) + L*(-z) >= -f^T z, so that dual <= L(f) + f^T z.
    slack = 1e-9 * (abs(value) + abs(dual) + abs(product))
    assert dual <= value + product + slack, "Fenchel and Young's inequality fails"
    return [value, z, dual, scaled]


entry(
    "losses", of_loss, samples(), options={"name": st.sampled_from(tuple(losses.LOSSES))},
    covers=("get_loss", "LOSSES", "Loss", "SmoothLoss", "SquaredLoss", "LogisticLoss",
            "SquaredHingeLoss"), kept=("f", "y"),
)  # fmt: skip


@st.composite
def descents(draw: st.DrawFn) -> Arguments:
    """A table, and a grid of runs."""
    runs = {"width": draw(st.integers(1, 3)), "n_steps": draw(st.integers(1, 5))}
    return {**draw(with_beta(6, 3)), **runs}


entry(
    "train", train, descents(), check=best_network,
    options={
        "optimizer": st.sampled_from(OPTIMIZERS), "loss": LOSSES,
        "rates": st.sampled_from(((0.1,), (1e-3, 1.0), (1e6,), [])),
        "seeds": st.sampled_from(((0,), (1, 2), (), (0, 0))),
        "batch_size": st.sampled_from((1, 2, 100, None)), "n_records": st.integers(1, 3),
        "seconds": st.sampled_from((None, 0.01)),
    },
)  # fmt: skip


entry("autoregression", cl.datasets.autoregression, one("signal", (9,)),
      options={"lags": st.integers(1, 4)}, always=("lags",))  # fmt: skip
