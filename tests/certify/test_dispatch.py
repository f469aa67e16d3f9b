"""One door for all networks: what goes where, and what is refused by name."""

import copy
import io
import sys
import time
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import convexlib as cl
from convexlib.errors import InputError, NotCertifiableError
from convexlib.networks import TwoLayerGatedReLU
from convexlib.runtime import check_time, waiting
from tests.helpers.networks import random_network, sequential
from tests.helpers.refusals import COUNT, EYE, PLAIN, refused
from tests.helpers.three_layer import seed_one
from tests.helpers.two_layer import gaussian


def test_batch_normalisation_goes_through_the_same_door() -> None:
    X, y = gaussian(8, 2)
    problem = cl.BatchNorm(X, y, beta=0.1)
    network = problem.to_network(cl.solve(problem, tol=1e-9))
    certificate = cl.certify(network, X, y, beta=0.1)
    assert certificate.rigorous
    assert certificate.relative_gap <= 1e-6
    named = cl.certify_batchnorm(network, X, y, beta=0.1)
    assert (certificate.primal, certificate.dual) == (named.primal, named.dual)
    with pytest.raises(InputError, match='batch-normalised network is measured by "weight decay"'):
        cl.certify(network, X, y, beta=0.1, regularizer="path")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("outputs", [1, 2])
def test_the_bound_is_shown_on_a_terminal_while_it_improves(
    outputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, _ = gaussian(12, 2)
    y = np.random.default_rng(0).standard_normal((12, outputs))
    y = y if outputs > 1 else y[:, 0]
    network = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, outputs)).double()
    streams = {shown: Terminal() for shown in (True, False)}
    found = {}
    for shown, stream in streams.items():
        monkeypatch.setattr(sys, "stderr", stream)
        found[shown] = cl.certify(network, X, y, beta=0.1, progress=shown)
    lines = streams[True].getvalue().split("\r")
    told = [line for line in lines if f"lower bound {found[True].dual:.6g}, gap" in line]
    assert told
    assert all(line.startswith("certify 00:") for line in told)
    assert streams[False].getvalue() == ""
    assert found[True].dual == pytest.approx(found[False].dual, rel=1e-6)


def test_the_search_and_the_polish_are_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = gaussian(12, 2)
    network = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1)).double()
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    missing = cl.missing_neuron(network, X, y, beta=0.1)
    polished = cl.polish(network, X, y, beta=0.1)
    assert stream.getvalue() == ""
    assert cl.missing_neuron(network, X, y, beta=0.1, progress=True).gain == missing.gain
    assert stream.getvalue().startswith("\rmissing neuron 00:00")
    drawn = len(stream.getvalue())
    shown = cl.polish(network, X, y, beta=0.1, progress=True)
    assert shown.stages == polished.stages
    lines = stream.getvalue()[drawn:].split("\r")
    for stage in polished.stages:
        told = f"{stage.name}: {stage.objective:.6g}"
        assert any(line.startswith("polish 00:") and told in line for line in lines)


def test_a_line_goes_on_while_another_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with waiting("outer"), waiting("inner", shown=False) as tell:
        tell("unheard")
        drawn = stream.getvalue()
        time.sleep(0.2)  # longer than tqdm waits between two looks
        check_time()
        assert stream.getvalue()[len(drawn) :].startswith("\router 00:0")
    assert "inner" not in stream.getvalue()
    assert "unheard" not in stream.getvalue()


def stack(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 3), *layers, nn.Linear(3, 1))


