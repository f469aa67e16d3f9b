r"""The polish step: a better network from a given one, with its certificate.

Four moves, none of which can raise the objective of a two-layer network:

1. *Balance*: :math:`(t u_j, \alpha_j / t)` is the same neuron, and its weight decay
   :math:`\tfrac12 (t^2 \|u_j\|^2 + \alpha_j^2 / t^2)` is least, :math:`\|u_j\| |\alpha_j|`, where
   both factors have one norm.
2. *Merge*: neurons of one sign and one pattern add up, by the triangle inequality; what is
   linearly dependent then goes (see `convexlib.networks.prune`).
3. *Own patterns*: the balanced network is a feasible point of the convex program over its patterns,
   whose optimum is therefore not above it.
4. *New patterns*: column generation adds the most violated ones, and solves again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from convexlib.certify.certificate import Certificate, check_one_output, seconds_for
from convexlib.certify.dispatch import depth_of, regularizer_of
from convexlib.certify.two_layer import Standing, as_two_layer, certify_two_layer, searched
from convexlib.checks import (
    check_beta,
    check_flag,
    check_positive_int,
    check_same_device,
    check_tol,
)
from convexlib.errors import NotCertifiableError
from convexlib.networks import Neurons, TwoLayerReLU, read_two_layer
from convexlib.networks.modules import as_plain
from convexlib.networks.prune import pruned
from convexlib.networks.two_layer import sequential
from convexlib.runtime import waiting
from convexlib.solvers.refine import refine

__all__ = ["Polished", "Stage", "polish"]


@dataclass(frozen=True)
class Stage:
    """A step of the polish: its name, the best objective so far, and the neurons that it has."""

    name: str
    objective: float
    neurons: int


@dataclass(frozen=True, eq=False)
class Polished:
    """A network, its certificate, and how it came to be.

    Attributes
    ----------
    network : nn.Module
        Of the same kind, dtype and device as the given one; of another width. Sub-networks of one
        neuron each become one `TwoLayerReLU`, and modules of other classes an ``nn.Sequential``.
    certificate : Certificate
        Of this network.
    stages : tuple of Stage
        The given network and what each move made of it.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> import convexlib as cl
    >>> X, y = np.array([[-1.0, 1.0], [1.0, 1.0]]), np.array([1.0, 1.0])
    >>> network = cl.TwoLayerReLU(torch.tensor([[0.5, 0.5]]).double(), torch.tensor([1.0]).double())
    >>> polished = cl.polish(network, X, y, beta=0.1)
    >>> polished.stages[0].name, polished.stages[-1].objective < polished.stages[0].objective
    ('given', True)
    >>> round(polished.certificate.primal, 4)
    0.0975
    """

    network: nn.Module
    certificate: Certificate
    stages: tuple[Stage, ...]


def polish(
    network: nn.Module,
    X: Any,
    y: Any,
    *,
    beta: float,
    loss: str = "squared",
    regularizer: str | None = None,
    rounds: int = 10,
    tol: float = 1e-6,
    max_nodes: int = 5_000_000,
    max_seconds: float | None = None,
    progress: bool = False,
) -> Polished:
    r"""Improve a trained two-layer network by convex programs, and certify the result.

    Neurons are balanced and merged, the convex program over the network's own patterns is solved
    with its output bias, and up to `rounds` times the most violated patterns are added. The result
    is an ordinary network whose objective is never above that of the given one.

    Parameters
    ----------
    network, X, y, beta, loss, regularizer
        As for `certify`; two layers with one output, with or without biases.
    rounds : int
        Of column generation; 0 keeps to the patterns that the network has.
    tol : float
        Relative gap at which to stop.
    max_nodes : int
        Budget of the certificate's branch and bound (see `certify`).
    max_seconds : float, optional
        Processor time for the certificate's dual points (see `certify`).
    progress : bool
        Show on a terminal how long it has taken, the last stage and the best objective so far.

    Returns
    -------
    Polished

    Raises
    ------
    NotCertifiableError, InputError
        As `certify`; also for a network of more layers.

    Notes
    -----
    Weights are computed in float64 and rounded to the network's dtype; objectives are those of the
    rounded ones. Checked by ``tests/certify/test_polish.py``.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> import convexlib as cl
    >>> X, y = np.array([[-1.0, 1.0], [1.0, 1.0]]), np.array([1.0, 1.0])
    >>> network = cl.TwoLayerReLU(torch.tensor([[0.5, 0.5]]).double(), torch.tensor([1.0]).double())
    >>> polished = cl.polish(network, X, y, beta=0.1)
    >>> polished.certificate.relative_gap < 1e-5
    True
    """
    X, y = check_one_output(X, y, "polish")
    beta, tol = check_beta(beta), check_tol(tol)
    check_positive_int(rounds, "rounds", minimum=0)
    check_positive_int(max_nodes, "max_nodes", minimum=0)
    check_flag(progress, "progress")
    max_seconds = seconds_for(max_seconds, refine=True)
    check_same_device(network, X)
    network = as_plain(network, X)
    depth = depth_of(network)
    if depth != 2:
        raise NotCertifiableError(
            f"the network has {depth} layers; polish improves two-layer networks. Use certify to "
            "bound this one."
        )
    penalty = regularizer_of(network, depth, regularizer)
    given = as_two_layer(network)
    with waiting("polish", progress) as tell:
        run = _Run(given, X, y, beta, loss, penalty, tell)
        run.keep("given", given)
        data, parts = run.state.data, run.state.parts
        neurons, bias = Neurons.of_network(parts.U.cpu(), parts.alpha.cpu()), parts.output_bias
        run.build("balanced", neurons, bias)
        neurons = pruned(neurons, data)
        run.build("merged", neurons, bias)
        nodes = searched(data, max_nodes)
        points, start = [], neurons.vectors
        for name, count in (("own patterns", 0), ("new patterns", rounds)):
            if name == "new patterns" and not rounds:
                break
            found = refine(
                data, run.state.y, beta, start, bias, loss=loss, rounds=count, tol=tol,
                max_nodes=nodes,
            )  # fmt: skip
            bias = None if bias is None else found.bias
            run.build(name, pruned(found.neurons, data), bias)
            points.append(found.z)
            start = torch.cat([start, found.neurons.vectors])
        certificate = certify_two_layer(
            run.best, X, y, beta, loss=loss, regularizer=penalty, refine=False, max_nodes=max_nodes,
            max_seconds=max_seconds, points=points,
        )  # fmt: skip
    return Polished(run.best, certificate, tuple(run.stages))


class _Run:
    """The best network so far, rounded to the dtype of the given one, and the stages."""

    def __init__(
        self, given: nn.Module, X: Tensor, y: Tensor, beta: float, loss: str, regularizer: str,
        tell: Callable[[str], object],
    ) -> None:  # fmt: skip
        self.given, self.X, self.y, self.beta, self.loss = given, X, y, beta, loss
        self.regularizer, self.tell = regularizer, tell
        self.state = Standing.of(read_two_layer(given), X, y, loss)
        self.stages: list[Stage] = []
        self.best, self.objective = given, float("inf")

    def keep(self, name: str, network: nn.Module) -> None:
        """Record a stage, and its network if no other is better."""
        parts = read_two_layer(network)
        state = Standing.of(parts, self.X, self.y, self.loss)
        objective = state.objective(self.beta, self.regularizer)
        if objective < self.objective or not self.stages:
            self.best, self.objective = network, objective
        self.stages.append(Stage(name, self.objective, len(read_two_layer(self.best).alpha)))
        self.tell(f"{name}: {self.objective:.6g}")

    def build(self, name: str, neurons: Neurons, bias: float | None) -> None:
        """Record the network of some neurons."""
        self.keep(name, _like(self.given, neurons, bias).train(self.given.training))


def _like(given: nn.Module, neurons: Neurons, bias: float | None) -> nn.Module:
    """A balanced network of the same kind, dtype and device as the given one."""
    U, alpha = (part.to(next(given.parameters())) for part in neurons.balanced())
    if isinstance(given, TwoLayerReLU):
        if not len(U):  # one neuron of zeros, as the others have
            U, alpha = U.new_zeros(1, U.shape[1]), alpha.new_zeros(1)
        return TwoLayerReLU(U, alpha)
    free = None if bias is None else alpha.new_tensor([bias])
    return sequential(U, alpha, read_two_layer(given).has_bias, free)
