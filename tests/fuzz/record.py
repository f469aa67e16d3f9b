"""The summary of a long run that is kept in results/fuzz: what was tried, and what came of it."""

import hashlib
import json
import platform
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Any

from tests.fuzz.judge import LIMIT, VALID

PACKAGES = ("convexlib", "hypothesis", "numpy", "torch", "numba", "scipy", "scikit-learn", "cvxpy")
ROOT = Path(__file__).resolve().parents[2]


def merge(path: Path, entries: dict[str, dict[str, Any]], seed: int) -> None:
    """Write the outcomes of some entries, beside those of the others that the file holds."""
    kept = json.loads(path.read_text())["entries"] if path.exists() else {}
    every = dict(sorted((kept | entries).items()))
    outcomes: Counter[str] = Counter()
    for found in every.values():
        outcomes.update(found["outcomes"])
    record = {
        "command": "python -m tests.fuzz",
        "seed": seed,
        "inputs": sum(outcomes.values()),
        "valid": outcomes[VALID],
        "faults": sum(len(found["faults"]) for found in every.values()),
        "processor_seconds": round(sum(found["processor_seconds"] for found in every.values()), 1),
        "limit_seconds": LIMIT,
        "outcomes": dict(outcomes.most_common()),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "entries": every,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")


def source() -> str:
    """The sha256 of the library's code, which says what was fuzzed whatever the commit."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "convexlib").rglob("*.py")):
        digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]