REFUSED = {
    "threshold": (stack(nn.Threshold(0.0, 1.0)), 'Linear -> Threshold -> Linear.*"threshold"'),
    "leaky": (stack(nn.LeakyReLU()), 'LeakyReLU -> Linear.*activation="leaky"'),
    "smooth": (stack(nn.Tanh()), "Linear -> Tanh -> Linear; .*Only piecewise linear networks"),
    "dropout": (stack(nn.ReLU(), nn.Dropout()), r"Dropout in training mode.*network\.eval\(\)"),
    "behind the last": (nn.Sequential(*stack(nn.ReLU()), nn.ReLU()), "A ReLU behind the last lay"),
    "convolution": (nn.Conv1d(1, 1, 1), "cannot certify Conv1d.*Only fully connected layers"),
    "normalised": (stack(nn.ReLU(), nn.BatchNorm1d(3)), "only Linear -> BatchNorm1d -> ReLU"),
    "linear": (nn.Linear(2, 1), "cannot certify Linear; expected a TwoLayerReLU, a ParallelReLU"),
    "one layer": (nn.Sequential(nn.Linear(2, 1)), "cannot certify Linear; expected"),
    "empty": (nn.ModuleList(), "cannot certify ModuleList"),
    "nan": (cl.ParallelReLU(torch.full((1, 2, 2), np.nan), [torch.ones(1, 1, 2)], torch.ones(1)),
            "non-finite weights"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_other_networks_are_refused_by_name(case: str) -> None:
    network, message = REFUSED[case]
    X, y, beta = seed_one()
    with pytest.raises(NotCertifiableError, match=message):
        cl.certify(network, X, y, beta=beta, regularizer="path")


def test_mirrors_have_their_own_certificate() -> None:
    problem = cl.Mirrors([0.0, 1.0, 2.0], [0.0, 1.0, 0.0], beta=0.1, activation="threshold")
    network = problem.to_network(cl.solve(problem))
    with pytest.raises(NotCertifiableError, match=r"SwitchingUnits.*whose result\.gap is its"):
        cl.certify(network, np.ones((3, 1)), np.ones(3), beta=0.1)


def poisoned(value, place):
    network = sequential(2)
    with torch.no_grad():
        list(network.parameters())[place].view(-1)[0] = value
    return network


X0, Y0 = gaussian()
DEEP = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 1))
GATED = TwoLayerGatedReLU(torch.ones(2, 2), torch.ones(2), torch.ones(2, 2))
OWN = sequential(2, first_bias=False)
REFUSED_TWO = {
    "gated": (GATED, {}, NotCertifiableError, "the network is gated"),
    "deep": (DEEP, {}, InputError,
        'not given and the network has 3 layers; expected "three layers" or "path"'),
    "deep decay": (DEEP, {"regularizer": "weight decay"}, NotCertifiableError,
        "weight decay on all 3 layers has no convex program of this kind"),
    "shallow": (OWN, {"regularizer": "three layers"}, InputError,
        'regularizer is "three layers" but the network has 2'),
    "regularizer": (OWN, {"regularizer": "l1"}, InputError,
        "regularizer is 'l1'; expected one of 'weight decay', 'three layers', 'path'"),
    "output bias on no path": (sequential(2), {"regularizer": "path"}, NotCertifiableError,
        "has an output bias, which lies on no path"),
    "outputs": (nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)), {}, NotCertifiableError,
        "the output layer has 2 outputs; expected 1"),
    "nan": (poisoned(np.nan, 0), {}, NotCertifiableError, "non-finite weights"),
    "inf": (poisoned(np.inf, 2), {}, NotCertifiableError, "non-finite weights"),
    "nan bias": (poisoned(np.nan, 3), {}, NotCertifiableError, "non-finite weights"),
    "overflow": (poisoned(1e200, 0), {}, NotCertifiableError, "objective overflows"),
    "overflowing bias": (poisoned(1e200, 3), {}, NotCertifiableError, "objective overflows"),
    "features": (sequential(3), {}, InputError,
        r"the network takes 3 features but X has shape \(10, 2\); expected \(n, 3\)"),
    "no network": ("net", {}, InputError, r"network is str; expected a torch\.nn\.Module"),
    "device": (sequential(2).to("meta"), {}, InputError,
        "X is on device cpu but the network is on device meta"),
    "beta": (OWN, {"beta": 0.0}, InputError, "expected beta > 0"),
    "data": (OWN, {"X": X0[0]}, InputError, "expected two axes"),
    "targets": (OWN, {"y": Y0[:3]}, InputError, "y has 3 entries; expected 10"),
    "nan data": (OWN, {"X": X0 * np.nan}, InputError, "X contains 20 non-finite values"),
    "no patterns": (OWN, {"arrangements": "generate"}, InputError,
        "arrangements is str; expected Arrangements or None"),
    "patterns of fewer rows": (OWN, {"arrangements": cl.enumerate_arrangements(X0[:5])}, InputError,
        r"are not those of the first layer's data, of shape \(10, 2\)"),
    "patterns without the bias": (
        sequential(2), {"arrangements": cl.enumerate_arrangements(X0)}, InputError,
        r"of shape \(10, 3\)\. Make them from X, with a last column of ones"),
    "patterns of other data": (
        OWN, {"arrangements": cl.enumerate_arrangements(X0[::-1])}, InputError,
        "are not those of the first layer's data"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED_TWO)
