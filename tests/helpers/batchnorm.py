"""Instances of batch-normalised training, and its objective without library code."""

import numpy as np


def instance(seed, n=6, d=2):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) + rng.standard_normal(d), rng.standard_normal(n)


def whitened(X):
    """[U, 1/sqrt n], by numpy."""
    n = len(X)
    U, singular, _ = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
    return np.hstack([U[:, singular > 1e-9], np.full((n, 1), n**-0.5)])


def objective_by_hand(network, X, Y, beta):
    """The objective from the definition of batch normalisation, neuron by neuron, in numpy."""
    first, norm, _, last = network
    n, Y = len(X), np.asarray(Y).reshape(len(X), -1)
    fitted, decay = np.zeros_like(Y), 0.0
    for j, w in enumerate(first.weight.detach().double().numpy()):
        inner = X @ w
        inner = inner - inner.mean()
        length = np.linalg.norm(inner)
        gamma = n**0.5 * float(norm.weight[j].detach())
        delta = n**0.5 * float(norm.bias[j].detach())
        neuron = np.maximum(gamma * inner / length + delta / n**0.5, 0.0)
        alpha = last.weight[:, j].detach().double().numpy()
        fitted += neuron[:, None] * alpha
        decay += gamma**2 + delta**2 + alpha @ alpha
    return 0.5 * np.sum((fitted - Y) ** 2) + 0.5 * beta * decay
