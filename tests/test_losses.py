"""The squared loss and its conjugate."""

import numpy as np
import pytest
import torch

from convexlib.errors import InputError
from convexlib.losses import get_loss

LOSS = get_loss("squared")


def vectors(seed):
    rng = np.random.default_rng(seed)
    return [torch.from_numpy(rng.standard_normal(7)) for _ in range(3)]


def test_value_is_half_the_sum_of_squares():
    assert LOSS.value(torch.tensor([3.0, 1.0]), torch.tensor([1.0, 2.0])) == 2.5


def test_weak_duality_with_equality_at_the_dual_point():
    fitted, y, other = vectors(0)
    # L(f) - f^T (-z) >= -L*(-z) for all z, with equality at z = -grad L(f).
    z = LOSS.dual_point(fitted, y)
    value = LOSS.value(fitted, y)
    assert value + float(fitted @ other) >= LOSS.dual_value(other, y)
    assert value + float(fitted @ z) == pytest.approx(LOSS.dual_value(z, y), rel=1e-13)


def test_dual_point_is_the_negative_gradient():
    fitted, y, _ = vectors(1)
    fitted.requires_grad_(True)
    (0.5 * ((fitted - y) ** 2).sum()).backward()
    torch.testing.assert_close(LOSS.dual_point(fitted.detach(), y), -fitted.grad)


@pytest.mark.parametrize("limit", [0.01, 0.3, 5.0, float("inf")])
def test_best_scale_beats_a_grid(limit):
    _, y, z = vectors(2)
    z = z if float(y @ z) > 0 else -z
    best = LOSS.best_scale(z, y, limit)
    assert 0 <= best <= limit
    scales = np.linspace(0, min(limit, 10), 500)
    rival = max(LOSS.dual_value(s * z, y) for s in scales)
    assert LOSS.dual_value(best * z, y) >= rival - 1e-14


def test_best_scale_is_never_negative_and_survives_zero():
    _, y, z = vectors(3)
    z = z if float(y @ z) < 0 else -z
    assert LOSS.best_scale(z, y, 1.0) == 0.0
    assert LOSS.best_scale(0 * z, y, 1.0) == 0.0


def test_unknown_loss_is_refused_with_the_list():
    with pytest.raises(InputError, match=r"loss is 'huber'; expected one of 'squared'"):
        get_loss("huber")
