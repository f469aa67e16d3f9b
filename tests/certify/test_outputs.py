"""Certificates of several outputs: closed forms, other networks, refusals."""

import cvxpy as cp
import numpy as np
import pytest
import torch
from torch import nn

import convexlib as cl
from convexlib import training
from convexlib.errors import InputError, NotCertifiableError
from tests.helpers.outputs import program, wedges


def drawn(n=16, d=3, c=2, seed=0):
    rng = np.random.default_rng(seed)
    X = np.column_stack([rng.standard_normal((n, d - 1)), np.ones(n)])
    Y = np.maximum(X @ rng.standard_normal((d, 4)), 0) @ rng.standard_normal((4, c))
    return X, Y + 0.1 * rng.standard_normal((n, c))


def objective(network, X, Y, beta, loss="squared"):
    with torch.no_grad():
        fitted = network(torch.from_numpy(X).to(next(network.parameters())))
    squares = sum(float((part.detach().double() ** 2).sum()) for part in network.parameters())
    value = {
        "squared": lambda f, y: 0.5 * (f - y) ** 2,
        "logistic": lambda f, y: np.logaddexp(0, -y * f),
        "squared_hinge": lambda f, y: 0.5 * np.maximum(1 - y * f, 0) ** 2,
    }[loss](fitted.double().numpy(), Y).sum()
    return value + 0.5 * beta * squares


def trained(X, Y, beta, loss="squared", width=20, steps=3000):
    run = training.train(
        X, Y, beta=beta, width=width, rates=[0.02], seeds=[0], n_steps=steps, n_records=2, loss=loss
    )
    return run.best_network


@pytest.mark.parametrize("beta", [0.1, 1.0, 5.0])
def test_one_positive_feature_has_a_closed_form(beta):
    """All neurons are x_+ or 0, so that the optimum is a group soft threshold."""
    rng = np.random.default_rng(0)
    x, Y = rng.uniform(0.5, 2, (8, 1)), rng.standard_normal((8, 3)) + 1
    size, along = float((x**2).sum()), (x.T @ Y)[0]
    length = np.linalg.norm(along)
    a = max(0.0, 1 - beta / length) * along / size
    optimum = 0.5 * ((x * a - Y) ** 2).sum() + beta * np.linalg.norm(a)
    root = np.sqrt(np.linalg.norm(a))
    network = cl.TwoLayerReLU(
        torch.tensor([[root]]), torch.from_numpy(a / root if root else a)[None].double()
    )
    for refine in (True, False):
        certificate = cl.certify(network.double(), x, Y, beta=beta, refine=refine)
        assert certificate.rigorous
        assert certificate.primal == pytest.approx(optimum, rel=1e-12)
        assert certificate.dual <= optimum
        assert certificate.relative_gap < 1e-3
        assert certificate.z.shape == Y.shape


@pytest.mark.parametrize("loss", ["squared", "logistic", "squared_hinge"])
def test_a_trained_classifier_is_certified_as_a_whole(loss):
    X, Y = drawn()
    Y = np.where(np.median(Y) < Y, 1.0, -1.0)
    network = trained(X, Y, beta=0.5, loss=loss)
    certificate = cl.certify(network, X, Y, beta=0.5, loss=loss)
    assert certificate.primal == pytest.approx(objective(network, X, Y, 0.5, loss), rel=1e-12)
    assert certificate.rigorous
    assert certificate.dual > 0
    assert certificate.relative_gap < 5e-3
    assert certificate.loss == loss


@pytest.mark.parametrize("seed", range(3))
def test_the_optimum_over_a_circle_of_neurons_is_bracketed(seed):
    """An interior point on a fine list of neurons: above the optimum, and by very little."""
    X, Y = drawn(n=10, d=2, seed=seed)
    angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    hidden = np.maximum(X @ np.stack([np.cos(angles), np.sin(angles)]), 0)
    A = cp.Variable((len(angles), 2))
    penalty = cp.sum(cp.norm(A, 2, axis=1))
    listed = cp.Problem(cp.Minimize(0.5 * cp.sum_squares(hidden @ A - Y) + 0.5 * penalty))
    optimum = listed.solve(solver=cp.CLARABEL)
    network = cl.TwoLayerReLU(torch.eye(2).double(), torch.ones(2, 2).double())
    certificate = cl.certify(network, X, Y, beta=0.5)
    assert certificate.dual <= optimum * (1 + 1e-7)
    assert certificate.dual >= optimum * (1 - 2e-3)


