"""Inputs for networks, certificates and estimators."""

import math
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from sklearn.exceptions import DataConversionWarning
from torch import nn

import convexlib as cl
from convexlib import networks
from tests.fuzz.calls import Arguments, entry
from tests.fuzz.data import betas, contained, numbers, sizes, targets
from tests.fuzz.entries_problems import DEPTHS, FEW, LIMITS, LOSSES, MIRRORS, SEEDS, TOLS
from tests.fuzz.valid import valid

NODES = st.sampled_from((0, 1, 30, 1000))
WEIGHTS = st.sampled_from((1.0,) * 12 + (0.0, 1e-9, 1e9, 1e150, 1e-150, 1e300, np.nan, np.inf))
DTYPES = st.sampled_from((torch.float64,) * 5 + (torch.float32, torch.float32, torch.float16))


def filled(network: nn.Module, seed: int, scale: float, dtype: torch.dtype) -> nn.Module:
    """The network with Gaussian weights of a seed, times a scale."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return network.to(dtype)


class Own(nn.Module):
    """A network of a class of its own: a chain of layers in most cases."""

    def __init__(self, first: nn.Linear, last: nn.Linear, how: str) -> None:
        super().__init__()
        self.first, self.last, self.how, self.drop = first, last, how, nn.Dropout()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.how == "branch" and x.sum() > 0:
            return x
        hidden = self.first(x.flatten(1))
        hidden = torch.tanh(hidden) if self.how == "tanh" else self.drop(torch.relu(hidden))
        outputs = self.last(hidden)
        return outputs + hidden if self.how == "skip" else outputs.squeeze(-1)


WAYS = ("chain", "chain", "chain", "chain", "train", "tanh", "skip", "branch")


@st.composite
def made(draw: st.DrawFn, d: int) -> nn.Module:
    """A network on d features: one that the library knows, in most cases."""
    m, bias = draw(st.integers(1, 4)), draw(st.booleans())
    kinds = ("own", "own", "plain", "plain", "class", "gated", "deep", "parallel", "norm", "list",
             "odd")  # fmt: skip
    kind = draw(st.sampled_from(kinds))
    first = nn.Linear(d, m, bias)
    network: nn.Module = nn.Sequential(first, nn.ReLU(), nn.Linear(m, 1, draw(st.booleans())))
    if kind == "own":
        network = cl.TwoLayerReLU(torch.ones(m - 1, d), torch.ones(m - 1))
    elif kind == "class":
        how = draw(st.sampled_from(WAYS))
        network = Own(first, nn.Linear(m, 1, bias), how).train(how == "train")
    elif kind == "gated":
        network = cl.TwoLayerGatedReLU(torch.ones(m, d), torch.ones(m), torch.randn(m, d))
    elif kind == "deep":
        layers = (nn.Linear(d, m, False), nn.ReLU(), nn.Linear(m, 2, False), nn.ReLU())
        network = nn.Sequential(*layers, nn.Linear(2, 1, bias))
    elif kind == "parallel":
        inner = [torch.ones(m, 1, 2)]
        network = cl.ParallelReLU(torch.ones(m, 2, d), inner, torch.ones(m))
    elif kind == "norm":
        norm = nn.BatchNorm1d(m, affine=draw(st.booleans()))
        network = nn.Sequential(first, norm, nn.ReLU(), nn.Linear(m, 1, bias))
    elif kind == "list":
        network = nn.ModuleList([network, nn.Sequential(first, nn.ReLU(), nn.Linear(m, 1, bias))])
    elif kind == "odd":
        odd = (
            nn.Linear(d, 1), nn.ReLU(), nn.Sequential(), nn.ModuleList(), nn.LSTM(d, 1),
            nn.Sequential(first, nn.Tanh(), nn.Linear(m, 1)),
            nn.Sequential(first, nn.ReLU(), nn.Linear(m + 1, 1)),
            nn.Sequential(first, nn.ReLU(), nn.Linear(m, 2)),
            nn.Sequential(first, nn.ReLU(), nn.Dropout(), nn.Linear(m, 1)),
            nn.Sequential(nn.LazyLinear(3), nn.ReLU(), nn.LazyLinear(1)),
            cl.TwoLayerReLU(torch.ones(m, d), torch.ones(m, 2)),
        )  # fmt: skip
        network = draw(st.sampled_from(odd))
        if any(isinstance(p, nn.UninitializedParameter) for p in network.parameters()):
            return network
    return filled(network, draw(st.integers(0, 99)), draw(WEIGHTS), draw(DTYPES))


@st.composite
def trained(draw: st.DrawFn, beta: bool = True, y: bool = True) -> Arguments:
    """A network with data that mostly fit."""
    n, d = draw(sizes(6, 3))
    X = draw(numbers((n, d)))
    width = d if draw(st.integers(0, 9)) != 5 else d + 1
    X, t = contained(draw, X, draw(targets(X)))
    arguments = {"network": draw(made(width)), "X": X}
    arguments |= {"y": t} if y else {}
    return arguments | ({"beta": draw(betas())} if beta else {})


REGULARIZERS = st.sampled_from((None, "weight decay", "three layers", "path"))
LOSS = {"loss": LOSSES, "regularizer": REGULARIZERS, "max_nodes": NODES}
CERTIFYING = {**LOSS, "refine": st.booleans(), "max_units": LIMITS}
entry(
    "certify", cl.certify, trained(), share=6.0, covers=("certify", "Certificate"),
    options=CERTIFYING,
)  # fmt: skip


@st.composite
def to_be_fitted(draw: st.DrawFn) -> Arguments:
    """Data, targets and a beta."""
    X = draw(numbers(draw(sizes(8, 4))))
    X, y = contained(draw, X, draw(targets(X)))
    return {"X": X, "y": y, "beta": draw(betas())}


entry(
    "outlook", cl.outlook, to_be_fitted(), options={"loss": LOSSES}, covers=("outlook", "Outlook")
)


@st.composite
def of_outputs(draw: st.DrawFn) -> Arguments:
    """A network of two layers and several outputs, or of one fewer than its targets."""
    n, d = draw(sizes(6, 3))
    X, c, m = draw(numbers((n, d))), draw(st.integers(1, 3)), draw(st.integers(0, 4))
    network: nn.Module = cl.TwoLayerReLU(torch.ones(m, d), torch.ones(m, c))
    if draw(st.booleans()) and m:
        last = nn.Linear(m, c, draw(st.booleans()))
        network = nn.Sequential(nn.Linear(d, m, draw(st.booleans())), nn.ReLU(), last)
    network = filled(network, draw(st.integers(0, 99)), draw(WEIGHTS), draw(DTYPES))
    width = c if draw(st.integers(0, 9)) != 5 else c + 1
    X, Y = contained(draw, X, draw(numbers((n, width))))
    return {"network": network, "X": X, "y": Y, "beta": draw(betas())}


@st.composite
def with_a_point(draw: st.DrawFn) -> Arguments:
    """The same with a dual point, of any size."""
    arguments = draw(trained())
    size = 10.0 ** draw(st.sampled_from((0, 0, -60, -9, 6, 12, 70)))
    y = arguments["y"]
    n = y.numel() if torch.is_tensor(y) else np.size(y)
    z = np.random.default_rng(draw(st.integers(0, 99))).standard_normal(n)
    return {**arguments, "z": size * z}


entry("certify a dual point", cl.certify, with_a_point(), always=("max_nodes",), options=CERTIFYING)
entry(
    "certify several outputs", cl.certify, of_outputs(), always=("max_nodes",), options=CERTIFYING,
)  # fmt: skip
entry(
    "certify_batchnorm", cl.certify_batchnorm, trained(),
    options={"refine": st.booleans(), "max_nodes": NODES},
)  # fmt: skip
entry(
    "missing_neuron", cl.missing_neuron, trained(), share=2.0,
    options={"loss": LOSSES, "max_nodes": NODES, "seed": SEEDS},
    covers=("missing_neuron", "MissingNeuron"),
)  # fmt: skip


def improves(polished: cl.Polished) -> None:
    """Every stage is no worse than the one before."""
    valid(polished)
    values = [stage.objective for stage in polished.stages]
    pairs = zip(values, values[1:], strict=False)
    assert all(later <= value * (1 + 1e-9) for value, later in pairs), "polishing made it worse"


entry(
    "polish", cl.polish, trained(), share=2.0, covers=("polish", "Polished", "Stage"),
    options={**LOSS, "rounds": st.integers(0, 3), "tol": TOLS}, check=improves,
)  # fmt: skip
entry("prune_neurons", cl.prune_neurons, trained(beta=False, y=False))


ALONE = st.integers(1, 3).flatmap(made)  # a network without data
ONLY_NETWORK = st.fixed_dictionaries({"network": ALONE})
entry("path_norm", cl.path_norm, ONLY_NETWORK)


def unrolled(network: Any, **options: Any) -> Any:
    """The same network as trees, whose weights are copies: as finite as they were."""
    found = cl.as_parallel(network, **options)
    return found if all(bool(torch.isfinite(p).all()) for p in network.parameters()) else None


entry("as_parallel", unrolled, ONLY_NETWORK, options={"max_leaves": LIMITS})


@st.composite
def weights(draw: st.DrawFn, gates: bool) -> Arguments:
    """Weights of a two-layer network, which mostly fit."""
    m, d = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    shape = draw(st.sampled_from(((m,), (m,), (m, 2), (m + 1,), ())))
    dtype = draw(st.sampled_from((torch.float64, torch.float32, torch.int64)))
    arguments = {"U": torch.ones(m, d, dtype=dtype), "alpha": torch.ones(shape, dtype=dtype)}
    return {**arguments, "gates": torch.ones(m, d)} if gates else arguments


@st.composite
def trees(draw: st.DrawFn) -> Arguments:
    """Weights of parallel networks, which mostly fit."""
    k, m, d = (draw(st.integers(0, 2)) for _ in range(3))
    inner = [torch.ones(k, *([1] if draw(st.booleans()) else [2]), m)]
    return {"U": torch.ones(k, m, d), "inner": inner, "alpha": torch.ones(k)}


# Networks may hold what is not finite, as one whose training diverged does.
entry("TwoLayerReLU", cl.TwoLayerReLU, weights(False), check=repr)
entry("TwoLayerGatedReLU", cl.TwoLayerGatedReLU, weights(True), check=repr)
entry("ParallelReLU", cl.ParallelReLU, trees(), check=repr)


@st.composite
def read(draw: st.DrawFn) -> Arguments:
    """A network and inputs that mostly fit, as tensors."""
    arguments = draw(trained(beta=False, y=False))
    X = arguments["X"]
    X = X.detach().numpy() if torch.is_tensor(X) else np.array(X)
    dtype = next((p.dtype for p in arguments["network"].parameters()), torch.float64)
    return {"network": arguments["network"], "X": torch.from_numpy(X.astype(float)).to(dtype)}


def of_networks(network: Any, X: Any) -> Any:
    """What is read from a network that the library knows."""
    found = networks.read_two_layer(network)
    if found.U.shape[1] - found.has_bias != X.shape[1]:
        return None  # torch refuses it, as for any module
    if not all(bool(torch.isfinite(p).all()) for p in (*network.parameters(), X)):
        return None  # reading says nothing of values
    return [found, networks.outputs(network, X), networks.squared_weights(network)]


entry(
    "networks", of_networks, read(),
    covers=("read_two_layer", "TwoLayerWeights", "squared_weights", "outputs"), kept=("X",),
)  # fmt: skip


@st.composite
def rows(draw: st.DrawFn) -> Arguments:
    """Blocks of a solution and their signs."""
    m = draw(st.integers(1, 3))
    vectors = torch.from_numpy(draw(numbers((m, 2), hostile=False)) + 7.0)
    return {"vectors": vectors, "signs": torch.ones(m, dtype=torch.float64)}


def split(vectors: Any, signs: Any) -> Any:
    """Neurons of blocks, and two networks of them beside each other."""
    U, alpha = networks.Neurons(vectors, signs).balanced()
    network = cl.TwoLayerReLU(U, alpha)
    return [U, alpha, networks.side_by_side([network, network])]


entry(
    "balanced", split, rows(), covers=("balanced", "Neurons", "side_by_side"),
    kept=("vectors", "signs"),
)  # fmt: skip


@st.composite
def fits(draw: st.DrawFn, one: bool = False) -> Arguments:
    """Data for an estimator."""
    n, d = draw(sizes(8, 1 if one else 3))
    X = draw(numbers((n, d)))
    y = draw(targets(X))
    if draw(st.integers(0, 5)) == 3:
        y = np.stack([y, -y], axis=1)
    X, y = contained(draw, X, y)
    return {"X": X, "y": y}


def fitted(estimator: Any) -> Any:
    """A function that fits and predicts, from data and options."""

    def call(X: Any, y: Any, **options: Any) -> Any:
        model = estimator(**options).fit(X, y)
        found = [model.predict(X), model.gap_, model.n_neurons_, model.network_]
        if hasattr(model, "predict_proba") and model.loss == "logistic":
            found.append(model.predict_proba(X))
        # The score is scikit-learn's own, which cannot read a tensor with a graph.
        y = y.detach() if torch.is_tensor(y) else y
        return [*found, model.score(X, y)] if len(found[0]) > 1 else found

    return call


TRAINING = {
    "beta": betas(), "fit_bias": st.booleans(), "gated": st.booleans(), "random_state": SEEDS,
    "device": st.sampled_from(("cpu", "cuda", "meta", "tpu")), "n_patterns": st.integers(1, 20),
    "tol": TOLS, "max_iter": FEW, "max_nodes": NODES,
    "max_seconds": st.sampled_from((None, None, None, 0.0, 0.2, math.nan)),
}  # fmt: skip


@st.composite
def tables_of_any_scale(draw: st.DrawFn) -> Arguments:
    """A table of ordinary size, its columns or rows over twelve decades, and a beta of any size."""
    rng = np.random.default_rng(draw(st.integers(0, 9999)))
    n, d = draw(st.integers(30, 300)), draw(st.integers(1, 4))
    X = rng.standard_normal((n, d)) + rng.uniform(-3, 3, d)
    X *= 10.0 ** (draw(st.sampled_from((0, 1, 3, 6))) * rng.uniform(-1, 1, d))
    X *= 10.0 ** (draw(st.sampled_from((0, 0, 3, 6))) * rng.uniform(-1, 1, (n, 1)))
    y = np.abs(X @ (1.0 / np.abs(X).max(axis=0))) + 0.3 * rng.standard_normal(n)
    return {"X": X, "y": y, "beta": float(10.0 ** draw(st.integers(-6, 3)))}


def solved(X: np.ndarray, y: np.ndarray, beta: float) -> list[Any]:
    """A program whose patterns are generated, and a certificate of a network that knows nothing."""
    problem = cl.TwoLayer(X, y, beta=beta, arrangements="generate")
    result = cl.solve(problem, tol=1e-3, max_iter=20, max_steps=300)
    network = cl.TwoLayerReLU(
        torch.ones(2, X.shape[1]).double(), torch.tensor([1.0, -1.0]).double()
    )
    certificate = cl.certify(network, X, y, beta=beta, refine=False, max_nodes=10_000)
    assert certificate.dual <= result.value * (1 + 1e-9)
    return [result, certificate]


def regressed(X: np.ndarray, y: np.ndarray, beta: float) -> list[Any]:
    """A regressor with its defaults."""
    model = cl.ConvexReLURegressor(beta=beta).fit(X, y)
    return [model.predict(X), model.gap_, model.n_neurons_, model.network_]


SCALED = {"kept": ("X", "y", "beta"), "share": 0.2, "limit": 60.0}
entry("solve and certify at any scale", solved, tables_of_any_scale(), **SCALED)
entry("regress at any scale", regressed, tables_of_any_scale(), **SCALED)
WARNS = (DataConversionWarning,)  # scikit-learn's, for targets (n, 1)
entry(
    "ConvexReLURegressor", fitted(cl.ConvexReLURegressor), fits(), options=TRAINING,
    estimator=True, may_warn=WARNS, share=2.0,
)  # fmt: skip
entry(
    "ConvexReLUClassifier", fitted(cl.ConvexReLUClassifier), fits(), estimator=True,
    options={
        **TRAINING, "loss": LOSSES,
        "class_weight": st.sampled_from((None, None, "balanced", "heavy")),
    }, may_warn=(*WARNS, UserWarning), share=2.0,
)  # fmt: skip
entry(
    "MirrorRegressor", fitted(cl.MirrorRegressor), fits(one=True), estimator=True, may_warn=WARNS,
    options={
        **MIRRORS, "beta": betas(), "depth": DEPTHS, "tol": TOLS, "max_iter": FEW,
        "slope": st.sampled_from((0.1, 0.9)), "quantile": st.sampled_from((0.5, 0.01)),
        "device": st.sampled_from(("cpu", "meta")), "random_state": SEEDS,
    }, share=2.0,
)  # fmt: skip
