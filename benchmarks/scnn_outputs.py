"""pyscnn on the tables of the UCI experiment: several outputs at once, one network at the end.

The weights of 5,000 gates and many outputs are too much to keep at every moment, as `scnn_peer`
does. Here the callback notes the value of the gated program, and the weights go out once: the best
ones that it has met. R-FISTA may leave them again, as its values need not fall.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scnn import models, solvers

from benchmarks.child import Output, Task
from benchmarks.scnn_peer import Finished, Watch, run


def gated(task: Task, output: Output) -> None:
    """Solve with R-FISTA until its subgradient is short or time is up; targets are (n, c)."""
    model = models.ConvexGatedReLU(task.gates.T.copy(), c=task.y.shape[1])
    solver = solvers.RFISTA(model, max_iters=10**7, tol=task.tol)
    run(task, output, model, solver, Best)


class Best(Watch):
    """Notes values, and hands the best weights over when it ends."""

    def start(self) -> None:
        """Start the clock; at first the best weights are zero."""
        shape = (self.task.y.shape[1], *self.task.masks.shape[:1], self.task.X.shape[1])
        self.best, self.value = np.zeros(shape), 0.5 * float((self.task.y**2).sum())
        super().start()

    def keep(self, weights: Any, label: str, seconds: float | None = None) -> None:
        """Note the value; at the end of the time or of the procedure hand over the weights."""
        if seconds is None:
            seconds = self.output.now() - self.began - self.pauses
        ordered = self.ordered(weights)
        value = self.objective(ordered)
        if value < self.value:
            self.best, self.value = ordered, value
        self.output.write(seconds=seconds, value=value, iteration=self.iteration)
        if label == "terminated" or seconds > self.task.limit:
            arrays = {"weights": self.best}
            self.output(seconds, arrays=arrays, label=label, iteration=self.iteration)
            raise Finished

    def objective(self, weights: np.ndarray) -> float:
        """Objective of the gated program for weights (c, P, d)."""
        X, masks, value = self.task.X, self.task.masks, 0.0
        for block, targets in zip(weights, self.task.y.T, strict=True):
            active = block.any(axis=1)
            fitted = ((X @ block[active].T) * masks[active].T).sum(axis=1)
            norms = float(np.linalg.norm(block[active], axis=1).sum())
            value += 0.5 * float(((fitted - targets) ** 2).sum()) + self.task.beta * norms
        return value
