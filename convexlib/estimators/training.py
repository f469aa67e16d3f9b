"""From data to a certified two-layer network: what the regressor and the classifier share."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from convexlib.arrangements import Arrangements, sample_arrangements
from convexlib.certify.certificate import Certificate, best_certificate
from convexlib.certify.two_layer import BRANCHING_RANK, Standing, bound_neurons
from convexlib.errors import ConvergenceWarning
from convexlib.networks import TwoLayerGatedReLU, TwoLayerReLU, read_two_layer, side_by_side
from convexlib.pricing import price, row_space
from convexlib.problems.two_layer import TwoLayer
from convexlib.problems.vector_output import VectorOutput
from convexlib.result import Result, relative_gap
from convexlib.solvers.solve import solve

__all__ = ["Settings", "Trained", "linear_neurons", "train"]

_ROUNDS, _UNPROVEN_ROUNDS = 100, 3  # of column generation: where a proof can end, and above
_STEPS = 600  # of Newton's method in all rounds; most data that are well scaled need fewer
_SEEDED_COLUMNS = 3  # above this many, patterns start from a trained network


@dataclass(frozen=True)
class Settings:
    """The checked arguments of an estimator."""

    beta: float
    loss: str
    gated: bool
    fit_bias: bool
    n_patterns: int
    tol: float
    max_iter: int | None
    max_nodes: int
    seed: int


@dataclass(frozen=True, eq=False)
class Trained:
    """A network on the data as given, and what is known about it, per output.

    Gated networks have one result for all outputs and no certificate: the gap of their own program
    is the proof.
    """

    network: nn.Sequential
    n_neurons: int
    results: list[Result]
    certificates: list[Certificate]

    @property
    def gaps(self) -> list[float]:
        """The relative gap of every program, as it is proven in the end."""
        proven = self.certificates or self.results
        return [one.relative_gap if isinstance(one, Certificate) else one.gap for one in proven]

    @property
    def gap(self) -> float:
        """The relative gap of all outputs together."""
        if not self.certificates:
            return self.results[0].gap
        primal = sum(certificate.primal for certificate in self.certificates)
        return relative_gap(primal, sum(certificate.dual for certificate in self.certificates))


def train(X: Tensor, Y: Tensor, settings: Settings) -> Trained:
    """Solve one program per column of Y (n, c) and put the networks side by side.

    The solvers' warnings are left to the caller, who knows the estimator's arguments.
    """
    data = torch.cat([X, X.new_ones(len(X), 1)], dim=1) if settings.fit_bias else X
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the caller gives its own
        if settings.gated:
            return _gated(data, Y, settings)
        return _relu(X, data, Y, settings)


def _gated(data: Tensor, Y: Tensor, settings: Settings) -> Trained:
    program = VectorOutput(
        data,
        Y,
        beta=settings.beta,
        arrangements=_sampled_patterns(data, settings),
        gated=True,
        loss=settings.loss,
    )
    result = solve(program, tol=settings.tol)
    network = program.to_network(result)
    assert isinstance(network, TwoLayerGatedReLU)
    layers: list[nn.Module] = [nn.ConstantPad1d((0, 1), 1.0)] if settings.fit_bias else []
    return Trained(nn.Sequential(*layers, network), network.n_neurons, [result], [])


def _sampled_patterns(data: Tensor, settings: Settings) -> Arrangements:
    """Gaussian gates and the gate 0, which is open everywhere: a linear neuron."""
    drawn = sample_arrangements(data, settings.n_patterns, seed=settings.seed)
    partial = drawn.masks.any(dim=1) & ~drawn.masks.all(dim=1)
    masks, gates = drawn.masks[partial], drawn.gates[partial]
    return Arrangements(
        torch.cat([masks.new_ones(1, len(data)), masks]),
        torch.cat([gates.new_zeros(1, data.shape[1]), gates]),
    )


def _relu(X: Tensor, data: Tensor, Y: Tensor, settings: Settings) -> Trained:
    rank = row_space(data)[0].shape[1]
    rounds, steps = _ROUNDS if rank <= BRANCHING_RANK else _UNPROVEN_ROUNDS, _STEPS
    if settings.max_iter is not None:
        rounds, steps = settings.max_iter, _STEPS * max(settings.max_iter, 1)
    networks, results, certificates = [], [], []
    for targets in Y.T:
        targets = targets.contiguous()
        problem = TwoLayer(
            data, targets, beta=settings.beta, arrangements="generate", loss=settings.loss
        )
        result = solve(
            problem,
            tol=settings.tol,
            max_iter=rounds,
            max_steps=steps,
            max_nodes=settings.max_nodes,
            directions=linear_neurons(problem),
            seeding="adam" if rank > _SEEDED_COLUMNS else "none",
            seed=settings.seed,
        )
        network = problem.to_network(result)
        certificates.append(_certificate(network, X, targets, result.z, settings))
        networks.append(network)
        results.append(result)
    joint = networks[0] if len(networks) == 1 else side_by_side(networks)
    layers = _as_layers(joint, settings.fit_bias)
    return Trained(layers, joint.n_neurons, results, certificates)


def _certificate(
    network: TwoLayerReLU, X: Tensor, y: Tensor, z: Tensor, settings: Settings
) -> Certificate:
    """That of `cl.certify`, with the dual point that the solver has found already."""
    layers = _as_layers(network, settings.fit_bias)
    standing = Standing.of(read_two_layer(layers), X, y, settings.loss)

    def bound(z: Tensor) -> tuple[float, bool, str]:
        if settings.max_nodes:
            return bound_neurons(standing.data, z, settings.beta, None, settings.max_nodes)
        priced = price(standing.data, z, target=settings.beta, max_nodes=0)
        return priced.upper, True, priced.method

    return best_certificate(
        standing.objective(settings.beta, "weight decay"),
        [z.cpu()],
        standing.y,
        settings.beta,
        bound,
        regularizer="weight decay",
        loss=settings.loss,
    )


def linear_neurons(problem: TwoLayer) -> Tensor:
    r"""The neurons w and -w (2, d) of the best linear model :math:`\min_w L(Xw) + 2\beta\|w\|`.

    A network holds :math:`x^\top w = (x^\top w)_+ - (-x^\top w)_+` for :math:`2\|w\|`, so that
    with their patterns no optimum is above that of the linear model. No rows if w = 0.
    """
    X = problem.X
    everywhere = Arrangements(
        torch.ones(1, len(X), dtype=torch.bool, device=X.device), X.new_zeros(1, X.shape[1])
    )
    linear = TwoLayer(
        X,
        problem.y,
        beta=2.0 * problem.beta,
        arrangements=everywhere,
        gated=True,
        loss=problem.loss.name,
    )
    w = solve(linear).weights[0]  # (1, d)
    return torch.cat([w, -w]) if bool(w.any()) else w[:0]


def _as_layers(network: TwoLayerReLU, has_bias: bool) -> nn.Sequential:
    """A network on data with a column of ones as ``Linear -> ReLU -> Linear`` without it."""
    U, alpha = network.U.detach(), network.alpha.detach()
    if not len(U):  # torch warns of layers without neurons: one of weight zero stands in
        U, alpha = U.new_zeros(1, U.shape[1]), alpha.new_zeros(1, *alpha.shape[1:])
    last = alpha.reshape(len(U), -1).T  # (c, m)
    if has_bias:
        return nn.Sequential(_linear(U[:, :-1], U[:, -1]), nn.ReLU(), _linear(last))
    return nn.Sequential(_linear(U), nn.ReLU(), _linear(last))


def _linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """A layer with given weights."""
    size = weight.shape[1], weight.shape[0]
    # Not initialised: that would draw from torch's global generator.
    layer = nn.utils.skip_init(nn.Linear, *size, bias=bias is not None, dtype=weight.dtype)
    layer.to(weight.device)
    layer.weight = nn.Parameter(weight.clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.clone())
    return layer
