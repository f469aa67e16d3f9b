"""One checker for all problems, in numpy and scipy: it shares no code with the library.

A result is right if its value, its dual bound and the first-order conditions that link them can be
recomputed here, and if the network that it stands for has that value as its training objective.
"""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import nnls
from torch import nn

from convexlib.arrangements import enumerate_arrangements
from convexlib.networks import TwoLayerGatedReLU, TwoLayerReLU
from convexlib.problems.base import Problem
from convexlib.problems.two_layer import TwoLayer
from convexlib.result import Result, Status
from convexlib.solvers.solve import solve
from tests.helpers.references import as_numpy, dual_value, loss_value, program_value

ROUNDING = 1e-12


def network_objective(network: nn.Module, X, y, beta: float, loss: str = "squared") -> float:
    """The loss of the outputs + beta/2 sum of squared weights, by loops."""
    X, y = as_numpy(X), as_numpy(y)
    gates, bias, output_bias = None, 0.0, 0.0
    if isinstance(network, TwoLayerReLU):
        U, alpha = as_numpy(network.U), as_numpy(network.alpha).ravel()
        assert len(alpha) == len(U), "a network of several outputs"
        if isinstance(network, TwoLayerGatedReLU):
            gates = as_numpy(network.gates)
    elif isinstance(network, nn.Sequential):
        first, _, last = network
        U, alpha = as_numpy(first.weight), as_numpy(last.weight)[0]
        bias = 0.0 if first.bias is None else as_numpy(first.bias)
        output_bias = 0.0 if last.bias is None else float(as_numpy(last.bias)[0])
    else:
        raise TypeError(f"cannot read {type(network).__name__}")
    bias = np.broadcast_to(bias, len(U))
    outputs = []
    for x in X:
        output = output_bias
        for j in range(len(U)):
            inner = math.fsum(x * U[j]) + bias[j]
            if gates is None:
                output += max(inner, 0.0) * alpha[j]
            elif math.fsum(x * gates[j]) >= 0:
                output += inner * alpha[j]
        outputs.append(output)
    objective = loss_value(loss, np.array(outputs), y)
    decay = sum(float(np.sum(as_numpy(p) ** 2)) for p in network.parameters())
    return objective + 0.5 * beta * decay


def best_in_cone(c: np.ndarray, X: np.ndarray, mask: np.ndarray) -> float:
    """max c^T u over unit u with pattern `mask`: the distance of c to the polar cone."""
    normals = np.where(mask, 1.0, -1.0)[:, None] * X
    lengths = np.linalg.norm(normals, axis=1)
    normals = normals[lengths > 0] / lengths[lengths > 0, None]
    size = np.linalg.norm(c)
    if size == 0.0 or not len(normals):
        return float(size)
    return float(nnls(normals.T, -c / size)[1] * size)


def neuron_values(X, z, directions) -> np.ndarray:
    """|z^T (Xu)_+| / ||u|| for the rows u of `directions`."""
    X, z, directions = as_numpy(X), as_numpy(z), as_numpy(directions)
    directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    return np.abs(z @ np.maximum(X @ directions.T, 0.0))


