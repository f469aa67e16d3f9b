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


FIGURES: dict[str, Callable[[], dict[str, Any]]] = {
    figure.__name__: figure for figure in (gate, path, mirrors, looking_glass)
}


def main() -> None:
    """Write the file of every figure."""
    for name, figure in FIGURES.items():
        text = json.dumps(figure(), separators=(",", ":")) + "\n"
        (FOLDER / f"{name}.json").write_text(text, encoding="utf8")
        print(f"{len(text):6d} bytes  {name}.json")


if __name__ == "__main__":
    main()
