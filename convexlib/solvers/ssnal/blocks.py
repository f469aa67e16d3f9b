r"""The blocks of a two-layer program: their images, their proximal maps and their curvature.

Nothing here forms the design matrix with its n x P d entries: :math:`X^\top D_i z` for all
patterns is one product ``(X^T z) @ masks^T``, its adjoint a sum over rows of ``(U^T @ masks) X^T``,
and neither has a temporary larger than X. (In this order BLAS is up to twice as fast as in the
transposed one: the long side comes last.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from convexlib.cones import ConeProjector
from convexlib.problems.two_layer import TwoLayer


@dataclass(frozen=True, eq=False)
class Shrunk:
    """A proximal point and where it came from."""

    point: Tensor  # (S, P, d), the proximal point
    projected: Tensor  # (S, P, d), before the threshold is taken off
    norms: Tensor  # (S, P), of `projected`
    threshold: float


class Blocks:
    """The blocks of some patterns of a problem, in float64."""

    def __init__(
        self, problem: TwoLayer, kept: Tensor | None = None, whole: Blocks | None = None
    ) -> None:
        self.problem = problem
        self.kept = slice(None) if kept is None else kept  # which patterns
        self.masks = problem.masks if kept is None else problem.masks[kept]  # (P', n)
        # Parts share the projector of the whole, so that its warm starts outlive them.
        self.projector: ConeProjector | None = (
            problem.projector() if whole is None else whole.projector
        )
        numbers = torch.arange(len(problem.masks)) if kept is None else kept.cpu()
        self.numbers = torch.cat([numbers, numbers + len(problem.masks)]).numpy()  # of its blocks
        self.signs = (1.0,) if problem.gated else (1.0, -1.0)
        self._last: tuple[Tensor, Tensor] | None = None

    def correlations(self, z: Tensor) -> Tensor:
        """The adjoint of `images`, (S, P', d)."""
        positive = ((self.problem.X.T * z) @ self.masks.T).T.contiguous()  # (P, d)
        return positive[None] if self.problem.gated else torch.stack([positive, -positive])

    def images(self, blocks: Tensor) -> Tensor:
        """Outputs (n,) of blocks (S, P', d)."""
        signed = blocks[0] if self.problem.gated else blocks[0] - blocks[1]
        active = signed.any(dim=1).nonzero().ravel()
        return ((signed[active].T @ self.masks_of(active)) * self.problem.X.T).sum(dim=0)

    def shrink(self, blocks: Tensor, threshold: float) -> Shrunk:
        """Proximal map of threshold times the norm, on the cones where there are any."""
        projected = blocks
        if self.projector is not None:
            flat = blocks.reshape(-1, blocks.shape[-1])
            projected = self.projector(flat, threshold, self.numbers).reshape(blocks.shape)
        norms = torch.linalg.vector_norm(projected, dim=2)
        factors = (1.0 - threshold / norms.clamp(min=1e-300)).clamp(min=0.0)
        return Shrunk(projected * factors[..., None], projected, norms, threshold)

    def masks_of(self, active: Tensor) -> Tensor:
        """Rows of the masks, remembered because consecutive calls ask for the same ones."""
        if self._last is None or not torch.equal(self._last[0], active):
            self._last = active, self.masks[active]
        return self._last[1]
