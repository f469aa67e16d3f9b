"""The whitened data: orthonormal, faithful, and honest about their rank."""

import torch

from convexlib.networks.batchnorm import whiten
from tests.batchnorm_instances import instance


def test_whitening():
    X = torch.from_numpy(instance(0, n=9, d=4)[0])
    white = whiten(X)
    data = white.features
    torch.testing.assert_close(data.T @ data, torch.eye(5).double())
    torch.testing.assert_close(white.U @ torch.diag(white.singular) @ white.V.T, X - X.mean(dim=0))
    assert white.proven
    assert 0 < white.rounding < 1e-12
    assert not whiten(X, truncate=2).proven
    # Rank-deficient, shown by integers; and with a column that is only rounding, not shown.
    whole = (8 * X).round()
    assert whiten(torch.column_stack([whole, whole[:, 0] - whole[:, 1]])).proven
    noisy = torch.column_stack([X, X[:, 0] / 3 + X[:, 1] / 7])
    assert whiten(noisy).U.shape[1] == 4
    assert not whiten(noisy).proven
