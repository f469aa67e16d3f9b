"""celer, skglm and adelie: the gated program as a group Lasso on the explicit n x Pd design.

Each is solved cold at one tolerance after the other, from loose to tight; the referee takes the
first whose weights are good enough. Building the design is not timed. Their loss has a factor 1/n.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.child import Output, Task

TOLERANCES = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11)


def celer(task: Task, output: Output) -> None:
    """celer.GroupLasso: working sets and dual extrapolation; its tolerance is a duality gap."""
    from celer import GroupLasso

    _group_lasso(GroupLasso, task, output)


def skglm(task: Task, output: Output) -> None:
    """skglm.GroupLasso: working sets and Anderson acceleration."""
    from skglm import GroupLasso

    _group_lasso(GroupLasso, task, output)


def adelie(task: Task, output: Output) -> None:
    """adelie.grpnet: block coordinate descent along a path of ten, which it is made for."""
    import adelie

    def solve(design: np.ndarray, y: np.ndarray, alpha: float, tol: float) -> np.ndarray:
        groups = np.arange(0, design.shape[1], task.X.shape[1])
        blocks = (design.T @ y).reshape(len(groups), -1)
        largest = float(np.linalg.norm(blocks, axis=1).max()) / len(y)
        state = adelie.grpnet(
            X=adelie.matrix.dense(design, method="naive", n_threads=task.threads),
            glm=adelie.glm.gaussian(y=y, dtype=np.float64),
            groups=groups,
            penalty=np.ones(len(groups)),
            lmda_path=np.geomspace(largest, alpha, 10),
            tol=tol,
            adev_tol=1.0,
            early_exit=False,
            intercept=False,
            n_threads=task.threads,
            progress_bar=False,
        )
        return np.asarray(state.betas[-1].todense())[0]

    _ladder(task, output, solve)


def _group_lasso(estimator: Callable[..., Any], task: Task, output: Output) -> None:
    """Two packages have a GroupLasso of the same signature."""

    def solve(design: np.ndarray, y: np.ndarray, alpha: float, tol: float) -> np.ndarray:
        model = estimator(task.X.shape[1], alpha=alpha, tol=tol, max_iter=1000, fit_intercept=False)
        return model.fit(design, y).coef_

    _ladder(task, output, solve)


def _ladder(task: Task, output: Output, solve: Callable[..., np.ndarray]) -> None:
    """Solve at each tolerance; compile first, on a corner of the problem."""
    few, rows = min(5, len(task.masks)), min(50, len(task.y))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "did not converge": the referee decides
        corner, y = _design(task.X[:rows], task.masks[:few, :rows]), task.y[:rows]
        # A regularisation that leaves blocks active: otherwise the inner loops stay uncompiled.
        solve(corner, y, 0.01 * float(np.abs(corner.T @ y).max()) / rows, 1e-6)
        design = _design(task.X, task.masks)
        for tol in task.options.get("tolerances", TOLERANCES):
            began = output.begin()
            weights = solve(design, task.y, task.beta / len(task.y), tol)
            seconds = output.now() - began
            blocks = np.asarray(weights, dtype=np.float64).reshape(1, *task.gates.shape)
            output(seconds, arrays={"weights": blocks}, label=f"tol {tol:g}", tol=tol)
            if _value(design, weights, task) <= task.target:
                return


def _design(X: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """The design [D_1 X, D_2 X, ...] (n, P d), by columns."""
    stacked = (masks[:, :, None] * X).transpose(0, 2, 1)  # (P, d, n)
    return stacked.reshape(-1, len(X)).T


def _value(design: np.ndarray, weights: np.ndarray, task: Task) -> float:
    """Objective of the gated program."""
    residual = design @ weights - task.y
    norms = np.linalg.norm(weights.reshape(len(task.masks), -1), axis=1)
    return 0.5 * float(residual @ residual) + task.beta * float(norms.sum())
