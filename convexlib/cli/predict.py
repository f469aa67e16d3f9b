"""`convexlib predict MODEL.pt DATA.csv`: what a file of `convexlib fit` keeps, and its use."""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from convexlib.checks import check_predictions
from convexlib.cli.console import DONE, check_writable, read_bytes, tell, write
from convexlib.cli.tables import Table, add_table_options, load_table
from convexlib.errors import InputError

KEY = "convexlib.fit"  # of the entry of a model file that has what is no weight
_ROUNDING = 4.0 * np.finfo(np.float64).eps  # spread of a constant column over its largest value
_TINY = 1e-290  # below, what is left of a column has lost digits


def define(parser: argparse.ArgumentParser) -> None:
    """Give the command its arguments."""
    parser.add_argument("model", metavar="MODEL.pt", type=Path)
    parser.add_argument("data", metavar="DATA.csv", type=Path)
    add_table_options(parser)
    parser.add_argument("--out", type=Path, metavar="OUT.csv", help="default: the terminal")
    parser.set_defaults(run=run_predict)


@dataclass(frozen=True)
class Scales:
    """What a model file keeps beside the weights.

    Attributes
    ----------
    features, target : the names of columns
    means, sizes : of the features; the size of a constant one is 0, and it stays 0
    classes : names, or None for a numerical target
    level, height : mean and size of that target
    beta : of the fit
    """

    features: list[str]
    target: str
    means: list[float]
    sizes: list[float]
    classes: list[str] | None
    level: float
    height: float
    beta: float

    @classmethod
    def of(cls, table: Table, classify: bool) -> Scales:
        """Of a table."""
        if len(table.X) < 2:
            raise InputError("the table has one row; expected at least two to learn from.")
        means, sizes = _mean_and_size(table.X, table.features)
        level, height, classes = 0.0, 1.0, None
        if classify:
            classes = sorted(set(table.y.tolist()))
            _check_classes(classes, table)
        else:
            (level,), (height,) = _mean_and_size(table.y[:, None], table.targets)
        if height == 0.0 or (classes is not None and len(classes) < 2):
            raise InputError(
                f"the target {table.targets[0][:40]!r} is {str(table.y[0])[:40]} in every row; "
                "expected at least two values, as there is nothing to learn from one."
            )
        if not any(sizes):
            shown = ", ".join(name[:40] for name in table.features[:8])
            raise InputError(
                f"every feature is constant ({shown}{', ...' * (len(sizes) > 8)}); expected one "
                "that tells rows apart."
            )
        return cls(
            features=list(table.features),
            target=table.targets[0],
            means=means,
            sizes=sizes,
            classes=classes,
            level=level,
            height=height,
            beta=1.0,
        )

    @property
    def constant(self) -> list[str]:
        """The features that are the same in every row."""
        return [name for name, size in zip(self.features, self.sizes, strict=True) if not size]

    def standard(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Features in standard units."""
        sizes = np.array(self.sizes)
        with np.errstate(over="ignore", invalid="ignore"):  # whoever predicts looks at the outputs
            moved = np.where(sizes > 0.0, X - np.array(self.means), 0.0)
            result: NDArray[np.float64] = moved / np.where(sizes > 0.0, sizes, 1.0)
        return result

    def targets(self, y: NDArray[Any]) -> NDArray[np.float64]:
        """Targets (n,) or (n, c) as the network was trained on them: labels for classes."""
        if self.classes is None:
            result: NDArray[np.float64] = (y - self.level) / self.height
            return result
        signs = np.where(y[:, None] == np.array(self.classes), 1.0, -1.0)
        return signs[:, 1] if len(self.classes) == 2 else signs


def _check_classes(classes: list[str], table: Table) -> None:
    """Refuse names of classes that are measurements, or the same number written twice."""
    numbers: dict[float, str] = {}
    for label in classes:
        try:
            number = float(label)
        except ValueError:
            continue
        if number in numbers:
            raise InputError(
                f"the classes of {table.targets[0][:40]!r} are called {numbers[number]!r} and "
                f"{label!r}, the same number; expected one name for each class."
            )
        numbers[number] = label
    if len(classes) > max(len(table.y) // 2, 2):
        raise InputError(
            f"the target {table.targets[0][:40]!r} has {len(classes)} classes in {len(table.y)} "
            "rows; expected at most half as many as rows. A target that is measured is fitted "
            "without --classify."
        )
    if len(numbers) == len(classes) and any(number % 1.0 for number in numbers):
        raise InputError(
            f"the classes of {table.targets[0][:40]!r} are numbers, not all of them whole (such as "
            f"{next(numbers[number] for number in numbers if number % 1.0)!r}); expected names. "
            "Leave --classify out for a target that is measured, or give the classes names."
        )


def _mean_and_size(
    columns: NDArray[np.float64], names: Sequence[str]
) -> tuple[list[float], list[float]]:
    """Means and standard deviations; of a column that differs by rounding only, the latter is 0."""
    largest = np.abs(columns).max(axis=0)
    # In parts of the largest value, as squares of numbers beyond 1e154 are none.
    parts = columns / np.where(largest > 0.0, largest, 1.0)
    spreads = parts.std(axis=0)
    spreads[spreads <= _ROUNDING] = 0.0
    for name, most, spread in zip(names, largest, spreads, strict=True):
        if spread > 0.0 and not _TINY <= most <= 1.0 / _TINY:
            raise InputError(
                f"the largest value of column {name[:40]!r} is {most:.1e}; expected between "
                f"{_TINY:.0e} and {1.0 / _TINY:.0e}. Take another unit."
            )
    return (parts.mean(axis=0) * largest).tolist(), (spreads * largest).tolist()


def run_predict(chosen: argparse.Namespace) -> int:
    """Read a model and a table with its columns, and write a prediction for each row."""
    if chosen.out is not None:
        check_writable(chosen.out, chosen.model, chosen.data)
    state, scales = loaded(chosen.model)
    table = load_table(
        chosen.data, None, header=not chosen.no_header, delimiter=chosen.delimiter,
        decimal=chosen.decimal, features=scales.features,
    )  # fmt: skip
    outputs = _outputs(state, scales, table.X)
    check_predictions(outputs)
    if scales.classes is None:
        found = [f"{value:.17g}" for value in outputs[:, 0]]
    elif len(scales.classes) == 2:
        found = [scales.classes[int(value > 0)] for value in outputs[:, 0]]
    else:
        found = [scales.classes[place] for place in outputs.argmax(axis=1)]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([scales.target])
    writer.writerows([value] for value in found)
    if chosen.out is None:
        tell(stream.getvalue(), end="")
    else:
        write(chosen.out, stream.getvalue().encode())
    return DONE


def saved(state: dict[str, torch.Tensor], scales: Scales) -> bytes:
    """A checkpoint that torch reads with ``weights_only=True``, and `convexlib certify` too."""
    stream = io.BytesIO()
    torch.save({"state_dict": state, KEY: json.dumps(vars(scales))}, stream)
    return stream.getvalue()


def scales_in(path: Path) -> Scales | None:
    """The scales in a file of `convexlib fit`; None for others."""
    # The word lies bare in the file, so that files of other kinds need not be opened here.
    return loaded(path)[1] if KEY.encode() in read_bytes(path, "the model") else None


def _outputs(
    state: dict[str, torch.Tensor], scales: Scales, X: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Outputs (n, c) of the network, in the units of the target."""
    inputs = torch.from_numpy(scales.standard(X))
    hidden = (inputs @ state["0.weight"].T + state["0.bias"]).relu()
    with np.errstate(over="ignore"):
        result: NDArray[np.float64] = (hidden @ state["2.weight"].T).numpy() * scales.height
        return result + scales.level


def _check_fit(state: dict[str, torch.Tensor], scales: Scales) -> None:
    """Raise an error of any kind if the weights and the scales are of two fits."""
    count = len(scales.features)
    given = _outputs(state, scales, np.zeros((1, count))).shape[1]
    several = scales.classes is not None and len(scales.classes) > 2
    expected = len(scales.classes or ()) if several else 1
    if {len(scales.means), len(scales.sizes)} != {count} or given != expected:
        raise ValueError


def loaded(path: Path) -> tuple[dict[str, torch.Tensor], Scales]:
    """The weights and scales of a model file."""
    content = read_bytes(path, "the model file")
    try:
        whole = torch.load(io.BytesIO(content), weights_only=True)
        scales = Scales(**json.loads(whole[KEY]))
        state = {name: whole["state_dict"][name] for name in ("0.weight", "0.bias", "2.weight")}
        _check_fit(state, scales)
    except Exception as error:  # a damaged file raises anything, and is refused
        raise InputError(
            f"{path} is no model of `convexlib fit`, or is damaged ({type(error).__name__}); "
            "expected the .model.pt file that it wrote."
        ) from error
    return state, scales
