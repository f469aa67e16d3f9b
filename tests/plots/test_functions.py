"""Learned functions: kinks, boundaries, and what is refused."""

import numpy as np
import pytest
import torch
from torch import nn

import convexlib as cl
from convexlib import plots
from convexlib.errors import InputError
from convexlib.networks import TwoLayerGatedReLU, TwoLayerReLU
from tests.helpers.refusals import COUNT, ONE, refused

X1 = np.column_stack([np.linspace(-2, 2, 9), np.ones(9)])
Y1 = np.abs(X1[:, 0])
# Kinks -0.5 (+), 1 (-), 10 (+, out of view); one constant, one dead and one silent neuron.
U1 = [[2.0, 1.0], [-1.0, 1.0], [1.0, -10.0], [0.0, 1.0], [0.0, 0.0], [1.0, 0.2]]
ALPHA1 = [1.0, -0.5, 3.0, 0.25, 1.0, 0.0]


def relu_net(U, alpha):
    return TwoLayerReLU(*(torch.tensor(part, dtype=torch.float64) for part in (U, alpha)))


def labelled(artists, label):
    return [artist for artist in artists if artist.get_label() == label]


def biased_net():
    net = nn.Sequential(nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 1)).double()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[2.0, 1.0]]))
        net[0].bias.fill_(3.0)
        net[2].weight.fill_(-1.0)
    return net


GATES = TwoLayerGatedReLU(torch.tensor([[1.0, 5.0]]), torch.ones(1), torch.tensor([[2.0, -3.0]]))
KINKS = {
    "where the live neurons switch": (relu_net(U1, ALPHA1), [-0.5, 1.0, 10.0], [1, -1, 1]),
    "without bias at zero": (relu_net([[2.0], [-1.0]], [1.0, -1.0]), [0.0, 0.0], [1, -1]),
    "where the gates switch": (GATES, [1.5], [1]),
    "every bias counts": (biased_net(), [-2.0], [-1]),
}


@pytest.mark.parametrize("name", KINKS)
def test_kinks_and_signs(name):
    net, expected, expected_signs = KINKS[name]
    kinks, signs = plots.neuron_kinks(net)
    np.testing.assert_allclose(kinks, expected)
    assert signs.tolist() == expected_signs
    assert not np.signbit(kinks[kinks == 0]).any()


def test_function_marks_the_kinks_in_view_by_sign(drawn):
    ax = drawn(plots.plot_function(relu_net(U1, ALPHA1), X1, Y1))
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["data", "network", r"kink, $\alpha_j > 0$", r"kink, $\alpha_j < 0$"]
    for name, kink, marker in zip(names[2:], (-0.5, 1.0), "^v", strict=True):
        (line,) = labelled(ax.lines, name)
        assert (line.get_xdata().tolist(), line.get_marker()) == ([kink], marker)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_function_draws_the_network_and_the_data(kind):
    net = relu_net(U1, ALPHA1)
    ax = plots.plot_function(net, kind(X1), kind(Y1), legend=False)
    (fit,), (data,) = labelled(ax.lines, "network"), labelled(ax.lines, "data")
    x, f = fit.get_data()
    expected = sum(a * np.maximum(w * x + b, 0) for (w, b), a in zip(U1, ALPHA1, strict=True))
    np.testing.assert_allclose(f, expected, atol=1e-12)
    assert {-0.5, 1.0} <= set(x)
    np.testing.assert_array_equal(data.get_xydata(), np.column_stack([X1[:, 0], Y1]))
    assert ax.get_legend() is None
    assert ax.get_xlim()[1] < 10


def test_float32_and_zero_networks_are_drawn(drawn):
    net = TwoLayerReLU(torch.zeros(0, 1), torch.zeros(0))
    ax = drawn(plots.plot_function(net, X1[:, :1], Y1))
    (fit,) = labelled(ax.lines, "network")
    assert not fit.get_ydata().any()
    zero = TwoLayerReLU(torch.zeros(0, 2), torch.zeros(0))
    drawn(plots.plot_input_cells(zero, PLANE, np.zeros(8)))


# Maps of two features.

