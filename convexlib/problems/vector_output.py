r"""Several outputs: one program per output, or one nuclear norm for all."""

from __future__ import annotations

import copy
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from convexlib.arrangements import Arrangements
from convexlib.checks import check_choice, check_flag, check_outputs
from convexlib.cones.projector import shrink_singular_values
from convexlib.errors import InputError, ProblemError
from convexlib.losses import SmoothLoss, get_loss
from convexlib.networks import Neurons, TwoLayerGatedReLU, TwoLayerReLU
from convexlib.networks.two_layer import called
from convexlib.problems.base import (
    CvxpyProgram,
    LinearProgram,
    ProximalMap,
    singular_triples,
    weights_of,
)
from convexlib.problems.two_layer import TwoLayer
from convexlib.result import Result

PENALTIES = ("one-output", "nuclear")


class VectorOutput(LinearProgram):
    r"""Two-layer training with c outputs and weight decay, as a convex program.

    The network is :math:`f(X) = \sum_j \phi_j(X u_j)\, a_j^\top` with :math:`a_j \in \mathbf R^c`,
    its training objective :math:`L(f(X)) + \tfrac\beta2 \sum_j (\|u_j\|^2 + \|a_j\|^2)`, and L sums
    the loss over all entries of Y; there is no 1/n. Two classes of networks, two programs:

    ``penalty="one-output"``: every neuron feeds one output (:math:`a_j = \alpha_j e_{k_j}`). That
    is one `TwoLayer` problem per column of Y,

    .. math:: \min \sum_k L_k\Big(\sum_i D_i X (v_{ik} - w_{ik})\Big)
              + \beta \sum_{i,k} \left(\|v_{ik}\| + \|w_{ik}\|\right)

    with its cones, or gated without them. The columns share nothing but the patterns.

    ``penalty="nuclear"`` (gated only): every neuron feeds all outputs,

    .. math:: \min_{Z_i \in \mathbf R^{d \times c}} L\Big(\sum_i D_i X Z_i\Big)
              + \beta \sum_i \|Z_i\|_* .

    Parameters
    ----------
    X : array (n, d)
        Data.
    Y : array (n, c)
        Targets: real, one-hot for the squared loss of classes, or labels -1 and 1 (one against
        all) for the losses of classes.
    beta : float
        Regularisation, > 0.
    arrangements, gated
        As for `TwoLayer`, but the patterns cannot be generated.
    penalty : {"one-output", "nuclear"}
        The class of networks.
    loss : {"squared", "logistic", "squared_hinge"}
        As for `TwoLayer`.
    max_patterns : int
        Limit of the enumeration.

    Attributes
    ----------
    X, y, beta, loss, gated, penalty_name, arrangements
        As given; ``y`` is Y.
    columns : list of TwoLayer
        The problem of each output on its own.

    Raises
    ------
    InputError
        For unusable data, beta, arrangements or labels.
    ProblemError
        For the nuclear norm without gates. With cones the penalty of a block is the least
        :math:`\sum_j \|u_j\| \|a_j\|` over :math:`Z = \sum_j u_j a_j^\top` **with every u_j in its
        cone** K. Its dual norm is :math:`\max \|M^\top u\|` over unit u in K; for K the nonnegative
        orthant and c >= d that decides whether :math:`\gamma^2 I - MM^\top`, hence any symmetric
        matrix, is copositive: NP-hard, and a norm is as hard as its dual.
    TooManyArrangementsError
        If arrangements=None and there are more than max_patterns.

    Notes
    -----
    ``weights`` has shape (S, P, d, c); S = 1 for a gated problem, else 2 for the v's and w's.

    *The nuclear norm is exact.* A neuron of gate i costs :math:`\tfrac12(\|u\|^2 + \|a\|^2) \ge
    \|u\|\|a\| = \|u a^\top\|_*`, so all of them cost at least :math:`\|Z_i\|_*` by the triangle
    inequality, with :math:`Z_i = \sum_j u_j a_j^\top`; and f depends on :math:`Z_i` only.
    Conversely :math:`Z_i = \sum_j \sigma_j p_j q_j^\top` gives the neurons :math:`u_j =
    \sqrt{\sigma_j} p_j,\; a_j = \sqrt{\sigma_j} q_j`, at most min(d, c) for each gate, whose cost
    is :math:`\sum_j \sigma_j = \|Z_i\|_*`. That is `to_network`.

    Dual feasibility is :math:`\max_i \|X^\top D_i Z\|_2 \le \beta` (the largest singular value).
    One output has one singular value: for c = 1 both programs are `TwoLayer`. Sources: Mishkin,
    Sahiner & Pilanci (2022); nuclear norm, Sahiner, Ergen, Pauly & Pilanci (2021). Checked by
    ``tests/problems/test_vector_output.py``.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> X = np.array([[-2.0, 1.0], [-1.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    >>> Y = np.array([[2.0, 1.0], [0.0, 0.0], [0.0, 0.0], [1.0, 2.0]])
    >>> problem = cl.VectorOutput(X, Y, beta=0.1)
    >>> result = cl.solve(problem)
    >>> round(result.value, 4), problem.to_network(result).alpha.shape[1]
    (0.7166, 2)
    """

    def __init__(
        self,
        X: Any,
        Y: Any,
        *,
        beta: float,
        arrangements: Arrangements | None = None,
        gated: bool = False,
        penalty: str = "one-output",
        loss: str | SmoothLoss = "squared",
        max_patterns: int = 100_000,
    ) -> None:
        X, Y = check_outputs(X, Y)
        get_loss(loss).check_targets(Y)
        self.penalty_name = check_choice(penalty, PENALTIES, "penalty")
        if self.penalty_name == "nuclear" and not check_flag(gated, "gated"):
            raise ProblemError(
                'penalty="nuclear" needs gated=True: with cone constraints the norm of a block is '
                'NP-hard to evaluate. Set gated=True, or penalty="one-output".'
            )
        if isinstance(arrangements, str):
            raise InputError(
                f"arrangements is {arrangements!r}; expected Arrangements or None. Patterns are "
                "generated for one output: solve TwoLayer(X, Y[:, k], ...) for each k."
            )
        first = TwoLayer(
            X,
            Y[:, 0],
            beta=beta,
            arrangements=arrangements,
            gated=gated,
            loss=loss,
            max_patterns=max_patterns,
        )
        self.X, self.y, self.beta, self.loss = first.X, Y, first.beta, first.loss
        self.gated, self.arrangements = first.gated, first.arrangements
        self._first = first

    def with_arrangements(self, arrangements: Arrangements) -> VectorOutput:
        """The same problem over other patterns."""
        return self._with(self._first.with_arrangements(arrangements))

    def with_beta(self, beta: float) -> VectorOutput:
        """The same problem with another regularisation."""
        return self._with(self._first.with_beta(beta))

    def _with(self, first: TwoLayer) -> VectorOutput:
        """The same problem with the beta and the patterns of another first column."""
        shared = {"beta": first.beta, "arrangements": first.arrangements}
        return self._changed("columns", _first=first, **shared)

    @cached_property
    def columns(self) -> list[TwoLayer]:
        """The problem of each output on its own; they share data and patterns."""
        problems = [copy.copy(self._first) for _ in self.y.T]
        for problem, targets in zip(problems, self.y.T, strict=True):
            problem.y, problem.masks = targets.contiguous(), self.masks
        return problems

    def each_output(self) -> list[TwoLayer]:
        return self.columns

    @property
    def methods(self) -> tuple[str, ...]:
        """See `Problem`: those of its columns, or those that know the nuclear norm."""
        return self._first.methods if self.separable else super().methods

    @property
    def separable(self) -> bool:
        """Whether the columns can be solved one by one."""
        return self.penalty_name == "one-output"

    @property
    def n_patterns(self) -> int:
        """Number of patterns."""
        return self._first.n_patterns

    @property
    def masks(self) -> Tensor:
        """The patterns as numbers (P, n) in the data's dtype."""
        return self._first.masks

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the weights, (S, P, d, c)."""
        return (*self._first.shape, self.y.shape[1])

    def fitted(self, weights: Tensor) -> Tensor:
        r"""Outputs (n, c): :math:`\sum_i D_i X (V_i - W_i)`."""
        signed = weights[0] if self.gated else weights[0] - weights[1]  # (P, d, c)
        active = signed.abs().sum(dim=(1, 2)).nonzero().ravel()
        sums = self.masks[active].T @ signed[active].flatten(1)  # (n, d * c)
        return torch.einsum("nd,ndc->nc", self.X, sums.unflatten(1, signed.shape[1:]))

    def correlations(self, z: Tensor) -> Tensor:
        r"""The adjoint (S, P, d, c) of `fitted`: :math:`X^\top D_i Z` and its negative."""
        products = torch.einsum("nd,nc->ndc", self.X, z)
        positive = (self.masks @ products.flatten(1)).unflatten(1, products.shape[1:])
        return positive[None] if self.gated else torch.stack([positive, -positive])

    def gram(self) -> Tensor:
        """As for `TwoLayer`; the same for every output."""
        return self._first.gram()

    def penalty(self, weights: Tensor) -> float:
        """Sum of the norms of the columns of all blocks, or of the blocks' nuclear norms."""
        if self.separable:
            return float(torch.linalg.vector_norm(weights, dim=2).sum())
        active = weights[0].abs().sum(dim=(1, 2)) > 0
        return float(torch.linalg.svdvals(weights[0, active]).sum())

    def proximal_map(self) -> ProximalMap:
        """The map of every column, or soft-thresholding of singular values."""
        if not self.separable:
            return shrink_singular_values
        maps = [column.proximal_map() for column in self.columns]

        def shrink(weights: Tensor, threshold: float) -> Tensor:
            parts = [prox(weights[..., k], threshold) for k, prox in enumerate(maps)]
            return torch.stack(parts, dim=-1)

        return shrink

    def violation(self, weights: Tensor) -> float:
        """As for `TwoLayer`, the largest of all columns."""
        return max(c.violation(weights[..., k]) for k, c in enumerate(self.columns))

    def dual_norm(self, z: Tensor) -> float:
        r"""Largest of the columns' dual norms, or :math:`\max_i \|X^\top D_i Z\|_2`."""
        return self._dual_norm_above(z, 0.0)

    def _dual_norm_above(self, z: Tensor, floor: float) -> float:
        if self.separable:
            return max(c._dual_norm_above(z[:, k], floor) for k, c in enumerate(self.columns))
        return float(torch.linalg.matrix_norm(self.correlations(z)[0], ord=2).max())

    def _outputs(self, network: nn.Module) -> Tensor:
        fitted = called(network, self.X.double())
        if fitted.shape != self.y.shape:
            raise InputError(
                f"the network returns shape {tuple(fitted.shape)}; expected {tuple(self.y.shape)}."
            )
        return fitted

    def to_network(self, result: Result | Tensor) -> TwoLayerReLU:
        """The network that the weights stand for; its objective is the program's value.

        Its output weights have shape (m, c). See the class's notes; zero blocks give no neuron.
        """
        weights = weights_of(result, self.shape)
        if self.separable:
            c = self.shape[3]
            neurons, place = Neurons.of_blocks(weights.transpose(2, 3).flatten(1, 2))
            pattern, output = place // c, place % c
            U, sizes = neurons.balanced()
            alpha = weights.new_zeros(len(U), c)
            alpha[range(len(U)), output] = sizes
        else:
            pattern, U, alpha = singular_triples(weights[0])
        if not self.gated:
            return TwoLayerReLU(U, alpha)
        assert self.arrangements is not None
        return TwoLayerGatedReLU(U, alpha, self.arrangements.gates[pattern])

    def to_cvxpy(self) -> CvxpyProgram:
        """The program for CVXPY, one variable (d, c) per sign and pattern."""
        import cvxpy as cp

        data, masks = self.X.cpu().numpy(), self.masks.cpu().numpy()
        sides, P, *size = self.shape
        blocks = [cp.Variable(tuple(size)) for _ in range(sides * P)]
        outputs, penalty, cones = 0, 0, []
        for place, block in enumerate(blocks):
            mask, image = masks[place % P, :, None], data @ block
            outputs = outputs + (1 - 2 * (place // P)) * cp.multiply(mask, image)
            norm = cp.sum(cp.norm(block, 2, axis=0)) if self.separable else cp.normNuc(block)
            penalty = penalty + norm
            if not self.gated:
                cones.append(cp.multiply(2 * mask - 1, image) >= 0)
        return self._written(outputs, penalty, cones, blocks)

    def __repr__(self) -> str:
        n, d = self.X.shape
        kind = "gated" if self.gated else "relu"
        loss = "" if self.loss.name == "squared" else f", {self.loss.name}"
        return (
            f"VectorOutput({kind}, {self.penalty_name}, n={n}, d={d}, c={self.y.shape[1]}, "
            f"{self.n_patterns} patterns, beta={self.beta:g}{loss})"
        )
