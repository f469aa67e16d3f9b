r"""Column generation: two-layer training over all patterns without listing them.

The program restricted to a few patterns is solved exactly; its dual point z is priced, that is
:math:`\max_{\|u\| \le 1} |z^\top (Xu)_+|` is sought. A neuron above beta brings a new pattern; if
there is none, z is feasible for all neurons and the restricted optimum is the global one. Dividing
z by (an upper bound on) that maximum makes it feasible in every round, hence a lower bound on the
training objective of **every** two-layer network.

Patterns start from a briefly trained network, and the early rounds price by local search; only
when that finds nothing more is the maximum searched for, and proved, by branch and bound.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from tqdm import tqdm

from convexlib.errors import ConvergenceWarning, SolverError
from convexlib.pricing import Pricing, row_space
from convexlib.problems.base import Problem
from convexlib.problems.two_layer import TwoLayer
from convexlib.result import Result, Status, relative_gap
from convexlib.solvers.base import Tracker
from convexlib.solvers.column_generation.exact_pricing import exact_price
from convexlib.solvers.column_generation.heuristic_pricing import search
from convexlib.solvers.column_generation.merging import merge_rows
from convexlib.solvers.column_generation.seeding import trained_neurons
from convexlib.solvers.pattern_set import extended, patterns_of
from convexlib.solvers.precision import round_weights
from convexlib.solvers.ssnal import ssnal
from convexlib.validation import check_choice, check_positive_int, check_seed

_TRAINED_RANK = 3  # above this rank, "auto" starts from a trained network
_PART = 0.2  # of tol, that neurons which count as feasible may cost
_ROUNDING = 1e-13  # part of beta by which heights differ for no other reason
_QUICK = 20_000  # cones for the bound of a run that is interrupted


def generate(
    problem: Problem,
    *,
    tol: float = 1e-6,
    max_iter: int = 100,
    max_steps: int = 3000,
    max_nodes: int | None = None,
    directions: Tensor | None = None,
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
    directions : Tensor (m, d), optional
        Neurons whose patterns start the search, for instance those of a trained network.
    seeding : {"auto", "adam", "none"}
        ``"adam"`` starts from the patterns of a briefly trained network; ``"auto"`` does so if no
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
        ends the search with the best of what has been found. A float32 problem is solved in
        float64: its weights are rounded at the end, and `value` is theirs; z stays in float64.
    """
    if not isinstance(problem, TwoLayer) or problem.arrangements is not None:
        raise SolverError(
            f'generate needs TwoLayer(..., arrangements="generate"); got {problem!r}. '
            "Use method='auto'."
        )
    check_positive_int(max_iter, "max_iter")
    check_positive_int(max_steps, "max_steps")
    check_choice(seeding, ("auto", "adam", "none"), "seeding")
    exact = problem.double()
    run = _Run(exact, tol, max_steps, max_nodes, seed)
    directions = None if directions is None else directions.to(exact.X)
    with tqdm(total=max_iter, desc="rounds", disable=None if progress else True) as bar:
        try:
            run.begin(directions, seeding)
            status = run.rounds(max_iter, bar)
        except KeyboardInterrupt:
            status = Status.INTERRUPTED
    return run.result(status, problem.X.dtype)


class _Run:
    """The state of a column generation; pricing is done on the merged problem."""

    def __init__(
        self,
        problem: TwoLayer,
        tol: float,
        max_steps: int,
        max_nodes: int | None,
        seed: int,
    ) -> None:
        self.problem, self.merged = problem, merge_rows(problem)
        self.small = self.merged.problem
        self.rank = row_space(self.small.X)[0].shape[1]
        self.tol, self.max_nodes, self.seed = tol, max_nodes, seed
        self.generator = torch.Generator().manual_seed(check_seed(seed))
        self.tracker = Tracker(problem, "generate")
        self.iteration = 0
        self.steps_left = max_steps
        self.z = problem.loss.dual_point(torch.zeros_like(self.small.y), self.small.y)
        # The best bound if local search misses nothing, its dual point, and the highest neuron.
        self.estimate, self.candidate, self.highest = self.tracker.dual, self.z, 0.0
        self.reached = self.estimate  # the same at the present dual point
        self.priced: Pricing | None = None

    def begin(self, directions: Tensor | None, seeding: str) -> None:
        """Collect the first patterns."""
        X = self.small.X
        given = X.new_zeros((0, X.shape[1])) if directions is None else directions
        if seeding == "auto" and directions is None:
            seeding = "adam" if self.rank > _TRAINED_RANK else "none"
        if seeding == "adam":
            given = torch.cat([given, trained_neurons(self.small, self.seed)])
        found = search(X, self.z, 0.0, self.generator, given)
        directions = torch.cat([given, found.neurons])
        if not len(directions):  # no neuron correlates with y: any direction will do
            directions = X.new_ones((1, X.shape[1]))
        self.arrangements = patterns_of(X, directions)

    def rounds(self, max_iter: int, bar: tqdm) -> Status:
        """Solve, price and add until nothing is left to add."""
        inner_tol, start, beta = 1e-3, None, self.problem.beta
        for self.iteration in range(1, max_iter + 1):
            inner = self._solve(inner_tol, start)
            self.z, weights = inner.z, inner.weights
            self.steps_left -= inner.n_iter
            patterns = self.merged.expand(self.arrangements)
            self.tracker.update(self.iteration, weights, self.tracker.z, patterns)
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
            inner_tol = max(0.1 * self.tol, min(inner_tol, 0.05 * gap))
            added = patterns_of(self.small.X, new)
            self.arrangements, start = extended(self.arrangements, weights, added)
        return Status.MAX_ITER

    def result(self, status: Status, dtype: torch.dtype) -> Result:
        """Close the run, with the best bound that its dual points give."""
        detail = ""
        if status is not Status.CONVERGED:
            if self.priced is None or self.z is not self.candidate:
                self.reached = self.estimate
                quick = status is Status.INTERRUPTED
                self._prove(self.candidate, _QUICK if quick else self.max_nodes)
            detail = self._detail()
        round_weights(self.tracker, dtype)
        if self.tracker.gap <= self.tol:
            status, detail = Status.CONVERGED, ""
        elif status is Status.CONVERGED:
            status = Status.STALLED
        return self.tracker.result(status, self.iteration, scope="network", detail=detail)

    def _solve(self, tol: float, start: Tensor | None) -> Result:
        """The optimum over the patterns in use."""
        restricted = self.small.with_arrangements(self.arrangements)
        with warnings.catch_warnings():
            # What counts is the gap over all networks, and that is reported once, at the end.
            warnings.simplefilter("ignore", ConvergenceWarning)
            start_z = None if start is None else self.z
            return ssnal(
                restricted, tol=tol, start=start, start_z=start_z, max_steps=self.steps_left
            )

    def _search(self, level: float, weights: Tensor) -> Tensor:
        """Violated neurons (m, d) by local search; keeps the bound that it would prove."""
        side, pattern = (torch.linalg.vector_norm(weights, dim=2) > 0).nonzero(as_tuple=True)
        signs, cells = 1.0 - 2.0 * side.to(weights), self.arrangements.select(pattern)
        X, neurons = self.small.X, weights[side, pattern]
        found = search(X, self.z, level, self.generator, neurons, signs, cells)
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
