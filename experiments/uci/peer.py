"""The paper's own solver on the UCI problems: R-FISTA of pyscnn, on the gated program.

pyscnn needs an environment of its own (``make bench`` makes it, in a checkout), so a child process
runs there. It has the data and the gates of the method *gated* and as much processor time for each
problem as `configs` says. R-FISTA ends before that when its shortest subgradient is short. The
network of the best weights that it met is scored by the referee of all methods. Several outputs
are solved at once, as the paper does. Imports and conversions are not timed.

It runs on the smaller tables::

    python -m experiments.uci.peer 700       # tables of at most 700 rows

goes on where an earlier run stopped, and puts its records beside those of the other methods.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from torch import from_numpy

from convexlib import datasets
from convexlib.datasets import list_uci
from convexlib.errors import DataError, SolverError
from convexlib.problems.vector_output import VectorOutput
from convexlib.training import now
from experiments import runner
from experiments.records import SOURCE
from experiments.uci import CONVEX, LAMBDAS
from experiments.uci.methods import curve, load, patterns, scores

PYTHON = SOURCE / "benchmarks" / ".venv" / "bin" / "python"
POOLS = ("OMP", "MKL", "OPENBLAS", "NUMBA")
LIMIT = 15.0  # seconds of processor time
SHORT = 1e-14  # squared length of a subgradient (pyscnn's default is 1e-6)


def configs(profile: str = "full", rows: int = 700) -> list[dict[str, Any]]:
    """Return the configurations of the tables of at most so many rows, smaller ones first."""
    known = datasets.catalogue()
    names = [name for name in list_uci() if known[name].shape[0] <= rows]
    options = {"patterns": CONVEX["gated"]["patterns"], "limit": LIMIT, "tol": SHORT}
    return [
        {"data": name, "lambda": value, "method": "pyscnn", "device": "cpu", **options}
        for name in sorted(names, key=lambda name: (known[name].shape, name))
        for value in LAMBDAS[::-1]
    ]


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """Run pyscnn on one problem."""
    runner.check_config(config, configs)
    return pyscnn(config)


def pyscnn(config: dict[str, Any]) -> dict[str, Any]:
    """Solve the gated program by pyscnn's R-FISTA, in a process of its own.

    Raises
    ------
    DataError
        If the peers' environment is not there.
    SolverError
        If the child fails or leaves no weights.

    Notes
    -----
    Checked by `tests/experiments/test_uci_peer.py`.
    """
    if not PYTHON.exists():
        raise DataError(
            f"{PYTHON} is missing; expected the environment of the peers, with pyscnn. In a "
            "checkout, `make bench` makes it."
        )
    task = load(config)
    X, n = task.X, len(task.X)
    began = now(X)
    arrangements = patterns(X, config["patterns"])
    setup = now(X) - began
    beta = n * config["lambda"]
    program = VectorOutput(X, task.Y, beta=beta, arrangements=arrangements, gated=True)
    settings = {
        "method": "scnn_outputs.gated",
        "gated": True,
        "beta": beta,
        "tol": config["tol"],
        "threads": 1,
        "limit": config["limit"],
        "target": 0.0,
        "options": {},
    }
    masks, gates = arrangements.masks.numpy(), arrangements.gates.numpy()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "task.npz", X=X.numpy(), y=task.Y.numpy(), masks=masks, gates=gates)
        (folder / "task.json").write_text(json.dumps(settings), encoding="utf8")
        log = _child(folder)
        with np.load(folder / "0000.npz") as found:
            weights = from_numpy(found["weights"])  # (c, P, d)
    values = [line for line in log if "value" in line]
    seconds = np.array([setup, *(setup + line["seconds"] for line in values)])
    ending = next(line for line in log if "index" in line)
    network = program.to_network(weights.permute(1, 2, 0)[None])
    return {
        **scores(task, program.objective(network) / n, network),
        "program_value": program.value(weights.permute(1, 2, 0)[None]) / n,
        "patterns": len(arrangements),
        "iterations": ending["iteration"],
        "ended": ending["label"] == "terminated",
        "pyscnn": log[-1]["versions"]["pyscnn"],
        "seconds": round(setup + ending["seconds"], 4),
        "curve": curve(
            seconds, np.array([0.5 * float((task.Y**2).sum()), *(v["value"] for v in values)]) / n
        ),
    }


def _child(folder: Path) -> list[dict[str, Any]]:
    """Run the child with one thread and return its log."""
    threads = {f"{pool}_NUM_THREADS": "1" for pool in POOLS}
    done = subprocess.run(
        [str(PYTHON), "-m", "benchmarks.child", str(folder)],
        cwd=SOURCE,
        env={**os.environ, **threads, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not (folder / "0000.npz").exists():
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise SolverError(
            f"pyscnn's process ended with status {done.returncode} ({last}); expected weights. A "
            "negative status is a signal: too little memory, or an iteration longer than the limit."
        )
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


if __name__ == "__main__":
    runner.run("uci", compute, configs("full", *map(int, sys.argv[1:])), jobs=1)
