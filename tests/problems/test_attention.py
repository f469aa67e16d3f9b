"""Self-attention: the program by CVXPY, heads by loops, training from many starts."""

import cvxpy as cp
import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.errors import InputError
from convexlib.problems.attention import AttentionHeads
from tests.helpers.refusals import EYE, refused
from tests.helpers.searches import least_found


def instance(seed, *, n=4, s=3, d=2, c=2, gates=0, fraction=0.1):
    rng = np.random.default_rng(seed)
    tokens, Y = rng.standard_normal((n, s, d)), rng.standard_normal((n, s, c))
    patterns = cl.sample_arrangements(cl.token_pairs(tokens), gates, seed=seed) if gates else None
    problem = cl.Attention(tokens, Y, beta=1.0, arrangements=patterns)
    return problem.with_beta(fraction * problem.beta_max())


def head(x, Q, V, H):
    """One head on one sample, token by token."""
    out = np.zeros((len(x), V.shape[1]))
    for a in range(len(x)):
        for b in range(len(x)):
            if x[a] @ H @ x[b] >= 0:
                out[a] += (x[a] @ Q @ x[b]) * (x[b] @ V)
    return out


def written_out(problem):
    """The optimum by CVXPY: Z = sum of vec(Q) vec(V)^T, row by row of its definition."""
    X, Y = problem.X.numpy(), problem.y.numpy()
    n, s, d = X.shape
    c = Y.shape[1]
    fitted = [0.0] * (n * s)
    blocks = []
    for gate in problem.arrangements.gates.numpy():
        Z = cp.Variable((d * d, d * c))
        blocks.append(Z)
        for i in range(n):
            for a in range(s):
                for b in range(s):
                    if X[i, a] @ gate.reshape(d, d) @ X[i, b] >= 0:
                        values = np.kron(X[i, a], X[i, b]) @ Z  # vec(V), row after row
                        for m in range(d):
                            part = X[i, b, m] * values[m * c : (m + 1) * c]
                            fitted[i * s + a] = fitted[i * s + a] + part
    loss = sum(cp.sum_squares(f - y) for f, y in zip(fitted, Y, strict=True)) / 2
    program = cp.Problem(cp.Minimize(loss + problem.beta * sum(map(cp.normNuc, blocks))))
    program.solve(solver=cp.CLARABEL)
    assert program.status == "optimal"
    return program.value


@pytest.mark.parametrize(("gates", "c"), [(0, 1), (0, 2), (3, 2)])
def test_value_is_that_of_the_program_written_out(gates, c):
    problem = instance(0, gates=gates, c=c)
    result = cl.solve(problem, tol=1e-8)
    assert result.converged
    assert result.value == pytest.approx(written_out(problem), rel=1e-6)


@pytest.mark.parametrize("gates", [0, 4])
@pytest.mark.parametrize("seed", range(3))
def test_the_network_has_the_value_of_the_program(seed, gates):
    problem = instance(seed, gates=gates, s=2, d=3, fraction=0.05)
    result = cl.solve(problem, tol=1e-8)
    network = problem.to_network(result)
    Q, V, H = (t.detach().numpy() for t in (network.Q, network.V, network.gates))
    outputs = [
        sum(head(x, *weights) for weights in zip(Q, V, H, strict=True)) for x in problem.X.numpy()
    ]
    fitted = np.concatenate(outputs)
    value = 0.5 * ((fitted - problem.y.numpy()) ** 2).sum()
    value += 0.5 * problem.beta * ((Q**2).sum() + (V**2).sum())
    assert value == pytest.approx(result.value, rel=1e-9)
    assert problem.objective(network) == pytest.approx(value, rel=1e-12)
    assert len(Q) <= problem.shape[1] * min(problem.shape[2:])


def test_training_reaches_the_optimum_and_never_passes_it():
    problem = instance(5, n=3, s=2, c=1, fraction=0.2)
    result = cl.solve(problem, tol=1e-9)
    X, Y, beta = problem.X, problem.y.reshape(3, 2, 1), problem.beta

    def objective(Q, V):
        scores = torch.einsum("nak,rmkl,nbl->rmnab", X, Q, X)
        fitted = torch.einsum("rmnab,nbd,rmdc->rnac", scores, X, V)
        decay = (Q**2).sum(dim=(1, 2, 3)) + (V**2).sum(dim=(1, 2, 3))
        return 0.5 * ((fitted - Y) ** 2).sum(dim=(1, 2, 3)) + 0.5 * beta * decay

    least = least_found(objective, [(2, 2, 2), (2, 2, 1)], starts=16, steps=500, polished=4)
    assert least >= result.dual * (1 - 1e-12)
    assert least == pytest.approx(result.value, rel=1e-6)


def test_scores_are_those_of_the_pairs():
    problem = instance(7)
    Q = torch.tensor([[0.3, -1.2], [0.7, 2.0]], dtype=torch.float64)
    scores = (cl.token_pairs(problem.X) @ Q.ravel()).reshape(4, 3, 3)
    torch.testing.assert_close(scores, problem.X @ Q @ problem.X.mT)


def refusals():
    tokens = np.ones((2, 3, 1))
    patterns = cl.enumerate_arrangements([[1.0]])
    other = cl.enumerate_arrangements(np.linspace(-1.0, 1.0, 18)[:, None])
    problem = cl.Attention(tokens, np.ones((2, 3, 1)), beta=0.1)
    wide = AttentionHeads(torch.ones(1, 1, 1), torch.ones(1, 1, 2), torch.zeros(1, 1, 1))
    return [
        (lambda: cl.Attention(tokens[0], np.ones((2, 3, 1)), beta=0.1),
         InputError, r"expected \(n, s, d\)"),
        (lambda: cl.Attention(tokens, np.ones((2, 3)), beta=0.1),
         InputError, r"expected \(2, 3, c\)"),
        (lambda: cl.Attention(tokens, np.ones((2, 3, 1)), beta=0.1, arrangements=patterns),
         InputError, r"masks has shape"),
        (lambda: cl.Attention(tokens, tokens, beta=0.1, arrangements=other),
         InputError, "gates that do not have its masks on X"),
        (lambda: problem.objective(wide),
         InputError, r"returns \(6, 2\) over all tokens; expected \(6, 1\)"),
        (lambda: cl.token_pairs(EYE[None] * np.nan), InputError, "tokens contains 6 non-"),
        (lambda: cl.token_pairs(1e300 * EYE[None]), InputError, "largest entry of tokens is"),
        (lambda: cl.Attention(1e70 * EYE[None], EYE[None], beta=1.0),
         InputError, "largest entry of tokens is 1.0e"),
    ]  # fmt: skip


test_refusals = refused(refusals())
