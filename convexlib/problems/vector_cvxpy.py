"""Programs of several outputs for CVXPY, block by block."""

from __future__ import annotations

import cvxpy as cp
import torch
from torch import Tensor

from convexlib.losses import SmoothLoss
from convexlib.problems.base import CvxpyProgram


def block_program(
    X: Tensor,
    y: Tensor,
    masks: Tensor,
    loss: SmoothLoss,
    beta: float,
    *,
    nuclear: bool,
    gated: bool,
) -> CvxpyProgram:
    """Return the program with a variable (d, c) per sign and pattern."""
    data, patterns = X.cpu().numpy(), masks.cpu().numpy()
    shape = (X.shape[1], y.shape[1])
    blocks = [[cp.Variable(shape) for _ in patterns] for _ in range(1 if gated else 2)]
    outputs = cp.Variable(tuple(y.shape))
    total, penalty, constraints = 0, 0, []
    for side, row in enumerate(blocks):
        for mask, block in zip(patterns, row, strict=True):
            image = data @ block
            total = total + (1 - 2 * side) * cp.multiply(mask[:, None], image)
            penalty = penalty + (
                cp.normNuc(block) if nuclear else cp.sum(cp.norm(block, 2, axis=0))
            )
            if not gated:
                constraints.append(cp.multiply(2 * mask[:, None] - 1, image) >= 0)
    # The outputs are a variable of their own, so that their link's multiplier is z.
    link = outputs == total
    objective = cp.Minimize(loss.expression(outputs, y) + beta * penalty)

    def read_weights() -> Tensor:
        values = [torch.stack([torch.as_tensor(block.value) for block in row]) for row in blocks]
        return torch.stack(values).to(X)

    return CvxpyProgram(cp.Problem(objective, [link, *constraints]), read_weights, link, y)
