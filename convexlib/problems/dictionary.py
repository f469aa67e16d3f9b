r"""Networks as a Lasso over a finite dictionary of features, what mirrors and wedges share.

.. math:: \min_{a, \xi} L(A a + \xi \mathbf 1) + \beta \|a\|_1 , \qquad
          \max_z -L^*(-z) \quad\text{s.t.}\quad |A_j^\top z| \le \beta,\; \mathbf 1^\top z = 0 .

The dictionary A is not held in memory: its columns are made when they are asked for. Without an
output bias :math:`\xi` the dual has no equation.

**Rounding is covered** where one equation determines a unit: on one feature, and on two without a
bias. A multiple of z is feasible if :math:`|h^\top z|` is bounded for all units h of the kind. What
is computed of the largest may be too small: correlations are sums that are rounded,
:math:`\mathbf 1^\top z` is not quite zero, and the columns in memory are those of units a few
roundings away, some of which stand for others that are as near. `DictionaryLasso._margins` bounds
all of this, and the dual point is scaled for the sum. Next to beta it is nothing, but where samples
are nearly equal and beta is some 1e-10 of `beta_max`. Several equations may be nearly dependent;
their unit is then off by more than the few roundings that margins allow for.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convexlib.arrays import EPS, ROUNDOFF, Floats
from convexlib.problems.base import CvxpyProgram, Problem


class DictionaryLasso(Problem):
    """A Lasso over the columns of a dictionary, in float64 on the CPU whatever the data.

    ``weights`` has shape (p,), or (p + 1,) with the output bias last.

    Attributes
    ----------
    row : int array (n,)
        The row of the dictionary that a sample has: equal samples share one.
    bias : bool
        Whether there is an output bias.
    """

    row: NDArray[np.intp]
    bias: bool
    neighbours_alike: bool  # whether columns that are near in order are near in space

    @property
    @abstractmethod
    def n_features(self) -> int:
        """The number p of columns."""

    @abstractmethod
    def columns(self, index: Any) -> Floats:
        """Return the columns (N, k) that are named by index, over the distinct samples."""

    @abstractmethod
    def correlations(self, z: Tensor) -> Floats:
        """Return every A_j^T z, (p,), for z (n,) that sums to zero if there is a bias."""

    def matrix(self, index: Any = None) -> Tensor:
        """Return the columns named by index (default: all) as a float64 tensor (n, k)."""
        chosen = np.arange(self.n_features) if index is None else np.asarray(index, dtype=np.intp)
        return torch.from_numpy(self.columns(chosen)[self.row])

    def best_constant(self) -> float:
        """Return the best output bias without features: the mean of y; 0 without a bias."""
        return float(self.y.double().mean()) if self.bias else 0.0

    def split(self, weights: Tensor) -> tuple[Tensor, float]:
        """Return coefficients (p,) in float64 on the CPU, and the output bias."""
        values = weights.double().cpu()
        return (values[:-1], float(values[-1])) if self.bias else (values, 0.0)

    def joined(self, index: NDArray[np.intp], values: Floats, constant: float) -> Tensor:
        """Return the weights with some coefficients and an output bias."""
        weights = self.X.new_zeros(self.shape)
        weights[torch.from_numpy(index)] = torch.from_numpy(values).to(weights)
        if self.bias:
            weights[-1] = constant
        return weights

    @property
    def shape(self) -> tuple[int]:
        """Shape of the weights, (p,) or (p + 1,)."""
        return (self.n_features + self.bias,)

    def zeros(self) -> Tensor:
        """Zero coefficients with the best constant as the output bias."""
        return self.joined(np.zeros(0, dtype=np.intp), np.zeros(0), self.best_constant())

    def fitted(self, weights: Tensor) -> Tensor:
        r"""Return the outputs (n,): :math:`A a + \xi \mathbf 1`, in float64."""
        values, constant = self.split(weights)
        active = values.nonzero().ravel()
        return (self.matrix(active) @ values[active] + constant).to(self.X.device)

    def penalty(self, weights: Tensor) -> float:
        r""":math:`\|a\|_1`."""
        return float(self.split(weights)[0].abs().sum())

    def centred(self, z: Tensor) -> Tensor:
        """Return z in float64, with mean zero if there is an output bias."""
        z = z.double()
        return z - z.mean() if self.bias else z

    def dual_norm(self, z: Tensor) -> float:
        r"""Return :math:`\max_j |A_j^\top z|`, for z centred if there is an output bias."""
        return float(np.abs(self.correlations(self.centred(z))).max(initial=0.0))

    @abstractmethod
    def _margins(self, z: Tensor) -> float | Floats:
        """How much larger than computed a correlation with z may be: of each or of all (p,)."""

    def _totals(self, z: Tensor) -> tuple[Floats, Floats, Floats]:
        """Return z, its absolute value and its error, summed over the samples of each point (N,).

        With an output bias z has to sum to zero, and is off by what it does sum to.
        """
        values: Floats = z.double().cpu().numpy()
        total = np.bincount(self.row, values).astype(np.float64)
        sizes = np.bincount(self.row, np.abs(values)).astype(np.float64)
        counts = np.bincount(self.row)
        shift = abs(math.fsum(values.tolist())) / len(values) if self.bias else 0.0
        errors = ROUNDOFF * (counts - 1) * sizes + shift * counts
        return total, sizes, errors

    def _dual_bound(self, z: Tensor) -> float:
        """Return `dual_norm` for z that is centred, or a little more: rounding is included."""
        largest = (np.abs(self.correlations(z)) + self._margins(z)).max(initial=0.0)
        return float(largest) * (1.0 + 4.0 * EPS)  # of this sum, and of the multiple that it limits

    def beta_max(self) -> float:
        r"""Return the least beta with a constant optimum: :math:`\max_j |A_j^\top (y-\bar y)|`.

        Without an output bias that of y itself; 0 where rounding could account for all of it.
        """
        z = self.centred(self.y)
        sizes = np.abs(self.correlations(z))
        return float(sizes[sizes > self._margins(z)].max(initial=0.0))

    def dual_value(self, z: Tensor) -> float:
        """Dual objective at z (centred); a lower bound on the optimum when that is feasible."""
        return self.loss.dual_value(self.centred(z), self.y.double())

    def dual_scaling(self, z: Tensor) -> Tensor:
        """Return the feasible multiple of z (centred) with the largest dual value.

        Feasible in spite of rounding, which decides for beta as small as that of a correlation.
        """
        z = self.centred(z)
        norm = self._dual_bound(z)
        limit = self.beta / norm if norm > 0 else math.inf
        return self.loss.best_scale(z, self.y.double(), limit) * z

    def to_cvxpy(self) -> CvxpyProgram:
        """Return the Lasso for CVXPY, with the whole dictionary as a matrix."""
        import cvxpy as cp

        A = self.matrix().numpy()
        a, constant = cp.Variable(A.shape[1]), cp.Variable()
        outputs = A @ a + constant if self.bias else A @ a
        variables = [a, constant] if self.bias else [a]
        return self._written(outputs, cp.norm1(a), [], variables)
