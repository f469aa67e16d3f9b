"""Inputs for the problems, their patterns and units, and the solvers."""

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

import convexlib as cl
from convexlib.solvers.solve import METHODS
from tests.fuzz.calls import Arguments, entry, spoil
from tests.fuzz.data import betas, contained, numbers, one, sizes, tables, targets, wrong
from tests.fuzz.valid import bounded

LOSSES = st.sampled_from(("squared", "squared", "logistic", "squared_hinge", "absolute", "hinge"))
TOLS = st.sampled_from((1e-6, 1e-3, 1e-9, 1e-300, 0.5, 2.0))
FEW = st.sampled_from((1, 3, 30, 300))  # iterations, nodes
SEEDS = st.sampled_from((0, 1, 12345, 2**31 - 1, 2**63, -1, None, 1.5))
LIMITS = st.sampled_from((1, 10, 2000))
SHAPES = st.sampled_from((1, 2, 3, (1,), (2,), (2, 1), (), [2], np.int64(2)))
DEPTHS = st.sampled_from((3, 3, 3, 2, 4))


@st.composite
def lists_of(draw: st.DrawFn, X: Any) -> Any:
    """Patterns for data X: all, drawn, made by hand for these or other data, or none."""
    n, d = np.asarray(X.detach() if torch.is_tensor(X) else X).shape
    kind = draw(st.sampled_from(("none", "generate", "all", "drawn", "by hand", "other", "wrong")))
    try:
        if kind == "all":
            return cl.enumerate_arrangements(X, 500)
        if kind == "drawn":
            return cl.sample_arrangements(X, draw(st.integers(1, 6)))
        if kind in ("by hand", "other"):
            rows = n if kind == "by hand" else draw(st.integers(0, 4))
            rng = np.random.default_rng(0)
            masks = torch.from_numpy(rng.random((2, rows)) < 0.5)
            return cl.Arrangements(masks, torch.from_numpy(rng.standard_normal((2, d))))
    except cl.errors.ConvexlibError:
        return None
    return {"none": None, "generate": "generate"}.get(kind, draw(wrong()))


@st.composite
def with_beta(draw: st.DrawFn, n: int, d: int, x: str = "X") -> Arguments:
    """A table and beta."""
    return {**draw(tables(n, d, x)), "beta": draw(betas())}


@st.composite
def two_layer(draw: st.DrawFn) -> Arguments:
    """Arguments of `TwoLayer` and its kin."""
    arguments = draw(with_beta(7, 3))
    if draw(st.booleans()):
        arguments["arrangements"] = draw(lists_of(arguments["X"]))
    return arguments


@st.composite
def outputs(draw: st.DrawFn) -> Arguments:
    """Arguments of `VectorOutput`."""
    n, d = draw(sizes(6, 3))
    X, Y = draw(numbers((n, d))), draw(numbers((n, draw(st.integers(1, 3)))))
    X, Y = contained(draw, X, np.sign(Y + 0.1) if draw(st.booleans()) else Y)
    return {"X": X, "Y": Y, "beta": draw(betas())}


@st.composite
def patches(draw: st.DrawFn) -> Arguments:
    """Arguments of `Convolution`."""
    n, K, h = (draw(st.integers(1, most)) for most in (3, 3, 2))
    values = draw(numbers((n, K, h)))
    X, y = contained(draw, values, draw(targets(values)))
    return {"patches": X, "y": y, "beta": draw(betas())}


@st.composite
def tokens(draw: st.DrawFn) -> Arguments:
    """Arguments of `Attention`."""
    n, s, d, c = (draw(st.integers(1, most)) for most in (3, 3, 2, 2))
    X, Y = contained(draw, draw(numbers((n, s, d))), draw(numbers((n, s, c))))
    return {"tokens": X, "Y": Y, "beta": draw(betas())}


