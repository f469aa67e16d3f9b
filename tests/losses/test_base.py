"""The loss of outputs and a constant: its dual by the definition, its scale by a grid."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from convexlib.losses import ShiftedLoss, get_loss
from convexlib.losses.base import best_of_scales
from tests.helpers.references import NAMES, loss_value, targets_for


def case(name, seed=0, bias=0.7):
    rng = np.random.default_rng(seed)
    y = torch.from_numpy(targets_for(name, rng.standard_normal(5)))
    fitted = torch.from_numpy(rng.standard_normal(5))
    return ShiftedLoss(get_loss(name), bias), fitted, y


@pytest.mark.parametrize("name", NAMES)
def test_value_and_dual_follow_from_their_definitions(name):
    loss, fitted, y = case(name)
    expected = loss_value(name, fitted.numpy() + 0.7, y.numpy())
    assert loss.value(fitted, y) == pytest.approx(expected, rel=1e-12)
    assert float(loss.terms(fitted, y).sum()) == pytest.approx(expected, rel=1e-12)
    z = 0.6 * loss.dual_point(fitted, y)  # inside the domain

    def entry(i):
        """The least of L(f + b) + z f over one output f."""

        def value(f):
            return loss_value(name, np.array([f + 0.7]), y.numpy()[i : i + 1]) + float(z[i]) * f

        return minimize_scalar(value, bounds=(-60, 60), method="bounded", options={"xatol": 1e-9})

    found = [entry(i) for i in range(5)]
    assert loss.dual_value(z, y) == pytest.approx(sum(one.fun for one in found), rel=1e-6)
    outputs = -loss.conjugate_gradient(z, y).numpy()
    unique = z.numpy() != 0  # elsewhere the hinge is flat
    assert unique.any()
    expected_outputs = np.array([one.x for one in found])
    np.testing.assert_allclose(outputs[unique], expected_outputs[unique], atol=1e-3)
    # Fenchel's equality at the point whose dual z is.
    z = loss.dual_point(fitted, y)
    assert loss.dual_value(z, y) == pytest.approx(
        loss.value(fitted, y) + float(z @ fitted), rel=1e-9
    )


@pytest.mark.parametrize("limit", [0.3, math.inf])
@pytest.mark.parametrize("bias", [0.7, -2.0])
@pytest.mark.parametrize("name", NAMES)
def test_the_best_scale(name, bias, limit):
    loss, fitted, y = case(name, bias=bias)
    z = loss.dual_point(fitted, y)
    s = loss.best_scale(z, y, limit)
    assert 0.0 <= s <= limit
    grid = np.linspace(0, min(limit, 5.0), 4001)
    best = max(loss.dual_value(float(t) * z, y) for t in grid)
    assert loss.dual_value(s * z, y) >= best - 1e-12 * abs(best)


@pytest.mark.parametrize("name", NAMES)
def test_the_prox_is_the_minimum(name):
    loss, point, y = case(name)
    found = loss.prox(point, y, 0.8)
    for i in range(5):

        def value(f, i=i):
            term = loss_value(name, np.array([f + 0.7]), y.numpy()[i : i + 1])
            return term + (f - float(point[i])) ** 2 / 1.6

        assert value(float(found[i])) <= minimize_scalar(value).fun + 1e-10


@pytest.mark.parametrize(("peak", "limit"), [(3.0, math.inf), (0.2, math.inf), (3.0, 1.5), (-1, 9)])
def test_golden_section(peak, limit):
    found = best_of_scales(lambda s: -((s - peak) ** 2), limit)
    assert found == pytest.approx(min(max(peak, 0.0), limit), abs=1e-7)


def test_golden_section_with_an_end():
    def value(s):
        return math.log(1.0 - s) + 3.0 * s if s < 1.0 else -math.inf

    assert best_of_scales(value, math.inf) == pytest.approx(2 / 3, abs=1e-6)


def test_it_cannot_be_asked_for_by_name():
    loss, _, _ = case("logistic")
    with pytest.raises(ValueError, match="loss is"):
        get_loss(loss.name)
