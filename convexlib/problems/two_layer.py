r"""Two layers: weight decay training is a group Lasso with cone constraints."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from torch import Tensor

from convexlib.arrangements import Arrangements, enumerate_arrangements
from convexlib.arrangements.patterns import check_arrangements, check_gates
from convexlib.checks import check_beta, check_data, check_flag, check_positive_int
from convexlib.cones import ConeProjector
from convexlib.cones.projector import shrink_into_cones
from convexlib.errors import InputError, ProblemError
from convexlib.losses import SmoothLoss, get_loss
from convexlib.networks import Neurons, TwoLayerGatedReLU, TwoLayerReLU
from convexlib.pricing import price
from convexlib.problems.base import CvxpyProgram, LinearProgram, ProximalMap, weights_of
from convexlib.result import Result

if TYPE_CHECKING:
    import cvxpy as cp


class GroupLasso(LinearProgram):
    r"""The program over activation patterns that `TwoLayer` is, on whatever data.

    .. math:: \min_{v_i, w_i} L\Big(\sum_i D_i X (v_i - w_i)\Big)
              + \beta \sum_i \left(\|v_i\| + \|w_i\|\right) \quad \text{s.t.}\quad
              (2D_i - I) X v_i \ge 0,\; (2D_i - I) X w_i \ge 0 ,

    or without the constraints, with one block per pattern. Arguments and attributes are those of
    `TwoLayer`; subclasses say of which data X is made, and what network a solution is.
    """

    def __init__(
        self,
        X: Any,
        y: Any,
        *,
        beta: float,
        arrangements: Arrangements | Literal["generate"] | None = None,
        gated: bool = False,
        loss: str | SmoothLoss = "squared",
        max_patterns: int = 100_000,
    ) -> None:
        self.X, self.y = check_data(X, y)
        self.beta = check_beta(beta)
        self.loss = get_loss(loss)
        self.loss.check_targets(self.y)
        self.gated = check_flag(gated, "gated")
        check_positive_int(max_patterns, "max_patterns")
        if arrangements is None:
            self.arrangements = enumerate_arrangements(self.X, max_patterns=max_patterns)
        elif isinstance(arrangements, Arrangements):
            self.arrangements = self._checked(arrangements)
        elif isinstance(arrangements, str) and arrangements == "generate":
            if self.gated:
                raise ProblemError(
                    'arrangements="generate" needs cone constraints; a gated problem has none. '
                    "Give gates with sample_arrangements(X, n_patterns=...), or set gated=False."
                )
            self.arrangements = None
        else:
            raise InputError(
                f"arrangements is {type(arrangements).__name__} {str(arrangements)[:40]!r}; "
                'expected Arrangements, None or "generate".'
            )

    def with_arrangements(self, arrangements: Arrangements) -> Self:
        """The same problem over other patterns."""
        return self._changed("masks", arrangements=self._checked(arrangements))

    def _checked(self, arrangements: Arrangements) -> Arrangements:
        """Patterns that fit X; gates, which a gated network keeps, have to be those of its data."""
        check_arrangements(arrangements, self.X)
        d, given = self.X.shape[1], arrangements.gates.shape[1]
        if self.gated:
            check_gates(arrangements, self.inputs)
        elif given != d:  # other masks than X has only leave neurons out; these are of other data
            raise InputError(
                f"arrangements.gates has {given} columns; expected {d}, as X has: they are of "
                "other data. Make them from the same X, with enumerate_arrangements."
            )
        return arrangements

    @property
    def methods(self) -> tuple[str, ...]:
        """See `Problem`: ``"ssnal"`` and others over given patterns, or ``"generate"``."""
        if self.arrangements is None:
            return ("generate",)
        kernels = ("irls",) if self.gated and self.loss.name == "squared" else ()
        return ("ssnal", *super().methods, *kernels)

    @property
    def scope(self) -> str:
        """See `Problem`: over all networks if the patterns are generated."""
        return "network" if self.arrangements is None else "program"

    @property
    def n_patterns(self) -> int:
        """Number of patterns; 0 for ``"generate"``, which has none of its own."""
        return 0 if self.arrangements is None else len(self.arrangements)

    @property
    def _patterns(self) -> Arrangements:
        if self.arrangements is None:
            raise ProblemError(
                'this problem has arrangements="generate" and so no patterns of its own; '
                "solve(problem) generates them. Use prob.with_arrangements(...) to fix some."
            )
        return self.arrangements

    @cached_property
    def masks(self) -> Tensor:
        """The patterns as numbers (P, n) in the data's dtype."""
        return self._patterns.masks.to(self.X)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the weights, (S, P, d)."""
        return (1 if self.gated else 2, self.n_patterns, self.X.shape[1])

    def fitted(self, weights: Tensor) -> Tensor:
        r"""Outputs (n,): :math:`\sum_i D_i X (v_i - w_i)`.

        With ``"generate"`` the patterns are those of the weights themselves:
        :math:`\sum_i (Xv_i)_+ - (Xw_i)_+`.
        """
        if self.arrangements is None:
            positive, negative = torch.relu(weights @ self.X.T).sum(dim=1)  # (n,), (n,)
            return positive - negative
        signed = weights[0] if self.gated else weights[0] - weights[1]  # (P, d)
        active = signed.abs().sum(dim=1).nonzero().ravel()
        return ((self.masks[active].T @ signed[active]) * self.X).sum(dim=1)

    def correlations(self, z: Tensor) -> Tensor:
        r"""The adjoint (S, P, d) of `fitted`: :math:`X^\top D_i z` and its negative."""
        positive = self.masks @ (z[:, None] * self.X)  # (P, d), and no (P, n) on the way
        return positive[None] if self.gated else torch.stack([positive, -positive])

    def gram(self) -> Tensor:
        r""":math:`S\, X X^\top \circ \sum_i d_i d_i^\top` (n, n), where :math:`D_i = diag(d_i)`."""
        return self.shape[0] * (self.X @ self.X.T) * (self.masks.T @ self.masks)

    def penalty(self, weights: Tensor) -> float:
        """Sum of the Euclidean norms of the blocks."""
        return float(torch.linalg.vector_norm(weights, dim=2).sum())

    def projector(self) -> ConeProjector | None:
        """A new projector onto the cones of the blocks, in their order; None without cones."""
        return None if self.gated else ConeProjector(self.X, self._patterns.masks, copies=2)

    def proximal_map(self) -> ProximalMap:
        """Soft-thresholds the blocks' projections onto their cones, each warm-started."""
        projector = self.projector()
        return lambda weights, threshold: shrink_into_cones(weights, projector, threshold)

    def violation(self, weights: Tensor) -> float:
        r"""Largest :math:`-s\,x^\top v/\|x\|` over the cone constraints, at least 0."""
        if self.gated or self.arrangements is None:
            return 0.0
        lengths = torch.linalg.vector_norm(self.X, dim=1)
        unit = self.X / torch.where(lengths > 0, lengths, 1.0)[:, None]
        active = weights.abs().sum(dim=(0, 2)).nonzero().ravel()
        if not len(active):
            return 0.0
        signs = 2 * self.masks[active] - 1  # (P', n)
        slacks = (weights[:, active] @ unit.T) * signs  # (S, P', n)
        return max(-float(slacks.min()), 0.0)

    def dual_norm(self, z: Tensor) -> float:
        r"""Largest :math:`\|\mathrm{Proj}_{K_i}(\pm X^\top D_i z)\|` over the patterns.

        Without cones it is :math:`\max_i \|X^\top D_i z\|`; with ``"generate"`` it is an upper
        bound on :math:`\max_{\|u\| \le 1} |z^\top (Xu)_+|`.
        """
        return self._dual_norm_above(z, 0.0)

    def _dual_norm_above(self, z: Tensor, floor: float) -> float:
        if z.dtype is torch.float64 and self.X.dtype is not torch.float64:
            return self.double()._dual_norm_above(z, floor)  # of a proof no digit is given away
        if self.arrangements is None:
            return price(self.X, z).upper
        blocks = self.correlations(z).reshape(-1, self.X.shape[1])
        projector = self.projector()
        if projector is not None:
            return projector.longest(blocks, floor)  # which cuts short what stays below it
        return float(torch.linalg.vector_norm(blocks, dim=1).max())

    def to_cvxpy(self) -> CvxpyProgram:
        """The program for CVXPY, one variable (P, d) per sign."""
        import cvxpy as cp

        blocks, norms, cones = self._cvxpy_blocks()
        signed = blocks[0] if self.gated else blocks[0] - blocks[1]
        masks = self.masks.cpu().numpy()
        outputs = cp.sum(cp.multiply(self.X.cpu().numpy() @ signed.T, masks.T), axis=1)
        return self._written(outputs, norms, cones, blocks)

    def _cvxpy_blocks(self) -> tuple[list[cp.Variable], cp.Expression, list[cp.Constraint]]:
        """The variables (P, d), one per sign, the sum of their blocks' norms, and their cones."""
        import cvxpy as cp

        X, signs = self.X.cpu().numpy(), 2.0 * self.masks.cpu().numpy() - 1.0
        blocks = [cp.Variable(self.shape[1:]) for _ in range(self.shape[0])]
        norms = sum(cp.sum(cp.norm(v, 2, axis=1)) for v in blocks)
        cones = [] if self.gated else [cp.multiply(signs, v @ X.T) >= 0 for v in blocks]
        return blocks, norms, cones

    def __repr__(self) -> str:
        n, d = self.X.shape
        patterns = "generated" if self.arrangements is None else f"{self.n_patterns} patterns"
        kind = "gated" if self.gated else "relu"
        loss = "" if self.loss.name == "squared" else f", {self.loss.name}"
        return f"{type(self).__name__}({kind}, n={n}, d={d}, {patterns}, beta={self.beta:g}{loss})"


