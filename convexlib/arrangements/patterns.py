r"""Activation patterns of a ReLU on data: which samples can be active together.

A neuron :math:`u` switches on the samples where :math:`x_j^T u \ge 0`. Its pattern is constant on
the cells of the arrangement of the hyperplanes :math:`x_j^T u = 0`, and only the cells of full
dimension matter: every other pattern lies in the closure of one of them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from convexlib.arrangements.exact import beyond_doubt
from convexlib.arrangements.rowspace import DOUBLE, SINGLE, Reduction, reduce_rows
from convexlib.arrays import Bools, Floats
from convexlib.errors import InputError
from convexlib.validation import check_index


@dataclass(frozen=True, eq=False)
class Arrangements:
    r"""Activation patterns of n samples, each with a neuron that has it.

    Attributes
    ----------
    masks : bool tensor (P, n)
        ``masks[i] == (X @ gates[i] >= 0)``, the diagonal of :math:`D_i`. Patterns are distinct.
    gates : tensor (P, d)
        Unit vectors in the dtype and on the device of X. In every cell of full dimension they keep
        further from zero than the rounding of ``X @ gates[i]``, in whatever order it is summed.
    exhaustive : bool
        Whether the list is proven to hold the pattern of every cell of full dimension.
    perturbation : float
        A bound on :math:`||X - X_s||_2` for the matrix :math:`X_s` whose cells were enumerated: 0
        when it is X itself, and of the size of rounding when X was numerically rank-deficient or
        had rows that were parallel only up to rounding. For all unit :math:`u`,
        :math:`|z^T (Xu)_+ - z^T (X_s u)_+| \le ||z||_2` times this.
    source : str
        `fingerprint` of X; empty if the list was put together by hand. Masks and gates of one
        matrix may fit another one, which has more patterns.
    """

    masks: Tensor
    gates: Tensor
    exhaustive: bool = False
    perturbation: float = 0.0
    source: str = ""

    def __post_init__(self) -> None:
        """Refuse masks and gates that do not fit together."""
        masks, gates = self.masks, self.gates
        if not isinstance(masks, Tensor) or not isinstance(gates, Tensor):
            raise InputError(
                f"masks is {type(masks).__name__} and gates is {type(gates).__name__}; expected "
                "two tensors (P, n) and (P, d). Convert them with torch.as_tensor."
            )
        if masks.ndim != 2 or gates.ndim != 2 or len(masks) != len(gates):
            raise InputError(
                f"masks has shape {tuple(masks.shape)} and gates {tuple(gates.shape)}; expected "
                "(P, n) and (P, d), one gate per pattern."
            )
        if masks.dtype != torch.bool:
            raise InputError(f"masks has dtype {masks.dtype}; expected torch.bool.")

    def __len__(self) -> int:
        """Return the number of patterns."""
        return len(self.masks)

    def __repr__(self) -> str:
        """Say how many patterns there are and what is proven about them."""
        known = "exhaustive" if self.exhaustive else "not proven exhaustive"
        if self.exhaustive and self.perturbation:
            known += f" up to a perturbation of {self.perturbation:.1e}"
        return (
            f"Arrangements({len(self)} patterns of {self.masks.shape[1]} samples in "
            f"{self.gates.shape[1]} dimensions, {known})"
        )

    def exhausts(self, X: Tensor) -> bool:
        """Return whether the list is proven to hold the patterns of this very matrix."""
        return self.exhaustive and self.source == fingerprint(X)

    def select(self, index: Any) -> Arrangements:
        """Return the patterns that `index` (integers, booleans or a slice) picks.

        The selection is exhaustive only if this list is and every pattern was picked.
        """
        index = torch.from_numpy(check_index(index, len(self))).to(self.masks.device)
        picked = torch.zeros(len(self), dtype=torch.bool, device=self.masks.device)
        picked[index] = True
        return replace(
            self,
            masks=self.masks[index],
            gates=self.gates[index],
            exhaustive=self.exhaustive and bool(picked.all()),
        )


def fingerprint(X: Tensor) -> str:
    """Return a sha256 of the shape and the numbers of X, whatever its dtype and device."""
    A = X.detach().double().cpu().numpy() + 0.0  # -0 is 0
    return hashlib.sha256(repr(A.shape).encode() + A.tobytes()).hexdigest()


def confirmed(
    X: Tensor, A: Floats, masks: Bools, gates: Floats, perturbation: float = 0.0
) -> Arrangements:
    """Return the patterns that their gates have beyond doubt, exhaustive if these are all."""
    converted = torch.from_numpy(gates).to(X)
    known = torch.finfo(X.dtype)
    rounded = converted.double().cpu().numpy()
    sure = beyond_doubt(A, masks, rounded, float(known.eps), float(known.tiny))
    kept = torch.from_numpy(masks if sure.all() else masks[sure]).to(X.device)
    converted = converted[torch.from_numpy(sure).to(X.device)]
    return Arrangements(kept, converted, bool(sure.all()), perturbation, fingerprint(X))


def as_rows(X: Tensor) -> Floats:
    """Return X in float64; refuse entries whose products with a neuron are beyond its dtype."""
    A: Floats = X.double().cpu().numpy()
    largest, limit = float(abs(A).max()), torch.finfo(X.dtype).max / (8 * X.shape[1])
    if largest > limit:
        raise InputError(
            f"the largest entry of X is {largest:.1e}; expected at most {limit:.0e}, so that its "
            f"products with unit vectors are numbers in {X.dtype}. Rescale X."
        )
    return A


def silent_pattern(X: Tensor) -> Arrangements:
    """Return the only pattern of X = 0: everything is active, for every neuron."""
    masks = torch.ones(1, len(X), dtype=torch.bool, device=X.device)
    gate = torch.eye(1, X.shape[1]).to(X)
    return Arrangements(masks, gate, exhaustive=True, source=fingerprint(X))


def reduced_rows(X: Tensor, A: Floats) -> Reduction:
    """Return the hyperplanes of the samples, in the tolerance that the dtype of X asks for."""
    return reduce_rows(A, SINGLE if X.dtype == torch.float32 else DOUBLE)
