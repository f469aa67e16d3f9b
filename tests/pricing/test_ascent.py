"""Local ascent: it climbs, and what it ends in are local maxima, kinks and crossings included."""

import numpy as np
import pytest
import torch

from convexlib.pricing.ascent import ascend
from tests.pricing.test_best_neuron import draw, exhaustive


def starts(m, d, seed=19):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((m, d)))


@pytest.mark.parametrize("n_iter", [1, 5, 60])
def test_ascend_climbs_and_reports_signs(n_iter):
    X, z = draw(30, 4, 18)
    U = starts(50, 4)
    before = (torch.relu(U @ X.T) @ z) / torch.linalg.vector_norm(U, dim=1)
    values, directions = ascend(X, z, U, n_iter=n_iter)
    assert (values * before >= before.abs() * before.abs() * (1 - 1e-12)).all()
    assert (values.sign() == before.sign()).all()
    torch.testing.assert_close(torch.relu(directions @ X.T) @ z, values)
    torch.testing.assert_close(torch.linalg.vector_norm(directions, dim=1), values**0)


@pytest.mark.parametrize(("n", "d"), [(40, 2), (60, 3), (60, 5), (100, 12)])
def test_ends_are_local_maxima(n, d):
    X, z = draw(n, d, 20)
    values, directions = ascend(X, z, starts(60, d), n_iter=300)
    rng = np.random.default_rng(21)
    heights = (directions @ X.T).abs()
    kinks = 0
    for value, u, height in zip(values, directions, heights, strict=True):
        on = height < 1e-7
        kinks += int(on.any())
        # Farther than the next hyperplane is another valley; nearer there is nothing higher.
        radius = 0.5 * float((height / torch.linalg.vector_norm(X, dim=1))[~on].min())
        steps = rng.standard_normal((500, d))
        steps *= radius * rng.random((500, 1)) / np.linalg.norm(steps, axis=1, keepdims=True)
        around = u.numpy() + steps
        around /= np.linalg.norm(around, axis=1, keepdims=True)
        near = np.sign(float(value)) * np.maximum(around @ X.numpy().T, 0) @ z.numpy()
        assert near.max() <= abs(float(value)) * (1 + 1e-12)
    assert kinks > 10  # many of the maxima are not inside of cells


def test_a_maximum_at_a_crossing():
    # g = u_3 - |u_1| - |u_2|, largest where two hyperplanes cross.
    X = torch.tensor([[0, 0, 1], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]]).double()
    z = torch.tensor([1.0, -1, -1, -1, -1]).double()
    values, directions = ascend(X, z, torch.tensor([[0.2, -0.1, 1.0]]).double())
    assert float(values[0]) == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(directions[0], [0, 0, 1], atol=1e-12)


def test_a_maximum_on_an_arc():
    # g = u_1 + 2 u_2 + 3 u_3 - 9 |u_1| is largest at (0, 2, 3) / sqrt(13).
    X = torch.tensor([[1.0, 2, 3], [-1, -2, -3], [1, 0, 0], [-1, 0, 0]]).double()
    z = torch.tensor([1.0, -1, -9, -9]).double()
    values, directions = ascend(X, z, torch.tensor([[0.01, 0.3, 0.2]]).double())
    assert float(values[0]) == pytest.approx(13**0.5, rel=1e-12)
    np.testing.assert_allclose(directions[0], np.array([0, 2, 3]) / 13**0.5, atol=1e-9)


@pytest.mark.parametrize(("n", "d"), [(20, 3), (12, 4)])
def test_many_starts_find_the_maximum(n, d):
    X, z = draw(n, d, 22)
    values, _ = ascend(X, z, starts(200, d))
    assert float(values.abs().max()) == pytest.approx(exhaustive(X, z), rel=1e-9)


def test_zero_starts_and_zero_data():
    X, z = draw(5, 3, 23)
    values, _ = ascend(X, 0 * z, starts(3, 3))
    assert (values == 0).all()
    values, directions = ascend(X, z, torch.zeros(2, 3, dtype=torch.float64))
    assert torch.isfinite(values).all()
    assert torch.isfinite(directions).all()


@pytest.mark.parametrize("z", [[5e-324, -5e-324, -5e-324], [-1.0, -1.0, -5e-324]])
def test_weights_of_the_smallest_float(z):
    X = torch.tensor([[0.5, 1.0], [2.0, 0.1], [0.1, 0.1]]).double()
    values, directions = ascend(X, torch.tensor(z, dtype=torch.float64), starts(50, 2))
    assert float(values.abs().max()) > 0.0
    np.testing.assert_allclose(torch.linalg.vector_norm(directions, dim=1), 1.0, rtol=1e-12)
