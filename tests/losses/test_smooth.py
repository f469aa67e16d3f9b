"""Every loss and its conjugate: definitions, derivatives, domains, scales and proximal maps."""

import math

import cvxpy as cp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from convexlib.errors import InputError
from convexlib.losses import LOSSES, LogisticLoss, ShiftedLoss, SquaredHingeLoss, get_loss
from tests.helpers.references import NAMES, dual_value, loss_value, targets_for

FLOATS = st.floats(-30, 30, allow_nan=False)
# Every loss, and every loss of outputs and a constant.
EACH = pytest.mark.parametrize(("name", "bias"), [(n, b) for n in NAMES for b in (0.0, 0.7, -2.0)])


def made(name, bias):
    loss = get_loss(name)
    return ShiftedLoss(loss, bias) if bias else loss


def vectors(name, seed, shape=(7,)):
    """Outputs, targets and a dual point inside of the domain."""
    rng = np.random.default_rng(seed)
    y = targets_for(name, rng.standard_normal(shape))
    z = rng.standard_normal(shape) if name == "squared" else y * rng.uniform(0.02, 0.98, shape)
    return [torch.from_numpy(a) for a in (3 * rng.standard_normal(shape), y, z)]


def test_every_loss_is_tested():
    assert set(LOSSES) == set(NAMES)
    assert all(get_loss(name).name == name for name in NAMES)


@pytest.mark.parametrize("shape", [(7,), (4, 3)])
@EACH
def test_values_are_those_of_the_definitions(name, bias, shape):
    fitted, y, z = vectors(name, 0, shape)
    loss, expected = made(name, bias), loss_value(name, fitted + bias, y)
    assert loss.value(fitted, y) == pytest.approx(expected, rel=1e-13)
    assert float(loss.terms(fitted, y).sum()) == pytest.approx(expected, rel=1e-12)
    # The least of L(f + b) + z f is that of L(g) + z g, less b z.
    expected = dual_value(name, z, y) - bias * float(z.sum())
    assert loss.dual_value(z, y) == pytest.approx(expected, rel=1e-12)


@EACH
@given(entries=st.lists(st.tuples(FLOATS, st.floats(0, 1), st.booleans()), min_size=1, max_size=5))
def test_weak_duality_with_equality_at_the_dual_point(name, bias, entries):
    loss = made(name, bias)
    fitted = torch.tensor([f for f, _, _ in entries], dtype=torch.float64)
    y = torch.tensor([1.0 if sign else -1.0 for *_, sign in entries], dtype=torch.float64)
    z = y * torch.tensor([a for _, a, _ in entries], dtype=torch.float64)
    value = loss.value(fitted, y)
    slack = 1e-12 * (1.0 + abs(value) + float((fitted * z).abs().sum()))
    assert value + float(fitted @ z) >= loss.dual_value(z, y) - slack
    best = loss.dual_point(fitted, y)
    slack = 1e-12 * (1.0 + abs(value) + float((fitted * best).abs().sum()))
    assert value + float(fitted @ best) == pytest.approx(loss.dual_value(best, y), abs=slack)


@EACH
def test_derivatives_by_automatic_differentiation(name, bias):
    loss = made(name, bias)
    fitted, y, z = vectors(name, 1)
    expressions = {
        "squared": (lambda f: 0.5 * (f - y) ** 2, lambda z: 0.5 * z**2 - y * z),
        "logistic": (
            lambda f: torch.log1p(torch.exp(-y * f)),
            lambda z: y * z * torch.log(y * z) + (1 - y * z) * torch.log(1 - y * z),
        ),
        "squared_hinge": (
            lambda f: 0.5 * torch.clamp(1 - y * f, min=0) ** 2,
            lambda z: 0.5 * z**2 - y * z,
        ),
    }
    primal, conjugate = expressions[name]
    fitted.requires_grad_()
    (slope,) = torch.autograd.grad(primal(fitted + bias).sum(), fitted)
    torch.testing.assert_close(loss.dual_point(fitted.detach(), y), -slope)
    z.requires_grad_()
    (slope,) = torch.autograd.grad((conjugate(z) + bias * z).sum(), z, create_graph=True)
    # Every entry of the slope depends on its own entry of z only.
    (curvature,) = torch.autograd.grad(slope.sum(), z)
    z = z.detach()
    torch.testing.assert_close(loss.conjugate_gradient(z, y), slope.detach())
    torch.testing.assert_close(loss.conjugate_curvature(z, y), curvature)
    # The gradients are inverse to each other: z is the dual point of its own outputs.
    torch.testing.assert_close(loss.dual_point(-loss.conjugate_gradient(z, y), y), z)