@pytest.mark.parametrize("seed", range(2))
def test_the_semidefinite_program_of_the_plane_is_bracketed(seed):
    rng = np.random.default_rng(seed)
    X, Y = rng.standard_normal((6, 2)), rng.standard_normal((6, 3))
    value, blocks = program(X, Y, 0.4, wedges(X))
    assert all(block[0, 1] >= -1e-6 for block in blocks)
    network = cl.TwoLayerReLU(torch.ones(1, 2).double(), torch.ones(1, 3).double())
    certificate = cl.certify(network, X, Y, beta=0.4)
    assert value * (1 - 1e-3) <= certificate.dual <= value * (1 + 1e-6)


def test_the_bound_holds_for_all_networks_and_is_that_of_no_other():
    X, Y = drawn(c=3)
    good = trained(X, Y, beta=0.5)
    bad = cl.TwoLayerReLU(torch.eye(3).double(), torch.ones(3, 3).double())
    bounds = [cl.certify(network, X, Y, beta=0.5).dual for network in (good, bad)]
    assert max(bounds) <= objective(good, X, Y, 0.5)
    # A bad start costs time, not the bound: both are refined until no neuron is violated.
    assert min(bounds) >= 0.99 * max(bounds)


def test_neurons_for_one_output_each_cost_more():
    """Shared neurons are a larger class: its bound is below the optimum of separate programs."""
    X, Y = drawn(n=12)
    separate = cl.VectorOutput(X, Y, beta=0.5)
    result = cl.solve(separate)
    network = separate.to_network(result)
    certificate = cl.certify(network, X, Y, beta=0.5)
    assert certificate.primal == pytest.approx(result.value, rel=1e-6)
    assert certificate.dual < 0.98 * result.dual


def test_ordinary_layers_with_biases_and_float32():
    X, Y = drawn(n=15, d=4)
    X = X[:, :3]
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 20), nn.ReLU(), nn.Linear(20, 2)).double()
    optimizer = torch.optim.LBFGS(
        network.parameters(), max_iter=3000, history_size=20, line_search_fn="strong_wolfe",
        tolerance_grad=1e-10, tolerance_change=1e-14,
    )  # fmt: skip
    data, targets = torch.from_numpy(X), torch.from_numpy(Y)

    def closure():
        optimizer.zero_grad()
        squares = sum((part**2).sum() for part in network.parameters())
        value = 0.5 * ((network(data) - targets) ** 2).sum() + 0.25 * squares
        value.backward()
        return value

    optimizer.step(closure)
    certificate = cl.certify(network, X, Y, beta=0.5)
    assert certificate.primal == pytest.approx(objective(network, X, Y, 0.5), rel=1e-12)
    assert certificate.relative_gap < 5e-3
    single = cl.certify(network.float(), X.astype(np.float32), Y.astype(np.float32), beta=0.5)
    assert single.primal == pytest.approx(certificate.primal, rel=1e-4)
    assert single.rigorous
    with pytest.raises(NotCertifiableError, match="output bias"):
        cl.certify(network.double(), X, Y, beta=0.5, regularizer="path")


def test_a_dual_point_is_taken_and_may_be_all_that_is_looked_at():
    X, Y = drawn()
    network = trained(X, Y, beta=0.5)
    found = cl.certify(network, X, Y, beta=0.5)
    again = cl.certify(network, X, Y, beta=0.5, z=found.z, refine=False)
    assert again.dual == pytest.approx(found.dual, rel=2e-4)
    poor = cl.certify(network, X, Y, beta=0.5, z=np.ones_like(Y), refine=False)
    assert poor.dual < again.dual
    better = cl.certify(network, X, Y, beta=0.5, z=np.ones_like(Y))
    assert better.dual >= found.dual * (1 - 1e-9)


def test_the_path_norm_has_the_same_bound():
    X, Y = drawn()
    network = trained(X, Y, beta=0.5)
    decay, path = (
        cl.certify(network, X, Y, beta=0.5, regularizer=name) for name in ("weight decay", "path")
    )
    assert path.primal <= decay.primal
    assert path.dual == pytest.approx(decay.dual, rel=1e-6)


NETWORK = cl.TwoLayerReLU(torch.eye(3).double(), torch.ones(3, 2).double())
DEEP = nn.Sequential(
    nn.Linear(3, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False), nn.ReLU(),
    nn.Linear(2, 2, bias=False),
).double()  # fmt: skip


