"""pyscnn (package scnn 0.0.10): R-FISTA for gated programs, augmented Lagrangian for ReLU.

Its own ``optimize_model`` returns the last weights only. These functions call what that function
calls, and pass the callback that its optimisation procedures take: weights are kept at a growing
number of iterations and the clock stands still meanwhile, as it does while data are converted.
"""

from __future__ import annotations

from typing import Any

import lab
import numpy as np
from scnn import models, regularizers, solvers
from scnn.metrics import Metrics
from scnn.private import interface

from benchmarks.child import Output, Task

GROWTH = 1.04  # of the iteration number between snapshots: the resolution of the times


class Finished(Exception):
    """The time limit or the wanted value was reached."""


def gated(task: Task, output: Output) -> None:
    """Solve with R-FISTA until the target is reached or time is up."""
    model = models.ConvexGatedReLU(task.gates.T.copy())
    run(task, output, model, solvers.RFISTA(model, max_iters=10**7, tol=1e-30))


def relu(task: Task, output: Output) -> None:
    """Solve with the augmented Lagrangian, at tolerances that it does not reach in time."""
    model = models.ConvexReLU(task.gates.T.copy())
    solver = solvers.AL(
        model, max_primal_iters=10**7, max_dual_iters=10**6, tol=1e-14, constraint_tol=1e-14
    )
    # The tolerance of its subproblems is that of its defaults.
    solver.tol = task.options.get("subproblem_tol", 1e-6)
    run(task, output, model, solver)


def run(task: Task, output: Output, model: Any, solver: Any, watch: type | None = None) -> None:
    """Run an optimisation procedure with a callback, `Watch` or another one."""
    regularizer = regularizers.NeuronGL1(task.beta / task.y.size)  # its loss has a factor 1/(n c)
    interface.set_device(
        task.options.get("device", "cpu"), task.options.get("dtype", "float64"), 778
    )
    train, test, _ = interface.process_data(task.X, task.y, None, None, unitize_data=False)
    internal = interface.build_internal_model(model, regularizer, task.X)
    procedure = interface.build_optimizer(solver, regularizer, Metrics(metric_freq=10**8))
    procedure.metric_freq = 10**8
    order = _order(task, internal)
    callback = (watch or Watch)(task, output, order)
    logger = interface.get_logger("scnn")
    callback.start()
    try:
        procedure(
            logger, internal, lambda model: model, train, test, ([], [], []), callback=callback
        )
        callback.keep(internal.weights, "terminated")
    except Finished:
        pass


def _order(task: Task, internal: Any) -> np.ndarray:
    """Where each of its patterns is in our list."""
    place = {mask.tobytes(): index for index, mask in enumerate(task.masks)}
    patterns = np.asarray(lab.to_np(internal.D)).T > 0.5
    order = np.array([place[np.ascontiguousarray(mask).tobytes()] for mask in patterns])
    if sorted(order) != list(range(len(task.masks))):
        raise RuntimeError("pyscnn has other patterns than the instance")
    return order


class Watch:
    """The callback after every iteration."""

    def __init__(self, task: Task, output: Output, order: np.ndarray) -> None:
        self.task, self.output, self.order = task, output, order
        self.iteration, self.due, self.pauses = 0, 1.0, 0.0

    def start(self) -> None:
        self.began = self.output.begin()

    def __call__(self, model: Any, X: Any, y: Any) -> Any:
        """Keep the weights, where it is time for that."""
        self.iteration += 1
        if self.iteration >= self.due:
            entered = self.output.now()
            self.due = max(self.iteration + 1, self.iteration * GROWTH)
            seconds = entered - self.began - self.pauses
            self.keep(model.weights, "iterate", seconds)
            if seconds > self.task.limit:
                raise Finished
            self.pauses += self.output.now() - entered
        return model

    def keep(self, weights: Any, label: str, seconds: float | None = None) -> None:
        """Hand over weights in our order, and stop at the target."""
        if seconds is None:
            seconds = self.output.now() - self.began - self.pauses
        ordered = self.ordered(weights)
        self.output(seconds, arrays={"weights": ordered}, label=label, iteration=self.iteration)
        if self.task.gated and self._value(ordered[0]) <= self.task.target:
            raise Finished

    def ordered(self, weights: Any) -> np.ndarray:
        """Return weights (k, P, d) in the order of our patterns."""
        raw = np.asarray(lab.to_np(weights), dtype=np.float64)
        P, d = self.task.masks.shape[0], self.task.X.shape[1]
        raw = raw.reshape(-1, P, d)
        ordered = np.zeros_like(raw)
        ordered[:, self.order] = raw
        return ordered

    def _value(self, weights: np.ndarray) -> float:
        """Objective of the gated program."""
        fitted = ((self.task.X @ weights.T) * self.task.masks.T).sum(axis=1)
        norms = float(np.linalg.norm(weights, axis=1).sum())
        return 0.5 * float(((fitted - self.task.y) ** 2).sum()) + self.task.beta * norms