@EACH
def test_the_gradient_is_as_steep_as_stated_and_no_steeper(name, bias):
    loss = made(name, bias)
    f = torch.linspace(-6, 6, 24_001, dtype=torch.float64)
    slopes = torch.diff(loss.dual_point(f, torch.ones_like(f))).abs() / torch.diff(f)
    assert float(slopes.max()) == pytest.approx(loss.gradient_lipschitz, rel=1e-6)


@pytest.mark.parametrize("limit", [0.0, 0.01, 0.3, 1.0, 5.0, math.inf])
@pytest.mark.parametrize("seed", range(5))
@EACH
def test_best_scale_beats_a_grid_and_stays_in_the_domain(name, bias, seed, limit):
    loss = made(name, bias)
    _, y, z = vectors(name, seed)
    z = z if float(y @ z) > 0 else -z
    best = loss.best_scale(z, y, limit)
    assert 0 <= best <= limit
    value = loss.dual_value(best * z, y)
    assert math.isfinite(value)
    rival = max(loss.dual_value(s * z, y) for s in np.linspace(0, min(limit, 20), 2000))
    assert value >= rival - (1e-12 * abs(rival) if bias else 1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_best_scale_survives_zero_and_wrong_signs(name):
    loss = get_loss(name)
    _, y, z = vectors(name, 3)
    z = z if float(y @ z) < 0 else -z
    assert loss.best_scale(z, y, 1.0) == 0.0
    assert loss.best_scale(0 * z, y, 1.0) == 0.0


def test_best_scale_of_entropies_with_entries_at_the_ends():
    loss = get_loss("logistic")
    y = torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)
    z = y * torch.tensor([1.0, 1e-300, 0.0], dtype=torch.float64)
    best = loss.best_scale(z, y, math.inf)
    assert best == pytest.approx(0.5, abs=1e-9)  # the first entry's entropy decides
    tied = loss.best_scale(y * 3.0, y, math.inf)
    assert tied == pytest.approx(1 / 6, rel=1e-12)


@EACH
def test_restrict_is_the_nearest_point_of_the_domain(name, bias):
    loss = made(name, bias)
    _, y, _ = vectors(name, 4)
    z = torch.from_numpy(3 * np.random.default_rng(5).standard_normal(7))
    nearest = loss.restrict(z, y)
    assert math.isfinite(loss.dual_value(nearest, y))
    torch.testing.assert_close(loss.restrict(nearest, y), nearest)
    ends = {"squared": (-math.inf, math.inf), "logistic": (0, 1), "squared_hinge": (0, math.inf)}
    expected = (
        z if name == "squared" else y * torch.from_numpy(np.clip((y * z).numpy(), *ends[name]))
    )
    torch.testing.assert_close(nearest, expected)


@pytest.mark.parametrize("seed", range(5))
@EACH
def test_max_step_ends_on_the_boundary(name, bias, seed):
    loss = made(name, bias)
    _, y, z = vectors(name, seed)
    step = torch.from_numpy(np.random.default_rng(9 + seed).standard_normal(7))
    length = loss.max_step(z, step, y)
    if name == "squared":
        assert length == math.inf
        return
    assert math.isfinite(loss.dual_value(z + length * (1 - 1e-12) * step, y))
    assert loss.dual_value(z + length * (1 + 1e-9) * step, y) == -math.inf


def test_max_step_has_no_limit_where_nothing_falls():
    y = torch.tensor([1.0, -1.0], dtype=torch.float64)
    assert get_loss("squared_hinge").max_step(0 * y, y, y) == math.inf
    assert get_loss("squared_hinge").max_step(0 * y, -y, y) == 0.0


@pytest.mark.parametrize("step", [1e-6, 0.1, 1.0, 30.0, 1e6])
@EACH
def test_proximal_map_is_stationary(name, bias, step):
    loss = made(name, bias)
    point = torch.linspace(-40, 40, 101, dtype=torch.float64)
    for y in (torch.ones_like(point), -torch.ones_like(point)):
        found = loss.prox(point, y, step)
        # f = point - step L'(f), the one solution since the right-hand side does not rise in f
        error = (found - point - step * loss.dual_point(found, y)).abs()
        assert float((error / (1 + step)).max()) <= 1e-13 * 40


