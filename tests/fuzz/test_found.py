"""What fuzzing found, one input each: each was once another exception, a warning or nonsense."""

import io
import json
import math
import sys
import warnings
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn

import convexlib as cl
from convexlib import cli, plots
from convexlib.checks import check_index
from convexlib.errors import ConvergenceWarning, InputError, NotCertifiableError, SolverError
from convexlib.networks import read_two_layer
from convexlib.solvers import lasso, refine
from convexlib.solvers.interpolation import interpolate, interpolation_norm, pursue
from convexlib.training import train
from convexlib.training.descent import check_limits
from experiments import __main__ as experiments
from experiments import records as record_files
from experiments import runner

X, Y = np.eye(3)[:, :2], np.arange(3.0)
ONE = torch.ones(1, 1, dtype=torch.float64)
UNITS = {
    "leaves": np.ones((2, 2, 3), dtype=bool),
    "inner": (np.ones((2, 1, 2), dtype=np.int8),),
    "nodes": np.ones((2, 1, 3, 2), dtype=np.int8),
    "outputs": np.ones((2, 3, 2), dtype=np.int8),
}
UNFIT = nn.Sequential(nn.Linear(2, 2, False), nn.ReLU(), nn.Linear(3, 1))
PLAIN = cl.TwoLayerReLU(torch.eye(2), torch.ones(2))
NOWHERE = cl.TwoLayerReLU(torch.full((1, 1), torch.nan), torch.ones(1))
HUGE = nn.Sequential(nn.Linear(1, 1, False), nn.ReLU(), nn.Linear(1, 1, False)).double()
nn.init.constant_(HUGE[0].weight, 1e200)
nn.init.constant_(HUGE[2].weight, 1e200)
RECORDS = [cl.result.Record(0, 0.0, 1.0, 0.5)]

MIRRORS = cl.Mirrors(Y, Y, beta=0.1)
GATED = cl.TwoLayer(X, Y, beta=1.0, gated=True)

