r"""Planted networks, the certificates that they are what training finds, and what theory predicts.

A teacher is a list of gates and weights, :math:`y = \sum_{g \in S} D_g X w_g` with
:math:`\|w_g\| = 1`. The program sees gates drawn at random beside the teacher's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, perm, pi, sqrt

import numpy as np
import torch
from scipy.stats import binom
from torch import Tensor

from convexlib.arrangements import Arrangements
from convexlib.errors import InputError
from convexlib.problems.two_layer import TwoLayer
from convexlib.solvers.lasso.active_set import simplex

# The limits of the squared isometry value for random gates: coefficients of 1, c'/(c'-1), and the
# rows per dimension that a block sees, c' = n / (divisor d). The chapter derives them.
_LIMITS = {
    "linear": (0.0, 1 / 4, 1),
    "neuron": (1 / pi**2, 1 / 4, 2),
    "absolute": (4 / pi**2 - 1 / 2, 1 / 2, 2),
}
TEACHERS = ("linear", "neuron", "absolute", "two")


@dataclass(frozen=True, eq=False)
class Planted:
    """A teacher's data.

    Attributes
    ----------
    X, y : Tensor (n, d), (n,)
        Data and the teacher's outputs.
    weights : Tensor (k, d)
        One unit vector per block.
    arrangements : Arrangements
        The teacher's k patterns first, then the others.
    """

    X: Tensor
    y: Tensor
    weights: Tensor
    arrangements: Arrangements

    @property
    def blocks(self) -> Tensor:
        r""":math:`A_S = [D_1 X, \dots, D_k X]`, (n, k d)."""
        masks = self.arrangements.masks[: len(self.weights)].to(self.X)
        return torch.cat([mask[:, None] * self.X for mask in masks], dim=1)

    def problem(self, beta: float = 1.0) -> TwoLayer:
        """The gated program over the teacher's patterns and the others."""
        return TwoLayer(self.X, self.y, beta=beta, arrangements=self.arrangements, gated=True)


def plant(
    teacher: str,
    n: int,
    d: int,
    n_gates: int,
    seed: int | Sequence[int],
    *,
    whitened: bool = False,
) -> Planted:
    r"""Draw Gaussian data, a teacher on it and random gates.

    Parameters
    ----------
    teacher : {"linear", "neuron", "absolute", "two"}
        :math:`Xw` through a skip connection (the gate 0, active everywhere); :math:`(Xw)_+`;
        :math:`(Xw)_+ + (-Xw)_+ = |Xw|`; or :math:`(Xw_1)_+ + (Xw_2)_+` with independent directions.
    n, d : int
        Samples and features.
    n_gates : int
        Gaussian gates beside the teacher's.
    seed : int or sequence of int
        Of ``numpy.random.default_rng``.
    whitened : bool
        Give X orthonormal columns (n >= d), which changes no pattern that its rows can have.

    Raises
    ------
    InputError
        If the teacher is unknown, or the samples are too few.
    """
    if teacher not in TEACHERS:
        raise InputError(f"teacher is {teacher!r}; expected one of {', '.join(TEACHERS)}.")
    if n < (d if whitened else 1):
        raise InputError(
            f"n is {n} and d is {d}; expected n of {d if whitened else 1} or more"
            f"{', as the data are whitened' if whitened else ''}. Set a larger ratio n / d."
        )
    rng = np.random.default_rng(seed)
    X = torch.from_numpy(rng.standard_normal((n, d)))
    if whitened:
        X = torch.linalg.svd(X, full_matrices=False)[0]
    w = torch.from_numpy(rng.standard_normal((2, d)))
    w /= torch.linalg.vector_norm(w, dim=1, keepdim=True)
    if teacher == "absolute":
        w[1] = -w[0]
    weights = w if teacher in ("absolute", "two") else w[:1]
    own = torch.zeros_like(weights) if teacher == "linear" else weights
    gates = torch.cat([own, torch.from_numpy(rng.standard_normal((n_gates, d)))])
    masks = (X @ gates.T >= 0).T
    y = (masks[: len(weights)].to(X) * (weights @ X.T)).sum(dim=0)
    return Planted(X, y, weights, Arrangements(masks, gates))


def precertificate(planted: Planted) -> Tensor | None:
    r"""The least :math:`\lambda` with :math:`A_S^\top \lambda = w_S`, or None if there is none.

    It is the limit of (residual) / beta where the regularised program keeps the teacher's support.
    """
    A, target = planted.blocks, planted.weights.reshape(-1)
    if len(A) < A.shape[1] or torch.linalg.matrix_rank(A) < A.shape[1]:
        return None
    return A @ torch.linalg.solve(A.T @ A, target)


def isometry(planted: Planted, certificate: Tensor | None) -> Tensor:
    r""":math:`\|X^\top D_i \lambda\|` of the gates that are not the teacher's; inf without one."""
    others = len(planted.arrangements) - len(planted.weights)
    if certificate is None:
        return planted.X.new_full((others,), inf)
    blocks = planted.problem().correlations(certificate)[0, len(planted.weights) :]
    return torch.linalg.vector_norm(blocks, dim=1)


def isometry_limit(teacher: str, ratio: float) -> float:
    r"""What `isometry` of the precertificate tends to for random gates as d grows at n = ratio d.

    With :math:`c` the ratio: :math:`\sqrt{c / 4(c-1)}` for the linear teacher,
    :math:`\sqrt{c' / 4(c'-1) + 1/\pi^2}` for one neuron and
    :math:`\sqrt{1 / 2(c'-1) + 4/\pi^2}` for the absolute value, where :math:`c' = c/2`.
    """
    constant, slope, divisor = _LIMITS[teacher]
    seen = ratio / divisor
    return sqrt(constant + slope * seen / (seen - 1.0)) if seen > 1.0 else inf


def isometry_threshold(teacher: str) -> float:
    """The n/d at which `isometry_limit` is 1."""
    constant, slope, divisor = _LIMITS[teacher]
    return divisor * (1.0 - constant) / (1.0 - constant - slope)


def all_active(X: Tensor) -> bool:
    """Whether some u has X u > 0: whether the pattern of ones is one of X, by a linear program."""
    rows = X.numpy()
    rows = rows / np.abs(rows).max()
    n, d = rows.shape
    found = simplex(
        np.append(np.zeros(d), -1.0),
        A_ub=np.hstack([-rows, np.ones((n, 1))]),
        b_ub=np.zeros(n),
        bounds=[(-1.0, 1.0)] * d + [(None, 1.0)],
    )
    return bool(-found.fun > 1e-9)


def halfspace_share(n: int, d: int) -> float:
    r"""The probability :math:`2^{1-n} \sum_{k<d} \binom{n-1}{k}` of `all_active` (Wendel, 1962).

    For rows drawn independently from a density that is symmetric about 0.
    """
    return float(binom.cdf(d - 1, n - 1, 0.5))


def enough_active(n: int, d: int) -> float:
    """The probability that a planted neuron is active on at least d of n symmetric samples."""
    return float(binom.sf(d - 1, n, 0.5))


def separated_share(intervals: int, k: int) -> float:
    r"""The probability that of k uniform choices among m intervals no two are equal or adjacent.

    .. math:: k! \binom{m-k+1}{k} / m^k
    """
    return perm(max(intervals - k + 1, 0), k) / intervals**k
