"""What `TwoLayer` refuses, and what it says about itself."""

import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.errors import InputError, ProblemError, TooManyArrangementsError
from convexlib.problems.base import Problem
from tests.checks import network_objective
from tests.two_layer_instances import reference_data

X6, Y6 = reference_data(0)
META = torch.device("meta")
PATTERNS = cl.sample_arrangements(X6, 5)
REFUSED = {
    "nan": (
        lambda: cl.TwoLayer(np.where(X6[2, 1] == X6, np.nan, X6), Y6, beta=0.1),
        InputError,
        r"X contains 1 non-finite value \(at row 2, column 1\)",
    ),
    "lengths": (lambda: cl.TwoLayer(X6, Y6[:4], beta=0.1), InputError, "y has 4 entries"),
    "beta zero": (lambda: cl.TwoLayer(X6, Y6, beta=0), InputError, "expected beta > 0"),
    "beta bool": (lambda: cl.TwoLayer(X6, Y6, beta=True), InputError, "beta is True"),
    "dtypes": (
        lambda: cl.TwoLayer(torch.from_numpy(X6), torch.from_numpy(Y6).float(), beta=0.1),
        InputError,
        r"X has dtype torch\.float64 but y has dtype torch\.float32",
    ),
    "devices": (
        lambda: cl.TwoLayer(torch.from_numpy(X6), torch.from_numpy(Y6).to(META), beta=0.1),
        InputError,
        "X is on device cpu but y is on device meta",
    ),
    "loss": (
        lambda: cl.TwoLayer(X6, Y6, beta=0.1, loss="hinge"),
        InputError,
        "loss is 'hinge'; expected one of 'squared'",
    ),
    "too many": (
        lambda: cl.TwoLayer(X6, Y6, beta=0.1, max_patterns=3),
        TooManyArrangementsError,
        "max_patterns=3",
    ),
    "max_patterns": (
        lambda: cl.TwoLayer(X6, Y6, beta=0.1, max_patterns=0),
        InputError,
        "max_patterns is 0; expected an integer >= 1",
    ),
    "arrangements": (
        lambda: cl.TwoLayer(X6, Y6, beta=0.1, arrangements="sample"),
        InputError,
        r"arrangements is str 'sample'; expected Arrangements, None or \"generate\"",
    ),
    "masks": (
        lambda: cl.TwoLayer(X6, Y6, beta=0.1, arrangements=PATTERNS.masks),
        InputError,
        "arrangements is Tensor",
    ),
    "other data": (
        lambda: cl.TwoLayer(X6[:5], Y6[:5], beta=0.1, arrangements=PATTERNS),
        InputError,
        r"arrangements\.masks has shape \(\d+, 6\); expected \(P, 5\)",
    ),
    "no patterns": (
        lambda: cl.TwoLayer(X6, Y6, beta=0.1, arrangements=PATTERNS.select([])),
        InputError,
        r"arrangements\.masks has shape \(0, 6\); expected \(P, 6\) with P >= 1",
    ),
    "pattern device": (
        lambda: cl.TwoLayer(
            X6,
            Y6,
            beta=0.1,
            arrangements=cl.Arrangements(PATTERNS.masks.to(META), PATTERNS.gates.to(META)),
        ),
        InputError,
        "X is on device cpu but arrangements are on device meta",
    ),
    "gated generation": (
        lambda: cl.TwoLayer(X6, Y6, beta=0.1, gated=True, arrangements="generate"),
        ProblemError,
        "needs cone constraints; a gated problem has none",
    ),
    "weights of another problem": (
        lambda: cl.TwoLayer(X6, Y6, beta=0.1).to_network(torch.zeros(2, 3, 2)),
        InputError,
        r"weights have shape \(2, 3, 2\); expected \(2, 12, 2\)\. Do they belong to another",
    ),
    "gated weights": (
        lambda: cl.TwoLayer(X6, Y6, beta=0.1, gated=True).to_network(torch.zeros(2, 12, 2)),
        InputError,
        r"expected \(1, 12, 2\)",
    ),
    "not a result": (
        lambda: cl.TwoLayer(X6, Y6, beta=0.1).to_network("best"),
        InputError,
        "got str; expected the Result of solve",
    ),
    "masks of generate": (
        lambda: cl.TwoLayer(X6, Y6, beta=0.1, arrangements="generate").masks,
        ProblemError,
        "no patterns of its own",
    ),
    "network device": (
        lambda: cl.TwoLayer(X6, Y6, beta=0.1).objective(torch.nn.Linear(2, 1, device=META)),
        InputError,
        "X is on device cpu but the network is on device meta",
    ),
    "not a network": (
        lambda: cl.TwoLayer(X6, Y6, beta=0.1).objective("net"),
        InputError,
        r"network is str; expected a torch\.nn\.Module",
    ),
    "two outputs": (
        lambda: cl.TwoLayer(X6, Y6, beta=0.1).objective(torch.nn.Linear(2, 2).double()),
        InputError,
        r"the network returns shape \(6, 2\)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case):
    call, kind, message = REFUSED[case]
    with pytest.raises(kind, match=message):
        call()


def test_weights_of_another_dimension_are_refused_with_generated_patterns():
    problem = cl.TwoLayer(X6, Y6, beta=0.1, arrangements="generate")
    with pytest.raises(InputError, match=r"weights have shape \(2, 3, 5\); expected \(2, P, 2\)"):
        problem.to_network(torch.zeros(2, 3, 5, dtype=torch.float64))


def test_violation_is_measured_in_unit_lengths():
    arrangements = cl.Arrangements(
        torch.tensor([[True, False]]), torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    )
    problem = cl.TwoLayer([[3.0, 0.0], [0.0, 5.0]], [1.0, 1.0], beta=1.0, arrangements=arrangements)
    weights = problem.zeros()
    assert problem.violation(weights) == 0.0
    weights[0, 0] = torch.tensor([-0.25, 0.5], dtype=torch.float64)
    assert problem.violation(weights) == pytest.approx(0.5)
    weights[0, 0] = torch.tensor([0.25, -0.5], dtype=torch.float64)
    assert problem.violation(weights) == 0.0


def test_objective_is_computed_in_float64_and_leaves_the_network_alone():
    problem = cl.TwoLayer(X6, Y6, beta=0.1)
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
    expected = network_objective(network, X6, Y6, 0.1)
    assert problem.objective(network) == pytest.approx(expected, rel=1e-13)
    assert all(p.dtype == torch.float32 for p in network.parameters())


def test_problem_describes_itself():
    problem = cl.TwoLayer(X6, Y6, beta=0.1)
    assert isinstance(problem, Problem)
    assert repr(problem) == "TwoLayer(relu, n=6, d=2, 12 patterns, beta=0.1)"
    generating = cl.TwoLayer(X6, Y6, beta=0.1, arrangements="generate")
    assert repr(generating) == "TwoLayer(relu, n=6, d=2, generated, beta=0.1)"
    assert generating.n_patterns == 0
    assert generating.with_beta(0.2).arrangements is None
    assert problem.with_beta(0.2).arrangements is problem.arrangements
    assert problem.with_beta(0.2).beta == 0.2
