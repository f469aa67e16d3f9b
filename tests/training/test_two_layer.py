"""The baselines descend on the objective of the convex programs, and on no other."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import convexlib as cl
from convexlib.errors import ConvergenceWarning, InputError
from convexlib.losses import get_loss
from convexlib.training import OPTIMIZERS, train
from convexlib.training.descent import ROWS, SCHEDULES, check_limits, initial_weights, objectives
from convexlib.training.two_layer import gradients, lbfgs
from tests.helpers.references import NAMES, targets_for
from tests.helpers.two_layer import gaussian

BETA = 0.1
GLOBAL = 2.27291897  # of the data below: convexlib's oracle, and two independent solvers
every_kind = pytest.mark.parametrize(
    ("loss", "outputs"), [(loss, outputs) for loss in NAMES for outputs in ((), (3,))]
)  # `outputs` is the shape of one row of y


@pytest.fixture
def data():
    return gaussian(6, 2)


def labelled(loss, outputs, n=9, d=2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), targets_for(loss, rng.standard_normal((n, *outputs)))


def written_out(X, y, U, alpha, loss="squared"):
    """The training objective of the definition, for one network."""
    fitted = torch.relu(X @ U.T) @ alpha
    fit = {
        "squared": lambda f: 0.5 * (f - y) ** 2,
        "logistic": lambda f: torch.log1p(torch.exp(-y * f)),
        "squared_hinge": lambda f: 0.5 * torch.clamp(1 - y * f, min=0) ** 2,
    }[loss](fitted)
    return fit.sum() + 0.5 * BETA * ((U**2).sum() + (alpha**2).sum())


def drawn(loss="squared", outputs=(), n=7, d=3, m=4, seeds=(3, 5), n_rates=2):
    X, y = (torch.from_numpy(part) for part in labelled(loss, outputs, n, d, seed=1))
    U, alpha = initial_weights(seeds, n_rates, m, X, outputs)
    generator = torch.Generator().manual_seed(1)
    return X, y, U + 0.3 * torch.randn(U.shape, generator=generator, dtype=torch.float64), alpha


@every_kind
def test_gradient_is_that_of_the_objective_written_out(loss, outputs):
    X, y, U, alpha = drawn(loss, outputs)
    batch = X.expand(2, *X.shape), y.expand(2, *y.shape)
    by_U, by_alpha = gradients(*batch, U, alpha, BETA, 1.0, get_loss(loss))
    for place in np.ndindex(2, 2):
        u, a = U[place].clone().requires_grad_(), alpha[place].clone().requires_grad_()
        written_out(X, y, u, a, loss).backward()
        assert_allclose(by_U[place], u.grad, rtol=1e-12)
        assert_allclose(by_alpha[place], a.grad, rtol=1e-12)


@every_kind
def test_objectives_are_those_written_out_also_in_pieces(loss, outputs):
    X, y, U, alpha = drawn(loss, outputs, n=ROWS + 3)
    found = objectives(X, y, U, alpha, BETA, get_loss(loss))
    for place in np.ndindex(2, 2):
        expected = written_out(X, y, U[place], alpha[place], loss)
        assert_allclose(found[place], expected, rtol=1e-12)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@every_kind
def test_agrees_with_torch_optimizers(optimizer, loss, outputs):
    X, y = (torch.from_numpy(part) for part in labelled(loss, outputs))
    first = initial_weights([0], 1, 5, X, outputs)
    U, alpha = (part[0, 0].clone().requires_grad_() for part in first)
    chosen = {
        "sgd": lambda: torch.optim.SGD([U, alpha], lr=0.05 / len(X)),
        "adam": lambda: torch.optim.Adam([U, alpha], lr=0.05),
    }[optimizer]()
    for _ in range(30):
        chosen.zero_grad()
        written_out(X, y, U, alpha, loss).backward()
        chosen.step()
    grid = {"rates": (0.05,), "seeds": (0,), "n_steps": 30}
    run = train(X, y, beta=BETA, width=5, optimizer=optimizer, loss=loss, **grid)
    expected = float(written_out(X, y, U, alpha, loss).detach())
    assert_allclose(run.objective[0, 0, -1], expected, rtol=1e-10)


@every_kind
def test_best_network_has_the_best_objective(loss, outputs):
    X, y = labelled(loss, outputs)
    options = {"beta": BETA, "width": 10, "n_steps": 60, "loss": loss}
    kind = cl.VectorOutput if outputs else cl.TwoLayer
    problem = kind(X, y, beta=BETA, loss=loss)
    for run in (train(X, y, batch_size=4, **options), lbfgs(X, y, **options)):
        assert_allclose(problem.objective(run.best_network), run.best_objective, rtol=1e-12)
        assert run.best_network(problem.X).shape == y.shape
        row, column = run.seeds.index(run.best_seed), run.rates.index(run.best_rate)
        assert run.objective[row, column].min() == run.best_objective


@pytest.mark.parametrize("loss", NAMES)
def test_curvature_and_rates_end_at_but_never_below_the_global_optimum(loss):
    X, y = labelled(loss, ())
    best = cl.solve(cl.TwoLayer(X, y, beta=BETA, loss=loss), tol=1e-8, method="oracle").dual
    runs = [
        train(X, y, beta=BETA, width=20, rates=(0.03, 0.01), n_steps=1500, loss=loss),
        lbfgs(X, y, beta=BETA, width=20, n_steps=500, loss=loss),
    ]
    for run, share in zip(runs, (1.02, 1.001), strict=True):
        assert best * (1 - 1e-9) <= run.best_objective <= best * share


def test_batch_gradient_is_unbiased():
    """The mean over the batches of an epoch is the full gradient: loss scaled, decay not."""
    X, y, U, alpha = drawn(n=6, seeds=(3,))
    full = gradients(X[None], y[None], U, alpha, BETA, 1.0, get_loss("squared"))
    batches = [(X[None, i : i + 2], y[None, i : i + 2]) for i in (0, 2, 4)]
    parts = [gradients(*each, U, alpha, BETA, 3.0, get_loss("squared")) for each in batches]
    for index in (0, 1):
        mean = torch.stack([part[index] for part in parts]).mean(dim=0)
        assert_allclose(mean, full[index], rtol=1e-12)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("batch_size", [None, 3])
def test_descends_to_but_never_below_the_global_optimum(data, optimizer, batch_size):
    rates = (0.3, 0.1) if optimizer.startswith("sgd") else (0.03, 0.01)
    options = {"rates": rates, "n_steps": 1000, "batch_size": batch_size}
    run = train(*data, beta=BETA, width=20, optimizer=optimizer, **options)
    assert run.best_objective >= GLOBAL * (1 - 1e-8)
    # Halving the rate 19 times brings a short run to rest early.
    assert run.best_objective <= GLOBAL * (1.2 if optimizer.endswith("step") else 1.03)
    assert run.best_objective == run.best_curve[-1] == run.objective.min()


def test_each_run_is_the_run_that_would_have_been_made_alone(data):
    options = {"beta": BETA, "width": 5, "n_steps": 40, "batch_size": 2}
    grid = train(*data, seeds=(4, 9), **options)
    for row, seed in enumerate(grid.seeds):
        for column, rate in enumerate(grid.rates):
            alone = train(*data, seeds=(seed,), rates=(rate,), **options)
            assert_allclose(alone.objective[0, 0], grid.objective[row, column], rtol=1e-9)


def test_deterministic_in_the_seed(data):
    first, again = (train(*data, beta=BETA, width=5, n_steps=30, batch_size=2) for _ in range(2))
    assert np.array_equal(first.objective, again.objective)
    assert np.ptp(first.objective[:, 0, 0]) > 0


def test_records_are_dense_at_the_start_and_end_with_the_run(data):
    run = train(*data, beta=BETA, width=5, n_steps=400, n_records=20)
    assert list(run.steps[:3]) == [0, 1, 4]
    assert run.steps[-1] == 400
    assert len(run.steps) == 21
    assert run.objective.shape == (3, 3, 21)
    assert run.seconds[0] == 0.0
    assert np.all(np.diff(run.seconds) > 0)


def test_stops_after_the_given_seconds(data):
    run = train(*data, beta=BETA, width=5, seconds=0.05)
    assert 0.05 <= run.seconds[-1] < 5.0
    assert run.steps[-1] > 5


def test_the_clock_stands_still_while_recording(data, monkeypatch):
    """With a clock that ticks once per reading, each step costs one tick and a record none."""
    ticks = iter(range(100_000))
    monkeypatch.setattr("convexlib.training.descent.time.process_time", lambda: float(next(ticks)))
    run = train(*data, beta=BETA, width=5, n_steps=100)
    assert list(run.seconds) == list(run.steps)


def test_diverged_runs_are_infinite_and_spare_the_others(data):
    run = train(*data, beta=BETA, width=5, optimizer="sgd", rates=(1e6, 0.1), n_steps=200)
    assert run.n_diverged == 3
    assert not np.isnan(run.objective).any()
    assert np.isinf(run.objective[:, 0, -1]).all()
    assert run.best_rate == 0.1
    assert np.isfinite(run.best_curve).all()


def test_warns_when_nothing_was_learned(data):
    with pytest.warns(ConvergenceWarning, match="no run improved on its initial network"):
        train(*data, beta=BETA, width=5, optimizer="sgd", rates=(1e9,), n_steps=20)


def test_schedules_start_at_the_rate_and_end_low():
    assert {schedule(0.0) for schedule in SCHEDULES.values()} == {1.0}
    assert_allclose(SCHEDULES["cosine"](0.5), 0.5)
    assert SCHEDULES["cosine"](1.0) == 0.0
    assert SCHEDULES["step"](0.999) == 0.5**19


def test_keeps_dtype(data):
    X, y = (torch.from_numpy(part).float() for part in data)
    run = train(X, y, beta=BETA, width=5, n_steps=10)
    assert run.best_network.U.dtype == torch.float32


@pytest.mark.cuda
def test_keeps_device(data):
    X, y = (torch.from_numpy(part).cuda() for part in data)
    run = train(X, y, beta=BETA, width=5, n_steps=10, batch_size=2)
    assert run.best_network.U.is_cuda
    expected = train(*data, beta=BETA, width=5, n_steps=10, batch_size=2)
    assert_allclose(run.objective, expected.objective, rtol=1e-9)


def test_lbfgs_respects_its_budgets(data):
    run = lbfgs(*data, beta=BETA, width=20, n_steps=7)
    assert run.steps[-1] == 7
    assert run.objective.shape == (3, 1, 101)
    run = lbfgs(*data, beta=BETA, width=20, seconds=1e-6)
    assert run.steps[-1] == 1


REFUSED = [
    ({"rates": ()}, "rates is .*at least one rate"),
    ({"rates": (0.1, -1.0)}, "rates is .*all of them > 0"),
    ({"rates": None}, "rates is None; expected a sequence of numbers"),
    ({"seeds": (1, 1)}, "seeds is .*all of them different"),
    ({"seeds": (-1,)}, "a seed is -1; expected an integer >= 0"),
    ({"seeds": (2**70,)}, r"a seed is .*; expected less than 2\*\*63"),
    ({"seeds": 3}, "seeds is 3; expected a sequence of numbers"),
    ({"n_steps": None}, "neither n_steps nor seconds is given"),
    ({"seconds": 0.0}, "seconds is 0; expected a positive time"),
    ({"optimizer": "lion"}, "optimizer is 'lion'; expected one of"),
    ({"width": 0}, "width is 0; expected an integer >= 1"),
    ({"beta": 0.0}, "expected beta > 0"),
    ({"beta": 1.7e308}, "objective of the initial network is not finite"),
    ({"batch_size": 0}, "batch_size is 0"),
    ({"X": torch.ones(6, 2), "y": torch.ones(6), "beta": 1e300}, "beta is 1e.300, more than torch"),
]
REFUSED_BY_BOTH = [
    ({"n_steps": None}, "neither n_steps nor seconds"),
    ({"loss": "logistic"}, r"entries of y are not labels .*loss='logistic'"),
    ({"y": np.ones((5, 2))}, "Y has 5 rows; expected 6"),
    ({"loss": "hinge"}, "loss is 'hinge'; expected one of"),
]


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [(train, *case) for case in REFUSED + REFUSED_BY_BOTH]
    + [(lbfgs, *case) for case in REFUSED_BY_BOTH],
)
def test_refusals(data, method, changes, message):
    arguments = {"X": data[0], "y": data[1], "beta": BETA, "width": 3, "n_steps": 5} | changes
    with pytest.raises(InputError, match=message):
        method(arguments.pop("X"), arguments.pop("y"), **arguments)


def test_more_steps_than_a_float_counts():
    assert check_limits(10**400, None) == (2.0**53, np.inf)