PLANE = np.random.default_rng(0).uniform(-1, 1, (8, 2))
WITH_ONES = np.column_stack([PLANE, np.ones(8)])
U2 = [[1.0, 2.0, 0.1], [0.0, 1.0, -0.2], [-1.0, 0.0, 0.3], [1.0, 1.0, 50.0]]
ALPHA2 = [1.0, -1.0, 0.5, 1.0]


def test_boundaries_lie_on_the_neurons_lines(drawn):
    net = relu_net(U2, ALPHA2)
    ax = drawn(plots.plot_input_cells(net, WITH_ONES, np.zeros(8)))
    lines = labelled(ax.lines, "_boundary")
    assert len(lines) == 3  # the fourth neuron switches far out of view
    for line, row, weight in zip(lines, U2, ALPHA2, strict=False):
        ends = line.get_xydata()
        assert np.linalg.norm(ends[1] - ends[0]) > 1
        np.testing.assert_allclose(np.column_stack([ends, [1, 1]]) @ row, 0, atol=1e-12)
        assert line.is_dashed() == (weight < 0)


def test_map_without_bias_has_lines_through_the_origin(drawn):
    net = relu_net([[1.0, -0.5], [0.3, 1.0]], [1.0, 1.0])
    ax = drawn(plots.plot_input_cells(net, PLANE, np.ones(8)))
    for line in labelled(ax.lines, "_boundary"):
        (a, b), (c, d) = line.get_xydata()
        assert a * d - b * c == pytest.approx(0, abs=1e-12)


def test_data_and_map_share_one_scale(drawn):
    net, y = relu_net(U2, ALPHA2), np.linspace(-60, 60, 8)
    ax = drawn(plots.plot_input_cells(net, WITH_ONES, y))
    dots = ax.collections[-1]
    np.testing.assert_array_equal(dots.get_offsets(), PLANE)
    np.testing.assert_array_equal(dots.get_array(), y)
    filled = ax.collections[0]
    assert (dots.norm.vmin, dots.norm.vmax) == (filled.norm.vmin, filled.norm.vmax)
    assert filled.levels[0] <= -60
    assert filled.levels[-1] >= 60
    assert ax.figure.axes[1].get_ylabel() == "$f(x)$"


@pytest.mark.parametrize("at", [0.0, 0.3, 1e19])
def test_samples_that_all_agree_are_drawn(at, drawn):
    network = cl.TwoLayerReLU(ONE, ONE[0])
    ax = drawn(plots.plot_function(network, np.full((2, 1), at), [0.0, 1.0]))
    low, high = ax.get_xlim()
    assert low < at < high


REFUSALS = [
    (lambda: plots.plot_function(relu_net(U1, ALPHA1), X1[:, :1], Y1),
     InputError, r"takes 2 columns; expected 1,"),
    (lambda: plots.neuron_kinks(relu_net([[1.0, 2.0, 3.0]], [1.0])),
     InputError, r"takes 3 columns; expected 1 or 2"),
    (lambda: plots.plot_function(nn.Linear(2, 1), X1, Y1),
     InputError, "net is a Linear; expected a TwoLayerReLU"),
    (lambda: plots.neuron_kinks(relu_net([[np.nan]], [1.0])),
     InputError, "first layer of net contains 1"),
    *((lambda net=net: plots.neuron_kinks(net.to("meta")), InputError, "is on device meta")
      for net in (relu_net(U1, ALPHA1), nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1)))
      ),
    (lambda: plots.plot_function(relu_net(U1, ALPHA1), np.eye(3), COUNT),
     InputError, r"\(3, 3\), which is 3 features and no bias column; expected 1 feature"),
    (lambda: plots.plot_function(relu_net(U1, ALPHA1), np.eye(2), COUNT[:2]),
     InputError, "2 features and no bias column.*Use plot_input_cells"),
    (lambda: plots.plot_input_cells(relu_net(U2, ALPHA2), X1, Y1),
     InputError, "1 feature and a bias column.*Use plot_function"),
    (lambda: plots.plot_input_cells(relu_net(U2, ALPHA2), np.eye(4), Y1[:4]),
     InputError, "4 features and no bias column; expected 2 features"),
]  # fmt: skip
test_refusals = refused(REFUSALS)
