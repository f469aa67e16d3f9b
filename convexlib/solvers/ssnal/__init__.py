r"""Semismooth-Newton augmented Lagrangian on the dual, for gated and ReLU problems.

The dual :math:`\min_z L^*(-z)` subject to :math:`\|\mathrm{Proj}_{K_b}(A_b^\top z)\| \le \beta`
has the blocks u of the primal as multipliers. For a penalty :math:`\sigma` its augmented Lagrangian

.. math:: \psi(z) = L^*(-z) + \tfrac1{2\sigma} \sum_b
          \left\|\mathrm{prox}_{\sigma\beta}(u_b + \sigma A_b^\top z)\right\|^2

is once differentiable and strongly convex, and its minimiser gives the next multipliers
:math:`u_b \leftarrow \mathrm{prox}_{\sigma\beta}(u_b + \sigma A_b^\top z)`, which lie in their
cones exactly. The gradient is piecewise smooth, so Newton's method with a generalised Jacobian
converges in a few steps. With P the projection onto the face of the cone that holds the projected
block, :math:`w` its direction and :math:`c = \sigma\beta/\|\mathrm{Proj}\|`, that Jacobian is

.. math:: \mathrm{diag}(h) + \sigma K, \qquad K = \sum_{b \in \mathrm{active}}
          A_b \left((1-c) P_b + c\, w_b w_b^\top\right) A_b^\top,

h the curvature of the conjugate loss.
Source: Li, Sun & Toh (2018) for the Lasso; the cones and their faces are this library's.

Here is the outer iteration: multipliers, penalty, working set and certificate. `newton` minimises
psi and solves the Newton equation; `blocks` has the proximal maps and the matrix K.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from tqdm import tqdm

from convexlib.checks import check_positive_int
from convexlib.problems.base import Problem
from convexlib.problems.two_layer import GroupLasso
from convexlib.result import Result, Status
from convexlib.solvers.base import Tracker, check_start, need
from convexlib.solvers.ssnal.blocks import Blocks
from convexlib.solvers.ssnal.newton import NewtonSystem, Subproblem, minimise

__all__ = ["ssnal"]

_FIRST = 3.0  # penalty, in units that make sigma X^T X of order one per column
_WARM = 100.0  # times that for multipliers that are nearly right
_GROWTH = ((5, 4.0), (math.inf, 2.0))  # of sigma after at most so many Newton steps
_NEAR = 0.9  # share of beta from which on a pattern's correlation counts as near
_CROWDED = 0.8  # share of the patterns beyond which a working set does not pay
_FIRST_CONES = 100  # patterns to begin with where there are cones, and to add at least
_FAR = 0.5  # share of the largest violation from which on a pattern is added at once
_SINGLE = 1e-8, 1e8
_STALLED = 12  # outer iterations that leave the bracket as wide as it was, at a full penalty
_ROUNDING = 1e-14  # of a gradient, against y


def ssnal(
    problem: Problem,
    *,
    tol: float = 1e-6,
    max_iter: int = 200,
    max_steps: int | None = None,
    start: Tensor | None = None,
    start_z: Tensor | None = None,
    progress: bool = False,
) -> Result:
    """Solve a TwoLayer problem with given patterns.

    Parameters
    ----------
    problem : TwoLayer
        Gated or ReLU, with any of the losses. On a CUDA device all dense algebra stays there; the
        projections onto the cones of a ReLU problem are CPU work.
    tol : float
        Relative duality gap at which to stop.
    max_iter : int
        Outer iterations, of a few Newton steps each and 50 at most.
    max_steps : int, optional
        Newton steps in all, which ``result.n_iter`` counts.
    start, start_z : Tensor
        Weights (S, P, d) and a dual point (n,) to start from.
    progress : bool
        Show a progress bar on a terminal.
    """
    problem = need(problem, GroupLasso, "ssnal")
    check_positive_int(max_iter, "max_iter")
    if max_steps is not None:
        check_positive_int(max_steps, "max_steps")
    start = None if start is None else check_start(start, problem.shape, "start")
    start_z = None if start_z is None else check_start(start_z, problem.y.shape, "start_z")
    tracker = Tracker(problem, "ssnal", tol)
    run = _Run(tracker, start, start_z)
    with tqdm(total=max_iter, desc="ssnal", disable=None if progress else True) as bar:
        status = run.iterate(tol, max_iter, max_steps or math.inf, bar)
    return tracker.result(status, run.steps)


class _Run:
    """One solve."""

    def __init__(
        self, tracker: Tracker[GroupLasso], start: Tensor | None, start_z: Tensor | None
    ) -> None:
        self.tracker = tracker
        self.problem = problem = tracker.problem
        self.all = self.blocks = Blocks(problem)
        # One projector for the steps and the certificate: in the end both meet the same faces.
        self.certifier = self.all.projector
        self.longest = 0.0  # of all projected correlations, where there are cones
        d = problem.X.shape[1]
        self.system = NewtonSystem(problem.n_patterns + d)
        if not _SINGLE[0] <= float(problem.X.abs().max()) <= _SINGLE[1]:
            self.system.sharpen(factors=True)  # products of X would leave the range of float32
        sizes = (problem.X**2).sum(dim=0)
        self.sigma = _FIRST * d / max(float(sizes.sum()), 1e-300)
        # Where columns are of different sizes the smallest one hardly moves until this is reached.
        self.full = _FIRST / max(min(sizes[sizes > 0.0].tolist(), default=math.inf), 1e-300)
        self.u = problem.zeros()
        self.steps = 0
        if start is None and self.certifier is not None:
            self._begin()
        # The origin is hardly ever the optimum: it need not be feasible beyond the working set.
        blocks = self.blocks if start_z is None else self.all
        origin = problem.loss.dual_point(torch.zeros_like(problem.y), problem.y)
        self.z, self.correlations = self._feasible(origin, self.all.correlations(origin), blocks)
        if start is not None:
            self.u = self.all.shrink(start.to(problem.X), 0.0).point  # into the cones
            self.sigma *= _WARM
        if start_z is not None:
            z = problem.loss.restrict(start_z.to(problem.y), problem.y)
            z, correlations = self._feasible(z, self.all.correlations(z), self.all)
            if problem.dual_value(z) > problem.dual_value(self.z):
                self.z, self.correlations = z, correlations
        if start is not None:
            self._choose()
        tracker.update(0, self.u, self.z if blocks is self.all else torch.zeros_like(self.z))

    def iterate(self, tol: float, max_iter: int, max_steps: float, bar: tqdm) -> Status:
        """Until the gap is at most tol, or the work that is allowed is done."""
        if self.tracker.gap <= tol:
            return Status.CONVERGED
        stalled = 0
        for iteration in range(1, max_iter + 1):
            width = self.tracker.primal - self.tracker.dual
            steps = self._subproblem(max_steps - self.steps)
            # The multipliers lie in their cones; z is feasible once it is scaled, but the next
            # subproblem starts from the unscaled one.
            feasible, _ = self._feasible(self.z, self.correlations, self.all)
            gap = self.tracker.update(iteration, self.u, feasible)
            bar.update()
            bar.set_postfix_str(f"gap {gap:.1e}")
            if gap <= tol:
                return Status.CONVERGED
            # The gap itself may stay near 1 for long where beta is tiny: its numerator shrinks.
            narrowed = self.tracker.primal - self.tracker.dual < 0.99 * width
            stalled = 0 if narrowed or self.sigma < self.full else stalled + 1
            if stalled >= _STALLED:
                return Status.STALLED
            if self.steps >= max_steps:
                return Status.MAX_ITER
            # The working set follows the new multipliers: most patterns are never in use.
            self._choose()
            # A penalty that grows fast makes subproblems hard, which shows in their steps; one that
            # grows slowly makes many of them.
            self.sigma *= next(factor for limit, factor in _GROWTH if steps <= limit)
        return Status.MAX_ITER

    def _subproblem(self, most: float) -> int:
        """New z and multipliers over the working set; the Newton steps that it took."""
        kept = self.blocks.kept
        sub = Subproblem(self.blocks, self.system, self.u[:, kept], self.sigma)
        state = sub.evaluate(self.z, self.correlations[:, kept])
        floor = _ROUNDING * float(torch.linalg.vector_norm(self.problem.y))
        state, steps = minimise(sub, state, floor, most)
        self.steps += steps
        self.z, self.u = state.z, torch.zeros_like(self.u)
        self.u[:, kept] = state.shrunk.point
        # Anew, because the certificate rests on them and every step has added its rounding.
        self.correlations = self.all.correlations(self.z)
        return steps

    def _choose(self) -> None:
        """Keep the patterns in use and those whose constraint is violated or nearly so.

        The certificate looks at all patterns, so that one left out by mistake comes back.
        """
        used = self.u.any(dim=2).any(dim=0)
        if self.certifier is None:
            norms = torch.linalg.vector_norm(self.correlations[0], dim=1)
            kept = (norms >= _NEAR * self.problem.beta) | used
        else:
            kept = used | self._violated(used)
        self._restrict(kept)

    def _restrict(self, kept: Tensor) -> None:
        """Work with the patterns marked in `kept` (P,)."""
        few = self.certifier is not None and len(kept) <= 2 * _FIRST_CONES
        crowded = few or int(kept.sum()) > _CROWDED * len(kept)
        self.blocks = (
            self.all if crowded else Blocks(self.problem, kept.nonzero().ravel(), self.all)
        )

    def _begin(self) -> None:
        """Begin with few cones: at the start nearly all constraints are violated."""
        kept = self.problem.y.new_zeros(self.problem.n_patterns, dtype=torch.bool)
        kept[:: max(1, len(kept) // _FIRST_CONES)] = True
        self._restrict(kept)

    def _violated(self, used: Tensor) -> Tensor:
        """Patterns whose constraint is violated or nearly so, the worst of them first, (P,)."""
        assert self.certifier is not None
        floor = max(_NEAR * self.problem.beta, _FAR * self.longest)
        most = max(_FIRST_CONES, int(used.sum()))
        free = (~used).nonzero().ravel()
        numbers = self.all.numbers.reshape(2, -1)[:, free.cpu().numpy()].ravel()
        points = self.correlations[:, free].flatten(0, 1)
        lengths = self.certifier.lengths(points, floor, most, numbers)
        violated = torch.zeros_like(used)
        if len(free):
            lengths = lengths.reshape(2, -1).amax(dim=0)
            least = lengths.topk(min(most, len(free))).values[-1]
            violated[free] = (lengths > 0.0) & (lengths >= least)
        return violated

    def _feasible(self, z: Tensor, correlations: Tensor, blocks: Blocks) -> tuple[Tensor, Tensor]:
        """The best multiple of z that is in the domain and feasible for blocks; its correlations.

        `correlations` are those of all patterns.
        """
        beta = self.problem.beta
        points = correlations[:, blocks.kept].flatten(0, 1)
        if self.certifier is not None:
            norms = self.certifier.lengths(points, beta, blocks=blocks.numbers)
            norm = self.longest = max(beta, float(norms.max()))
        else:
            norm = float(torch.linalg.vector_norm(points, dim=1).max())
        limit = beta / norm if norm > beta else 1.0
        scale = self.problem.loss.best_scale(z, self.problem.y, limit)
        return scale * z, scale * correlations
