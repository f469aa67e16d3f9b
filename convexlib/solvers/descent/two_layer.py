r"""The baselines: stochastic gradient descent and Adam on the non-convex training problem.

.. math:: F(U, \alpha) = L\Big(\sum_j (X u_j)_+ \alpha_j^\top\Big)
          + \tfrac\beta2 \sum_j \left(\|u_j\|^2 + \|\alpha_j\|^2\right)

is what the convex programs solve, with the same beta and no 1/n. All learning rates and seeds are
trained at once, see `convexlib.solvers.descent.grid`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from convexlib.errors import InputError
from convexlib.losses import SmoothLoss
from convexlib.solvers.descent.grid import check_grid, descend
from convexlib.solvers.descent.training import (
    SQUARED,
    Recorder,
    Training,
    as_columns,
    check_task,
    initial_weights,
)
from convexlib.validation import check_beta, check_positive_int


def train(
    X: Any,
    y: Any,
    *,
    beta: float,
    width: int,
    optimizer: str = "adam",
    rates: Sequence[float] = (1e-1, 1e-2, 1e-3),
    seeds: Sequence[int] = (0, 1, 2),
    n_steps: int | None = None,
    seconds: float | None = None,
    batch_size: int | None = None,
    n_records: int = 100,
    loss: str = "squared",
    progress: bool = False,
) -> Training:
    r"""Train a two-layer ReLU network for every pair of a learning rate and a seed.

    Parameters
    ----------
    X : array (n, d)
        Data; device and dtype are kept.
    y : array (n,) or (n, c)
        Targets; with two axes the network has c outputs, which share its neurons.
    beta : float
        Weight of the regulariser in F above, where it is part of the gradient (for Adam too).
    width : int
        Neurons m.
    optimizer : str
        ``"sgd"`` or ``"adam"`` with a constant rate; ``"-cosine"`` appended lowers it to 0 over
        the run along half a cosine, ``"-step"`` halves it 19 times at equal intervals.
    rates, seeds : sequences
        The grid. The seed draws the initial weights and the batches.
    n_steps, seconds : int, float
        The run ends with whichever comes first; at least one is needed. On a CPU the seconds are
        processor time, which other programs do not lengthen. With `seconds` the number of steps
        depends on the machine; with `n_steps` alone a run is deterministic.
    batch_size : int, optional
        Samples per step, drawn without replacement in each epoch; all of them by default.
    n_records : int
        How often the objective is recorded, at moments that are denser in the beginning.
    loss : {"squared", "logistic", "squared_hinge"}
        As for `TwoLayer`.
    progress : bool
        Show a progress bar on a terminal.

    Returns
    -------
    Training

    Raises
    ------
    InputError
        For unusable data, grids or limits, and targets that do not suit the loss.

    Notes
    -----
    Initial weights are normal with variance 2/d in the first layer and 2/m in the second (He et
    al., 2015). A batch's gradient of the loss is scaled by n / batch_size, hence unbiased. SGD
    steps along the gradient of F / n, so that a rate means what it means for a mean loss; the
    minimiser is the same. A ConvergenceWarning is given if no run improves on its start. Checked
    by ``tests/solvers/descent/test_two_layer.py``.
    """
    X, y, chosen = check_task(X, y, loss)
    beta, width = check_beta(beta), check_positive_int(width, "width")
    if beta > torch.finfo(X.dtype).max:
        raise InputError(f"beta is {beta:g}, more than {X.dtype} holds; expected a smaller one.")
    grid = check_grid(
        len(X),
        optimizer=optimizer,
        rates=rates,
        seeds=seeds,
        n_steps=n_steps,
        seconds=seconds,
        batch_size=batch_size,
        n_records=n_records,
    )
    U, alpha = initial_weights(grid.seeds, len(grid.rates), width, X, tuple(y.shape[1:]))
    record = Recorder(X, y, beta, chosen)

    def slopes(batch_X: Tensor, batch_y: Tensor) -> tuple[Tensor, Tensor]:
        scale = len(X) / batch_y.shape[1]
        return gradients(batch_X, batch_y, U, alpha, beta, scale, chosen)

    descend(grid, X, y, (U, alpha), slopes, record, progress)
    return record.training(optimizer, grid.rates, grid.seeds)


def gradients(
    X: Tensor,
    y: Tensor,
    U: Tensor,
    alpha: Tensor,
    beta: float,
    scale: float,
    loss: SmoothLoss = SQUARED,
) -> tuple[Tensor, Tensor]:
    """Gradients of `scale` times the loss plus the regulariser, in U and in alpha.

    X (S, b, d) and y (S, b) or (S, b, c) hold a batch for each seed; U (S, R, m, d) and alpha
    (S, R, m) or (S, R, m, c).
    """
    targets, last = as_columns(y, alpha)  # (S, b, c), (S, R, m, c)
    inputs = X[:, None]  # (S, 1, b, d)
    hidden = torch.matmul(inputs, U.transpose(2, 3)).relu_()  # (S, R, b, m)
    slope = loss.dual_point(hidden @ last, targets[:, None]).mul_(-scale)  # (S, R, b, c)
    by_alpha = (hidden.transpose(2, 3) @ slope).reshape(alpha.shape)
    back = (hidden > 0) * (slope @ last.transpose(2, 3))  # (S, R, b, m)
    by_U = torch.matmul(back.transpose(2, 3), inputs)
    return by_U.add_(U, alpha=beta), by_alpha.add_(alpha, alpha=beta)
