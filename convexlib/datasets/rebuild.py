"""Rebuild tables of 2014 from the raw tables of the UCI repository that packages hold.

How those tables were made: nominal value k of K is coded 2 k / (K - 1) - 1, a missing value 0;
columns that are constant are left out, the others brought to mean 0 and standard deviation 1 (with
n - 1) and written with %g. The sha256 of the result decides whether a recipe is right.

`INSTALLED` names the tables that scikit-learn's own data files give, which are there wherever
convexlib is; `data/recipes/uci_recipes.py` has the recipes for other packages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np

SCIKIT_LEARN = "scikit-learn"
MISSING = ("?", "")


@dataclass(frozen=True)
class Recipe:
    """A file and its columns.

    Attributes
    ----------
    place, file
        The package and its folder; the file there.
    columns
        Those of the features; by default all but `label`, the column of the class.
    classes, bins
        Values of the class in the order of the numbers 0, 1, ...; or the thresholds at which a
        number passes to the next class. By default the values in increasing order.
    nominal
        For columns of words: the values in the order of their codes, or the codes.
    separator, skip, rows
        A regular expression; the lines before the first row; the number of rows to take.
    """

    place: tuple[str, str]
    file: str
    columns: Sequence[int] | None = None
    label: int = -1
    classes: Sequence[str] | None = None
    bins: Sequence[float] = ()
    nominal: Mapping[int, Sequence[str] | Mapping[str, float]] = field(default_factory=dict)
    separator: str = r"\s*,\s*"
    skip: int = 0
    rows: int | None = None


PLACE = (SCIKIT_LEARN, "datasets/data/")
INSTALLED = {
    "breast-cancer-wisc-diag": Recipe(PLACE, "breast_cancer.csv", classes=("1", "0"), skip=1),
    "wine": Recipe(PLACE, "wine_data.csv", skip=1),
}


def installed(name: str) -> Path | None:
    """Return the file of scikit-learn that a table is rebuilt from; None where there is none."""
    if name not in INSTALLED:
        return None
    recipe = INSTALLED[name]
    package = find_spec("sklearn")  # found, and not imported, which takes a while
    if package is None or package.origin is None:
        return None
    path = Path(package.origin).parent / recipe.place[1] / recipe.file
    return path if path.is_file() else None


def rebuild(recipe: Recipe, text: str) -> bytes:
    """Return the table's bytes: a header, then row number, features and class.

    Raises
    ------
    ValueError, KeyError, IndexError
        If the text is not the file that the recipe describes.
    """
    lines = [line.strip("\r\n ") for line in text.splitlines()[recipe.skip :]]
    lines = [line for line in lines if line.strip() and not line.startswith("@")][: recipe.rows]
    split = re.compile(recipe.separator).split
    table = [[cell.strip().strip('"') for cell in split(line)] for line in lines]
    width = len(table[0])
    label = recipe.label % width
    places = recipe.columns
    if places is None:
        places = [place for place in range(width) if place != label]
    coded = [_codes([row[place] for row in table], recipe.nominal.get(place)) for place in places]
    columns = [_standardised(column) for column in coded if column.std() > 0]
    classes = labels([row[label] for row in table], recipe)
    header = "".join(f"\tf{k + 1}" for k in range(len(columns))) + "\tclase\n"
    body = [
        "\t".join([str(i + 1), *(f"{value:g}" for value in values), f"{classes[i]}\n"])
        for i, values in enumerate(zip(*columns, strict=True))
    ]
    return (header + "".join(body)).encode()


def labels(cells: list[str], recipe: Recipe) -> list[int]:
    """Return the classes as numbers."""
    if recipe.bins:
        return [int(np.searchsorted(recipe.bins, float(cell), side="right")) for cell in cells]
    ordered = list(recipe.classes or sorted(set(cells), key=lambda cell: (len(cell), cell)))
    return [ordered.index(cell) for cell in cells]


def _codes(cells: list[str], nominal: Sequence[str] | Mapping[str, float] | None) -> np.ndarray:
    """Return a column as numbers; missing values are 0."""
    if isinstance(nominal, Mapping):
        known = dict(nominal)
    elif nominal is not None:
        known = {name: 2 * k / (len(nominal) - 1) - 1 for k, name in enumerate(nominal)}
    else:
        known = {cell: float(cell) for cell in set(cells) - set(MISSING)}
    return np.array([0.0 if cell in MISSING else known[cell] for cell in cells])


def _standardised(column: np.ndarray) -> np.ndarray:
    """Return a column with mean 0 and standard deviation 1, summed from first to last."""
    n = len(column)
    centred = column - np.add.accumulate(column)[-1] / n
    return centred / np.sqrt(np.add.accumulate(centred**2)[-1] / (n - 1))
