"""An attack on the chapter whose certificate is computed in the page."""

from itertools import combinations

import numpy as np
from scipy.linalg import null_space

from convexlib.arrangements import enumerate_arrangements
from tests.adversary.cells import best_neuron, relu
from tests.adversary.search import Draw, Floats, attack


def slopes(X: Floats, z: Floats) -> Floats:
    """The vectors c of all faces (m, r): on the subspaces where some rows vanish, of every cell."""
    n, r = X.shape
    scale = np.abs(X).max() or 1.0
    found = [np.zeros((1, r))]
    for size in range(r):
        for rows in combinations(range(n), size):
            span = null_space(X[list(rows)], rcond=1e-9) if size else np.eye(r)
            seen = X @ span
            seen[np.linalg.norm(seen, axis=1) < 1e-9 * scale] = 0.0
            if seen.any():
                masks = np.asarray(enumerate_arrangements(seen).masks, dtype=float)
                masks[:, ~seen.any(axis=1)] = 0.0
                found.append((masks * z) @ X @ span @ span.T)
    return np.concatenate(found)


@attack("certify-here-faces")
def faces(draw: Draw) -> None:
    """The slopes of the faces hold the best neuron, and nothing is above it."""
    n, r = draw.size(1, 5), draw.size(1, 3)
    X = draw.matrix(n, r) * draw.scale(3)
    z = draw.normal(n) * draw.choice(1.0, np.sign(draw.normal(n)) > 0)
    c = slopes(X, z)
    lengths = np.linalg.norm(c, axis=1)
    size = np.abs(z) @ np.linalg.norm(X, axis=1)
    c = c[lengths > 1e-12 * size]
    units = c / np.linalg.norm(c, axis=1, keepdims=True)
    attained = np.abs(z @ relu(X @ np.concatenate([units, -units]).T)).max(initial=0.0)
    draw.same(attained, best_neuron(X, z), 1e-7 * size)
