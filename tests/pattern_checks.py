"""What every list of activation patterns must satisfy."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from convexlib.arrangements import Arrangements

Patterns = set[tuple[bool, ...]]


def patterns(masks: np.ndarray | Tensor) -> Patterns:
    found = set(map(tuple, masks.tolist()))
    assert len(found) == len(masks), "a pattern is listed twice"
    return found


def brute_force(X: np.ndarray, draws: int = 20_000, seed: int = 0) -> Patterns:
    """Patterns of random directions: anywhere, near the hyperplanes and near the samples."""
    rng = np.random.default_rng(seed)
    n, d = X.shape
    U = [rng.standard_normal((draws, d))]
    for j in np.flatnonzero(X.any(axis=1)):
        near = rng.standard_normal((200, d))
        along = near - np.outer(near @ X[j], X[j]) / (X[j] @ X[j])
        U += [along + 0.01 * near, X[j] + 0.1 * near, -X[j] + 0.1 * near]
    values = np.concatenate(U) @ X.T
    clear = (np.abs(values) > 1e-7) | ~X.any(axis=1)
    distinct = np.unique(np.packbits(values[clear.all(axis=1)] >= 0, axis=1), axis=0)
    return patterns(np.unpackbits(distinct, axis=1, count=n).astype(bool))


def assert_consistent(X: Tensor, arrangements: Arrangements) -> None:
    """Check that masks are those of the gates, one by one and all at once."""
    gates, masks = arrangements.gates, arrangements.masks
    assert gates.dtype == X.dtype
    assert gates.device == masks.device == X.device
    assert torch.equal(masks, gates @ X.T >= 0)
    for i in range(min(20, len(masks))):
        assert torch.equal(masks[i], X @ gates[i] >= 0)
    torch.testing.assert_close(gates.norm(dim=1), torch.ones(len(gates), dtype=X.dtype))
    patterns(masks)
