r"""What to expect of a fit, before it begins: the scale of beta, the rank, whether a proof is near.

Three numbers decide. **beta / beta_max**: at `beta_max`, the largest
:math:`|y^\top (Xu)_+|` over unit u for the squared loss, the optimum is the zero network, and the
smaller the ratio, the more neurons. **The rank of X**: a proof searches directions, whose number
grows exponentially with it. **n**: how many samples each cone of directions has to look at.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convexlib.arrangements.rowspace import parallel_rows
from convexlib.certify.two_layer import BRANCHING_RANK
from convexlib.checks import as_tensor, check_beta, check_data, check_outputs
from convexlib.losses import SmoothLoss, get_loss
from convexlib.pricing import price, row_space

_CONES = 100_000  # for beta_max
_CLOSE = 1e-2  # accuracy of beta_max that is asked for


@dataclass(frozen=True)
class Outlook:
    """What is known of a fit before it begins.

    Attributes
    ----------
    n, d, rank : int
        Samples, features and the rank of X.
    lines : int
        Lines through 0 on which nonzero samples lie: only these count.
    beta, beta_max : float
        Regularisation, and an upper bound on the value from which on the optimum is zero.
    reach : str
        ``"zero"`` (the optimum is the zero network; of several columns each is taken by itself, as
        the estimators train them: neurons that they share may do better), ``"proof"`` (a gap of
        1e-4 or less is what to expect), ``"slow proof"`` (it may take minutes, or stay open) or
        ``"bound"`` (a valid bound, with a gap of some per cent down to a tenth of beta_max and far
        more below a hundredth).
    apart : float
        Ratio of the sizes of the largest and the smallest feature, those that are zero left out.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> X, y = np.array([[-2.0, 1.0], [-1.0, 1.0], [1.0, 1.0], [2.0, 1.0]]), np.ones(4)
    >>> expected = cl.outlook(X, y, beta=0.1)
    >>> expected.rank, expected.reach
    (2, 'proof')
    """

    n: int
    d: int
    rank: int
    lines: int
    beta: float
    beta_max: float
    reach: str
    apart: float

    def __str__(self) -> str:
        """Some lines for people."""
        ratio = self.beta / self.beta_max if self.beta_max > 0.0 else math.inf
        lines = [
            f"{self.n} samples ({self.lines} directions), {self.d} features of rank {self.rank}",
            f"beta = {self.beta:.3g}, {ratio:.1e} of beta_max = {self.beta_max:.3g}",
            _MEANING[self.reach],
        ]
        if self.apart > APART:
            lines.append(on_scale(self.apart))
        return "\n".join(lines)


APART = 100.0  # ratio of the sizes of two features from which on scale is worth a word
_MEANING = {
    "zero": "the zero network is optimal: beta is too large to learn anything",
    "proof": "a proof is within reach: expect a gap below 1e-4 in seconds to a minute",
    "slow proof": "a proof may take minutes or stay open: more time and more cones help",
    "bound": "a proof is out of reach: expect a valid bound, some per cent away at a tenth of "
    "beta_max and far more below a hundredth",
}


def on_scale(apart: float) -> str:
    """What to do about features of sizes that are far apart."""
    return (
        f"features have sizes {apart:.0e} apart, so that weight decay hardly touches the largest: "
        "scale them (sklearn's StandardScaler), which is another penalty and usually the one that "
        "is meant"
    )


def sizes_apart(X: Tensor) -> float:
    """The root mean square of the largest feature over that of the smallest that is not zero."""
    X = X[:, X.any(dim=0)].double()
    largest = X.abs().amax(dim=0) if X.numel() else X.new_ones(0)
    sizes = largest * torch.linalg.vector_norm(X / largest, dim=0)  # squares may vanish
    return float(sizes.max() / sizes.min()) if len(sizes) else 1.0


def outlook(X: Any, y: Any, beta: float, *, loss: str | SmoothLoss = "squared") -> Outlook:
    r"""Say what to expect of `TwoLayer(X, y, beta=beta, arrangements="generate")`.

    It mostly takes a second; noisy targets on data of rank 5 and more, some seconds for every
    thousand samples.

    Parameters
    ----------
    X : array (n, d)
        Data; a bias is a column of ones.
    y : array (n,) or (n, c)
        Targets; of several columns the one with the largest beta_max counts. (Networks that share
        neurons between outputs have a larger one.)
    beta : float
        Regularisation, > 0, without 1/n.
    loss : {"squared", "logistic", "squared_hinge"}

    Returns
    -------
    Outlook
        To be printed, or to be asked.

    Raises
    ------
    InputError
        For data, targets or a beta that cannot be used.

    Notes
    -----
    `reach` is no promise: it is what was seen on tables and random data of such rank, n and beta
    (``tests/certify/test_outlook.py`` compares it with fits). `beta_max` is proven.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> X = np.array([[-2.0, 1.0], [-1.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    >>> y = np.array([2.0, 0.0, 0.0, 1.0])
    >>> print(cl.outlook(X, y, beta=0.5))
    4 samples (4 directions), 2 features of rank 2
    beta = 0.5, 1.1e-01 of beta_max = 4.47
    a proof is within reach: expect a gap below 1e-4 in seconds to a minute
    """
    beta, kind = check_beta(beta), get_loss(loss)
    targets = as_tensor(y, "y")
    X, targets = check_outputs(X, targets, "y") if targets.ndim == 2 else check_data(X, targets)
    X, targets = X.double().cpu(), targets.double().cpu()
    kind.check_targets(targets)
    top = 0.0
    for column in targets.view(len(X), -1).T.contiguous():
        z = kind.dual_point(torch.zeros_like(column), column)
        top = max(top, price(X, z, rtol=_CLOSE, max_nodes=_CONES).upper)
    rank, n = row_space(X)[0].shape[1], len(X)
    return Outlook(
        n=n,
        d=X.shape[1],
        rank=rank,
        lines=_lines(X[X.any(dim=1)]),
        beta=beta,
        beta_max=top,
        reach=_reach(n, rank, top / beta),
        apart=sizes_apart(X),
    )


def _lines(X: Tensor) -> int:
    return len(np.unique(parallel_rows(X.numpy())[0])) if len(X) else 0


# Samples times beta_max / beta up to which fits with default budgets ended with a proof, by rank:
# Gaussian data, 100 to 3,000 samples, beta_max / beta up to 1,000; targets of planted networks, and
# a sine among others, of which 300 samples of rank 4 are not proven at 1,000.
_SEEN = 1001.0  # the largest beta_max / beta of these, with room for rounding
_PROVEN = {1: math.inf, 2: math.inf, 3: 1e7, 4: 2e5, 5: 1.5e4}


def _reach(n: int, rank: int, below: float) -> str:
    """What to expect; `below` is beta_max / beta: how far beta lies below it."""
    if below <= 1.0:
        return "zero"
    if rank > BRANCHING_RANK:
        return "bound"
    return "proof" if below <= _SEEN and n * below <= _PROVEN[rank] else "slow proof"