REFUSED: dict[str, tuple[Any, str]] = {
    "masks of no tensor": (lambda: cl.Arrangements(None, ONE), "masks is NoneType and gates is"),
    "gates of no tensor": (lambda: cl.Arrangements(ONE.bool(), "x"), "gates is str; expected two"),
    "no such pattern": (lambda: cl.enumerate_arrangements(X).select(99), "expected integers below"),
    "no such unit": (lambda: cl.Units(**UNITS).select([9]), "index is .9.; expected integers"),
    "sparse index": (lambda: check_index(torch.eye(2).to_sparse(), 2), "expected integers below 2"),
    "units of text": (lambda: cl.Units(**{**UNITS, "inner": ""}), "inner.0. is NoneType"),
    "units that do not fit": (
        lambda: cl.Units(**{**UNITS, "outputs": UNITS["outputs"][:1]}), "outputs holds 1 units"),
    "integer weights": (
        lambda: cl.TwoLayerReLU(ONE.long(), ONE[0].long()), "U is torch.int64; expected a fl"),
    "weights in lists": (lambda: cl.TwoLayerReLU([[1.0]], ONE[0]), "U is list; expected a fl"),
    "gates in lists": (lambda: cl.TwoLayerGatedReLU(ONE, ONE[0], [[1.0]]), "gates is list"),
    "inner weights of a number": (lambda: cl.ParallelReLU(ONE[None], 3, ONE[0]), "inner is int"),
    "gated by an array": (lambda: cl.TwoLayer(X, Y, beta=1.0, gated=X), "gated is .*True or False"),
    "gated by a text": (lambda: cl.TwoLayer(X, Y, beta=1.0, gated="no"), "gated is 'no'; expected"),
    "bias of an array": (lambda: cl.WedgeLasso(X, Y, beta=1.0, bias=X), "bias is .*True or False"),
    "norm of an array": (lambda: cl.WedgeLasso(X, Y, beta=1.0, norm=X), "norm is"),
    "reflections of an array": (
        lambda: cl.Mirrors(Y, Y, beta=1.0, depth=4, reflections=X), "reflections is .*True or Fal"),
    "beta without a value": (
        lambda: cl.TwoLayer(X, Y, beta=torch.ones((), device="meta")), "beta is on device meta"),
    "betas of a number": (
        lambda: cl.solution_path(cl.TwoLayer(X, Y, beta=1.0), 0.5), "betas is 0.5; expected a seq"),
    "a seed of many digits": (lambda: cl.sample_arrangements(X, 2, seed=10**30), "seed is 1.0e.30"),
    "a seed with a fraction": (
        lambda: cl.missing_neuron(cl.TwoLayerReLU(torch.eye(2).double(), torch.ones(2).double()),
                                  X, Y, beta=0.1, seed=1.5), "seed is 1.5; expected an integer"),
    "tolerance of an array": (
        lambda: cl.low_rank_path(X, Y, beta=1.0, rank=1, tol=X), "tol is "),
    "leaves without a number": (lambda: cl.as_parallel(HUGE, max_leaves=print), "max_leaves is"),
    "a path norm beyond floats": (lambda: cl.path_norm(HUGE), "path norm is inf; expected a"),
    "kinks of no numbers": (lambda: plots.neuron_kinks(NOWHERE), "first layer of net contains 1"),
    "vertices of text": (lambda: plots.zonotope_facets("squared"), "vertices has dtype"),
    "vertices out of range": (
        lambda: plots.zonotope_facets(1e150 * np.eye(3)), "largest entry of vertices is 1.0e.150"),
    "vertices in the plane": (lambda: plots.zonotope_facets(X), "expected .P, 3."),
    "a history of text": (lambda: plots.plot_convergence("ab"), "history is str; expected a R"),
    "an optimum of an array": (lambda: plots.plot_convergence(RECORDS, optimum=X), "optimum is"),
    "a gap of an array": (lambda: plots.plot_convergence(RECORDS, gap=X), "gap is .*True or False"),
    "complex times": (lambda: plots.seed_band(Y + 0j, Y), "seconds has dtype complex128"),
    "axes of text": (lambda: plots.plot_cells(X, ax="x"), "ax is str; expected matplotlib Axes"),
    "a picture's bias": (
        lambda: plots.plot_function(cl.TwoLayerReLU(ONE, ONE[0]), X[:, :1], Y, bias=X), "bias is"),
    "an estimator's device": (
        lambda: cl.ConvexReLURegressor(device="meta").fit(X, Y), "device is 'meta', which cannot"),
    "an estimator's bias": (
        lambda: cl.ConvexReLURegressor(fit_bias=X).fit(X, Y), "fit_bias is .*True or False"),
    "units of a wide network": (
        lambda: cl.enumerate_units(X, width=10**30), "units of 1.0e.30 leaves; expected at most"),
    "units of a deep network": (
        lambda: cl.sample_units(X, 2, depth=10**30), "depth is 1.0e.30; expected at most 100"),
    "more units than memory": (
        lambda: cl.sample_units(X, 10**30), "n_units is 1.0e.30, with 2 leaves each and 3 samples"),
    "units of a hundred children": (
        lambda: cl.enumerate_units(X, width=5000, max_units=10), "at least .* choices of units"),
    "tokens without a value": (lambda: cl.token_pairs(X[None] * np.nan), "tokens contains 6 non-"),
    "tokens out of range": (lambda: cl.token_pairs(1e300 * X[None]), "largest entry of tokens is"),
    "a cross product beyond floats": (
        lambda: cl.cross_product(torch.tensor([[1e30, 0.0, 0.0], [0.0, 1e30, 0.0]])),
        "with entries up to 1.0e.30, is beyond torch.float32"),
    "subnormal data": (
        lambda: cl.enumerate_arrangements(5e-324 * X), "Column 0 of X has entries of 5e-324 at m"),
    "outputs beyond floats": (
        lambda: cl.prune_neurons(cl.TwoLayerReLU(1e300 * ONE, 1e300 * ONE[0]), ONE),
        "neurons' outputs on X contains 1 non-finite"),
    "beta beyond floats": (
        lambda: train(torch.ones(2, 1), torch.ones(2), beta=1e300, width=1, n_steps=1),
        "beta is 1e.300, more than torch.float32 holds"),
    "refine of an array": (
        lambda: cl.certify(PLAIN, X, Y, beta=1.0, refine=X), "refine is "),
    "a budget of nothing": (
        lambda: cl.certify(PLAIN, X, Y, beta=1.0, max_nodes=None), "max_nodes is None; expected"),
    "a negative budget": (
        lambda: cl.polish(PLAIN, X, Y, beta=1.0, max_nodes=-1), "max_nodes is -1; expected"),
    "a budget of text": (
        lambda: cl.missing_neuron(PLAIN, X, Y, beta=1.0, max_nodes="a"), "max_nodes is 'a'; expec"),
    "a budget with a fraction": (
        lambda: cl.certify_batchnorm(PLAIN, X, Y, beta=1.0, max_nodes=1.5), "max_nodes is 1.5; ex"),
    "betas of an array without axes": (
        lambda: lasso.solve_path(MIRRORS, np.array(0.5)), "betas is array.0.5.; expected a sequ"),
    "sparse weights": (
        lambda: cl.TwoLayerReLU(ONE.to_sparse(), ONE[0]), "U is a sparse tensor .* expected a de"),
    "objectives without a value": (
        lambda: plots.seed_band(Y, torch.ones(2, 3, device="meta")), "objective is on device meta"),
    "images without a value": (
        lambda: cl.image_patches([[[1.0, np.nan]]], 1), "images contains 1 non-finite value"),
    "tokens whose cubes leave the range": (
        lambda: cl.Attention(1e70 * X[None], X[None], beta=1.0), "largest entry of tokens is 1.0e"),
    "nuclear gated by an array": (
        lambda: cl.VectorOutput(X, X, beta=1.0, penalty="nuclear", gated=X), "gated is .*True or"),
    "a picture beyond floats": (lambda: plots.plot_cells(1e308 * X), "largest entry of X is 1.0e"),
    "vertices beyond floats": (
        lambda: cl.zonotope_vertices(1e308 * X), "largest entry of X is 1.0e.308; expected it bet"),
    "a factor beyond floats": (
        lambda: cl.low_rank_path(X, Y, rank=1, beta=5e-324), "the factor is beyond floats; expect"),
    "a penalty of an array": (
        lambda: cl.polish(PLAIN, X, Y, beta=1.0, regularizer=X), "regularizer is array"),
    "more patterns than memory": (
        lambda: cl.sample_arrangements(X, 10**30), "n_patterns is 1.0e.30, for X of shape .3, 2."),
    "a volume beyond floats": (
        lambda: cl.zonotope_volume(1e308 * np.eye(3)), "in 3 dimensions are beyond floats; expec"),
    "rates of nothing": (
        lambda: train(torch.ones(2, 1), torch.ones(2), beta=1.0, width=1, n_steps=1, rates=None),
        "rates is None; expected a sequence of numbers"),
    "seeds of a number": (
        lambda: train(torch.ones(2, 1), torch.ones(2), beta=1.0, width=1, n_steps=1, seeds=3),
        "seeds is 3; expected a sequence of numbers"),
    "products beyond floats": (
        lambda: cl.enumerate_arrangements(1e308 * X), "largest entry of X is 1.0e.308; expec"),
    "images of a number": (lambda: cl.image_patches(-1, 3), "images has shape ..; expected .n, he"),
    "the depth of a table": (
        lambda: cl.low_rank_path(X, Y, rank=1, beta=1.0, depth=torch.tensor(3.0)), "depth is tens"),
    "the norm of another problem": (
        lambda: interpolation_norm(GATED), "problem is TwoLayer; expected a Mirrors"),
    "a slack of text": (
        lambda: lasso.optimal_set(MIRRORS, cl.solve(MIRRORS), slack="a"), "slack is 'a'; expected"),
    "a tolerance of text": (lambda: interpolate(MIRRORS, tol="a"), "tol is 'a'; expected a real"),
    "kinks of text": (
        lambda: lasso.lasso_path(MIRRORS, smallest=0.1, max_kinks="a"), "max_kinks is 'a'; expect"),
    "iterations of text": (lambda: pursue(GATED, max_iter="a"), "max_iter is 'a'; expected an int"),
    "a configuration of text": (lambda: runner.digest(["a"]), "configuration is list; expected"),
    "configurations of a number": (lambda: runner.run("a", print, 1), "configs is int; expected"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_by_name(name: str) -> None:
    call, message = REFUSED[name]
    with pytest.raises(InputError, match=message):
        call()


def test_layers_that_do_not_fit_are_no_network() -> None:
    with pytest.raises(NotCertifiableError, match="layers with weights that fit"):
        read_two_layer(UNFIT)
    lazy = nn.Sequential(nn.LazyLinear(3), nn.ReLU(), nn.LazyLinear(1))
    with pytest.raises(NotCertifiableError, match="cannot certify LazyLinear"):
        read_two_layer(lazy)


def test_a_beta_of_the_smallest_float_is_reached_in_stages() -> None:
    problem = cl.Mirrors(Y, Y, beta=5e-324)
    betas = lasso.active_set.stages(problem.beta_max(), problem.beta)
    assert betas[-1] == 5e-324
    assert betas == sorted(betas, reverse=True)
    assert np.isfinite(betas).all()


def test_wedges_of_any_size_and_penalty_are_solved() -> None:
    x = np.array([[-6.2e11, -2.1e11, 4.8e11]])  # beside which unit vectors once seemed to be zero
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        large = cl.solve(cl.WedgeLasso(x, [1.0], beta=2.5e10, norm=1))
        plain = cl.solve(cl.WedgeLasso(x / 1e11, [1.0], beta=0.25, norm=1))
        smallest = cl.solve(cl.WedgeLasso(X, Y, beta=5e-324))
    assert large.value == pytest.approx(plain.value, rel=1e-9)
    assert smallest.value == pytest.approx(2.0, rel=1e-9)  # of y = 2 at x = 0
    assert smallest.converged


def test_columns_that_all_converge_may_stall_together() -> None:
    x = np.array([[0.19, -0.52, 1.0], [-2.4, 1.8, 1.0], [-0.33, 0.77, 1.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        result = cl.solve(cl.VectorOutput(x, np.ones((3, 2)), beta=5e-324, gated=True))
    assert result.converged == (result.status is cl.Status.CONVERGED)


def test_a_beta_whose_square_is_no_float() -> None:
    x = np.array([[1.4, 0.1], [1.1, 0.8]])
    assert cl.batchnorm_closed_form(x, np.ones(2), beta=1e300).value == pytest.approx(1.0)


@pytest.mark.parametrize("at", [0.0, 0.3, 1e19])
def test_samples_that_all_agree_are_drawn(at: float) -> None:
    network = cl.TwoLayerReLU(ONE, ONE[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ax = plots.plot_function(network, np.full((2, 1), at), [0.0, 1.0], bias=False)
        ax.figure.canvas.draw()
    low, high = ax.get_xlim()
    assert low < at < high
    plt.close(ax.figure)


def test_patterns_of_double_precision_serve_single_precision() -> None:
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((6, 2))).float()
    data = cl.BatchNorm(x, x[:, 0], beta=0.1).X
    assert data.dtype == torch.float32
    listed = cl.enumerate_arrangements(data.double())
    problem = cl.BatchNorm(x, x[:, 0], beta=0.1, arrangements=listed)
    assert len(problem.arrangements) == len(listed)


@pytest.mark.parametrize("tol", [1e-13, 1e-300])
def test_a_tolerance_below_rounding_ends_at_rounding(tol: float) -> None:
    """It once took hundreds of rounds, and five million cones in each."""
    rng = np.random.default_rng(0)
    problem = cl.TwoLayer(
        rng.standard_normal((7, 3)), rng.standard_normal(7), beta=0.1, arrangements="generate"
    )
    with pytest.warns(ConvergenceWarning, match="rounding allows no further progress"):
        result = cl.solve(problem, tol=tol)
    assert result.status is cl.Status.STALLED
    assert result.n_iter < 20
    assert 0.0 < result.gap < 1e-10


def test_a_quantile_program_beyond_floats_says_so() -> None:
    x = 1e70 * np.array([0.0, 0.3, 0.6, 1.0])
    problem = cl.Mirrors(x, [0.0, 1.0, 0.0, 2.0], beta=5e-324, loss="quantile")
    with pytest.raises(SolverError, match="over beta=4.94066e-324 are beyond floats"):
        cl.solve(problem)


def test_a_stride_beyond_the_image_leaves_one_patch() -> None:
    assert cl.image_patches(np.zeros((2, 3, 4)), 2, stride=10**30).shape == (2, 1, 4)


def test_volumes_at_the_ends_of_the_floats() -> None:
    assert cl.zonotope_volume(5e-324 * np.eye(3)) == 0.0
    assert cl.zonotope_volume(1e150 * np.eye(2)) == pytest.approx(1e300)
    assert cl.zonotope_volume(np.eye(2) * [1e200, 1e-200]) == pytest.approx(1.0)


def test_more_steps_than_a_float_counts() -> None:
    assert check_limits(10**400, None) == (2.0**53, math.inf)


def test_diverged_runs_leave_the_axes() -> None:
    values = [[1.0, 1e308, np.inf], [2.0, 1e308, np.nan]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ax = plots.plot_training({"a": (Y, values)}, optimum=0.5, dual=-1e307)
        ax.figure.canvas.draw()
    assert np.isfinite(ax.lines[0].get_ydata()).sum() == 1
    plt.close(ax.figure)


def test_indices_pick_what_they_name() -> None:
    for index in (slice(1, 3), [1, 2], torch.tensor([1, 2]), [-2, -1], [False, True, True]):
        np.testing.assert_array_equal(check_index(index, 3), [1, 2])
    assert check_index([], 3).shape == (0,)
    assert len(cl.Units(**UNITS).select([True, False])) == 1


@pytest.mark.parametrize(
    "estimator", [cl.ConvexReLURegressor, cl.ConvexReLUClassifier, cl.MirrorRegressor]
)
def test_estimators_take_tensors_with_a_graph(estimator: type) -> None:
    x = torch.linspace(-1, 1, 6, dtype=torch.float64)[:, None].requires_grad_()
    y = torch.tensor([0.0, 0.0, 1.0, 1.0, 0.0, 1.0], dtype=torch.float64, requires_grad=True)
    model = estimator(beta=0.1).fit(x, y)
    plain = estimator(beta=0.1).fit(x.detach().numpy(), y.detach().numpy())
    np.testing.assert_array_equal(model.predict(x), plain.predict(x.detach().numpy()))


def test_tiny_data_and_penalty_end_without_a_division_by_zero() -> None:
    x = np.array([[2.7e-62, -1.7e-64, 2.8e-68], [-1.7e-62, 2.7e-64, -2.7e-68], [-3e-62, 0.0, 0.0]])
    y = 1e-70 * np.array([[0.65, 1.6, 1.0], [2.2, -0.3, 1.0], [-1.5, -1.4, 1.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        result = cl.solve(cl.VectorOutput(x, y, beta=5e-324), tol=1e-300)
    assert 0.0 <= result.dual <= result.value


def test_more_digits_than_a_float_has_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(PLAIN.state_dict(), tmp_path / "model.pt")
    (tmp_path / "data.csv").write_text("a,b,y\n1,2,3\n2,1,0\n")
    words = ["certify", str(tmp_path / "model.pt"), str(tmp_path / "data.csv"), "--beta=0.1"]
    words.append("--activation=relu")
    assert cli.main([*words, "--digits=99"]) == 2
    assert "--digits is 99; expected at most 17" in capsys.readouterr().err
    assert cli.main([*words, "--digits=17"]) == 0


def test_infinities_of_both_signs_are_refused_without_a_warning() -> None:
    x = np.array([[np.inf], [-np.inf], [0.0]], dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="contains infinity"):
            cl.MirrorRegressor(beta=0.1).fit(x, Y)


def test_the_output_bias_is_found_where_the_data_are_nearly_dependent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Slopes that are rounding once made the secant creep through 15 solves."""
    solves = []
    generate = refine.generate
    monkeypatch.setattr(refine, "generate", lambda *a, **k: solves.append(1) or generate(*a, **k))
    x = np.array([[7.5e-7, -3138.2], [-1.6e-6, -14657.0], [7.2e-6, 6868.8], [-1.3e-6, 4645.4]])
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    certificate = cl.certify(network, x, [1.0, 0.0, 0.0, 0.0], beta=1e-12, max_nodes=0)
    assert len(solves) <= 5
    assert 0.0 <= certificate.dual <= certificate.primal


def test_a_beta_of_the_smallest_float_has_a_certificate() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 3)), np.array([1.0, 1.0, -1.0, -1.0, 1.0, -1.0])
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 3, bias=False), nn.ReLU(), nn.Linear(3, 1))
    for loss in ("squared", "logistic"):
        polished = cl.polish(
            network, x, y, beta=5e-324, loss=loss, max_nodes=30, rounds=1, tol=1e-3
        )
        certificate = polished.certificate
        assert 0.0 <= certificate.dual <= certificate.primal < np.inf
        assert 0.0 <= certificate.relative_gap <= 1.0


def test_a_table_is_printed_where_only_ascii_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    cli.console.write_plainly()
    stream.write("0.5 \u00b1 0.1 \u2026 \u00e9\n")
    stream.flush()
    assert stream.buffer.getvalue() == b"0.5 +- 0.1 ... ?\n"


def test_a_record_of_another_form_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is intact, by its sha256, but has not the entries that the table needs."""
    record = record_files.sealed({"format": 1, "config": {"a": 1}, "result": {}})
    folder = tmp_path / "recovery"
    folder.mkdir()
    (folder / "records.jsonl").write_text(json.dumps(record))
    monkeypatch.setenv("CONVEXLIB_RESULTS", str(tmp_path))
    assert experiments.main(["table", "recovery", "--full"]) == 1
    assert "is not of the form that this version writes (KeyError" in capsys.readouterr().err
