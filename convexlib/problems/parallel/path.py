r"""Path regularisation: parallel deep networks with a group norm per unit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from convexlib.checks import check_same_device
from convexlib.errors import ProblemError
from convexlib.losses.piecewise import get_path_loss
from convexlib.networks import ParallelReLU, outputs
from convexlib.networks.parallel import parallel_outputs, path_norm
from convexlib.problems.base import double
from convexlib.problems.parallel import UnitProgram, Units
from convexlib.result import Result


class PathRegularized(UnitProgram):
    r"""Training of parallel ReLU networks with the path norm, as a convex program.

    For three layers of weights the training problem, over any number :math:`K \ge n` of
    sub-networks of width :math:`m_1`,

    .. math:: p^* = \min \tfrac12 \Big\|\sum_k ((X W_{1k})_+ w_{2k})_+ w_{3k} - y\Big\|^2
              + \beta \sum_k \Big(\sum_j \|w_{1kj}\|^2 w_{2kj}^2 w_{3k}^2\Big)^{1/2}

    (the root of the sum, over all paths of a sub-network, of the squared products of weights; no
    factor 1/2 at beta and no 1/n) equals the program over the units of `ThreeLayer` with
    one group per unit,

    .. math:: \min \tfrac12 \Big\|\sum_{\ell, \pm} \pm D_{2} \sum_j s_j D_{1 i_j} X u_j^{\pm}
              - y\Big\|^2 + \beta \sum_{\ell, \pm} \Big(\sum_j \|u_j^{\pm}\|^2\Big)^{1/2}

    and the same cones. ``depth=2`` is `TwoLayer`; so is ``width=1``. At larger depth the
    sub-networks are **trees**, whose nodes share no children, and the program is exact for them.
    A fully connected sub-network of the same widths unrolls into such a tree with the same output
    and the same path norm, so for it the program is a lower bound, a relaxation.

    Parameters
    ----------
    X : array (n, d)
        Data. A bias is a column of ones (and is regularised).
    y : array (n,)
        Targets.
    beta : float
        Regularisation, > 0, in the units of the objective above.
    width : int or sequence of int
        Children per inner node, the same on all levels or one number for each of the depth - 2
        inner levels from the leaves upwards. The optimum does not increase with it.
    depth : int
        Layers of weights, at least 2.
    loss : {"squared", "absolute", "hinge"}
        ``"absolute"`` is :math:`\|f - y\|_1`, ``"hinge"`` :math:`\sum_i (1 - y_i f_i)_+` for
        labels of ±1.
    units : Units, None or "generate"
        None lists all units, or refuses with advice; other units (see `sample_units`) give a
        program whose value is an **upper bound** on the training problem's. ``"generate"`` (depth
        3, squared loss) keeps no list and searches, as for `ThreeLayer`.
    max_units : int
        Limit of the list.

    Attributes
    ----------
    X, y, beta, loss, units, depth
        As given; X and y as tensors.
    widths : tuple of int
        Children per inner node, from the leaves upwards.
    scope : str
        ``"network"`` if the units are proven to be all of them, or generated; else ``"program"``.

    Raises
    ------
    InputError
        For unusable data, beta, width, depth, labels or units.
    ProblemError
        For ``units="generate"`` with another depth than 3 or another loss than the squared one.
    TooManyArrangementsError
        If units=None and there are more than max_units.

    Notes
    -----
    ``weights`` has shape (2, K, m, d): the m leaves of every unit with output weight +1 and -1.
    `beta_max` is an upper bound on the threshold if some y is 0 under ``loss="absolute"``.
    Source: Ergen & Pilanci (2023). Checked by ``tests/problems/parallel/test_path.py``.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> X, y = np.array([[-1.0, 1.0], [0.5, 1.0], [2.0, 1.0]]), np.array([1.0, -1.0, 1.0])
    >>> problem = cl.PathRegularized(X, y, beta=0.1)
    >>> result = cl.solve(problem)
    >>> network = problem.to_network(result)
    >>> round(result.value, 3), abs(problem.objective(network) - result.value) < 1e-6
    (0.257, True)
    """

    by_sum = False

    def __init__(
        self,
        X: Any,
        y: Any,
        *,
        beta: float,
        width: int | Sequence[int] = 2,
        depth: int = 3,
        loss: str = "squared",
        units: Units | Literal["generate"] | None = None,
        max_units: int = 100_000,
    ) -> None:
        self._setup(X, y, beta, width, depth, units, max_units)
        self.loss = get_path_loss(loss, self.y)
        if self.generates and self.loss.name != "squared":
            raise ProblemError(
                f'units="generate" needs loss="squared"; got {self.loss.name!r}. Use '
                "units=sample_units(X, n_units=...)."
            )

    def norms(self, blocks: Tensor) -> Tensor:
        """Frobenius norms of blocks (..., m, d)."""
        return torch.linalg.vector_norm(blocks, dim=(-2, -1))

    def to_network(self, result: Result | Tensor) -> ParallelReLU:
        r"""The network whose path norm is the program's penalty.

        Every nonzero block gives :math:`W_1 = U`, inner weights s and output weight ±1.
        ``network.balanced()`` is the same function scaled for `decay_objective`.
        """
        blocks, inner, side = self.blocks_of(result)
        return ParallelReLU(blocks, inner, side)

    def objective(self, network: nn.Module) -> float:
        r"""Training objective :math:`L(f(X)) + \beta\,` `path_norm` of a network, in float64.

        The network may be whatever `path_norm` reads. The program bounds those whose sub-networks
        end in one neuron, are no wider than the problem's and as deep. A standard network of a
        wider last hidden layer is bounded in the form ``as_parallel(network)``.
        """
        check_same_device(network, self.X)
        exact = double(network)
        regulariser = path_norm(exact)
        fitted = parallel_outputs(exact, self.X.double())
        return self.loss.value(fitted, self.y.double()) + self.beta * regulariser

    def decay_objective(self, network: nn.Module) -> float:
        r"""The form to train: :math:`L(f(X)) + \tfrac\beta2 \sum_k (\alpha_k^2 + \|U_k\|_F^2)`.

        With inner weights fixed to ±1 it is smooth at zero, never below `objective`, and equal to
        it for the network ``network.balanced()``: both have the same minimum.

        Raises
        ------
        ProblemError
            For another network than a `ParallelReLU` with inner weights of -1, 0 and 1.
        """
        check_same_device(network, self.X)
        if not isinstance(network, ParallelReLU):
            raise ProblemError(
                f"the network is {type(network).__name__}; expected a ParallelReLU with inner "
                "weights of -1, 0 and 1."
            )
        if any(bool((weights * (1 - weights**2) != 0).any()) for weights in network.inner):
            raise ProblemError(
                "the network has inner weights other than -1, 0 and 1, which the decay does not "
                "count. Use network.balanced()."
            )
        exact = double(network)
        assert isinstance(exact, ParallelReLU)
        decay = float((exact.U.detach() ** 2).sum() + (exact.alpha.detach() ** 2).sum())
        fitted = outputs(exact, self.X.double())
        return self.loss.value(fitted, self.y.double()) + 0.5 * self.beta * decay