def test_two_layer_refusals(case):
    network, changes, kind, message = REFUSED_TWO[case]
    arguments = {"X": X0, "y": Y0, "beta": 0.1} | changes
    with pytest.raises(kind, match=message):
        cl.certify(network, arguments.pop("X"), arguments.pop("y"), **arguments)


class Doubled(nn.Sequential):
    """Looks like its layers and computes something else."""

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return 2.0 * super().forward(X)


class Named(nn.Sequential):
    """A class of one's own that computes what its layers say."""


class Absolute(nn.Module):
    """Will pass for a ReLU by its name."""

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return X.abs()


Absolute.__name__ = "ReLU"


class OtherOwn(cl.TwoLayerReLU):
    def hidden(self, X: torch.Tensor) -> torch.Tensor:
        return (X @ self.U.T).abs()


def layers(middle: nn.Module | None = None) -> list[nn.Module]:
    return [nn.Linear(2, 3, bias=False), middle or nn.ReLU(), nn.Linear(3, 1, bias=False)]


def hooked() -> nn.Sequential:
    network = nn.Sequential(*layers())
    network[1].register_forward_hook(lambda module, inputs, output: -output)
    return network


def old_weight_norm() -> nn.Sequential:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.Sequential(nn.utils.weight_norm(nn.Linear(2, 3)), nn.ReLU(), nn.Linear(3, 1))


def pruned() -> nn.Sequential:
    first = nn.Linear(2, 3)
    prune.l1_unstructured(first, "weight", 2)
    return nn.Sequential(first, nn.ReLU(), nn.Linear(3, 1))


def shared() -> nn.Sequential:
    layer = nn.Linear(2, 2, bias=False)
    return nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU(), nn.Linear(2, 1, bias=False))


def tied() -> nn.Sequential:
    network = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(1, 2, bias=False))
    network[2].weight = network[0].weight
    return network


