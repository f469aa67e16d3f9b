r"""Column generation: two-layer training over all patterns without listing them.

The program restricted to a few patterns is solved exactly; its dual point z is priced, that is
:math:`\max_{\|u\| \le 1} |z^\top (Xu)_+|` is sought. A neuron above beta brings a new pattern; if
there is none, z is feasible for all neurons and the restricted optimum is the global one. Dividing
z by (an upper bound on) that maximum makes it feasible in every round, hence a lower bound on the
training objective of **every** two-layer network.

The start is a briefly trained network, and the early rounds price by local search; only
when that finds nothing more is the maximum searched for, and proved, by branch and bound.

**Where it starts.** What gradient descent finds in a second is worth many rounds of exact
pricing from nothing: the network's neurons have arranged themselves together, while pricing adds
neurons that fit what is left over, one set after another.

**Positively collinear samples as one**: the same squared-loss problem with fewer rows. With
:math:`x_i = s_i x`, :math:`s_i > 0`, for the samples i of a group, every neuron gives
:math:`(x_i^\top u)_+ = s_i (x^\top u)_+`. So the group's outputs are :math:`s_i \varphi` for one
number :math:`\varphi`, and with :math:`S = \sum_i s_i^2`

.. math:: \tfrac12 \sum_i (s_i \varphi - y_i)^2
          = \tfrac12 \Big(\sqrt S \varphi - \tfrac{1}{\sqrt S} \sum_i s_i y_i\Big)^2
          + \text{const} :

one sample :math:`\sqrt S x` with target :math:`\sum_i s_i y_i / \sqrt S`. The weights are the same
in both problems. A dual point :math:`z'` of the smaller one stands for the outputs
:math:`\varphi = (y' - z')/\sqrt S`, hence for :math:`z_i = y_i - s_i \varphi`, which every neuron
sees alike: :math:`\sum_i z_i (x_i^\top u)_+ = z' (\sqrt S x^\top u)_+`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor
from tqdm import tqdm

from convexlib.arrangements import Arrangements
from convexlib.arrangements.patterns import extended, patterns_of
from convexlib.arrangements.rowspace import parallel_rows
from convexlib.arrays import Floats
from convexlib.checks import as_tensor, check_choice, check_finite, check_positive_int, check_seed
from convexlib.errors import InputError, unwarned
from convexlib.losses import SmoothLoss
from convexlib.networks import Neurons
from convexlib.pricing import Pricing, price, row_space
from convexlib.pricing.ascent import search
from convexlib.problems.base import Problem
from convexlib.problems.two_layer import GroupLasso, TwoLayer
from convexlib.result import Result, Status, relative_gap
from convexlib.runtime import OutOfTime, check_time, time_left, time_limit
from convexlib.solvers.base import Tracker, need, status_of, watching
from convexlib.solvers.ssnal import ssnal
from convexlib.training.descent import SCHEDULES, Adam, initial_weights

_TRAINED_RANK = 3  # above this rank, "auto" starts from a trained network
_PART = 0.2  # of tol, that neurons which count as feasible may cost
_ROUNDING = 1e-13  # part of beta by which heights differ for no other reason
_QUICK = 20_000  # cones for the bound of a run that is interrupted
_CLOSING, _LEAST = 0.1, 0.2  # part of a limit of time, and seconds more, for that bound


def generate(
    problem: Problem,
    *,
    tol: float = 1e-6,
    max_iter: int = 100,
    max_steps: int = 3000,
    max_nodes: int | None = None,
    directions: Tensor | Neurons | None = None,
    seeding: str = "auto",
    seed: int = 0,
    progress: bool = False,
) -> Result:
    """Solve ``TwoLayer(X, y, beta=..., arrangements="generate")`` to a global relative gap.

    Parameters
    ----------
    tol : float
        Relative gap between the value and the bound over all networks.
    max_iter : int
        Rounds.
    max_steps : int
        Newton steps over all rounds. Most problems take some hundred in all; where beta is so small
        that the network nearly interpolates, a round takes hundreds. A limit in steps, not in
        seconds, makes the result the same on a slow machine.
    max_nodes : int, optional
        Cones that a proof may examine; more rank needs more (see `convexlib.pricing`). By default
        a proof tries for some seconds, and longer only while its bound improves.
    directions : Tensor (m, d) or Neurons, optional
        Neurons whose patterns start the search, for instance those of a trained network. With the
        signs of their outputs, as `Neurons`, they are a network, and the result is never above it.
    seeding : {"auto", "adam", "none"}
        ``"adam"`` starts from a briefly trained network; ``"auto"`` does so if no
        directions are given and the rank of X is above 3.
    seed : int
        Of the training and of the random starts of the pricing.
    progress : bool
        Show a progress bar on a terminal.

    Returns
    -------
    Result
        With ``scope="network"``: `value` and `dual` bracket the optimum over all networks, of any
        width. If the proof is incomplete, ``status`` is ``Status.UNPROVEN`` and the gap is valid
        but may be far from tight; the warning says what local search knows. A KeyboardInterrupt
        or `max_seconds` of `solve` ends the search with the best of what has been found.
    """
    problem = need(problem, GroupLasso, "generate")
    check_positive_int(max_iter, "max_iter")
    check_positive_int(max_steps, "max_steps")
    check_choice(seeding, ("auto", "adam", "none"), "seeding")
    if max_nodes is not None:
        check_positive_int(max_nodes, "max_nodes", minimum=0)
    if directions is not None:
        directions = _checked(directions, problem.X.shape[1])
    run = _Run(problem, tol, max_steps, max_nodes, seed)
    with tqdm(total=max_iter, desc="rounds", disable=None if progress else True) as bar:
        try:
            run.begin(directions, seeding)
            status = run.rounds(max_iter, bar)
        except KeyboardInterrupt as stop:
            status = status_of(stop)
    return run.result(status)


def _checked(directions: Any, d: int) -> Tensor | Neurons:
    """Neurons, with signs or without, whose vectors (m, d) are finite."""
    signed = isinstance(directions, Neurons)
    vectors = as_tensor(directions.vectors if signed else directions, "directions")
    if vectors.ndim != 2 or vectors.shape[1] != d:
        raise InputError(
            f"directions has shape {tuple(vectors.shape)}; expected (m, {d}), a neuron in a row."
        )
    check_finite(vectors, "directions")
    return directions if signed else vectors


class _Run:
    """The state of a column generation; pricing is done on the merged problem."""

    def __init__(
        self, problem: GroupLasso, tol: float, max_steps: int, max_nodes: int | None, seed: int
    ) -> None:
        self.tracker = Tracker(problem, "generate", tol)
        self.problem = self.tracker.problem
        self.merged = merge_rows(self.problem)
        self.small = self.merged.problem
        self.rank = row_space(self.small.X)[0].shape[1]
        self.seconds = time_left()
        self.tol, self.max_nodes, self.seed = tol, max_nodes, seed
        self.generator = torch.Generator().manual_seed(check_seed(seed))
        self.iteration = 0
        self.steps_left = max_steps
        self.z = problem.loss.dual_point(torch.zeros_like(self.small.y), self.small.y)
        # The best bound if local search misses nothing, its dual point, and the highest neuron.
        self.estimate, self.candidate, self.highest = self.tracker.dual, self.z, 0.0
        self.reached = self.estimate  # the same at the present dual point
        self.priced: Pricing | None = None
        self.start: Tensor | None = None  # weights over the first patterns

    def begin(self, directions: Tensor | Neurons | None, seeding: str) -> None:
        """Collect the first patterns."""
        X = self.small.X
        given = X.new_zeros((0, X.shape[1]))
        if isinstance(directions, Neurons):
            given = directions.vectors.to(X)
            self._take(Neurons(given, directions.signs.to(X)))
        elif directions is not None:
            given = directions.to(X)
        if seeding == "auto" and directions is None:
            seeding = "adam" if self.rank > _TRAINED_RANK else "none"
        network = Neurons(X.new_zeros(0, X.shape[1]), X.new_zeros(0))
        if seeding == "adam":
            network = trained_network(self.small, self.seed)
            self._take(network)
            given = torch.cat([given, network.vectors])
        found = search(X, self.z, 0.0, self.generator, given)
        directions = torch.cat([given, found.neurons])
        if not len(directions):  # no neuron correlates with y: any direction will do
            directions = X.new_ones((1, X.shape[1]))
        self.arrangements = patterns_of(X, directions)
        if len(network):
            self.start = placed(X, network, self.arrangements)
            outputs = (X @ network.vectors.T).relu_() @ network.signs
            self.z = self.small.loss.dual_point(outputs, self.small.y)

    def _take(self, network: Neurons) -> None:
        """Count a network as found, so that no interrupt gives back a worse one."""
        if len(network):
            patterns = patterns_of(self.problem.X, network.vectors)
            weights = placed(self.problem.X, network, patterns)
            self.tracker.update(0, weights, self.tracker.z, patterns)

    def rounds(self, max_iter: int, bar: tqdm) -> Status:
        """Solve, price and add until nothing is left to add."""
        inner_tol, start, beta = 1e-3, self.start, self.problem.beta
        for self.iteration in range(1, max_iter + 1):
            inner = self._solve(inner_tol, start)
            self.z, weights = inner.z, inner.weights
            self.steps_left -= inner.n_iter
            patterns = self.merged.expand(self.arrangements)
            self.tracker.update(self.iteration, weights, self.tracker.z, patterns)
            # Neurons that exceed beta by less change the gap by a part of tol only.
            level = beta * (1.0 + self._margin(self.z, _PART * self.tol))
            new = self._search(level, weights)
            gap = relative_gap(self.tracker.primal, self.estimate)
            bar.set_postfix(value=f"{self.tracker.primal:.6g}", estimated_gap=f"{gap:.0e}")
            bar.update()
            if self.steps_left <= 0:
                return Status.MAX_ITER
            if not len(new):
                # Climbing found nothing: search everywhere, and prove the bound.
                if inner.gap > 0.5 * self.tol and inner_tol > 0.2 * self.tol:
                    inner_tol, start = 0.1 * self.tol, weights
                    continue
                bar.set_description("proof")
                priced = self._prove(self.z, self.max_nodes)
                if self.tracker.gap <= self.tol:
                    return Status.CONVERGED
                if priced.lower <= level:
                    # A proof that is complete leaves nothing to do but rounding.
                    return Status.STALLED if priced.complete else Status.UNPROVEN
                new = priced.direction[None].to(self.z)
            # To a part of the gap that is left: more digits would be lost on incomplete patterns.
            inner_tol = max(0.1 * self.tol, min(inner_tol, 0.05 * gap))
            added = patterns_of(self.small.X, new)
            self.arrangements, start = extended(self.arrangements, weights, added)
        return Status.MAX_ITER

    def result(self, status: Status) -> Result:
        """Close the run, with the best bound that its dual points give."""
        detail = ""
        if status is not Status.CONVERGED:
            if self.priced is None or self.z is not self.candidate:
                self.reached = self.estimate
                if status in (Status.INTERRUPTED, Status.OUT_OF_TIME):
                    if not self.highest:  # no search has ended: that of the best network is better
                        self.candidate = self._of_network()
                    with self._closing():
                        self._prove(self.candidate, _QUICK)
                else:
                    self._prove(self.candidate, self.max_nodes)
            detail = self._detail()
        return self.tracker.result(status, self.iteration, detail)

    @contextmanager
    def _closing(self) -> Iterator[None]:
        """A short time for what follows the end of the time."""
        with time_limit(_CLOSING * self.seconds + _LEAST), suppress(OutOfTime):
            yield

    def _of_network(self) -> Tensor:
        """The dual point of the best network's outputs."""
        network, _ = Neurons.of_blocks(self.tracker.weights)
        outputs = (self.small.X @ network.vectors.T).relu_() @ network.signs
        return self.small.loss.dual_point(outputs, self.small.y)

    def _solve(self, tol: float, start: Tensor | None) -> Result:
        """The optimum over the patterns in use."""
        restricted = self.small.with_arrangements(self.arrangements)
        # The gap over all networks is reported once, at the end.
        with unwarned(), watching() as inner:
            start_z = None if start is None else self.z
            try:
                return ssnal(
                    restricted, tol=tol, start=start, start_z=start_z, max_steps=self.steps_left
                )
            except KeyboardInterrupt:
                if inner:
                    self._keep(inner[0])
                raise

    def _keep(self, stopped: Tracker) -> None:
        """Take what a solve had when it was stopped."""
        patterns = self.merged.expand(self.arrangements)
        self.tracker.update(self.iteration, stopped.weights, self.tracker.z, patterns)
        self.z = stopped.z
        with self._closing():
            self._search(self.problem.beta, stopped.weights)

    def _search(self, level: float, weights: Tensor) -> Tensor:
        """Violated neurons (m, d) by local search; keeps the bound that it would prove."""
        present, pattern = Neurons.of_blocks(weights)
        cells = self.arrangements.select(pattern)
        found = search(
            self.small.X, self.z, level, self.generator, present.vectors, present.signs, cells
        )
        self.reached = self.problem.dual_value(self._scaled(self.z, found.highest))
        if self.reached > self.estimate:
            self.estimate, self.candidate = self.reached, self.z
            self.highest = found.highest
        return found.neurons

    def _prove(self, z: Tensor, max_nodes: int | None) -> Pricing:
        """Bound all neurons at z, and the optimum with it."""
        X, beta, tracker = self.small.X, self.problem.beta, self.tracker
        # All that tol leaves may be spent on the proof, since a coarse one is much cheaper.
        spare = 0.9 * (self.tol - relative_gap(tracker.primal, self.reached))
        for loss in sorted({max(spare, _PART * self.tol), _PART * self.tol}, reverse=True):
            margin = self._margin(z, loss)
            priced = self.priced = exact_price(X, z, beta, margin, max_nodes)
            scaled = self._scaled(z, priced.upper + self.merged.rounding(z))
            tracker.update(self.iteration, tracker.weights, scaled, tracker.arrangements)
            if tracker.gap <= self.tol or not priced.complete:
                break
        return priced

    def _scaled(self, z: Tensor, highest: float) -> Tensor:
        """The best multiple of z if no neuron exceeds `highest`, for the original problem."""
        limit = min(1.0, self.problem.beta / highest) if highest > 0 else 1.0
        return self.merged.lift(self.problem.loss.best_scale(z, self.small.y, limit) * z)

    def _margin(self, z: Tensor, loss: float) -> float:
        """By what part of beta a neuron may exceed it if the gap may grow by `loss`."""
        step = 1e-3
        change = self.small.dual_value(z) - self.small.dual_value((1.0 - step) * z)
        slope = max(change / step, 1e-300)  # rather too steep than too flat: the dual is concave
        return min(max(loss * self.tracker.primal / slope, _ROUNDING), 0.1)

    def _detail(self) -> str:
        """Say what the bound is, and what it would be if local search were a proof."""
        assert self.priced is not None
        kind, nodes = self.priced.method, self.priced.nodes
        spent = f" after {nodes} cones" if nodes else ""
        text = f"Its bound over all networks is proven ({kind}{spent}, rank {self.rank})."
        if self.highest > 0.0:
            gap = relative_gap(self.tracker.primal, self.estimate)
            text += (
                f" Local search finds no neuron above {self.highest / self.problem.beta:.8g} beta; "
                f"were that the maximum, the relative gap would be {gap:.1e}."
            )
        return text