def check_kkt(
    X, y, beta, masks, weights, z, *, gap: float, gated: bool, loss: str = "squared"
) -> tuple[float, float]:
    """Check feasibility, dual feasibility, complementarity and stationarity; return both values.

    With blocks v and correlations c = X^T D z (negated for the w's), the duality gap is exactly
    L(f) + L*(-z) + f^T z + sum (beta ||v|| - c^T v), a sum of nonnegative terms: each is checked
    (for the squared loss the first three are 1/2 ||y - f - z||^2).
    """
    X, y, z, weights = as_numpy(X), as_numpy(y), as_numpy(z), as_numpy(weights)
    masks = np.asarray(masks.cpu() if isinstance(masks, torch.Tensor) else masks, dtype=bool)
    assert weights.shape == (1 if gated else 2, len(masks), X.shape[1])
    lengths = np.linalg.norm(X, axis=1)
    fitted, penalty, slackness = np.zeros(len(y)), 0.0, []
    for side, blocks in enumerate(weights):
        for mask, v in zip(masks, blocks, strict=True):
            sign = 1.0 if side == 0 else -1.0
            c = sign * (X * mask[:, None]).T @ z
            # The norm of the difference of long sums: rounding is relative to their terms.
            slop = ROUNDING * float(np.abs(z) @ lengths)
            reach = np.linalg.norm(c) if gated else best_in_cone(c, X, mask)
            assert reach <= beta * (1 + 1e-9) + slop, "the dual point is infeasible"
            if not v.any():
                continue
            if not gated:
                inner = np.where(mask, 1.0, -1.0) * (X @ v)
                assert (inner >= -1e-11 * lengths * np.linalg.norm(v)).all(), "outside of the cone"
            slack = beta * np.linalg.norm(v) - c @ v
            assert slack >= -1e-9 * beta * np.linalg.norm(v) - slop * np.linalg.norm(v)
            slackness.append(slack)
            fitted += sign * mask * (X @ v)
            penalty += np.linalg.norm(v)
    primal = loss_value(loss, fitted, y) + beta * penalty
    dual = dual_value(loss, z, y)
    allowed = gap * primal + 1e-9 * primal
    young = loss_value(loss, fitted, y) - dual + fitted @ z
    if loss == "squared":
        young = 0.5 * np.sum((y - fitted - z) ** 2)  # the same without cancellation
    assert -1e-9 * primal <= young <= allowed, "not stationary"
    assert sum(slackness) <= allowed, "not complementary"
    return float(primal), float(dual)


def check_record(problem: Problem, result: Result, tol: float) -> None:
    """Check what every result must satisfy, whatever the problem and however the solve ended."""
    numbers = (result.value, result.dual, result.gap, result.seconds)
    assert all(math.isfinite(number) for number in numbers)
    assert bool(torch.isfinite(result.weights).all())
    assert bool(torch.isfinite(result.z).all())
    assert result.z.shape == problem.y.shape
    assert result.weights.dtype == problem.X.dtype
    assert result.z.dtype in (problem.X.dtype, torch.float64)  # a proof keeps its digits
    assert result.n_iter >= 0
    assert result.dual <= result.value * (1 + ROUNDING)
    expected = max(result.value - result.dual, 0.0) / result.value if result.value > 0 else 0.0
    np.testing.assert_allclose(result.gap, expected, rtol=1e-6, atol=1e-15)
    assert result.converged == (result.status is Status.CONVERGED)
    assert result.converged == (result.gap <= tol)
    primals = [record.primal for record in result.history]
    duals = [record.dual for record in result.history]
    assert primals == sorted(primals, reverse=True)
    assert duals == sorted(duals)
    if primals:
        assert primals[-1] == result.value
        assert duals[-1] == result.dual