@EACH
def test_expression_for_cvxpy_has_the_same_value(name, bias):
    fitted, y, _ = vectors(name, 6, (3, 2))
    outputs = cp.Variable((3, 2))
    outputs.value = fitted.numpy()
    expression = made(name, bias).expression(outputs, y)
    assert expression.is_convex()
    assert float(expression.value) == pytest.approx(loss_value(name, fitted + bias, y), rel=1e-12)


def test_outside_of_the_domain_the_dual_is_minus_infinity():
    y = torch.ones(2, dtype=torch.float64)
    for name, z in (("logistic", 1.001 * y), ("logistic", -0.001 * y), ("squared_hinge", -y)):
        assert get_loss(name).dual_value(z, y) == -math.inf


@EACH
def test_extreme_outputs_do_not_overflow(name, bias):
    loss = made(name, bias)
    fitted = torch.tensor([1e4, -1e4], dtype=torch.float64)
    y = torch.ones(2, dtype=torch.float64)
    assert math.isfinite(loss.value(fitted, y))
    assert math.isfinite(loss.dual_value(loss.dual_point(fitted, y), y))


def test_unknown_loss_is_refused_with_the_list():
    message = r"loss is 'huber'; expected one of 'squared', 'logistic', 'squared_hinge'"
    with pytest.raises(InputError, match=message):
        get_loss("huber")
    with pytest.raises(InputError, match="loss is"):  # a name of no loss that can be asked for
        get_loss(made("logistic", 0.7).name)


# --- Weights, which come with the labels ---


@given(entries=st.lists(st.tuples(st.floats(1e-6, 1e6), st.booleans()), min_size=1, max_size=6))
def test_a_weighted_dual_point_is_inside_exactly_and_not_after_rounding(entries):
    y = torch.tensor([s if sign else -s for s, sign in entries], dtype=torch.float64)
    loss = LogisticLoss(heaviest=1e6)
    assert loss.dual_value(y, y) == 0.0  # the border belongs to the domain
    beyond = torch.from_numpy(np.nextafter(y.numpy(), np.inf * np.sign(y.numpy())))
    assert loss.dual_value(beyond, y) == -math.inf
    z = y * torch.linspace(0.3, 1.7, len(y), dtype=torch.float64)
    scaled = loss.best_scale(z, y, math.inf) * z
    assert bool((scaled.abs() <= y.abs()).all())
    assert loss.dual_value(scaled, y) > 0.0
    assert loss.dual_value(loss.restrict(2.0 * z, y), y) > -math.inf


@pytest.mark.parametrize("kind", [LogisticLoss, SquaredHingeLoss])
def test_a_weight_multiplies_the_loss_its_dual_and_its_slopes(kind):
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(np.where(rng.random(7) < 0.5, -1.0, 1.0))
    f, share = (
        torch.from_numpy(3 * rng.standard_normal(7)),
        torch.from_numpy(rng.uniform(0.1, 0.9, 7)),
    )
    plain, weighted = kind(), kind(heaviest=4.0)
    y = 4.0 * labels  # one weight for all: everything scales
    z = share * labels
    assert weighted.value(f, y) == pytest.approx(4.0 * plain.value(f, labels), rel=1e-14)
    assert weighted.dual_value(4.0 * z, y) == pytest.approx(4.0 * plain.dual_value(z, labels))
    close = {"rtol": 1e-12, "atol": 1e-14}
    for got, expected in (
        (weighted.dual_point(f, y), 4.0 * plain.dual_point(f, labels)),
        (weighted.conjugate_gradient(4.0 * z, y), plain.conjugate_gradient(z, labels)),
        (weighted.conjugate_curvature(4.0 * z, y), plain.conjugate_curvature(z, labels) / 4.0),
        (weighted.prox(f, y, 0.5), plain.prox(f, labels, 2.0)),
    ):
        torch.testing.assert_close(got, expected, **close)
    assert weighted.gradient_lipschitz == 4.0 * plain.gradient_lipschitz
    with pytest.raises(InputError, match="labels times weights"):
        weighted.check_targets(8.0 * labels)