@pytest.mark.parametrize(
    ("network", "options", "kind", "message"),
    [
        (NETWORK, {"Y": np.ones((16, 3))}, InputError, "has 2 outputs but y has shape"),
        (NETWORK, {"Y": np.ones(16)}, NotCertifiableError, "has 2 outputs; expected 1 for targets"),
        (NETWORK, {"Y": np.ones((15, 2))}, InputError, "y has 15 rows; expected 16"),
        (NETWORK, {"Y": np.full((16, 2), np.nan)}, InputError, "y "),
        (NETWORK, {"loss": "logistic"}, InputError, "-1"),
        (NETWORK, {"z": np.ones(16)}, InputError, "z has shape"),
        (NETWORK, {"z": np.ones((16, 3))}, InputError, r"expected \(16, 2\), as y"),
        (DEEP, {"regularizer": "path"}, NotCertifiableError, "y has shape"),
        (
            cl.TwoLayerReLU(torch.eye(2).double(), torch.ones(2, 2).double()), {},
            InputError, "takes 2 features",
        ),
        (
            cl.TwoLayerReLU(torch.full((1, 3), np.inf).double(), torch.ones(1, 2).double()), {},
            NotCertifiableError, "non-finite",
        ),
    ],
)  # fmt: skip
def test_refusals(network, options, kind, message):
    X, Y = drawn()
    with pytest.raises(kind, match=message):
        cl.certify(network, X, options.pop("Y", Y), beta=0.5, **options)


def test_a_network_of_no_neurons():
    X, Y = drawn()
    network = cl.TwoLayerReLU(torch.zeros(1, 3).double(), torch.zeros(1, 2).double())
    large = cl.certify(network, X, Y, beta=1e4)
    assert large.primal == pytest.approx(0.5 * (Y**2).sum())
    assert large.relative_gap < 1e-9
    small = cl.certify(network, X, Y, beta=0.5)
    good = trained(X, Y, beta=0.5)
    assert small.dual <= objective(good, X, Y, 0.5)
    assert small.dual >= 0.99 * cl.certify(good, X, Y, beta=0.5).dual


def test_a_network_that_is_silent_on_all_samples_has_the_bound_of_others():
    """Its neurons decay to nothing, and with them went the size of those that were added."""
    rng = np.random.default_rng(0)
    X = torch.from_numpy(np.column_stack([rng.standard_normal((12, 2)) + 4.0, np.ones(12)]))
    Y = torch.from_numpy(rng.standard_normal((12, 3)))
    silent = cl.TwoLayerReLU(-torch.ones(1, 3).double(), torch.ones(1, 3).double())
    awake = cl.TwoLayerReLU(torch.ones(1, 3).double(), torch.ones(1, 3).double())
    bounds = [cl.certify(network, X, Y, beta=0.05).dual for network in (silent, awake)]
    assert bounds[0] >= 0.9 * bounds[1]


def many_classes(n=60, d=9, c=8):
    """Rows in more dimensions than cones can cover, and more classes than one cone has."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, d))
    return X, np.eye(c)[(X @ rng.standard_normal((d, c))).argmax(axis=1)]


@pytest.mark.parametrize(("loss", "bias"), [("squared", True), ("logistic", False)])
def test_time_for_dual_points_tightens_the_bound_of_many_outputs(loss, bias):
    X, Y = many_classes()
    Y = Y if loss == "squared" else 2 * Y - 1
    beta = 0.3 * max(np.linalg.norm(np.maximum(X @ x, 0) @ Y) / np.linalg.norm(x) for x in X)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(9, 20, bias=False), nn.ReLU(), nn.Linear(20, 8, bias=bias))
    short, long = (
        cl.certify(network, X, Y, beta=beta, loss=loss, max_nodes=0, max_seconds=seconds)
        for seconds in (0, 3)
    )
    assert long.method == "joint"
    assert long.rigorous
    assert short.dual < long.dual
    # Nobody trains a network below the bound, and the best one that is found is near it.
    found = trained(X, Y, beta, loss, width=40) if not bias else None
    if found is not None:
        best = cl.certify(found, X, Y, beta=beta, loss=loss, refine=False, max_nodes=0).primal
        assert long.dual <= best
        assert best - long.dual < 0.5 * (best - short.dual)


def test_a_given_point_and_time_need_no_refinement():
    X, Y = many_classes()
    network = cl.TwoLayerReLU(torch.zeros(1, 9).double(), torch.zeros(1, 8).double())
    options = {"beta": 8.0, "z": 0.5 * Y, "refine": False, "max_nodes": 0}
    alone = cl.certify(network, X, Y, **options)
    chosen = cl.certify(network, X, Y, **options, max_seconds=1)
    assert alone.method != "joint"
    assert chosen.method == "joint"
    assert alone.dual < chosen.dual <= chosen.primal
