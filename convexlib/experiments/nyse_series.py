"""NYSE, one series: tomorrow's log volume from today's by one-dimensional networks (`Mirrors`)."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from sklearn.linear_model import QuantileRegressor
from torch import Tensor

from convexlib.experiments.nyse_data import Task, mean_pinball, mean_square, scores
from convexlib.problems.mirrors import Mirrors
from convexlib.solvers.lasso import solve_path

__all__ = ["predict_series"]


def predict_series(task: Task, config: dict[str, Any]) -> dict[str, Any]:
    """Solve the Lasso over a path of beta, and score every network on all parts.

    ``decimals`` rounds the inputs that the network is trained on, so that the dictionary of a deep
    network can be listed; it is scored on the inputs as they are.
    """
    task = task.yesterday()
    X, y = task.part("fit")
    x = X[:, 0] if config["decimals"] is None else X[:, 0].round(decimals=config["decimals"])
    quantile = config.get("quantile", 0.5)
    problem = Mirrors(x, y, beta=1.0, depth=config["depth"], loss=config["loss"], quantile=quantile)
    squared = config["loss"] == "squared"
    measure = mean_square if squared else partial(mean_pinball, quantile=quantile)
    beta_max = problem.beta_max()
    betas = [ratio * beta_max for ratio in config["ratios"]]
    path = []
    for ratio, beta, result in zip(
        config["ratios"], betas, solve_path(problem, betas, tol=1e-9), strict=True
    ):
        at_beta = problem.with_beta(beta)
        network = at_beta.to_network(result)
        path.append(
            {
                "ratio": ratio,
                "objective": at_beta.objective(network),
                "gap": result.gap,
                "features": len(at_beta.active_features(result)),
                "kinks": sorted(
                    {float(k) for _, f in at_beta.active_features(result) for k in f.kinks}
                ),
                # A default binds this round's network; mypy cannot type such a lambda.
                **scores(task, lambda A, f=network: f(A[:, 0]), measure),  # type: ignore[misc]
                "below": scores(task, lambda A, f=network: f(A[:, 0]), share_below),  # type: ignore[misc]
            }
        )
    slope, height = _line(X[:, 0], y, config["loss"], quantile)
    constant = float(y.mean()) if squared else float(y.quantile(quantile))
    return {
        "beta_max": beta_max,
        "distinct": len(problem.x),
        "dictionary": problem.n_features,
        "path": path,
        "linear": scores(task, lambda A: slope * A[:, 0] + height, measure),
        "constant": scores(task, lambda A: A.new_full((len(A),), constant), measure),
    }


def share_below(y: Tensor, fitted: Tensor) -> float:
    """The share of days below the prediction."""
    return float((y <= fitted).double().mean())


def _line(x: Tensor, y: Tensor, loss: str, quantile: float) -> tuple[float, float]:
    """The best line, (slope, height), without regularisation."""
    inputs, targets = x.cpu().numpy(), y.cpu().numpy()
    if loss == "squared":
        slope, height = np.polyfit(inputs, targets, 1)
    else:
        model = QuantileRegressor(quantile=quantile, alpha=0.0).fit(inputs[:, None], targets)
        slope, height = model.coef_[0], model.intercept_
    return float(slope), float(height)