GATED = {"gated": st.booleans(), "loss": LOSSES, "max_patterns": LIMITS}
UNITS: dict[str, Any] = {
    "units": st.sampled_from((None, "generate")), "max_units": LIMITS, "width": SHAPES,
}  # fmt: skip
PENALTIES = st.sampled_from(("one-output", "nuclear"))
MIRRORS: dict[str, Any] = {
    "depth": st.integers(2, 5),
    "activation": st.sampled_from(("relu", "abs", "leaky", "sign", "threshold")),
    "slope": st.sampled_from((0.1, 0.5, 1 - 1e-16, 1e-300)), "widths": SHAPES,
    "reflections": st.booleans(), "loss": st.sampled_from(("squared", "quantile")),
    "quantile": st.sampled_from((0.5, 0.1, 1e-12, 1 - 1e-16)), "max_features": LIMITS,
}  # fmt: skip
PROBLEMS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "TwoLayer": (cl.TwoLayer, two_layer(), GATED),
    "VectorOutput": (cl.VectorOutput, outputs(), {"penalty": PENALTIES, **GATED}),
    "ThreeLayer": (cl.ThreeLayer, with_beta(4, 2), UNITS),
    "PathRegularized": (
        cl.PathRegularized, with_beta(4, 2), {"depth": DEPTHS, "loss": LOSSES, **UNITS}
    ),
    "BatchNorm": (
        cl.BatchNorm, two_layer(), {"truncate": st.integers(1, 3), "max_patterns": LIMITS}
    ),
    "Mirrors": (cl.Mirrors, with_beta(8, 1, "x"), MIRRORS),
    "WedgeLasso": (
        cl.WedgeLasso, with_beta(6, 3),
        {
            "norm": st.sampled_from((1, 2)), "atoms": st.sampled_from(("exact", "data")),
            "bias": st.booleans(), "max_wedges": LIMITS,
        },
    ),
    "ReflectionLasso": (
        cl.ReflectionLasso, with_beta(6, 3), {"depth": st.integers(1, 4), "max_units": LIMITS}
    ),
    "Threshold": (cl.Threshold, two_layer(), {"loss": LOSSES, "max_patterns": LIMITS}),
    "Convolution": (cl.Convolution, patches(), GATED),
    "Attention": (cl.Attention, tokens(), {"loss": LOSSES}),
}  # fmt: skip

for _name, (_make, _bundle, _options) in PROBLEMS.items():
    entry(_name, _make, _bundle, options=_options, share=2.0)


FIRST_ORDER = ("proximal_gradient", "fista", "admm", "irls")
BY_FIRST_ORDER = (cl.Attention, cl.Convolution, cl.VectorOutput)  # what "auto" may take there


def solved(make: Any, arguments: Arguments, **options: Any) -> Any:
    """Solve a problem, and hand its network back with the result."""
    problem = make(**arguments)
    method = options.get("method")
    if (isinstance(method, str) and method in FIRST_ORDER) or make in BY_FIRST_ORDER:
        options.setdefault("max_iter", 1000)  # ten thousands are slow, but no hang
    result = cl.solve(problem, **options)
    bounded(result, problem)
    network = problem.to_network(result)
    return [result, network, problem.value(result.weights)]


@st.composite
def tasks(draw: st.DrawFn, names: tuple[str, ...] = tuple(PROBLEMS)) -> Arguments:
    """A kind of problem and arguments for it."""
    make, bundle, options = PROBLEMS[draw(st.sampled_from(names))]
    arguments = draw(bundle)
    for name, values in options.items():
        if draw(st.booleans()):
            arguments[name] = draw(values)
    if draw(st.integers(0, 5)) == 3:
        spoil(draw, arguments, [*arguments, *options])
    return {"make": make, "arguments": arguments}


TASK = ("make", "arguments")  # of a task: another entry makes those wrong
SOLVING = {"tol": TOLS, "max_iter": FEW, "method": st.sampled_from((*["auto"] * 8, *METHODS))}
for _name in PROBLEMS:
    entry(
        f"solve {_name}", solved, tasks((_name,)), options=SOLVING, kept=TASK,
        share=3.0 if _name == "TwoLayer" else 1.0, covers=("solve", "Result", "Status"),
    )  # fmt: skip


def path_of(make: Any, arguments: Arguments, betas: Any, **options: Any) -> Any:
    """Solve along several betas."""
    problem = make(**arguments)
    if make in BY_FIRST_ORDER:
        options.setdefault("max_iter", 1000)
    found = cl.solution_path(problem, betas, **options)
    for result, beta in zip(found, betas, strict=True):
        bounded(result, problem.with_beta(beta))
    return found


@st.composite
def paths(draw: st.DrawFn) -> Arguments:
    """A problem and a list of betas."""
    few = st.lists(betas(), min_size=0, max_size=3)
    return {**draw(tasks()), "betas": draw(few)}


entry(
    "solution_path", path_of, paths(), options={"tol": TOLS, "max_iter": FEW}, share=2.0, kept=TASK
)


def optima(make: Any, arguments: Arguments, other: bool = False, tol: float = 1e-9) -> Any:
    """All optima of a solved problem; or of another one's result."""
    problem = make(**arguments)
    result = cl.solve(problem if not other else problem.with_beta(2 * problem.beta), tol=tol)
    found = cl.optimal_set(problem, result)
    return [found, found.n_neurons if hasattr(found, "n_neurons") else 0]