WIDTH = 400
_STEPS = 500  # of Adam, and again of L-BFGS
_RATE = 0.04
_SHARE = 0.25  # of a limit of time, for each of the two
_INITIAL = 0.1  # a part of He's weights: small ones leave the neurons free to turn
_TINY = 1e-30  # lengths below it are zero in single precision
_FLAT = 1e-12  # part of the mean size below which a feature counts as constant zero
_LIVE, _SILENT = 1e-4, 1e-6  # a neuron counts above this part of the largest, and above this


def trained_network(problem: GroupLasso, seed: int = 0) -> Neurons:
    r"""The neurons of a network after a short run of Adam and one of L-BFGS, in the data's dtype.

    The run is deterministic, in single precision, and on features and targets of unit scale: with
    :math:`X = \tilde X \operatorname{diag}(c)` and, for the squared loss, :math:`y = s \tilde y`,
    the neurons are :math:`\tilde u = c \circ u`, whose decay :math:`\|\tilde u / c\|^2` is not that
    of the data's own scale: a feature of small values then has hardly any part in the patterns.
    Adam decays :math:`\|\tilde u\|^2` with :math:`\beta / (s \bar c)`, :math:`\bar c^2` the mean of
    :math:`c^2`; L-BFGS has the program's own penalty, and keeps the signs of the outputs.
    Checked by ``tests/solvers/test_generate.py``.
    """
    X, y = problem.X, problem.y
    sizes = X.square().mean(dim=0).sqrt()
    size = float(sizes.square().mean().sqrt())
    height = float(y.square().mean().sqrt()) if problem.loss.name == "squared" else 1.0
    if size == 0.0 or height == 0.0:
        return Neurons(X.new_zeros(0, X.shape[1]), X.new_zeros(0))
    sizes = torch.where(sizes > _FLAT * size, sizes, size)
    data, targets = (X / sizes).float(), (y / height).float()
    width = min(WIDTH, 2 * len(X))
    U, alpha = _train(data, targets, problem.beta / (size * height), problem.loss, width, seed)
    network = _live(Neurons.of_network(U, alpha))
    weights = problem.beta / height / sizes
    vectors = _descend(data, targets, weights, problem.loss, network)
    network = _live(Neurons(vectors, network.signs))
    return Neurons(height * network.vectors.to(X) / sizes, network.signs.to(X))


