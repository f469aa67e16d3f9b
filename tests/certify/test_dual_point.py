"""A dual point that is given: a candidate, bounded whatever it is, and no program solved again."""

import numpy as np
import pytest
import torch
from torch import nn

import convexlib as cl
from convexlib.certify import parallel, two_layer
from convexlib.errors import InputError, NotCertifiableError
from tests.helpers.checks import check_certificate, optimum
from tests.helpers.networks import sequential
from tests.helpers.references import program_value, targets_for
from tests.helpers.three_layer import seed_one
from tests.helpers.two_layer import gaussian

ROUNDING = 1 + 2e-8  # of the interior-point solver


def points(z, y):
    """Dual points that are none, by name."""
    z, y = torch.as_tensor(z), torch.as_tensor(y)
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal(len(y)))
    single = torch.zeros_like(z)
    single[0] = 1.0
    return {
        "zero": 0.0 * z,
        "huge": 1e12 * z,
        "tiny": 1e-60 * z,
        "opposite": -z,
        "targets": y,
        "noise": noise,
        "huge noise": 1e70 * noise,
        "one sample": single,
        "mixed scales": z * 10.0 ** torch.linspace(-30, 30, len(z), dtype=torch.float64),
    }


WRONG = list(points(torch.ones(2), torch.ones(2)))


@pytest.fixture
def no_refinement(monkeypatch):
    """Fail where a program is solved."""

    def fail(*args, **kwargs):
        raise AssertionError("the program was solved again")

    for module, name in ((two_layer, "refine_dual"), (parallel, "refine_dual"),
                         (parallel, "_refined"), (parallel, "positive_dual")):  # fmt: skip
        monkeypatch.setattr(module, name, fail)


def solved(n=10, d=2, beta=0.1, seed=0):
    X, y = gaussian(n, d, seed)
    problem = cl.TwoLayer(X, y, beta=beta)
    result = cl.solve(problem)
    return X, y, problem.to_network(result), result


@pytest.mark.parametrize("kind", [np.asarray, list, torch.as_tensor])
def test_the_point_of_the_solver_is_enough(kind, no_refinement):
    X, y, network, result = solved()
    certificate = cl.certify(network, X, y, beta=0.1, z=kind(result.z.tolist()))
    check_certificate(certificate, network, X, y, 0.1)
    assert certificate.rigorous
    assert certificate.relative_gap <= 1.1e-6
    assert certificate.dual <= optimum(X, y, 0.1) * ROUNDING


@pytest.mark.parametrize("refine", [False, True])
@pytest.mark.parametrize("wrong", WRONG)
def test_any_other_point_gives_a_bound_all_the_same(wrong, refine):
    X, y, network, result = solved()
    z = points(result.z, y)[wrong]
    certificate = cl.certify(network, X, y, beta=0.1, z=z, refine=refine)
    check_certificate(certificate, network, X, y, 0.1)
    assert certificate.rigorous
    assert certificate.dual <= optimum(X, y, 0.1) * ROUNDING
    if refine or wrong in ("tiny", "huge"):  # which the best multiple sets right
        assert certificate.relative_gap <= 1.1e-6
    else:
        assert certificate.relative_gap > 1e-4


def test_a_point_of_another_problem():
    X, y, network, _ = solved()
    *_, other = solved(seed=1)
    best = optimum(X, y, 0.1)
    loose = cl.certify(network, X, y, beta=0.1, z=other.z, refine=False)
    assert loose.rigorous
    assert loose.dual < 0.9 * best
    tight = cl.certify(network, X, y, beta=0.1, z=other.z)
    assert best * (1 - 1e-6) <= tight.dual <= best * ROUNDING


@pytest.mark.parametrize("last_bias", [False, True])
@pytest.mark.parametrize("first_bias", [False, True])
def test_biases(first_bias, last_bias):
    X, y = gaussian(n=8)
    y = y + 1.5
    network = sequential(2, first_bias=first_bias, last_bias=last_bias)
    best = optimum(X, y, 0.1, first_bias, last_bias)
    exact = cl.certify(network, X, y, beta=0.1).z
    again = cl.certify(network, X, y, beta=0.1, z=exact, refine=False)
    assert best * (1 - 1e-6) <= again.dual <= best * ROUNDING
    for wrong, z in points(exact, y).items():
        given = cl.certify(network, X, y, beta=0.1, z=z, refine=False)
        check_certificate(given, network, X, y, 0.1)
        assert given.rigorous
        assert given.dual <= best * ROUNDING, wrong