entry(
    "optimal_set", optima, tasks(("TwoLayer", "TwoLayer", "TwoLayer", "BatchNorm", "Mirrors")),
    options={"other": st.booleans(), "tol": TOLS}, covers=("optimal_set", "OptimalSet"), share=2.0,
    kept=(*TASK, "other"),
)  # fmt: skip
entry(
    "low_rank_path", cl.low_rank_path, with_beta(4, 3),
    options={"rank": st.integers(1, 3), "width": SHAPES, "depth": DEPTHS, "loss": LOSSES,
             "tol": TOLS, "max_units": LIMITS}, always=("rank",),
    covers=("low_rank_path", "LowRankPath"),
)  # fmt: skip
entry("batchnorm_closed_form", cl.batchnorm_closed_form, outputs())

entry(
    "enumerate_arrangements", cl.enumerate_arrangements, one("X", (8, 4)),
    options={"max_patterns": LIMITS}, covers=("enumerate_arrangements", "Arrangements"), share=2.0,
)  # fmt: skip
entry(
    "sample_arrangements", cl.sample_arrangements, one("X", (8, 4)),
    options={"n_patterns": st.integers(1, 40), "seed": SEEDS,
             "method": st.sampled_from(("gaussian", "geometric"))}, share=2.0,
    always=("n_patterns",),
)  # fmt: skip
entry(
    "count_bound", cl.count_bound,
    st.fixed_dictionaries({"n": st.integers(-2, 3000), "rank": st.integers(-2, 3000)}),
)  # fmt: skip
entry(
    "enumerate_units", cl.enumerate_units, one("X", (4, 2)),
    options={"width": SHAPES, "depth": DEPTHS, "max_units": LIMITS},
    covers=("enumerate_units", "Units"),
)  # fmt: skip
entry(
    "sample_units", cl.sample_units, one("X", (4, 2)),
    options={"n_units": st.integers(1, 9), "width": SHAPES, "depth": DEPTHS, "seed": SEEDS},
    always=("n_units",),
)  # fmt: skip


@st.composite
def masks_and_gates(draw: st.DrawFn) -> Arguments:
    """Two tensors that may or may not fit."""
    P, n, d = (draw(st.integers(0, 3)) for _ in range(3))
    masks = torch.ones(P, n, dtype=draw(st.sampled_from((torch.bool, torch.bool, torch.float64))))
    return {"masks": masks, "gates": torch.ones(draw(st.sampled_from((P, P, 2))), d)}


def picked(masks: Any, gates: Any, index: Any = 0, **rest: Any) -> Any:
    """Arrangements and a selection of them, of which patterns may be equal."""
    made = cl.Arrangements(masks, gates, **rest)
    return [len(made), repr(made), made.select(index).gates]


entry(
    "Arrangements", picked, masks_and_gates(),
    options={"index": st.sampled_from((0, -1, [0], [True], slice(None), [5], np.array([], int)))},
)  # fmt: skip


@st.composite
def pieces(draw: st.DrawFn) -> Arguments:
    """Arrays for `Units`, which mostly fit."""
    K, m, n = (draw(st.integers(0, 2)) for _ in range(3))
    return {
        "leaves": np.ones((K, m, n), dtype=bool),
        "inner": (np.ones((K, 1, draw(st.sampled_from((m, m, 3)))), dtype=np.int8),),
        "nodes": np.ones((K, 1, n, m), dtype=np.int8),
        "outputs": np.ones((draw(st.sampled_from((K, K, 1))), n, m), dtype=np.int8),
    }


def some_units(index: Any = 0, **arrays: Any) -> Any:
    """Units and a selection of them."""
    made = cl.Units(**arrays)
    return [len(made), made.depth, made.widths, repr(made), len(made.select(index))]


entry("Units", some_units, pieces(), options={"index": st.sampled_from(([0], [True], [], [9]))})
entry(
    "image_patches", cl.image_patches, one("images", (2, 4, 4)),
    options={"size": st.integers(1, 3), "stride": st.integers(1, 3)}, always=("size",),
)  # fmt: skip
entry("token_pairs", cl.token_pairs, one("tokens", (2, 3, 3)))
entry("cross_product", cl.cross_product, one("U", (3, 4)))
entry("zonotope_vertices", cl.zonotope_vertices, one("X", (6, 3)))
entry("zonotope_volume", cl.zonotope_volume, one("X", (6, 4)), options={"max_subsets": LIMITS})


@st.composite
def frames(draw: st.DrawFn) -> Arguments:
    """Points and the sides of a wedge."""
    n, d = draw(sizes(5, 4))
    X, U = contained(draw, draw(numbers((n, d))), draw(numbers((max(d - 1, 1), d))))
    return {"X": X, "U": U}


entry("wedge_volumes", cl.wedge_volumes, frames())
