"""`convexlib predict MODEL.pt DATA.csv`: what a file of `convexlib fit` keeps, and its use."""

from __future__ import annotations

import argparse
import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from convexlib.cli.console import DONE, check_writable, read_bytes, write
from convexlib.cli.tables import Table, add_table_options, load_table
from convexlib.errors import InputError

KEY = "convexlib.fit"  # of the entry of a model file that has what is no weight


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
    means, sizes : of the features
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
        sizes = table.X.std(axis=0)
        height = 1.0 if classify else float(table.y.std())
        return cls(
            features=list(table.features),
            target=table.targets[0],
            means=table.X.mean(axis=0).tolist(),
            sizes=np.where(sizes > 0.0, sizes, 1.0).tolist(),
            classes=sorted(set(table.y.tolist())) if classify else None,
            level=0.0 if classify else float(table.y.mean()),
            height=height or 1.0,
            beta=1.0,
        )

    def standard(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Features in standard units."""
        result: NDArray[np.float64] = (X - np.array(self.means)) / np.array(self.sizes)
        return result


def run_predict(chosen: argparse.Namespace) -> int:
    """Read a model and a table with its columns, and write a prediction for each row."""
    if chosen.out is not None:
        check_writable(chosen.out)
    state, scales = _loaded(chosen.model)
    table = load_table(
        chosen.data, None, header=not chosen.no_header, delimiter=chosen.delimiter,
        decimal=chosen.decimal, features=scales.features,
    )  # fmt: skip
    inputs = torch.from_numpy(scales.standard(table.X))
    hidden = (inputs @ state["0.weight"].T + state["0.bias"]).relu()
    outputs = (hidden @ state["2.weight"].T).numpy()
    if scales.classes is None:
        found = [f"{value:.17g}" for value in scales.level + scales.height * outputs[:, 0]]
    elif len(scales.classes) == 2:
        found = [scales.classes[int(value > 0)] for value in outputs[:, 0]]
    else:
        found = [scales.classes[place] for place in outputs.argmax(axis=1)]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([scales.target])
    writer.writerows([value] for value in found)
    if chosen.out is None:
        print(stream.getvalue(), end="")
    else:
        write(chosen.out, stream.getvalue().encode())
    return DONE


def _loaded(path: Path) -> tuple[dict[str, torch.Tensor], Scales]:
    """The weights and scales of a model file."""
    content = read_bytes(path, "the model file")
    try:
        saved = torch.load(io.BytesIO(content), weights_only=True)
        scales = Scales(**json.loads(saved[KEY]))
        state = {name: saved["state_dict"][name] for name in ("0.weight", "0.bias", "2.weight")}
    except Exception as error:  # a damaged file raises anything, and is refused
        raise InputError(
            f"{path} is no model of `convexlib fit`, or is damaged ({type(error).__name__}); "
            "expected the .model.pt file that it wrote."
        ) from error
    return state, scales
