r"""Positively collinear samples as one: the same squared-loss problem with fewer rows.

With :math:`x_i = s_i x`, :math:`s_i > 0`, for the samples i of a group, every neuron gives
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

from dataclasses import dataclass

import torch
from torch import Tensor

from convexlib.arrangements import Arrangements
from convexlib.problems.two_layer import TwoLayer
from convexlib.solvers.pattern_set import first_of_each


@dataclass(frozen=True, eq=False)
class Merged:
    """A problem whose collinear rows are merged, and the way back.

    Attributes
    ----------
    problem : TwoLayer
        The smaller problem, with ``arrangements="generate"``.
    original : TwoLayer
        What it stands for.
    group, share : Tensor (n,)
        The row of the smaller problem and s_i / sqrt(S) of every sample.
    """

    problem: TwoLayer
    original: TwoLayer
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
        eps = torch.finfo(z.dtype).eps
        lengths = torch.linalg.vector_norm(self.original.X, dim=1)
        outputs = (self.problem.y - z)[self.group] * self.share
        return 32.0 * eps * float((self.original.y.abs() + outputs.abs()) @ lengths)

    def expand(self, arrangements: Arrangements) -> Arrangements:
        """The same patterns, of all samples."""
        masks = arrangements.masks[:, self.group]
        masks[:, self.share == 0.0] = True  # a zero row is active: 0 >= 0
        return Arrangements(masks=masks, gates=arrangements.gates)


def merge_rows(problem: TwoLayer) -> Merged:
    """Merge the positively collinear rows of a squared-loss problem, and drop zero rows.

    Other losses, whose sum over a group is not a loss of the same kind, keep every row. Checked by
    ``tests/solvers/column_generation/test_merging.py``.
    """
    X, y = problem.X, problem.y
    lengths = torch.linalg.vector_norm(X, dim=1)
    live = (lengths > 0).nonzero().ravel()
    if problem.loss.name != "squared" or not len(live):
        return as_it_is(problem)
    members, first = _collinear(X[live])
    if len(first) == len(X):
        return as_it_is(problem)
    first = live[first]
    group = torch.zeros_like(lengths, dtype=torch.long)
    group[live] = members
    share = lengths / lengths[first[group]]  # s_i, 0 for zero rows
    roots = X.new_zeros(len(first)).index_add_(0, group, share**2).sqrt()  # sqrt(S)
    share = share / roots[group]
    targets = y.new_zeros(len(first)).index_add_(0, group, share * y)
    rows = X[first] * roots[:, None]
    smaller = TwoLayer(rows, targets, beta=problem.beta, arrangements="generate")
    return Merged(smaller, problem, group, share)


def as_it_is(problem: TwoLayer) -> Merged:
    """Keep every row."""
    own = torch.arange(len(problem.y), device=problem.y.device)
    return Merged(problem, problem, own, torch.ones_like(problem.y))


def _collinear(X: Tensor) -> tuple[Tensor, Tensor]:
    """The group (n,) of every nonzero row, and the first row (m,) of every group."""
    eps = torch.finfo(X.dtype).eps
    scaled = X / X.abs().amax(dim=1, keepdim=True)
    # Exact multiples agree in these but for the last digits, which are cut off.
    keys = scaled.mul(2.0**-12 / eps).round()
    group = torch.unique(keys, dim=0, return_inverse=True)[1]
    # Rows with the same key that are not multiples up to rounding stay by themselves.
    apart = (scaled - scaled[first_of_each(group)[group]]).abs().amax(dim=1) > 4.0 * eps
    group = torch.where(apart, len(X) + torch.arange(len(X), device=X.device), group)
    group = torch.unique(group, return_inverse=True)[1]
    return group, first_of_each(group)
