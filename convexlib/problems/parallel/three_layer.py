r"""Three layers: parallel sub-networks with weight decay on the upper two layers."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from convexlib.checks import check_same_device
from convexlib.errors import ProblemError
from convexlib.losses import get_loss
from convexlib.networks import ParallelReLU
from convexlib.problems.parallel import UnitProgram, Units
from convexlib.result import Result


class ThreeLayer(UnitProgram):
    r"""Training of parallel three-layer ReLU networks, as a convex program.

    The training problem, over any number :math:`K \ge n` of sub-networks of width
    :math:`m_1`,

    .. math:: p^* = \min_{\|W_{1k}\|_F \le 1} \tfrac12 \Big\|\sum_k ((X W_{1k})_+ w_{2k})_+ w_{3k}
              - y\Big\|^2 + \tfrac\beta2 \sum_k \left(\|w_{2k}\|^2 + w_{3k}^2\right)

    equals the program over all units :math:`\ell`: patterns :math:`D_{1 i_1}, \dots,
    D_{1 i_{m_1}}`, **one index per neuron**, signs :math:`s \in \{\pm 1\}^{m_1}` and a
    second-layer pattern :math:`D_2`,

    .. math:: \min \tfrac12 \Big\|\sum_{\ell, \pm} \pm D_{2} \sum_j s_j D_{1 i_j} X u_j^{\pm}
              - y\Big\|^2 + \beta \sum_{\ell, \pm} \sum_j \|u_j^{\pm}\|
              \\ \text{s.t.}\quad (2 D_{1 i_j} - I) X u_j^{\pm} \ge 0,\;
              (2 D_2 - I) \sum_j s_j D_{1 i_j} X u_j^{\pm} \ge 0 .

    There is no 1/n anywhere. The first layer is constrained, not decayed: with weight decay on all
    three layers the problem is not positively homogeneous of degree one in the units and has no
    program of this form; :math:`\|w_{1kj}\| \le 1` for every neuron gives Frobenius norms of whole
    units (see `PathRegularized`) and another optimum.

    Parameters
    ----------
    X : array (n, d)
        Data. A bias is a column of ones (and is regularised).
    y : array (n,)
        Targets.
    beta : float
        Regularisation, > 0, in the units of the objective above.
    width : int
        Neurons :math:`m_1` in the first layer of every sub-network.
    units : Units, None or "generate"
        None lists all units, or refuses with advice; other units (see `sample_units`) give a
        program whose value is an **upper bound** on the training problem's. ``"generate"`` keeps
        no list: ``solve`` searches for sub-networks by local ascent (no proof that it finds the
        best), and its lower bound, over all networks, is valid but loose.
    max_units : int
        Limit of the list.

    Attributes
    ----------
    X, y, beta, loss, units
        As given; X and y as tensors. ``"generate"`` becomes an empty list of units.
    widths : tuple of int
        ``(width,)``.
    scope : str
        ``"network"`` if the units are proven to be all of them, or generated: then a solve's lower
        bound holds for every network of this width with any number of sub-networks. Otherwise
        ``"program"``.

    Raises
    ------
    InputError
        For unusable data, beta, width or units.
    TooManyArrangementsError
        If units=None and there are more than max_units.

    Notes
    -----
    ``weights`` has shape (2, K, m1, d): the leaves of every unit with output weight +1 and -1;
    (2, K, 2 m1, d) with ``"generate"``, see `UnitProgram`.
    Source: Ergen & Pilanci (2021). Checked by ``tests/problems/parallel/test_three_layer.py``.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> X, y = np.array([[-1.0, 1.0], [0.5, 1.0], [2.0, 1.0]]), np.array([1.0, -1.0, 1.0])
    >>> problem = cl.ThreeLayer(X, y, beta=0.1)
    >>> result = cl.solve(problem)
    >>> round(result.value, 3), problem.scope
    (0.354, 'network')
    """

    by_sum = True

    def __init__(
        self,
        X: Any,
        y: Any,
        *,
        beta: float,
        width: int = 2,
        units: Units | Literal["generate"] | None = None,
        max_units: int = 100_000,
    ) -> None:
        self.loss = get_loss("squared")
        self._setup(X, y, beta, width, 3, units, max_units)

    def norms(self, blocks: Tensor) -> Tensor:
        r"""Sums :math:`\sum_j \|u_j\|` of blocks (..., m, d)."""
        return torch.linalg.vector_norm(blocks, dim=-1).sum(dim=-1)

    def to_network(self, result: Result | Tensor) -> ParallelReLU:
        r"""The network whose weight decay is the program's penalty.

        Every nonzero block, with :math:`S = \sum_j \|u_j\|`, gives
        :math:`w_{1j} = u_j / \sqrt{\|u_j\| S}`, :math:`w_{2j} = s_j \sqrt{\|u_j\|}` and
        :math:`w_3 = \pm\sqrt S`. Then :math:`\|W_1\|_F = 1` and the weight decay
        of a sub-network is :math:`\beta S`.
        """
        leaves, (signs,), side = self.blocks_of(result)
        sizes = torch.linalg.vector_norm(leaves, dim=2)  # (B, m)
        # Below this the squares of a leaf's entries vanish, and so does its direction.
        sizes = torch.where(sizes > torch.finfo(sizes.dtype).tiny ** 0.5, sizes, 0.0)
        total = sizes.sum(dim=1)
        used = sizes[:, :, None] > 0
        shares = sizes / torch.where(total > 0, total, 1.0)[:, None]
        directions = torch.where(used, leaves / torch.where(used, sizes[:, :, None], 1.0), 0.0)
        U = directions * shares.sqrt()[:, :, None]
        return ParallelReLU(U, [signs * sizes.sqrt()[:, None]], side * total.sqrt())

    def objective(self, network: nn.Module) -> float:
        r"""Training objective of a three-layer `ParallelReLU`, in float64.

        Raises
        ------
        ProblemError
            For another network, or one with some :math:`\|W_{1k}\|_F > 1`.
        """
        check_same_device(network, self.X)
        if not isinstance(network, ParallelReLU) or len(network.inner) != 1:
            raise ProblemError(
                f"the network is {type(network).__name__}; expected a ParallelReLU with one inner "
                "layer."
            )
        if network.U.shape[1] > self.widths[0]:
            raise ProblemError(
                f"the sub-networks have width {network.U.shape[1]}; expected at most "
                f"{self.widths[0]}, the width of the problem. Make the problem with a larger width."
            )
        U = network.U.detach().double()
        largest = max(torch.linalg.vector_norm(U, dim=(1, 2)).tolist(), default=0.0)
        if largest > 1.0 + 100.0 * torch.finfo(network.U.dtype).eps:
            raise ProblemError(
                f"a first layer has Frobenius norm {largest:.9g}; expected at most 1, the "
                "constraint of this problem. Divide it by its norm and multiply w_2 by it."
            )
        return super().objective(network)

    def _decay(self, network: nn.Module) -> float:
        assert isinstance(network, ParallelReLU)
        w_2, w_3 = network.inner[0].detach(), network.alpha.detach()
        return 0.5 * float((w_2**2).sum() + (w_3**2).sum())
