"""How the estimators train: a convex program for each output, or one for all, and its proof."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from sklearn.base import BaseEstimator
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from convexlib.arrangements import Arrangements, sample_arrangements
from convexlib.certify import Certificate
from convexlib.certify.certificate import reporting
from convexlib.certify.outlook import APART, on_scale, outlook, sizes_apart
from convexlib.certify.two_layer import BRANCHING_RANK, certify_two_layer
from convexlib.checks import (
    as_tensor,
    check_beta,
    check_device,
    check_flag,
    check_positive_int,
    check_seconds,
    check_tol,
)
from convexlib.errors import unwarned
from convexlib.estimators.common import (
    Array,
    evaluate,
    say,
    validated,
    warn_of_gap,
)
from convexlib.losses import LogisticLoss, SmoothLoss, SquaredHingeLoss, get_loss
from convexlib.networks import Neurons, TwoLayerGatedReLU, side_by_side
from convexlib.networks.two_layer import sequential
from convexlib.pricing import row_space
from convexlib.problems.two_layer import TwoLayer
from convexlib.problems.vector_output import VectorOutput
from convexlib.result import Result, Status, relative_gap
from convexlib.runtime import clock, time_limit
from convexlib.solvers.base import uninterrupted
from convexlib.solvers.solve import solve

_ROUNDS, _STEPS = 100, 600  # of column generation, and Newton steps in all of them
_UNPROVEN_ROUNDS = 3  # where no proof can end; more cost far more than they gain
_MANY = 2000  # samples from which on there is one such round
_WORK, _LEAST_STEPS = 300_000, 60  # samples times such steps, and their least number
_PROOF_SECONDS = 2.0  # for dual points of the certificates above rank 5
_SEEDED_COLUMNS = 3  # above this many, patterns start from a trained network
NODES = 500_000  # cones: some seconds
_SOLVING = 0.75  # of a limit of time; the rest is for certificates
_NO_LIMIT = 10**6  # rounds and steps, where time is the limit


class ConvexReLU(BaseEstimator):
    """Fits one program per column of targets; the subclasses say what the arguments mean."""

    network_: nn.Sequential
    certificate_: Certificate | list[Certificate] | None

    def __init__(
        self,
        beta: float = 1.0,
        *,
        fit_bias: bool = True,
        gated: bool = False,
        device: str = "cpu",
        random_state: Any = None,
        n_patterns: int = 100,
        tol: float = 1e-4,
        max_iter: int | None = None,
        max_nodes: int = NODES,
        max_seconds: float | None = None,
        verbose: bool = False,
    ) -> None:
        self.beta = beta
        self.fit_bias = fit_bias
        self.gated = gated
        self.device = device
        self.random_state = random_state
        self.n_patterns = n_patterns
        self.tol = tol
        self.max_iter = max_iter
        self.max_nodes = max_nodes
        self.max_seconds = max_seconds
        self.verbose = verbose

    def _train(self, X: Array, Y: Array, loss: str, weights: Array | None) -> None:
        r"""Check the arguments, train, and keep what is known.

        Weights s of the samples are those of rows and targets where the loss is squared,
        :math:`s (f - y)^2 = (\sqrt s f - \sqrt s y)^2`, as a neuron of :math:`\sqrt s x` has the
        output :math:`\sqrt s` times that of x. Those of the other losses are in the targets.
        """
        check_beta(self.beta)
        tol = check_tol(self.tol)
        check_flag(self.gated, "gated")
        check_flag(self.fit_bias, "fit_bias")
        check_positive_int(self.n_patterns, "n_patterns")
        check_positive_int(self.max_nodes, "max_nodes", minimum=0)
        if self.max_iter is not None:
            check_positive_int(self.max_iter, "max_iter")
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        seconds = math.inf if self.max_seconds is None else check_seconds(self.max_seconds)
        check_flag(self.verbose, "verbose")
        device = check_device(self.device)
        data, targets = as_tensor(X, "X").to(device), as_tensor(Y, "y").to(device)
        data = _with_ones(data) if self.fit_bias else data
        kind = get_loss(loss)
        if weights is not None:
            data, targets, kind = _weighted(data, targets, kind, as_tensor(weights, "weights"))
        rank = row_space(data)[0].shape[1]
        if self.verbose:
            say(outlook(data, targets, self.beta, loss=kind))
        train = self._train_gated if self.gated else self._train_relu
        with unwarned():  # `warn_of_gap` speaks for all
            results, gaps = train(data, targets, kind, seed, rank, clock() + seconds)
        self.n_iter_ = max(1, *(result.n_iter for result in results))
        self.result_: Result | list[Result] = results[0] if len(results) == 1 else results
        if self.verbose:
            say(_summary(self, results))
        if self.gated or self.max_nodes:
            apart = sizes_apart(as_tensor(X, "X"))
            scale = f". By the way, {on_scale(apart)}" if apart > APART else ""
            warn_of_gap(self, results, gaps, tol, self._advice(results, rank) + scale)

    def _advice(self, results: list[Result], rank: int) -> str:
        """What to do about a gap that is left: more of what has run out."""
        stopped = any(result.status is Status.OUT_OF_TIME for result in results)
        limit = "max_seconds" if stopped else "max_iter"
        if self.gated:
            return f"Raise {limit} to improve it, or tol to be content with it"
        if rank > BRANCHING_RANK:
            give = "give" if self.max_seconds is None else "raise"
            return (
                f"At rank {rank} a proof is seldom in reach (up to {BRANCHING_RANK} it is): {give} "
                "max_seconds to search longer, a larger tol to be content with it, or max_nodes=0 "
                "for no proof"
            )
        more = " and prove more" if stopped else ", max_nodes to prove more"
        return f"Raise {limit} to improve it{more}, or tol to be content with it"

    def _train_gated(
        self, data: Tensor, Y: Tensor, loss: SmoothLoss, seed: int, rank: int, end: float
    ) -> tuple[list[Result], list[float]]:
        """One program for all outputs; its own gap is the proof."""
        program = VectorOutput(
            data,
            Y,
            beta=self.beta,
            arrangements=_sampled_patterns(data, self.n_patterns, seed),
            gated=True,
            loss=loss,
        )
        limits: dict[str, Any] = {} if self.max_iter is None else {"max_iter": self.max_iter}
        seconds = max(end - clock(), 0.0)
        result = uninterrupted(solve(program, tol=self.tol, max_seconds=seconds, **limits))
        network = program.to_network(result)
        assert isinstance(network, TwoLayerGatedReLU)
        layers: list[nn.Module] = [nn.ConstantPad1d((0, 1), 1.0)] if self.fit_bias else []
        self.network_, self.n_neurons_ = nn.Sequential(*layers, network), network.n_neurons
        self.gap_, self.certificate_ = result.gap, None
        return [result], [result.gap]

    def _train_relu(
        self, data: Tensor, Y: Tensor, loss: SmoothLoss, seed: int, rank: int, end: float
    ) -> tuple[list[Result], list[float]]:
        """One program for each column of Y (n, c), and the networks side by side."""
        rounds, steps = _ROUNDS, _STEPS
        if rank > BRANCHING_RANK:
            rounds = _UNPROVEN_ROUNDS if len(data) <= _MANY else 1
            steps = min(_STEPS, max(_LEAST_STEPS, _WORK // len(data)))
        if self.max_iter is not None:
            rounds, steps = self.max_iter, _STEPS * self.max_iter
        elif math.isfinite(end):
            rounds, steps = _NO_LIMIT, _NO_LIMIT
        seconds = _PROOF_SECONDS / Y.shape[1] if self.max_nodes else 0.0
        networks, results, certificates = [], [], []
        for k, targets in enumerate(Y.T):
            targets, share = targets.contiguous(), (end - clock()) / (Y.shape[1] - k)
            problem = TwoLayer(data, targets, beta=self.beta, arrangements="generate", loss=loss)
            result = solve(
                problem,
                tol=self.tol,
                max_seconds=max(_SOLVING * share, 0.0),
                progress=self.verbose,
                max_iter=rounds,
                max_steps=steps,
                max_nodes=self.max_nodes,
                directions=linear_neurons(problem),
                seeding="adam" if rank > _SEEDED_COLUMNS else "none",
                seed=seed,
            )
            network = problem.to_network(uninterrupted(result))
            left = max((1.0 - _SOLVING) * share, 0.0)
            with reporting(self.verbose) as report, time_limit(left):
                certificate = certify_two_layer(
                    network,
                    data,
                    targets,
                    self.beta,
                    loss=loss,
                    z=result.z,
                    refine=False,
                    max_nodes=self.max_nodes,
                    max_seconds=min(seconds, left),
                    report=report,
                )
            networks.append(network)
            results.append(result)
            certificates.append(certificate)
        joint = networks[0] if len(networks) == 1 else side_by_side(networks)
        self.network_ = sequential(joint.U, joint.alpha, self.fit_bias)
        self.n_neurons_ = joint.n_neurons
        self.gap_ = relative_gap(
            sum(certificate.primal for certificate in certificates),
            sum(certificate.dual for certificate in certificates),
        )
        self.certificate_ = certificates[0] if len(certificates) == 1 else certificates
        return results, [certificate.relative_gap for certificate in certificates]

    def __sklearn_tags__(self) -> Tags:
        """Say that sparse data are welcome."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _outputs(self, X: Any) -> Array:
        """Outputs (n, c) of the network."""
        check_is_fitted(self)
        X = validated(self, X, reset=False)
        return evaluate(self.network_, X, self.device)