def check_maps(problem: Problem) -> None:
    """Outputs and correlations are adjoint maps, and the Gram matrix is their product."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(problem.zeros().shape, generator=generator, dtype=torch.float64)
    z = torch.randn(problem.y.shape, generator=generator, dtype=torch.float64)
    left = float((problem.fitted(weights) * z).sum())
    assert left == pytest.approx(float((weights * problem.correlations(z)).sum()), rel=1e-12)
    torch.testing.assert_close(problem.gram() @ z, problem.fitted(problem.correlations(z)))


def check_result(problem: Problem, result: Result, tol: float = 1e-6) -> nn.Module:
    """Check a result completely; return the network, whose objective is checked too."""
    check_record(problem, result, tol)
    network = problem.to_network(result)
    loss = problem.loss.name
    objective = network_objective(network, problem.X, problem.y, problem.beta, loss)
    np.testing.assert_allclose(objective, result.value, rtol=1e-9)
    np.testing.assert_allclose(problem.objective(network), objective, rtol=1e-9)
    if isinstance(problem, TwoLayer):
        arrangements = result.arrangements
        assert arrangements is not None
        primal, dual = check_kkt(
            problem.X,
            problem.y,
            problem.beta,
            arrangements.masks,
            result.weights,
            result.z,
            gap=result.gap,
            gated=problem.gated,
            loss=loss,
        )
        np.testing.assert_allclose(primal, result.value, rtol=1e-9)
        np.testing.assert_allclose(dual, result.dual, rtol=1e-9, atol=1e-12 * result.value)
        generated = problem.arrangements is None
        assert result.scope == ("network" if generated else "program")
        if generated:
            directions = np.random.default_rng(0).standard_normal((2000, problem.X.shape[1]))
            reached = neuron_values(problem.X, result.z, directions).max()
            assert reached <= problem.beta * (1 + ROUNDING), "the dual point is infeasible"
    return network


def solved(problem: Problem, tol: float = 1e-6, **options) -> Result:
    """Solve, require convergence, and check the result completely."""
    result = solve(problem, tol=tol, **options)
    assert result.converged
    check_result(problem, result, tol)
    return result


def best_over_cells(X, z) -> float:
    """max |z^T (Xu)_+| over all cells and unit u, each by nonnegative least squares."""
    X, z = as_numpy(X), as_numpy(z)
    return max(
        best_in_cone(side * (X * mask[:, None]).T @ z, X, mask)
        for mask in enumerate_arrangements(X).masks.numpy()
        for side in (1, -1)
    )


def check_pricing(X, z, priced):
    """The direction attains `lower` with the sign given, and nothing seen exceeds `upper`."""
    assert priced.lower <= priced.upper
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((500, X.shape[1]))
    slop = 1e-13 * float(z.abs() @ torch.linalg.vector_norm(X, dim=1))
    assert neuron_values(X, z, directions).max() <= priced.upper + slop
    if priced.lower > 0:
        assert float(torch.linalg.vector_norm(priced.direction)) == pytest.approx(1.0, abs=1e-9)
        signed = priced.sign * float(z @ torch.relu(X @ priced.direction))
        assert signed == pytest.approx(priced.lower, rel=1e-9, abs=slop)


def optimum(X, y, beta, first_bias=False, last_bias=False) -> float:
    """The two-layer optimum by the program written by hand, over all patterns."""
    data = np.column_stack([X, np.ones(len(X))]) if first_bias else X
    masks = enumerate_arrangements(data).masks
    return program_value(data, y, beta, masks, output_bias=last_bias)


def check_certificate(certificate, network, X, y, beta):
    """The primal value is the network's, the dual point is feasible and gives the bound."""
    assert certificate.primal == pytest.approx(network_objective(network, X, y, beta), rel=1e-12)
    assert certificate.gap == max(certificate.primal - certificate.dual, 0.0)
    assert certificate.relative_gap == pytest.approx(certificate.gap / certificate.primal)
    z = certificate.z.numpy()
    has_bias = isinstance(network, nn.Sequential) and network[0].bias is not None
    data = np.column_stack([X, np.ones(len(X))]) if has_bias else X
    directions = np.random.default_rng(0).standard_normal((3000, data.shape[1]))
    assert certificate.max_neuron <= beta * (1 + 1e-12)
    if certificate.rigorous:
        reached = neuron_values(data, z, directions).max()
        assert reached <= certificate.max_neuron * (1 + 1e-10) + 1e-13
    dual = y @ z - 0.5 * z @ z
    if isinstance(network, nn.Sequential) and network[2].bias is not None:
        dual -= z.sum() ** 2 / (2 * beta)
    assert certificate.dual <= max(dual, 0.0) + 1e-12 * abs(dual)
    assert certificate.dual == pytest.approx(max(dual, 0.0), rel=1e-9, abs=1e-12)
