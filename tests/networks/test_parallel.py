"""The path norm, and standard and residual networks in parallel form."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import convexlib as cl
from convexlib.errors import InputError, NotCertifiableError
from tests.helpers.networks import random_network, standard
from tests.helpers.refusals import ONE, refused
from tests.helpers.three_layer import seed_one


@pytest.mark.parametrize("widths", [(3, 4), (2, 3, 4), (2, 3, 1), (3, 2, 3, 2), (1, 2, 3, 2, 1)])
def test_standard_networks_are_parallel_networks(widths: tuple[int, ...]) -> None:
    network = standard(*widths)
    trees = cl.as_parallel(network)
    points = torch.from_numpy(np.random.default_rng(0).standard_normal((9, widths[0])))
    torch.testing.assert_close(trees(points), network(points)[:, 0])
    assert trees.n_subnetworks == widths[-1]
    # Products over all paths, one by one.
    weights = [
        np.asarray(layer.weight.detach()) for layer in network if isinstance(layer, nn.Linear)
    ]
    squares = np.zeros(widths[-1])
    for path in np.ndindex(*widths):
        factors = [w[b, a] for w, a, b in zip(weights, path, (*path[1:], 0), strict=True)]
        squares[path[-1]] += np.prod(factors) ** 2
    np.testing.assert_allclose(trees.path_norms().detach(), np.sqrt(squares), rtol=1e-12)
    whole, parallel = cl.path_norm(network), cl.path_norm(trees)
    assert whole == pytest.approx(np.sqrt(squares.sum()))
    assert whole * (1 - 1e-12) <= parallel <= np.sqrt(widths[-1]) * whole * (1 + 1e-12)
    assert cl.as_parallel(trees) is trees


def test_sums_of_standard_networks_are_parallel_networks() -> None:
    parts = nn.ModuleList([standard(2, 3, 1), standard(2, 1, 2, seed=1), standard(2, 4, 1, seed=2)])
    trees = cl.as_parallel(parts)
    points = torch.from_numpy(np.random.default_rng(0).standard_normal((9, 2)))
    expected = sum(part(points)[:, 0] for part in parts)
    torch.testing.assert_close(trees(points), expected)
    assert trees.U.shape == (4, 4, 2)  # narrower parts are padded
    norms = [cl.as_parallel(part).path_norms() for part in parts]
    torch.testing.assert_close(trees.path_norms(), torch.cat(norms))


class Residual(nn.Module):
    """A layer with an identity branch."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.layer = nn.Linear(size, size, bias=False).double()

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return h + torch.relu(self.layer(h))


def test_residual_networks_are_parallel_networks() -> None:
    torch.manual_seed(0)
    first, last = standard(2, 3)[0], standard(3)[0]
    residual = nn.Sequential(first, nn.ReLU(), Residual(3), last)
    stacked = standard(2, 3, 6)
    with torch.no_grad():
        V = residual[2].layer.weight
        stacked[0].weight.copy_(first.weight)
        stacked[2].weight.copy_(torch.cat([torch.eye(3, dtype=torch.float64), V]))
        stacked[4].weight.copy_(last.weight.repeat(1, 2))
    points = torch.from_numpy(np.random.default_rng(0).standard_normal((9, 2)))
    torch.testing.assert_close(stacked(points), residual(points))
    trees = cl.as_parallel(stacked)
    torch.testing.assert_close(trees(points), residual(points)[:, 0])
    # Three sub-networks take the identity, one leaf each; three pass through V.
    leaves = (trees.inner[0][:, 0] != 0).sum(dim=1)
    assert leaves.tolist() == [1, 1, 1, 3, 3, 3]
    w, A = np.abs(last.weight[0].detach().numpy()), np.square(first.weight.detach().numpy())
    through = np.sqrt(np.square(V.detach().numpy()) @ A.sum(axis=1))
    expected = w @ np.sqrt(A.sum(axis=1)) + w @ through
    assert cl.path_norm(trees) == pytest.approx(expected)


