r"""Threshold networks: weight decay training is a Lasso over the activation patterns."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from convexlib.arrangements import Arrangements, enumerate_arrangements
from convexlib.checks import check_data, check_positive_int
from convexlib.errors import InputError, ProblemError
from convexlib.problems.base import weights_of
from convexlib.problems.two_layer import GroupLasso
from convexlib.result import Result


class ThresholdNetwork(nn.Module):
    r"""The network :math:`f(x) = \sum_j 1[x^\top u_j \ge 0]\, s_j \alpha_j`.

    Parameters
    ----------
    U : Tensor (m, d)
        First-layer weights; only their directions matter.
    amplitude, alpha : Tensor (m,)
        Amplitudes s_j of the units, and output weights.
    """

    def __init__(self, U: Tensor, amplitude: Tensor, alpha: Tensor) -> None:
        super().__init__()
        if U.ndim != 2 or amplitude.shape != U.shape[:1] or alpha.shape != U.shape[:1]:
            raise InputError(
                f"U has shape {tuple(U.shape)}, amplitude {tuple(amplitude.shape)} and alpha "
                f"{tuple(alpha.shape)}; expected (m, d), (m,) and (m,)."
            )
        self.U = nn.Parameter(U.detach().clone())
        self.amplitude = nn.Parameter(amplitude.detach().clone())
        self.alpha = nn.Parameter(alpha.detach().clone())

    def forward(self, X: Tensor) -> Tensor:
        """Outputs (n,) for inputs (n, d)."""
        return (X @ self.U.T >= 0).to(X) @ (self.amplitude * self.alpha)


class Threshold(GroupLasso):
    r"""Two-layer threshold training with weight decay, as a Lasso.

    The training problem, over networks of any width, with amplitudes :math:`s_j` on the units,

    .. math:: \min_{u_j, s_j, \alpha_j} L\Big(\sum_j 1[X u_j \ge 0]\, s_j \alpha_j\Big)
              + \tfrac\beta2 \sum_j \left(s_j^2 + \alpha_j^2\right) ,

    equals the Lasso over the activation patterns :math:`d_i \in \{0, 1\}^n` of X

    .. math:: \min_w L\Big(\sum_i d_i w_i\Big) + \beta \|w\|_1 .

    The first layer is not decayed: it has no scale. There is no 1/n anywhere. This is the gated
    program of `TwoLayer` with a column of ones in place of the data and the patterns of X, which is
    how it is solved.

    Parameters
    ----------
    X : array (n, d)
        Data. It must have the pattern of ones everywhere, for instance by a column of ones.
    y, beta, loss, max_patterns
        As for `TwoLayer`.
    arrangements : Arrangements or None
        The patterns of X; None enumerates all of them or refuses with advice. Samples that agree
        up to rounding count as one (`Arrangements.perturbation`), and cells too thin for a gate in
        the precision of X are left out (`Arrangements.exhaustive`): a unit that tells such samples
        apart is then not in the program.

    Attributes
    ----------
    inputs : Tensor (n, d)
        The data as given; ``X`` is the column of ones.
    y, beta, loss, arrangements
        As given.

    Raises
    ------
    InputError
        For unusable data, beta, targets or arrangements.
    ProblemError
        If arrangements=None and no neuron is active on all nonzero samples.
    TooManyArrangementsError
        If arrangements=None and there are more than max_patterns.

    Notes
    -----
    ``weights`` has shape (1, P, 1). *Cells of full dimension are enough* if some e has
    :math:`x_j^\top e > 0` for all nonzero samples: a unit counts samples on its hyperplane as
    active, and so does the open cell in which :math:`u + \epsilon e` lies, perturbed generically.
    Without such an e, neurons on the hyperplanes can have patterns of their own (u = 0 has ones
    everywhere), which no enumeration of cells finds. Source: Ergen, Gulluk, Lacotte & Pilanci
    (2023). Checked by ``tests/problems/test_threshold.py``.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> X = np.array([[-2.0, 1.0], [-1.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    >>> problem = cl.Threshold(X, np.array([0.0, 0.0, 1.0, 1.0]), beta=0.1)
    >>> result = cl.solve(problem)
    >>> round(result.value, 4)  # one step of height h: (h - 1)^2 + 0.1 h at h = 0.95
    0.0975
    """

    def __init__(
        self,
        X: Any,
        y: Any,
        *,
        beta: float,
        arrangements: Arrangements | None = None,
        loss: str = "squared",
        max_patterns: int = 100_000,
    ) -> None:
        inputs, y = check_data(X, y)
        check_positive_int(max_patterns, "max_patterns")
        if arrangements is None:
            arrangements = enumerate_arrangements(inputs, max_patterns=max_patterns)
            if not bool(arrangements.masks.all(dim=1).any()):
                raise ProblemError(
                    "no neuron is active on all samples, so neurons on the samples' hyperplanes "
                    "have patterns that the cells lack. Append a column of ones to X."
                )
        elif not isinstance(arrangements, Arrangements):
            raise InputError(
                f"arrangements is {arrangements!r}; expected Arrangements or None. A sampled "
                "list, sample_arrangements(X, n_patterns=...), gives an upper bound."
            )
        self._inputs = inputs  # of which the gates are
        ones = inputs.new_ones(len(inputs), 1)
        super().__init__(ones, y, beta=beta, arrangements=arrangements, gated=True, loss=loss)

    def to_network(self, result: Result | Tensor) -> ThresholdNetwork:
        r"""The network with a unit for every nonzero w, :math:`s_j = |\alpha_j| = \sqrt{|w|}`."""
        w = weights_of(result, self.shape)[0, :, 0]
        active = w.nonzero().ravel()
        roots = w[active].abs().sqrt()
        return ThresholdNetwork(self._patterns.gates[active], roots, roots * w[active].sign())

    def objective(self, network: nn.Module) -> float:
        """Training objective of a `ThresholdNetwork`, in float64; U costs nothing."""
        if not isinstance(network, ThresholdNetwork):
            raise InputError(f"network is {type(network).__name__}; expected a ThresholdNetwork.")
        return super().objective(network)

    def _decay(self, network: nn.Module) -> float:
        assert isinstance(network, ThresholdNetwork)
        scales = network.amplitude.detach(), network.alpha.detach()
        return 0.5 * sum(float((scale**2).sum()) for scale in scales)

    def __repr__(self) -> str:
        n, d = self.inputs.shape
        return f"Threshold(n={n}, d={d}, {self.n_patterns} patterns, beta={self.beta:g})"