@pytest.mark.parametrize("loss", ["logistic", "squared_hinge"])
def test_losses_of_classes(loss, no_refinement):
    X, y = gaussian()
    y = targets_for(loss, y)
    problem = cl.TwoLayer(X, y, beta=0.1, loss=loss)
    result = cl.solve(problem, tol=1e-7)
    network, masks = problem.to_network(result), problem.arrangements.masks
    best = program_value(problem.X, problem.y, 0.1, masks, gated=False, loss=loss)
    exact = cl.certify(network, X, y, beta=0.1, loss=loss, z=result.z)
    assert exact.rigorous
    assert best * (1 - 1e-6) <= exact.dual <= best * ROUNDING
    for wrong, z in points(result.z, y).items():
        given = cl.certify(network, X, y, beta=0.1, loss=loss, z=z, refine=False)
        assert given.rigorous
        assert 0.0 <= given.dual <= best * ROUNDING, wrong


def test_batch_normalisation():
    X, y = gaussian(n=8)
    problem = cl.BatchNorm(X, y, beta=0.1)
    result = cl.solve(problem, tol=1e-7)
    network = problem.to_network(result)
    best = cl.solve(problem, method="oracle").value
    for call in (cl.certify, cl.certify_batchnorm):
        exact = call(network, X, y, beta=0.1, z=result.z, refine=False)
        assert exact.rigorous
        assert best * (1 - 1e-6) <= exact.dual <= best * ROUNDING
        for wrong, z in points(result.z, y).items():
            given = call(network, X, y, beta=0.1, z=z, refine=False)
            assert given.rigorous
            assert given.dual <= best * ROUNDING, wrong


@pytest.mark.parametrize("make", [cl.ThreeLayer, cl.PathRegularized])
def test_parallel_networks(make, no_refinement):
    X, y, beta = seed_one()
    problem = make(X, y, beta=beta)
    result = cl.solve(problem, tol=1e-7)
    network = problem.to_network(result)
    best = cl.solve(problem, method="oracle").value
    kind = {"beta": beta, "regularizer": "path" if make is cl.PathRegularized else "three layers"}
    exact = cl.certify(network, X, y, z=result.z, **kind)
    assert exact.rigorous
    assert best * (1 - 1e-6) <= exact.dual <= best * ROUNDING
    for wrong, z in points(result.z, y).items():
        for options in ({}, {"max_units": 1}):  # the latter: by the bound that needs no list
            given = cl.certify(network, X, y, z=z, refine=False, **options, **kind)
            assert given.rigorous
            assert 0.0 <= given.dual <= best * ROUNDING, wrong


def test_a_wrong_point_of_a_parallel_network_is_refined():
    X, y, beta = seed_one()
    problem = cl.PathRegularized(X, y, beta=beta)
    result = cl.solve(problem, tol=1e-7)
    certificate = cl.certify(
        problem.to_network(result), X, y, beta=beta, regularizer="path", z=0.0 * result.z
    )
    assert certificate.relative_gap <= 1.1e-6


def test_float32_and_given_patterns(no_refinement):
    X, y = gaussian()
    problem = cl.TwoLayer(torch.from_numpy(X).float(), torch.from_numpy(y).float(), beta=0.1)
    result = cl.solve(problem)
    for z in (result.z, result.z.float()):
        found = cl.certify(
            problem.to_network(result), problem.X, problem.y, beta=0.1, z=z, refine=False
        )
        assert found.rigorous
        assert found.relative_gap <= 2e-6
    patterns = problem.arrangements
    listed = cl.certify(
        problem.to_network(result), problem.X, problem.y, beta=0.1, z=result.z, refine=False,
        arrangements=patterns,
    )  # fmt: skip
    assert listed.method == "given patterns"
    assert listed.relative_gap <= 2e-6


X0, Y0, NETWORK, RESULT = solved()
REFUSED = {
    "nan": (torch.full((10,), torch.nan), "z contains 10 non-finite values"),
    "inf": ([np.inf, *[0.0] * 9], r"z contains 1 non-finite value \(at row 0\)"),
    "too large": (1e200 * RESULT.z, r"largest entry of z is .*; expected it between"),
    "too short": (RESULT.z[:4], "z has 4 entries; expected 10, one per row of X"),
    "several outputs": (torch.ones(10, 2), r"z has shape \(10, 2\); expected \(10,\)"),
    "the result": (RESULT, r"z is a Result; expected its dual point, result\.z"),
    "text": ("z", "z has dtype .*; expected real numbers"),
    "device": (torch.ones(10, device="meta"), "z is on device meta, which holds no numbers"),
    "integers": (torch.ones(10, dtype=torch.int64), "z is a torch tensor of dtype torch.int64"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_dual_point_is_refused(case):
    z, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        cl.certify(NETWORK, X0, Y0, beta=0.1, z=z)


def test_networks_of_several_outputs_are_refused_with_it():
    problem = cl.VectorOutput(X0, np.stack([Y0, -Y0], axis=1), beta=0.1)
    result = cl.solve(problem, tol=1e-3)
    network = problem.to_network(result)
    wide = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)).double()
    for each in (network, wide):
        with pytest.raises((NotCertifiableError, InputError), match="output"):
            cl.certify(each, X0, Y0, beta=0.1, z=result.z[:, 0])