def _live(network: Neurons) -> Neurons:
    """Those that count, at unit scale; none if a number has grown beyond its range."""
    strengths = torch.linalg.vector_norm(network.vectors, dim=1)
    if len(network) and bool(strengths.isfinite().all()):
        live = strengths > max(_LIVE * float(strengths.max()), _SILENT)
    else:
        live = torch.zeros_like(strengths, dtype=torch.bool)
    return Neurons(network.vectors[live], network.signs[live])


def _train(
    X: Tensor, y: Tensor, beta: float, loss: SmoothLoss, width: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Weights (m, d) and (m,) after Adam with a rate that falls along half a cosine."""
    U, alpha = (_INITIAL * part for part in initial_weights([seed], 1, width, X))  # (1, 1, m, ..)
    update = Adam(U, alpha)
    with time_limit(_SHARE * time_left()), suppress(OutOfTime):
        for step in range(_STEPS):
            check_time()
            hidden = (X @ U[0, 0].T).relu_()  # (n, m)
            z = loss.dual_point(hidden @ alpha[0, 0], y)
            inner = z @ hidden
            back = alpha[0, 0][:, None] * (hidden.sign_().T @ (X * z[:, None]))  # (m, d)
            slopes = beta * U - back, beta * alpha - inner
            update(slopes, X.new_full((1,), _RATE * SCHEDULES["cosine"](step / _STEPS)))
    return U[0, 0], alpha[0, 0]


def _descend(X: Tensor, y: Tensor, weights: Tensor, loss: SmoothLoss, network: Neurons) -> Tensor:
    r"""Vectors (m, d) after L-BFGS on :math:`L(\sum_j \pm (Xv_j)_+) + \sum_j \|w \circ v_j\|`."""
    vectors, signs, weights = network.vectors, network.signs, weights.to(X)  # (m, d), (m,), (d,)
    best = math.inf, vectors.double().cpu().numpy().ravel()

    def evaluate(values: Floats) -> tuple[float, Floats]:
        nonlocal best
        check_time()
        v = torch.from_numpy(values).to(X).view_as(vectors)
        hidden = (X @ v.T).relu_()  # (n, m)
        fitted = hidden @ signs
        z = loss.dual_point(fitted, y)
        lengths = torch.linalg.vector_norm(v * weights, dim=1, keepdim=True)
        slopes = -signs[:, None] * (hidden.sign_().T @ (X * z[:, None]))
        slopes += v * weights**2 / lengths.clamp(min=_TINY)
        value = loss.value(fitted, y) + float(lengths.double().sum())
        best = min(best, (value, values.copy()), key=lambda seen: seen[0])
        return value, slopes.double().cpu().numpy().ravel()

    options = {"maxiter": _STEPS, "maxcor": 20}
    with time_limit(_SHARE * time_left()), suppress(OutOfTime):
        minimize(evaluate, best[1], jac=True, method="L-BFGS-B", options=options)
    return torch.from_numpy(best[1]).to(X).view_as(vectors)


def placed(X: Tensor, network: Neurons, arrangements: Arrangements) -> Tensor:
    """The weights (2, P, d) of a network's neurons, those whose patterns are in the list."""
    listed = len(arrangements)
    directions = torch.nn.functional.normalize(network.vectors, dim=1, eps=0.0)
    masks = torch.cat([arrangements.masks, (X @ directions.T >= 0).T])
    _, group = torch.unique(masks, dim=0, return_inverse=True)
    pattern = torch.full_like(group, -1)  # in the list, of each group
    pattern[group[:listed]] = torch.arange(listed, device=X.device)
    pattern = pattern[group[listed:]]
    # Rounding may leave a neuron on the other side of a sample than when the list was made.
    known = pattern >= 0
    blocks = (network.signs < 0).long()[known], pattern[known]
    weights = X.new_zeros(2, listed, X.shape[1])
    return weights.index_put_(blocks, network.vectors[known], accumulate=True)


@dataclass(frozen=True, eq=False)
class Merged:
    """A problem whose collinear rows are merged, and the way back.

    Attributes
    ----------
    problem : GroupLasso
        The smaller problem, with ``arrangements="generate"``.
    original : GroupLasso
        What it stands for.
    group, share : Tensor (n,)
        The row of the smaller problem and s_i / sqrt(S) of every sample.
    """

    problem: GroupLasso
    original: GroupLasso
    group: Tensor
    share: Tensor

    def lift(self, z: Tensor) -> Tensor:
        """The dual point (n,) of the original problem."""
        if self.problem is self.original:
            return z
        outputs = self.problem.y - z
        return self.original.y - self.share * outputs[self.group]

    def rounding(self, z: Tensor) -> float:
        """By how much a unit neuron's value at `lift(z)` may differ from that at z."""
        if self.problem is self.original:
            return 0.0
        lengths = torch.linalg.vector_norm(self.original.X, dim=1)
        outputs = (self.problem.y - z)[self.group] * self.share
        sizes = self.original.y.abs() + outputs.abs()
        # Rows that are multiples but for rounding, and sums over groups of at most n samples.
        rows = self.share[:, None] * self.problem.X[self.group]
        apart = torch.linalg.vector_norm(self.original.X - rows, dim=1)
        eps = torch.finfo(z.dtype).eps
        return float(sizes @ (apart + (32 + len(lengths)) * eps * lengths))

    def expand(self, arrangements: Arrangements) -> Arrangements:
        """The same patterns, of all samples."""
        masks = arrangements.masks[:, self.group]
        masks[:, self.share == 0.0] = True  # a zero row is active: 0 >= 0
        return Arrangements(masks=masks, gates=arrangements.gates)


def merge_rows(problem: GroupLasso) -> Merged:
    """Merge the positively collinear rows of a squared-loss problem, and drop zero rows.

    Other losses, whose sum over a group is not a loss of the same kind, keep every row. Checked by
    ``tests/solvers/test_generate.py``.
    """
    X, y = problem.X, problem.y
    lengths = torch.linalg.vector_norm(X, dim=1)
    live = (lengths > 0).nonzero().ravel()
    if problem.loss.name != "squared" or not len(live):
        return as_it_is(problem)
    label, side = parallel_rows(X[live].cpu().numpy())
    # Opposite rows are one line, but no neuron is active at both.
    _, first, members = np.unique(2 * label + (side < 0), return_index=True, return_inverse=True)
    if len(first) == len(X):
        return as_it_is(problem)
    first = live[first]
    group = live.new_zeros(len(X))
    group[live] = torch.from_numpy(members).to(group)
    share = lengths / lengths[first[group]]  # s_i, 0 for zero rows
    roots = X.new_zeros(len(first)).index_add_(0, group, share**2).sqrt()  # sqrt(S)
    share = share / roots[group]
    targets = y.new_zeros(len(first)).index_add_(0, group, share * y)
    rows = X[first] * roots[:, None]
    smaller = TwoLayer.generating(rows, targets, problem.beta, problem.loss)
    return Merged(smaller, problem, group, share)


def as_it_is(problem: GroupLasso) -> Merged:
    """Keep every row."""
    own = torch.arange(len(problem.y), device=problem.y.device)
    return Merged(problem, problem, own, torch.ones_like(problem.y))


_FIRST = 1e7  # samples times cones of the first try: some seconds
_GROWTH = 8
_WORTH = 0.7  # of what is missing may be left after a try with more cones
_LIMIT = 5_000_000  # cones at rank 5 or less; a third for every dimension more


def exact_price(
    X: Tensor, z: Tensor, beta: float, rtol: float, max_nodes: int | None = None
) -> Pricing:
    r"""Bound :math:`\max_{\|u\|\le1} |z^\top (Xu)_+|`, or prove that it is at most beta.

    The search is allowed more cones as long as that brings the bound nearer to what is known to be
    attained; a budget in cones, not in seconds, makes it deterministic.

    Parameters
    ----------
    X, z, beta, rtol
        As for `price`, with ``target=beta``.
    max_nodes : int, optional
        Cones to examine at most, in one try.
    """
    beyond = max(int(torch.linalg.matrix_rank(X)) - 5, 0)
    limit = _LIMIT // 3**beyond if max_nodes is None else max_nodes
    budget = min(max(int(_FIRST / len(X)), 1000), limit)
    missing = float("inf")
    while True:
        priced = price(X, z, target=beta, rtol=rtol, max_nodes=budget)
        left = priced.upper - max(beta, priced.lower)
        violated = priced.lower > beta * (1.0 + rtol)
        exhausted = budget >= limit or priced.nodes == 0  # no branching at all at high rank
        if priced.complete or violated or exhausted or left > _WORTH * missing:
            return priced
        missing, budget = left, min(_GROWTH * budget, limit)
