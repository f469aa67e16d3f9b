"""A serious search of a non-convex training objective: many starts, Adam, then L-BFGS."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Objective = Callable[..., Tensor]


def least_found(
    objective: Objective,
    shapes: Sequence[tuple[int, ...]],
    *,
    around: Sequence[Tensor] | None = None,
    starts: int = 64,
    steps: int = 1000,
    rate: float = 0.03,
    polished: int = 8,
    seed: int = 0,
) -> float:
    """Least value that the search ever meets.

    `objective` takes one tensor (starts, *shape) for each of `shapes` and gives the values
    (starts,). Starts are Gaussian, of sizes between 0.1 and 3, about zero or about the point
    `around`; the `polished` best ends of Adam, whose rate falls to zero, are handed to L-BFGS.
    """
    generator = torch.Generator().manual_seed(seed)
    draw = {"generator": generator, "dtype": torch.float64}
    sizes = 10 ** (1.5 * torch.rand(starts, **draw) - 1.0)
    points = [
        sizes.reshape(-1, *[1] * len(shape)) * torch.randn((starts, *shape), **draw)
        for shape in shapes
    ]
    if around is not None:
        points = [0.3 * point + centre for point, centre in zip(points, around, strict=True)]
    points = [point.requires_grad_() for point in points]
    optimiser = torch.optim.Adam(points, lr=rate)
    best = torch.full((starts,), torch.inf, dtype=torch.float64)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = rate * (1.0 - step / steps)
        optimiser.zero_grad()
        values = objective(*points)
        best = torch.minimum(best, values.detach())
        values.sum().backward()
        optimiser.step()
    least = float(best.min())
    for row in objective(*points).detach().argsort()[:polished].tolist():
        start = [point.detach()[row : row + 1].clone().requires_grad_() for point in points]
        least = min(least, polish(objective, start))
    return least


def polish(objective: Objective, point: list[Tensor], steps: int = 200) -> float:
    """Least value on the way of L-BFGS from one point."""
    optimiser = torch.optim.LBFGS(
        point, max_iter=steps, line_search_fn="strong_wolfe", tolerance_change=1e-14
    )
    found: list[float] = []

    def value() -> Tensor:
        optimiser.zero_grad()
        total = objective(*point).sum()
        total.backward()
        found.append(float(total.detach()))
        return total

    optimiser.step(value)
    return min(found)
