"""Draw the picture of the README and the landing page: book/_static/overview.svg.

For LaTeX, which reads no SVG, the same is written as overview.pdf, and for other sites, which show
a picture beside a link to the book and read neither, as card.png, in the shape they ask for.

Twelve gradient-descent runs on one small data set end at different networks; the convex program
gives the best one, and its dual proves that there is no better. Deterministic: the same bytes on
every run.

    python book/tools/overview_picture.py
"""

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch

import convexlib as cl
from convexlib import plots

OUTPUT = Path(__file__).resolve().parents[2] / "book" / "_static" / "overview.svg"
CARD = OUTPUT.with_name("card.png")
BETA, WIDTH, STEPS = 0.02, 8, 6000


def data() -> tuple[np.ndarray, np.ndarray]:
    """Twenty-four noisy samples of a wave, with a bias column."""
    generator = np.random.default_rng(3)
    x = np.sort(generator.uniform(-1, 1, 24))
    y = np.sin(4 * x) * (1 + 0.5 * x) + 0.1 * generator.standard_normal(24)
    return np.column_stack([x, np.ones(24)]), y


def descend(X: torch.Tensor, y: torch.Tensor, seed: int) -> tuple[list[float], np.ndarray]:
    """Train one network by gradient descent with momentum; its objective at each step, and fit."""
    generator = torch.Generator().manual_seed(seed)
    U = torch.randn(WIDTH, X.shape[1], generator=generator, dtype=X.dtype)
    alpha = 0.5 * torch.randn(WIDTH, generator=generator, dtype=X.dtype)
    parameters = [U.requires_grad_(), alpha.requires_grad_()]
    optimizer = torch.optim.SGD(parameters, lr=0.005, momentum=0.9)
    values = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        residual = torch.relu(X @ U.T) @ alpha - y
        decay = 0.5 * BETA * sum((p**2).sum() for p in parameters)
        objective = 0.5 * residual @ residual + decay
        objective.backward()
        optimizer.step()
        values.append(float(objective.detach()))
    return values, (residual + y).detach().numpy()


def main() -> None:
    """Train, solve and draw."""
    torch.set_num_threads(1)
    X, y = data()
    problem = cl.TwoLayer(X, y, beta=BETA)
    result = cl.solve(problem, tol=1e-9)
    network = problem.to_network(result)
    certificate = cl.certify(network, X, y, beta=BETA)
    runs = [descend(problem.X, problem.y, seed) for seed in range(12)]
    mpl.rcParams["svg.hashsalt"] = "overview"
    with plots.style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
        steps = np.arange(1, STEPS + 1)
        for values, _ in runs:
            left.plot(steps, values, color=plots.COLOURS[0], ls="-", lw=0.8, alpha=0.7)
        left.axhline(certificate.dual, color=plots.COLOURS[1], lw=2)
        left.text(1.3, certificate.dual * 1.08, "proven optimum", va="bottom")
        left.set(xscale="log", yscale="log", ylim=(0.3, None))
        left.set(xlabel="step", ylabel="training objective")
        left.set_title("12 seeds of gradient descent")
        for _, fitted in runs:
            right.plot(X[:, 0], fitted, color=plots.COLOURS[0], ls="-", lw=0.8, alpha=0.6)
        grid = torch.linspace(-1, 1, 400, dtype=torch.float64)
        with torch.no_grad():
            best = network(torch.stack([grid, torch.ones_like(grid)], dim=1))
        right.plot(grid, best, color=plots.COLOURS[1], ls="-", lw=2)
        right.plot(X[:, 0], y, "o", ms=4, color=plots.GREY)
        right.set(xlabel="x", ylabel="y", xticks=(-1, -0.5, 0, 0.5, 1))
        right.set_title("the best network, and the 12 others")
        figure.savefig(OUTPUT, metadata={"Date": None, "Creator": None})
        pdf = {"CreationDate": None, "Creator": None, "Producer": None}
        figure.savefig(OUTPUT.with_suffix(".pdf"), metadata=pdf)
        figure.set_size_inches(8, 4.2)
        figure.savefig(CARD, dpi=150, facecolor="white", metadata={"Software": None})


if __name__ == "__main__":
    main()
