r"""The best neuron for several outputs: :math:`\max_{\|u\| \le 1} \|Z^\top (Xu)_+\|`, with a proof.

A neuron that feeds c outputs with weights a costs :math:`\|u\| \|a\|`, so that a dual point
:math:`Z \in \mathbf R^{n \times c}` is feasible if no unit u has :math:`\|Z^\top (Xu)_+\| > \beta`.
Over unit vectors a this is the maximum of

.. math:: h(a) = \max_{\|u\| \le 1} |(Za)^\top (Xu)_+| ,

one pricing problem with one output for each a. **h is a seminorm**, a maximum of absolute values of
linear functions. So on the cone of generators :math:`r_1, \dots, r_c` it is at most linear between
them: :math:`h(\sum_k \lambda_k r_k) \le \sum_k \lambda_k h(r_k)` for :math:`\lambda \ge 0`, and
whatever bounds :math:`q_k \ge h(r_k)` are proven, :math:`\max \sum_k \lambda_k q_k` over the unit
vectors of the cone bounds h there: the shortest w with :math:`r_k^\top w \ge q_k`, as in
`branch_and_bound`. Cones are halved, best first, from the orthants on. (Half of them:
:math:`h(-a) = h(a)`.) The excess is of the order of the square of a cone's angle.

The first bound is :math:`(\sum_k h(e_k)^2)^{1/2}`. It is tight where one column outweighs the
others, hence in coordinates in which Z's columns are orthogonal: its right singular vectors. **Many
outputs** have too many orthants, and too many edges. Their coordinates fall into groups, and if
:math:`q_g \ge h` on the unit vectors of group g, then :math:`(\sum_g q_g^2)^{1/2}` bounds h for
the same reason: :math:`h(\sum_g a_g) \le \sum_g q_g \|a_g\|`.

**Rounding is covered.** Generators are dyadic. What the change of coordinates leaves out, and the
rounding of each Za, costs at most :math:`\sum_i \|e_i\| \|x_i\|` for an error with rows e_i.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convexlib.arrays import EPS, Floats
from convexlib.pricing.ascent import ascend
from convexlib.pricing.best_neuron import LARGEST_RANK, Pricing, price, scaled
from convexlib.pricing.branch_and_bound import MAX_DEPTH, edge_to_halve, shortest_slope
from convexlib.pricing.condense import row_space
from convexlib.runtime import out_of_time

FEW, _GROUP = 6, 3  # outputs that are bounded together; above this in such groups
_PRICES, _SOME = 500, 60  # pricing problems with one output; where each is bounded and not solved
_CONES = 20_000  # of output weights
_TINY = 1e-290  # more than what scaling by powers of two may lose
_SHARE = 20  # of the cones of all of them that one may have
_LOW = 0.5  # part of the level below which a value need not be told apart
_STARTS, _GIVEN = 64, 100  # of local search: random neurons, and given ones at most
_TURNS = 6  # between the best u for output weights a and the best a for u


def price_outputs(
    X: Tensor, Z: Tensor, target: float = 0.0, rtol: float = 1e-4, max_nodes: int = 5_000_000
) -> Pricing:
    r"""Bound :math:`\max_{\|u\|\le 1} \|Z^\top (Xu)_+\|_2` from both sides.

    Parameters
    ----------
    X, Z : Tensor (n, d), (n, c)
        Data and dual point, float64.
    target : float
        Values up to ``target * (1 + rtol)`` need not be told apart.
    rtol : float
        Relative accuracy.
    max_nodes : int
        Cones of neurons to examine in all, before a valid but loose bound is returned.

    Returns
    -------
    Pricing
        As of `price`, with the same meaning of `complete`: `upper` is rigorous. `sign` is 1, since
        the output weights of the best neuron are :math:`Z^\top (Xu)_+`.

    Examples
    --------
    >>> import torch
    >>> from convexlib.pricing import price_outputs
    >>> X = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    >>> Z = torch.tensor([[3.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
    >>> found = price_outputs(X, Z)
    >>> round(found.lower, 3), round(found.upper, 3)
    (4.0, 4.0)

    Notes
    -----
    Checked by ``tests/pricing/test_joint.py``.
    """
    X, shift = _unit_size(X)
    Z, size = _unit_size(Z)
    found = _price(X, Z, scaled(target, -shift - size), rtol, max_nodes)
    lower, upper = (scaled(value, shift + size) for value in (found.lower, found.upper))
    upper = math.nextafter(upper, math.inf) if found.upper > 0.0 else 0.0  # rounded, perhaps down
    return replace(found, lower=lower, upper=upper)


def _unit_size(part: Tensor) -> tuple[Tensor, int]:
    """Divided by a power of two, so that the largest entry is about 1: nothing rounds."""
    part = part.detach().double().cpu()
    exponent = int(torch.frexp(part.abs().max())[1])
    return torch.from_numpy(np.ldexp(part.numpy(), -exponent)), exponent


def _price(X: Tensor, Z: Tensor, target: float, rtol: float, max_nodes: int) -> Pricing:
    """`price_outputs` at a size of about 1."""
    W, stretch, hidden = _rotated(X, Z)
    search = _Search(X, Z, W, target, rtol, max_nodes)
    c = W.shape[1]
    n_groups = 1 if c <= FEW else -(-c // _GROUP)
    sizes = [c // n_groups + (number < c % n_groups) for number in range(n_groups)]
    # The smaller groups come first: of the columns that matter most.
    groups = np.split(np.arange(c), np.cumsum(sizes[:0:-1]))
    axes = np.array([search.bound_at(axis) for axis in np.eye(c)])
    most = _PRICES if row_space(X)[0].shape[1] <= LARGEST_RANK else _SOME
    squares = 0.0
    for number, group in enumerate(groups):
        left = n_groups - number  # all of them share what is left alike
        prices = len(search.known) + (most - len(search.known)) // left
        nodes = search.nodes + (max_nodes - search.nodes) // left
        squares += search.highest(group, axes[group], n_groups, prices, nodes) ** 2
    upper = math.sqrt(squares) * (1.0 + (c + 8) * EPS) * stretch + hidden
    return Pricing(
        lower=search.best,
        upper=upper,
        direction=search.direction,
        sign=1,
        complete=upper <= max(target, search.best) * (1.0 + rtol),
        nodes=search.nodes,
        method=search.method or "spectral",
    )


class _Search:
    """What is known of h: bounds at some output weights, and the best neuron."""

    def __init__(
        self, X: Tensor, Z: Tensor, W: Tensor, target: float, rtol: float, max_nodes: int
    ) -> None:
        self.X, self.Z, self.W = X, Z, W
        self.target, self.rtol, self.max_nodes = target, rtol, max_nodes
        self.lengths = torch.linalg.vector_norm(X, dim=1)
        self.best, self.direction = _local_search(X, Z)
        self.known: dict[bytes, float] = {}
        self.nodes, self.floor, self.method = 0, 0.0, ""

    def bound_at(self, a: Floats) -> float:
        """A bound on h(a) for a (k,), over the columns of W."""
        key = (a * np.sign(a[a != 0.0][0]) + 0.0).tobytes()  # h(-a) = h(a)
        if key not in self.known:
            weights = self.W @ torch.from_numpy(a)
            size = float(np.linalg.norm(a))
            share = max(min(self.max_nodes // _SHARE, self.max_nodes - self.nodes), 0)
            low = _LOW * max(self.target, self.best) * size
            priced = price(self.X, weights, target=low, rtol=0.25 * self.rtol, max_nodes=share)
            self.nodes += priced.nodes
            value = float(
                torch.linalg.vector_norm(self.Z.T @ torch.relu(self.X @ priced.direction))
            )
            if value > self.best:
                self.best, self.direction = value, priced.direction
            rounded = self.W.abs() @ torch.from_numpy(np.abs(a))
            wrong = (len(a) + 2) * EPS * float(rounded @ self.lengths)
            self.known[key] = priced.upper + wrong
            if self.known[key] >= self.floor * size:
                self.floor, self.method = self.known[key] / size, priced.method
        return self.known[key]

    def highest(
        self, group: NDArray[np.intp], axes: Floats, n_groups: int, prices: int, nodes: int
    ) -> float:
        """A bound on h over unit vectors of one of so many groups of coordinates.

        `axes` are the bounds at those. The search ends when so many bounds are known in all, or so
        many cones of neurons have been examined.
        """
        c = len(group)
        first = float(np.linalg.norm(axes)) * (1.0 + (c + 8) * EPS)
        self.floor = float(axes.max(initial=0.0))

        def enough() -> float:
            # No cone that has the generator with the highest bound has a lower one.
            goal = max(self.target, self.best) / math.sqrt(n_groups)
            return max(goal, self.floor) * (1.0 + 0.5 * self.rtol)

        if c <= 1 or first <= enough():
            return first
        signs = 1.0 - 2.0 * ((np.arange(2 ** (c - 1))[:, None] >> np.arange(c)) & 1)
        # A heap of (-bound, number, generators, bounds at them, halvings).
        cones = [(-first, k, np.diag(sign), axes, np.zeros(c, int)) for k, sign in enumerate(signs)]
        settled, made = 0.0, len(cones)
        while (
            cones
            and -cones[0][0] > enough()
            and len(self.known) < prices
            and made < _CONES
            and self.nodes < nodes
            and not out_of_time()
        ):
            bound, _, R, q, depths = heapq.heappop(cones)
            one, other = edge_to_halve(R, np.ones(c))
            depth = max(depths[one], depths[other]) + 1
            if depth > MAX_DEPTH:
                settled = max(settled, -bound)
                continue
            middle = 0.5 * (R[one] + R[other])
            a = np.zeros(self.W.shape[1])
            a[group] = middle
            height = self.bound_at(a)
            for k in (one, other):
                R_new, q_new, depths_new = R.copy(), q.copy(), depths.copy()
                R_new[k], q_new[k], depths_new[k] = middle, height, depth
                below = min(_highest(R_new, q_new), -bound)
                heapq.heappush(cones, (-below, made, R_new, q_new, depths_new))
                made += 1
        return max(settled, -cones[0][0] if cones else 0.0)


def _rotated(X: Tensor, Z: Tensor) -> tuple[Tensor, float, float]:
    r"""Orthogonal columns W (n, k) for Z, with :math:`\|Z^\top h\| \le s \|W^\top h\| + e`."""
    _, sizes, Vt = torch.linalg.svd(Z, full_matrices=False)
    Vt = Vt[sizes > 1e-14 * sizes[0]] if len(sizes) else Vt
    W = Z @ Vt.T
    left = torch.linalg.vector_norm(Z - W @ Vt, dim=1)
    rounded = torch.linalg.vector_norm(W.abs() @ Vt.abs() + Z.abs(), dim=1)
    k = len(Vt)
    error = (left + (k + 8) * EPS * rounded) @ torch.linalg.vector_norm(X, dim=1)
    skew = float(torch.linalg.matrix_norm(Vt @ Vt.T - torch.eye(k).to(Vt))) if k else 0.0
    hidden = float(error) * (1.0 + len(X) * EPS) + _TINY if k else 0.0
    return W, 1.0 + skew + 8 * (k + Z.shape[1]) ** 2 * EPS, hidden


def _highest(R: Floats, q: Floats) -> float:
    """The maximum over the cone of R's rows of what is q at them and linear between."""
    c = len(q)
    units = R / np.linalg.norm(R, axis=1)[:, None]
    centre = units.sum(axis=0)
    centre /= np.linalg.norm(centre)
    space, flags = np.empty((2, c, c)), np.empty(c, np.bool_)
    bound = shortest_slope(
        R, q, centre, space[0], space[1], flags, np.empty(c), np.empty(c), np.empty(c)
    )
    # As in `branch_and_bound.rounding`: r_k^T c >= c^(-3/2).
    return float(bound) * (1.0 + 64.0 * (c + 1) ** 4 * EPS)


def _local_search(X: Tensor, Z: Tensor) -> tuple[float, Tensor]:
    """The best unit u by turns: the output weights for u, and the best neuron for those."""
    values, units = best_neurons(X, Z)
    index = int(values.argmax())
    return float(values[index]), units[index]


def best_neurons(X: Tensor, Z: Tensor, starts: Tensor | None = None) -> tuple[Tensor, Tensor]:
    r"""Local maxima (m,) of :math:`\|Z^\top (Xu)_+\|` and their unit vectors (m, d)."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(_STARTS, X.shape[1], generator=generator, dtype=torch.float64).to(X)
    units = drawn if starts is None else torch.cat([drawn, starts[:_GIVEN]])
    units = units / torch.linalg.vector_norm(units, dim=1, keepdim=True).clamp(min=1e-300)
    for _ in range(_TURNS):
        weights = torch.relu(X @ units.T).T @ Z  # (m, c)
        columns = Z @ weights.T  # (n, m), of any size
        columns = columns / columns.abs().amax(dim=0).clamp(min=1e-300)
        units = torch.cat(
            [ascend(X, z, u[None], 15)[1] for z, u in zip(columns.T, units, strict=True)]
        )
    values = torch.linalg.vector_norm(torch.relu(X @ units.T).T @ Z, dim=1)
    return values, units