class Other(nn.ModuleList):
    """A sum, and something else."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 100 * x[:, :1] + sum(part(x) for part in self)


def widened(network: nn.Module, place: nn.Module | None = None) -> nn.Module:
    """The network with a parameter that its outputs do not depend on, in a module of it."""
    (place or network).extra = nn.Parameter(torch.ones(2))
    return network


def twice(kind: type[nn.ModuleList], *, same: bool = False) -> nn.ModuleList:
    part = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    return kind([part, part if same else copy.deepcopy(part)])


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Doubled(*layers()), "Doubled has (the operation mul|a forward of its own)"),
        (nn.Sequential(*layers(Absolute())), r"has the operation abs|torch\.nn\.ReLU"),
        (hooked(), "ReLU has forward hooks"),
        (old_weight_norm(), "Linear has forward hooks.*remove_weight_norm"),
        (pruned(), "Linear has forward hooks.*prune.remove"),
        (OtherOwn(torch.ones(2, 2), torch.ones(2)), "plain TwoLayerReLU with the same weights"),
        (shared(), "Layers 0 and 2 share a weight; expected weights of its own"),
        (tied(), "Layers 0 and 2 share a weight; expected weights of its own"),
        (twice(nn.ModuleList, same=True), "Parts 0 and 1 share a 0.weight; expected weights"),
        (twice(Other), "Other"),
        (widened(nn.Sequential(*layers())), "extra of Sequential takes no part in the outputs"),
        (widened(twice(nn.ModuleList)), "extra of ModuleList takes no part in the outputs"),
        (widened(wide := nn.Sequential(*layers()), wide[0]), "extra of Linear takes no part"),
        (widened(wide := nn.Sequential(*layers()), wide[1]), "extra of ReLU takes no part"),
        (widened(cl.TwoLayerReLU(torch.ones(2, 2), torch.ones(2))), "extra of TwoLayerReLU takes"),
    ],
    ids=(
        "forward", "name", "hook", "weight norm", "pruned", "own", "shared", "tied", "parts",
        "list", "extra", "extra of list", "extra of layer", "extra of ReLU", "extra of own",
    ),
)  # fmt: skip
def test_weights_of_another_function_are_not_certified(network: nn.Module, message: str) -> None:
    X, y = np.random.default_rng(0).standard_normal((2, 6, 2))
    with pytest.raises(NotCertifiableError, match=message):
        cl.certify(network, X, y[:, 0], beta=0.1)
    if isinstance(network, nn.Sequential):
        with pytest.raises(NotCertifiableError, match=message):
            cl.path_norm(network)


def test_a_parametrised_layer_is_refused_with_its_remedy() -> None:
    first = nn.utils.parametrizations.weight_norm(nn.Linear(2, 3))
    X, y = np.random.default_rng(0).standard_normal((2, 6, 2))
    with pytest.raises(NotCertifiableError, match="ParametrizedLinear.*remove_parametrizations"):
        cl.certify(nn.Sequential(first, nn.ReLU(), nn.Linear(3, 1)), X, y[:, 0], beta=0.1)


def test_the_forward_of_a_list_is_read_by_all_who_add_up_its_parts() -> None:
    for ask in (cl.path_norm, cl.as_parallel):
        with pytest.raises(NotCertifiableError, match="Other has hooks or a forward of its own"):
            ask(twice(Other))


def test_a_subclass_that_computes_its_layers_is_certified() -> None:
    X, y = np.random.default_rng(0).standard_normal((2, 6, 2))
    assert cl.certify(Named(*layers()).double(), X, y[:, 0], beta=0.1).rigorous


def refusals():
    X, y, beta = seed_one()
    network, deep = random_network(2), random_network(2, (2, 2))
    kind = {"regularizer": "three layers"}
    patterns, two = cl.enumerate_arrangements(X), cl.TwoLayerReLU(torch.ones(1, 2), torch.ones(1))
    large = cl.ParallelReLU(2 * network.U, list(network.inner), network.alpha)
    return [
        (lambda: cl.certify(network, X, y, beta=beta),
         InputError, 'not given.*3 layers; expected "three layers" or "path"'),
        (lambda: cl.certify(deep, X, y, beta=beta, **kind),
         InputError, 'is "three layers" and the network has 4 layers'),
        (lambda: cl.certify(deep, X, y, beta=beta, regularizer="weight decay"),
         NotCertifiableError, "not positively homogeneous of degree one"),
        (lambda: cl.certify(network, X, y, beta=beta, arrangements=patterns, **kind),
         InputError, "arrangements were given for a network of 3 layers"),
        (lambda: cl.certify(two, X, y, beta=beta, units=cl.sample_units(X, 3)),
         InputError, "units were given for a network of 2 layers"),
        (lambda: cl.certify(random_network(3), X, y, beta=beta, **kind),
         InputError, r"takes 3 features but X has shape \(4, 2\)"),
        (lambda: cl.certify(large, X, y, beta=beta, **kind),
         NotCertifiableError, "Frobenius norm 2; expected at most 1"),
        (lambda: cl.certify(network, X, y, beta=beta, units=cl.sample_units(X, 9, width=3), **kind),
         InputError, "units have widths"),
        (lambda: cl.certify(PLAIN, EYE, COUNT, beta=1.0, refine=EYE), InputError, "refine is "),
        (lambda: cl.certify(PLAIN, EYE, COUNT, beta=1.0, max_nodes=None),
         InputError, "max_nodes is None; expected"),
        (lambda: cl.certify(PLAIN, EYE, COUNT, beta=1.0, max_seconds=-1.0),
         InputError, "max_seconds is -1; expected at least 0"),
        (lambda: cl.certify(PLAIN, EYE, COUNT, beta=1.0, max_seconds=np.nan),
         InputError, "max_seconds is nan; expected a finite"),
        (lambda: cl.certify(PLAIN, EYE, COUNT, beta=1.0, max_seconds=[1.0, 2.0]),
         InputError, "expected a real number"),
        (lambda: cl.certify(PLAIN, EYE, COUNT, beta=1.0, max_seconds=np.ones(2)),
         InputError, "expected a real number"),
    ]  # fmt: skip


test_refusals = refused(refusals())