def test_path_norm_counts_paths() -> None:
    net = standard(2, 3, 2)  # whose norm is that of its paths, see above
    norm = cl.path_norm(net)
    assert cl.path_norm(nn.ModuleList([net, net])) == pytest.approx(2 * norm)
    X, y, beta = seed_one()
    both = nn.ModuleList([net, net])
    problem = cl.PathRegularized(X, y, beta=beta)
    fitted = 2 * net(torch.from_numpy(X)).detach().numpy()[:, 0]
    expected = 0.5 * np.sum((fitted - y) ** 2) + 2 * beta * norm
    assert problem.objective(both) == pytest.approx(expected)
    tree = random_network(2, (2, 3), K=4)
    U, (w, v), alpha = tree.U.detach(), [p.detach() for p in tree.inner], tree.alpha.detach()
    squares = [
        sum(
            float(alpha[k] * v[k, 0, p] * w[k, p, c] * U[k, 2 * p + c, a]) ** 2
            for p in range(3) for c in range(2) for a in range(2)
        )
        for k in range(4)
    ]  # fmt: skip
    assert cl.path_norm(tree) == pytest.approx(np.sqrt(squares).sum())
    data = torch.from_numpy(X)
    np.testing.assert_allclose(
        tree.balanced()(data).detach(), tree(data).detach(), rtol=1e-10, atol=1e-12
    )
    assert cl.path_norm(tree.balanced()) == pytest.approx(cl.path_norm(tree))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("power", [-1, 1])
def test_path_norms_of_large_and_tiny_weights(dtype, power) -> None:
    scale = (1e12 if dtype is torch.float32 else 1e100) ** power
    net = standard(2, 3, 2)
    large = copy.deepcopy(net)
    for one in large.parameters():
        one.data *= scale
    tree = cl.as_parallel(large)
    for kept, other in ((net, large), (cl.as_parallel(net), tree)):
        expected = pytest.approx(cl.path_norm(kept), rel=1e-6)
        assert cl.path_norm(other.to(dtype)) / scale**3 == expected


HUGE = nn.Sequential(nn.Linear(1, 1, False), nn.ReLU(), nn.Linear(1, 1, False)).double()
nn.init.constant_(HUGE[0].weight, 1e200)
nn.init.constant_(HUGE[2].weight, 1e200)
HOOKED = random_network(2, (2, 3), K=4)
HOOKED.register_forward_hook(lambda module, given, output: 2 * output)
WIDENED = cl.ParallelReLU(ONE[None], [ONE[None]], ONE[0])
WIDENED.extra = nn.Parameter(torch.ones(2))
REFUSALS = [
    (lambda: cl.as_parallel(nn.ModuleList([standard(2, 3), standard(2, 3, 1)])),
     InputError, "depths .2, 3. and .2. features; expected one of each"),
    (lambda: cl.as_parallel(nn.Sequential(nn.Linear(2, 1, bias=False))),
     InputError, "is Linear; expected Linear -> ReLU -> ... -> Linear"),
    (lambda: cl.as_parallel(standard(2, 50, 50, 5), max_leaves=999),
     InputError, "trees with 12500 leaves in all, more than max_leaves=999"),
    (lambda: cl.ParallelReLU(ONE[None], 3, ONE[0]), InputError, "inner is int"),
    (lambda: cl.as_parallel(HUGE, max_leaves=print), InputError, "max_leaves is"),
    *((lambda call=call: call(nn.ModuleList([])), InputError, "ModuleList is empty; expected")
      for call in (cl.path_norm, cl.as_parallel)),
    (lambda: cl.path_norm(HUGE), InputError, "path norm is inf; expected a"),
    (lambda: cl.path_norm(HOOKED), NotCertifiableError, "ParallelReLU has hooks"),
    (lambda: cl.path_norm(WIDENED), NotCertifiableError, "extra of ParallelReLU takes no part"),
]  # fmt: skip
test_refusals = refused(REFUSALS)