class TwoLayer(GroupLasso):
    r"""Two-layer ReLU training with weight decay, as a convex program.

    The training problem, over networks of any width :math:`m \ge m^*` with :math:`m^* \le n`,

    .. math:: p^* = \min_{u_j, \alpha_j} \tfrac12 \Big\|\sum_j (X u_j)_+ \alpha_j - y\Big\|^2
              + \tfrac\beta2 \sum_j \left(\|u_j\|^2 + \alpha_j^2\right)

    equals the program over the activation patterns :math:`D_i` of X

    .. math:: p^* = \min_{v_i, w_i}\; & \tfrac12 \Big\|\sum_i D_i X (v_i - w_i) - y\Big\|^2
              + \beta \sum_i \left(\|v_i\| + \|w_i\|\right) \\
              \text{s.t.}\quad & (2D_i - I) X v_i \ge 0,\; (2D_i - I) X w_i \ge 0 .

    Another `loss` takes the place of the squared one in both. With ``gated=True`` the constraints
    are dropped and one block per pattern is left: the gated ReLU network, a plain group Lasso.
    There is no 1/n anywhere.

    Parameters
    ----------
    X : array (n, d)
        Data. A bias is a column of ones (and is regularised). Tensors are not copied, nor those of
        y: to change them later changes the problem.
    y : array (n,)
        Targets; labels -1 and 1 for the losses of classes.
    beta : float
        Regularisation, > 0, in the units of the objective above.
    arrangements : Arrangements, None or "generate"
        The patterns. None enumerates all of them or refuses with advice; cells as thin as rounding
        may be left out, of which `Arrangements.exhaustive` and `perturbation` tell. ``"generate"``
        keeps none: ``solve`` generates them and bounds the optimum over all networks.
    gated : bool
        The gated problem.
    loss : {"squared", "logistic", "squared_hinge"}
        :math:`\tfrac12\|f - y\|^2`, :math:`\sum_i \log(1 + e^{-y_i f_i})` or
        :math:`\tfrac12 \sum_i (1 - y_i f_i)_+^2`.
    max_patterns : int
        Limit of the enumeration.

    Attributes
    ----------
    X, y, beta, loss, gated
        As given; X and y as tensors.
    arrangements : Arrangements or None
        None for ``"generate"``.

    Raises
    ------
    InputError
        For unusable data, beta or arrangements, and targets that are not labels where they must be.
    TooManyArrangementsError
        If arrangements=None and there are more than max_patterns.
    ProblemError
        For ``gated=True`` with ``"generate"``: without cones a pattern is part of the model, so
        there is no larger problem to generate it from.

    Notes
    -----
    ``weights`` has shape (S, P, d): ``weights[0]`` holds the v_i and ``weights[1]`` the w_i;
    S = 1 for a gated problem. Source: Pilanci & Ergen (2020), Theorem 1; gated: Mishkin, Sahiner &
    Pilanci (2022). Checked by ``tests/problems/test_two_layer.py``.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> X = np.array([[-2.0, 1.0], [-1.0, 1.0], [1.0, 1.0], [2.0, 1.0]])  # a column of ones: bias
    >>> y = np.array([2.0, 0.0, 0.0, 1.0])
    >>> problem = cl.TwoLayer(X, y, beta=0.1)
    >>> problem
    TwoLayer(relu, n=4, d=2, 8 patterns, beta=0.1)
    >>> result = cl.solve(problem)
    >>> round(result.value, 4), result.gap <= 1e-6
    (0.3583, True)
    >>> network = problem.to_network(result)
    >>> round(problem.objective(network), 4)
    0.3583
    """

    @classmethod
    def generating(cls, X: Tensor, y: Tensor, beta: float, loss: SmoothLoss) -> Self:
        """The problem with ``arrangements="generate"`` on data that have been checked before."""
        problem = cls.__new__(cls)
        problem.X, problem.y, problem.beta, problem.loss = X, y, beta, loss
        problem.gated, problem.arrangements = False, None
        return problem

    def to_network(self, result: Result | Tensor) -> TwoLayerReLU:
        r"""The network that the weights stand for; its objective is the program's value.

        Every v gives a neuron :math:`u = v/\sqrt{\|v\|}, \alpha = \sqrt{\|v\|}`, every w one with
        :math:`\alpha = -\sqrt{\|w\|}`; zero blocks give none.
        Gated problems give a `TwoLayerGatedReLU`. Same dtype and device as the data.
        """
        free = (2, "P", self.X.shape[1])
        weights = weights_of(result, free if self.arrangements is None else self.shape)
        neurons, pattern = Neurons.of_blocks(weights)
        if self.gated:
            return TwoLayerGatedReLU(*neurons.balanced(), self._patterns.gates[pattern])
        return TwoLayerReLU(*neurons.balanced())
