r"""All optima of a two-layer program from one of them.

**Theorem.** Let z be the dual optimum and
:math:`q_{is} = \mathrm{Proj}_{K_i}(s X^\top D_i z)/\beta` for the patterns i and signs s = ±1.
Weights are optimal if and only if each block is :math:`\alpha_{is} q_{is}` with
:math:`\alpha_{is} \ge 0`, zero where :math:`\|q_{is}\| < 1`, and

.. math:: \sum_{is} \alpha_{is}\, g_{is} = f^\star, \qquad g_{is} = s D_i X q_{is} .

*Proof.* L is strictly convex (squared, logistic), so the optimal outputs f* are unique, and so is
z = -L'(f*). By weak duality weights with outputs f* are optimal if and only if
:math:`\beta \|v\| = s z^\top D_i X v` for every block v. For v in K_i,
:math:`s z^\top D_i X v \le \beta \langle q_{is}, v\rangle \le \beta \|q_{is}\| \|v\|
\le \beta \|v\|` (the first step is Moreau's decomposition), with equality only for v = 0, or
:math:`\|q_{is}\| = 1` and v a multiple of :math:`q_{is}`. Conversely such multiples attain it:
a projection onto a cone has :math:`\langle X^\top D_i z, q\rangle = \beta \|q\|^2`. ∎

So the optima are a polytope, over finitely many neurons that z determines; its vertices have
linearly independent images :math:`g`, hence at most n neurons.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

from convexlib.arrays import EPS
from convexlib.checks import check_vector
from convexlib.cones.projector import shrink_into_cones
from convexlib.errors import InputError, SolverError
from convexlib.problems.two_layer import GroupLasso
from convexlib.result import Result
from convexlib.solvers.base import need

_CLEAR = 1e-3  # relative error of a dual constraint with which one can still tell what is active
_TIGHT = 1e-5  # relative slack of the dual constraint below which a neuron may be used
_SAME = 1e-5  # distance of unit neurons that are one neuron on the wall of several cells
_SHARE = 1e3  # a neuron counts as active if a part of 1/_SHARE may explain all of the gap
_LEAST = 1e-15  # gap below which rounding hides it
_ROUNDING = 1e-7  # relative size of coefficients that only make up for the inexact outputs


@dataclass(frozen=True, eq=False)
class OptimalSet:
    r"""The optimal networks of a program: :math:`\{\alpha \ge 0 : G \alpha = f^\star\}`.

    Attributes
    ----------
    problem : TwoLayer
        The program.
    side, pattern : Tensor (k,)
        The block of every possible neuron: 0 for v, 1 for w, and the index i.
    neurons : Tensor (k, d)
        The unit vectors q.
    images : Tensor (n, k)
        Their outputs G, with signs.
    fitted : Tensor (n,)
        The outputs f* of all optima.
    slack : float
        How far the nearest dual constraint that is not active is from being so, relative to beta (1
        if there is none). It should be far above 1e-5: below that its neuron is among those here.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> X = np.array([[-2.0, 1.0], [-1.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    >>> problem = cl.TwoLayer(X, np.array([2.0, 0.0, 0.0, 1.0]), beta=0.1)
    >>> every = cl.optimal_set(problem, cl.solve(problem, tol=1e-9))
    >>> [round(value, 2) for value in every.fitted.tolist()]
    [1.86, 0.2, 0.17, 0.87]
    """

    problem: GroupLasso
    side: Tensor
    pattern: Tensor
    neurons: Tensor
    images: Tensor
    fitted: Tensor
    slack: float

    def __len__(self) -> int:
        """Number of neurons that any optimum may use."""
        return len(self.neurons)

    def weights(self, alpha: Any) -> Tensor:
        """The program's weights for coefficients (k,)."""
        alpha = check_vector(alpha, len(self), "alpha", of="neuron").to(self.neurons)
        weights = self.problem.zeros()
        weights[self.side, self.pattern] = (alpha[:, None] * self.neurons).to(weights)
        return weights

    def vertex(self, costs: Any) -> Tensor:
        r"""The optimum (k,) with the least :math:`\sum_j c_j \alpha_j`, at a vertex.

        A neuron whose constraint lacks up to 1e-5 of beta (1e-3, where the result's gap leaves as
        much open) counts as active. A vertex that uses it has a value above the optimum by up to
        that part of it. There is no such neuron where `slack` is larger.
        """
        costs = check_vector(costs, len(self), "costs", of="neuron")
        G, f = self.images.cpu().numpy(), self.fitted.cpu().numpy()
        # Outputs are known to the solver's accuracy: the sum of absolute errors is a cost, too.
        # Both of size one, as the solver's tolerances are absolute.
        n, k = G.shape
        size, height = (np.abs(part).max(initial=0.0) or 1.0 for part in (G, f))
        G, f = G / size, f / height
        c = costs.double().cpu().numpy()
        c = c / (np.abs(c).max(initial=0.0) or 1.0)
        errors = np.full(2 * n, 2e4)
        found = linprog(
            np.concatenate([c, errors]), A_eq=np.hstack([G, np.eye(n), -np.eye(n)]), b_eq=f
        )
        if found.status != 0:
            raise SolverError(f"linprog ended with: {found.message}")
        alpha = found.x[:k] * (height / size)
        alpha[alpha <= _ROUNDING * alpha.max(initial=0.0)] = 0.0
        return torch.from_numpy(alpha).to(self.images)

    def ranges(self) -> Tensor:
        """The smallest and largest coefficient (k, 2) that each neuron has among the optima."""
        unit = torch.eye(len(self)).to(self.images)
        rows = [[self.vertex(e) @ e, self.vertex(-e) @ e] for e in unit]
        return torch.tensor(rows).to(self.images).reshape(-1, 2)

    def is_unique(self) -> bool:
        """Whether there is one optimal network, up to splitting of neurons."""
        ranges = self.ranges()
        if not len(ranges):
            return True
        return bool((ranges[:, 1] - ranges[:, 0] <= 1e-4 * ranges.max()).all())


def optimal_set(problem: GroupLasso, result: Result) -> OptimalSet:
    """All optima of a program with fixed patterns, from an accurate solution of it.

    Parameters
    ----------
    problem : TwoLayer
        With patterns, gated or not, and a strictly convex loss: not the squared hinge.
    result : Result
        ``solve(problem, tol=1e-10)``; a loose solution misjudges which dual constraints are active.

    Raises
    ------
    InputError
        If the gap of the result is above 1e-8, or so large that it leaves open which dual
        constraints are active; for a result of another program, and for the squared hinge, whose
        optima do not have the same outputs.
    SolverError
        For other problems.

    Notes
    -----
    Source: Mishkin & Pilanci (2023); proof in the module's text. Checked by
    ``tests/solvers/test_optimal_set.py``.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> X = np.array([[-2.0, 1.0], [-1.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    >>> problem = cl.TwoLayer(X, np.array([2.0, 0.0, 0.0, 1.0]), beta=0.1)
    >>> every = cl.optimal_set(problem, cl.solve(problem, tol=1e-9))
    >>> every.slack > 1e-3, every.neurons.shape[1]
    (True, 2)
    """
    problem = need(problem, GroupLasso, "ssnal", caller="optimal_set")
    if problem.loss.name == "squared_hinge":
        raise InputError(
            "the loss is squared_hinge, which is flat beyond the margin, so that optimal networks "
            "may have different outputs; expected squared or logistic."
        )
    if not isinstance(result, Result) or result.weights.shape != problem.zeros().shape:
        got = getattr(getattr(result, "weights", None), "shape", None)
        raise InputError(
            f"result is {type(result).__name__}{f' with weights {tuple(got)}' if got else ''}; "
            f"expected what solve(problem, tol=1e-10) returns for {problem}."
        )
    if result.gap > 1e-8:
        raise InputError(
            f"the result has a relative gap of {result.gap:.1e}; expected at most 1e-8. Solve with "
            "tol=1e-10."
        )
    uncertain = _uncertainty(problem, result)
    if uncertain > _CLEAR:
        enough = result.gap * (_CLEAR / uncertain) ** 2
        advice = f"Solve with tol={0.5 * enough:.0e}."
        if 0.5 * enough < _LEAST:
            advice = "No gap shows more: rescale the columns of X to one size, or raise beta."
        raise InputError(
            f"the result has a relative gap of {result.gap:.1e}, which leaves dual constraints "
            f"uncertain by {uncertain:.1e} of beta; expected at most {_CLEAR:g}. {advice}"
        )
    exact = problem.double()
    blocks = shrink_into_cones(exact.correlations(result.z.double()), exact.projector())
    sizes = torch.linalg.vector_norm(blocks, dim=2)  # (S, P)
    tight = sizes >= problem.beta * (1.0 - max(_TIGHT, uncertain))
    side, pattern = tight.nonzero(as_tuple=True)
    neurons = blocks[side, pattern] / sizes[side, pattern][:, None]
    if not problem.gated and len(neurons):
        own = _distinct(neurons, side, sizes[tight], torch.linalg.vector_norm(exact.X, dim=0))
        side, pattern, neurons = side[own], pattern[own], neurons[own]
    # Of the gap a neuron with |q| < 1 takes beta alpha (1 - |q|): one that is not active and yet
    # within the tolerance, too, has a part of less than 1/_SHARE in any optimum.
    lacking = 1.0 - torch.cat([sizes[~tight], sizes[side, pattern]]) / problem.beta
    inactive = lacking[lacking > _SHARE * max(result.gap, EPS)]
    slack = float(inactive.min()) if len(inactive) else 1.0
    outputs = exact.masks[pattern] * (neurons @ exact.X.T)  # (k, n)
    images = (outputs * (1.0 - 2.0 * side.to(outputs))[:, None]).T
    fitted = exact.fitted(result.weights.double())
    return OptimalSet(problem, side, pattern, neurons, images, fitted, slack)


def _uncertainty(problem: GroupLasso, result: Result) -> float:
    """By what part of beta the constraints at z may differ from those at the dual optimum.

    The dual is strongly concave with the inverse of the Lipschitz constant R of the loss's
    gradient, so that z is within sqrt(2 R (value - dual)) of it, and projections do not expand.
    """
    missing = max(result.value - result.dual, 0.0)
    distance = (2.0 * problem.loss.gradient_lipschitz * missing) ** 0.5
    return distance * float(torch.linalg.matrix_norm(problem.X.double(), 2)) / problem.beta


def _distinct(neurons: Tensor, side: Tensor, sizes: Tensor, lengths: Tensor) -> Tensor:
    """Indices of the largest of all neurons of a side that are equal up to rounding.

    They are compared where the columns, of these lengths, have one size: in other units they could
    differ by what no output shows, or agree where outputs differ.
    """
    rows = neurons * (lengths / lengths.max())
    rows = rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    rows = torch.cat([rows, 2.0 * side.to(rows)[:, None]], dim=1)
    close = torch.cdist(rows, rows) < _SAME
    largest = torch.where(close, sizes, -1.0).argmax(dim=1)
    return (largest == torch.arange(len(rows), device=rows.device)).nonzero().ravel()
