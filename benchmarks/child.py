"""One solve in a process of its own: ``python -m benchmarks.child FOLDER``.

The folder holds ``task.npz`` and ``task.json``. Whenever the method hands over weights they go to
``0000.npz, 0001.npz, ...`` and a line to ``log.jsonl``, so that a process that is stopped at its
time limit leaves what it had reached. This file and `benchmarks.peers` import nothing of
convexlib: they also run in the peers' environment, which does not have it.
"""

from __future__ import annotations

import importlib
import json
import resource
import signal
import sys
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

# A ladder of tolerances takes longer in all, though each rung must keep the limit; the pauses of
# pyscnn's callback do not count.
PATIENCE = {"lasso_peers": 1.5, "scnn_peer": 1.2, "scnn_outputs": 5.0}
# Processor time, of all threads, does not depend on what else the machine does; a GPU has none.
CLOCKS = {
    "cpu": (time.process_time, signal.ITIMER_PROF),
    "cuda": (time.perf_counter, signal.ITIMER_REAL),
}
VERSIONS = (
    "adelie celer clarabel convexlib cvxpy ecos numba numpy pyscnn qoco scikit-learn scs skglm"
    " torch"
)


@dataclass(frozen=True)
class Task:
    """What a method is asked for; `options` belong to the method."""

    X: np.ndarray
    y: np.ndarray
    masks: np.ndarray
    gates: np.ndarray
    beta: float
    gated: bool
    tol: float
    threads: int
    limit: float
    target: float
    options: dict[str, Any]


class Output:
    """Takes weights from a method; `seconds` is what the method itself measured."""

    def __init__(self, folder: Path, patience: float, device: str = "cpu") -> None:
        self.folder, self.patience = folder, patience
        self.now, self.timer = CLOCKS[device]
        self.count = 0
        self.baseline = 0.0

    def begin(self) -> float:
        """Note the memory in use, start the time limit at the first solve, return the clock.

        The signal ends the process whatever compiled code it is in.
        """
        if not self.baseline:
            signal.setitimer(self.timer, self.patience)
        self.baseline = peak_memory()
        return self.now()

    def __call__(self, seconds: float, *, arrays: dict[str, Any], **facts: Any) -> None:
        """Keep arrays and facts of a moment `seconds` into the solve."""
        np.savez(self.folder / f"{self.count:04}.npz", **arrays)
        self.write(seconds=seconds, index=self.count, **facts)
        self.count += 1

    def write(self, **facts: Any) -> None:
        """Append a line to the log."""
        facts |= {"peak_mb": peak_memory(), "before_mb": self.baseline}
        with (self.folder / "log.jsonl").open("a", encoding="utf8") as log:
            log.write(json.dumps(facts) + "\n")


def peak_memory() -> float:
    """Return the largest resident size so far, in MB.

    Linux hands getrusage's maximum down from the parent that forked this process, so the
    process's own high-water mark is read where there is one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    unit = 1024**2 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def versions() -> dict[str, str]:
    """Return the versions of what is installed here."""
    found = {}
    for name in VERSIONS.split():
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def main(folder: Path) -> None:
    """Run the method that the folder's task names."""
    config = json.loads((folder / "task.json").read_text(encoding="utf8"))
    module, _, method = config.pop("method").partition(".")
    with np.load(folder / "task.npz") as arrays:
        task = Task(**arrays, **config)
    patience = task.limit * PATIENCE.get(module, 1.0)
    output = Output(folder, patience, task.options.get("device", "cpu"))
    run = getattr(importlib.import_module(f"benchmarks.{module}"), method)
    run(task, output)
    output.write(done=True, versions=versions())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
