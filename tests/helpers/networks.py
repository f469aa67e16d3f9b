"""PyTorch networks with random weights."""

import numpy as np
import torch
from torch import nn

import convexlib as cl


def sequential(d, m=6, first_bias=True, last_bias=True, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    network = nn.Sequential(
        nn.Linear(d, m, bias=first_bias), nn.ReLU(), nn.Linear(m, 1, bias=last_bias)
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return network.to(dtype)


def standard(*widths: int, seed: int = 0) -> nn.Sequential:
    """Linear and ReLU in turn without biases, one output."""
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs, outputs in zip(widths, (*widths[1:], 1), strict=True):
        layer = nn.Linear(inputs, outputs, bias=False).double()
        layer.weight.data = torch.randn(outputs, inputs, generator=generator, dtype=torch.float64)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def random_network(d: int, widths=(2,), K: int = 5, seed: int = 0) -> cl.ParallelReLU:
    """Sub-networks with first layers of norm 1, so that both penalties apply."""
    generator = torch.Generator().manual_seed(seed)
    m = nodes = int(np.prod(widths))
    inner = []
    for children in widths:
        nodes //= children
        inner.append(torch.randn(K, nodes, children, generator=generator, dtype=torch.float64))
    U = torch.randn(K, m, d, generator=generator, dtype=torch.float64)
    U = U / torch.linalg.vector_norm(U, dim=(1, 2), keepdim=True)
    return cl.ParallelReLU(U, inner, torch.randn(K, generator=generator, dtype=torch.float64))
