"""convexlib's own solvers, in a process of their own like every peer.

The clock runs from arrays to a result, the building of the problem included; kernels are compiled
(or loaded from numba's cache) before it starts.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

import convexlib as cl
from benchmarks.child import Output, Task
from convexlib.errors import ConvergenceWarning
from convexlib.training import train


def solve(task: Task, output: Output) -> None:
    """`convexlib.solve` with ``options``: method and whatever else it takes."""
    torch.set_num_threads(task.threads)
    options = dict(task.options)
    _warm_up(task, options)
    began = output.begin()
    result = _solved(task, task.X, task.y, task.masks, task.gates, task.tol, options)
    seconds = output.now() - began
    arrays = {"weights": result.weights.cpu().numpy(), "z": result.z.cpu().numpy()}
    output(seconds, arrays=arrays, label=result.method, **_facts(result))


def path(task: Task, output: Output) -> None:
    """A path of `n_betas` from beta_max down to beta, and one cold solve at the end of it."""
    torch.set_num_threads(task.threads)
    _warm_up(task, {})
    problem = _problem(task, task.X, task.y, task.masks, task.gates)
    largest = problem.beta_max()
    betas = np.geomspace(largest, task.beta, task.options["n_betas"] + 1)[1:]
    began = output.begin()
    steps = cl.solution_path(problem, betas.tolist(), tol=task.tol)
    seconds = output.now() - began
    gaps = [step.gap for step in steps]
    arrays = {"weights": steps[-1].weights.numpy(), "z": steps[-1].z.numpy()}
    output(seconds, arrays=arrays, label="path", worst_gap=max(gaps), betas=len(gaps))
    began = output.now()
    cold = _solved(task, task.X, task.y, task.masks, task.gates, task.tol, {})
    seconds = output.now() - began
    arrays = {"weights": cold.weights.numpy(), "z": cold.z.numpy()}
    output(seconds, arrays=arrays, label="cold", **_facts(cold))


def columns(task: Task, output: Output) -> None:
    """Column generation over all patterns; its network, and its history."""
    torch.set_num_threads(task.threads)
    options = dict(task.options)
    _generated(task.X[:60, :3], task.y[:60], task.beta, 1e-2, {})
    began = output.begin()
    problem, result = _generated(task.X, task.y, task.beta, task.tol, options)
    seconds = output.now() - began
    network = problem.to_network(result)
    arrays = _arrays(network)
    output(seconds, arrays=arrays, label=result.method, **_facts(result))


def globally(task: Task, output: Output) -> None:
    """Column generation to a proven optimum over all networks, and the proof from the network."""
    torch.set_num_threads(task.threads)
    _generated(task.X[:60], task.y[:60], task.beta, 1e-2, {})
    free = cl.TwoLayer(task.X, task.y, beta=1.0, arrangements="generate")
    beta = task.beta * free.beta_max()  # here a fraction of the ReLU program's own beta_max
    began = output.begin()
    problem, result = _generated(task.X, task.y, beta, task.tol, dict(task.options))
    seconds = output.now() - began
    network = problem.to_network(result)
    arrays = _arrays(network)
    output(seconds, arrays=arrays, label=result.method, beta=beta, **_facts(result))
    began = output.now()
    certificate = cl.certify(network, task.X, task.y, beta=beta)
    output.write(
        proof_seconds=output.now() - began,
        primal=certificate.primal,
        dual=certificate.dual,
        rigorous=certificate.rigorous,
        relative_gap=certificate.relative_gap,
    )


def adam(task: Task, output: Output) -> None:
    """A sweep of learning rates, one run after the other, as a reader would do it."""
    torch.set_num_threads(task.threads)
    options = task.options
    began = output.begin()
    for rate in options["rates"]:
        run = train(
            task.X,
            task.y,
            beta=task.beta,
            width=options["width"],
            optimizer=options["optimizer"],
            rates=[rate],
            seeds=[0],
            n_steps=options["n_steps"],
            n_records=20,
        )
        arrays = _arrays(run.best_network)
        seconds = output.now() - began
        output(seconds, arrays=arrays, label=f"rate {rate:g}", steps=int(run.steps[-1]))


def mlp(task: Task, output: Output) -> None:
    """scikit-learn's MLPRegressor from several seeds: its alpha is beta for a full batch.

    Its biases are free of decay, which the referee lets pass: an advantage over ours.
    """
    from sklearn.exceptions import ConvergenceWarning as Unconverged
    from sklearn.neural_network import MLPRegressor

    torch.set_num_threads(task.threads)
    options = task.options
    share = 1.0 if options["solver"] == "lbfgs" else min(200, len(task.y)) / len(task.y)
    began = output.begin()
    for seed in range(options["seeds"]):
        network = MLPRegressor(
            hidden_layer_sizes=(options["width"],), solver=options["solver"],
            alpha=share * task.beta, max_iter=2000, tol=1e-7, n_iter_no_change=50,
            random_state=seed,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Unconverged)
            network.fit(task.X, task.y)
        (U, alpha), biases = network.coefs_, network.intercepts_
        arrays = {"U": U.T, "alpha": alpha[:, 0], "free": np.concatenate(biases)}
        output(output.now() - began, arrays=arrays, label=f"seed {seed}")


def _problem(task: Task, X: Any, y: Any, masks: Any, gates: Any) -> cl.TwoLayer:
    """The program over given patterns."""
    patterns = cl.Arrangements(torch.from_numpy(masks), torch.from_numpy(gates))
    return cl.TwoLayer(X, y, beta=task.beta, arrangements=patterns, gated=task.gated)


def _solved(
    task: Task, X: Any, y: Any, masks: Any, gates: Any, tol: float, options: dict[str, Any]
) -> cl.Result:
    """Build and solve; a solve that falls short is scored like any other."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return cl.solve(_problem(task, X, y, masks, gates), tol=tol, **options)


def _generated(
    X: Any, y: Any, beta: float, tol: float, options: dict[str, Any]
) -> tuple[cl.TwoLayer, cl.Result]:
    problem = cl.TwoLayer(X, y, beta=beta, arrangements="generate")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # scored like any other
        return problem, cl.solve(problem, tol=tol, **options)


def _arrays(network: cl.TwoLayerReLU) -> dict[str, Any]:
    return {"U": network.U.detach().numpy(), "alpha": network.alpha.detach().numpy()}


def _warm_up(task: Task, options: dict[str, Any]) -> None:
    """Compile on a corner of the problem."""
    rows, few = min(60, len(task.y)), min(8, len(task.masks))
    masks = np.ascontiguousarray(task.masks[:few, :rows])
    _solved(task, task.X[:rows], task.y[:rows], masks, task.gates[:few], 1e-2, options)


def _facts(result: cl.Result) -> dict[str, Any]:
    """What a result says of itself, and its history."""
    return {
        "status": result.status.name,
        "n_iter": result.n_iter,
        "claimed_gap": result.gap,
        "value": result.value,
        "dual": result.dual,
        "history": [[round(r.seconds, 5), r.primal, r.dual] for r in result.history],
    }
