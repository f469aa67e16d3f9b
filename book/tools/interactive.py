"""Write what the book's interactive figures start from: book/_static/interactive/<figure>.json.

The pictures themselves are computed in the reader's browser by <figure>.js; only the solution path
needs a solver, and is computed here. tests/book/test_interactive.py compares the stored files with
a new run. The stills are drawn from them:

    python book/tools/interactive.py && python book/tools/stills.py
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import convexlib as cl
from convexlib.networks import TwoLayerReLU

FOLDER = Path(__file__).resolve().parents[2] / "book" / "_static" / "interactive"
TOLERANCE = 1e-11  # relative duality gap; residuals are then good to about six digits
DECIMALS = 10
POINTS = 49


def rounded(values: Any) -> Any:
    """Round to DECIMALS, as nested lists of floats without a negative zero."""
    return (np.round(values, DECIMALS) + 0.0).tolist()


def merged(network: TwoLayerReLU) -> np.ndarray:
    """Return the neurons (m, d + 1), one for each direction and sign: weights, output weight.

    A neuron on the wall between two cells may come as two blocks of the program. The order is by
    signs first, because neurons that face each other share a kink up to rounding.
    """
    U, alpha = network.U.detach().numpy(), network.alpha.detach().numpy()
    neurons: list[tuple[np.ndarray, float]] = []  # the block |alpha| u, the sign of alpha
    for u, a in zip(U, alpha, strict=True):
        block = abs(a) * u
        for place, (other, sign) in enumerate(neurons):
            cosine = block @ other / np.linalg.norm(block) / np.linalg.norm(other)
            if sign == np.sign(a) and cosine > 1 - 1e-9:
                neurons[place] = (other + block, sign)
                break
        else:
            neurons.append((block, float(np.sign(a))))
    rows = [
        np.append(block, sign * np.linalg.norm(block)) / np.linalg.norm(block) ** 0.5
        for block, sign in neurons
    ]
    rows.sort(key=lambda row: (row[-1] < 0, row[0] < 0, row[1] / row[0]))
    return np.array(rows).reshape(len(rows), U.shape[1] + 1)


def gate() -> dict[str, Any]:
    """Return the five samples of the chapter's picture of cells and zonotope."""
    angle, length = np.array([0.3, 1.2, 2.0, 3.7, 5.2]), np.array([1.0, 0.7, 0.9, 0.8, 0.6])
    return {"X": rounded(length[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1))}


def path() -> dict[str, Any]:
    """Return the optimal networks of the chapter's nine points, up to beyond beta_max."""
    x = [-1.0, -0.75, -0.5, -0.2, 0.0, 0.25, 0.5, 0.8, 1.0]
    y = [1.0, 0.3, -0.4, 0.2, 0.9, 0.3, -0.5, 0.3, 1.0]
    problem = cl.TwoLayer(np.column_stack([x, np.ones(len(x))]), np.array(y), beta=1.0)
    largest = float(problem.beta_max())
    # Rounded before solving: the page computes objectives with what is stored.
    betas = rounded(largest * np.logspace(-3.0, 0.1, POINTS))
    results = cl.solution_path(problem, betas, tol=TOLERANCE)
    networks = [
        problem.with_beta(beta).to_network(result)
        for beta, result in zip(betas, results, strict=True)
    ]
    return {
        "x": x,
        "y": y,
        "beta_max": rounded(largest),
        "beta": betas,
        "dual": rounded([result.dual for result in results]),
        "neurons": [rounded(merged(network)) for network in networks],
    }


def mirrors() -> dict[str, Any]:
    """Return the three samples that the figure starts with."""
    return {"x": [0.0, 1.0, 3.0]}


def looking_glass() -> dict[str, Any]:
    """Return the four samples of the chapter's example."""
    return {"X": [[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [3.0, 3.0]]}


def certify_here() -> dict[str, Any]:
    """Return the examples, as texts that a reader could paste, and the limits of the page."""
    rng = np.random.default_rng(4)
    examples = []
    for d, n, m in ((1, 30, 6), (2, 60, 8)):
        X = np.round(rng.uniform(-2, 2, (n, d)), 2)
        y = np.sin(2.5 * X[:, 0]) + 0.5 * np.abs(X[:, -1]) + 0.1 * rng.standard_normal(n)
        U, b = np.round(rng.standard_normal((m, d)), 2), np.round(rng.standard_normal(m), 2)
        # Only the last layer is trained, by least squares with decay.
        A = np.maximum(X @ U.T + b, 0)
        alpha = np.linalg.solve(A.T @ A + 0.1 * np.eye(m), A.T @ y)
        network = {"U": U.tolist(), "b": b.tolist(), "alpha": np.round(alpha, 2).tolist()}
        names = ["x"] if d == 1 else ["x1", "x2"]
        table = np.column_stack([X, np.round(y, 2)]).tolist()
        title = f"{d} feature{'s' * (d > 1)}, a first layer at random, the last one trained"
        examples.append((title, network, [*names, "y"], table, 0.1))
    # The network of the figure `path` that is optimal at its beta.
    stored = json.loads((FOLDER / "path.json").read_text(encoding="utf8"))
    place = int(np.argmax(np.array(stored["beta"]) > 0.05))
    w, b, alpha = np.array(stored["neurons"][place]).T
    network = {"0.weight": w[:, None].tolist(), "0.bias": b.tolist(), "2.weight": [alpha.tolist()]}
    table = np.column_stack([stored["x"], stored["y"]]).tolist()
    title = "1 feature, an optimal network, as the state of a Linear-ReLU-Linear"
    examples.append((title, network, ["x", "y"], table, stored["beta"][place]))
    return {
        "most": {"rows": 300, "neurons": 1000, "bytes": 1_000_000},
        "examples": [
            {
                "title": title,
                "network": json.dumps(network),
                "table": "\n".join(",".join(map(str, row)) for row in [names, *table]),
                "beta": str(beta),
            }
            for title, network, names, table, beta in examples
        ],
    }


FIGURES: dict[str, Callable[[], dict[str, Any]]] = {
    figure.__name__: figure for figure in (gate, path, mirrors, looking_glass, certify_here)
}


def main() -> None:
    """Write the file of every figure."""
    for name, figure in FIGURES.items():
        text = json.dumps(figure(), separators=(",", ":")) + "\n"
        (FOLDER / f"{name}.json").write_text(text, encoding="utf8")
        print(f"{len(text):6d} bytes  {name}.json")


if __name__ == "__main__":
    main()