def _with_ones(X: Tensor) -> Tensor:
    """The data with a column of ones."""
    return torch.cat([X, X.new_ones(len(X), 1)], dim=1)


def _weighted(
    data: Tensor, targets: Tensor, loss: SmoothLoss, weights: Tensor
) -> tuple[Tensor, Tensor, SmoothLoss]:
    """Data, targets and loss in which the weights are (see `ConvexReLU._train`)."""
    kept = weights > 0.0
    data, targets, weights = data[kept], targets[kept], weights[kept].to(data)[:, None]
    if isinstance(loss, LogisticLoss | SquaredHingeLoss):
        return data, weights * targets, replace(loss, heaviest=float(weights.max()))
    return weights.sqrt() * data, weights.sqrt() * targets, loss


def _summary(estimator: ConvexReLU, results: list[Result]) -> str:
    """One line when a fit is done."""
    seconds = sum(result.seconds for result in results)
    return (
        f"{type(estimator).__name__}: {estimator.n_neurons_} neurons after {seconds:.3g} s, "
        f"certified gap {estimator.gap_:.1e}"
    )


def _sampled_patterns(data: Tensor, n_patterns: int, seed: int) -> Arrangements:
    """Gaussian gates and the gate 0, which is open everywhere: a linear neuron."""
    drawn = sample_arrangements(data, n_patterns, seed=seed)
    partial = drawn.masks.any(dim=1) & ~drawn.masks.all(dim=1)
    masks, gates = drawn.masks[partial], drawn.gates[partial]
    return Arrangements(
        torch.cat([masks.new_ones(1, len(data)), masks]),
        torch.cat([gates.new_zeros(1, data.shape[1]), gates]),
    )


def linear_neurons(problem: TwoLayer) -> Neurons:
    r"""The network of the best linear model :math:`\min_w L(Xw) + 2\beta\|w\|`.

    It holds :math:`x^\top w = (x^\top w)_+ - (-x^\top w)_+` for :math:`2\|w\|`; a search that
    starts from it never ends above the linear model. No neurons if w = 0.
    """
    X = problem.X
    everywhere = Arrangements(
        torch.ones(1, len(X), dtype=torch.bool, device=X.device), X.new_zeros(1, X.shape[1])
    )
    model = TwoLayer(
        X,
        problem.y,
        beta=2.0 * problem.beta,
        arrangements=everywhere,
        gated=True,
        loss=problem.loss,
    )
    w = uninterrupted(solve(model)).weights[0]  # (1, d)
    pair = Neurons(torch.cat([w, -w]), w.new_tensor([1.0, -1.0]))
    return pair if bool(w.any()) else Neurons(w[:0], w.new_zeros(0))
