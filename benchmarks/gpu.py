"""The same on a CUDA device, in one command: ``python -m benchmarks.gpu``.

* equality: instances s, a, c and d5, solved in float64 on the CPU and on the device;
* size: instance b scaled to n = 50,000 samples and P = 4,000 patterns, gated, to a certified 1e-4;
* pyscnn on the same card, where the peers' environment has a torch that finds it.

Writes results/benchmarks/gpu-equality.json, gpu-large.json and gpu-pyscnn.json as they come. Exit
codes: 0 done, 1 a result missed its tolerance, 2 no CUDA device.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch

import convexlib as cl
from benchmarks.instances import Instance, instance
from benchmarks.measure import PEERS, measure
from benchmarks.referee import Referee
from benchmarks.suites import config
from convexlib.errors import ConvergenceWarning
from experiments import runner

EQUAL = 1e-7  # relative difference of two values that are each within a gap of 1e-8
GAP = 1e-4
SMALL = [("s", True), ("a", True), ("c", True), ("d5", True), ("s", False), ("a", False)]


def solved(data: Instance, beta: float, gated: bool, tol: float, device: str) -> dict[str, Any]:
    """Solve on a device and let the referee score it on the CPU."""
    X, y, masks, gates = (
        torch.from_numpy(array).to(device) for array in (data.X, data.y, data.masks, data.gates)
    )
    problem = cl.TwoLayer(X, y, beta=beta, arrangements=cl.Arrangements(masks, gates), gated=gated)
    cuda = device == "cuda"
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the referee scores it
        result = cl.solve(problem, tol=tol)
    if cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    score = Referee(data.X, data.y, data.masks, beta, gated).score(
        result.weights.cpu().numpy(), result.z.cpu().numpy()
    )
    return {
        "seconds": seconds,
        "value": score.value,
        "lower": score.lower,
        "gap": score.gap,
        "violation": score.violation,
        "steps": result.n_iter,
        "status": result.status.name,
        "peak_mb": torch.cuda.max_memory_allocated() / 2**20 if cuda else None,
    }


def equality(small: list[tuple[str, bool]]) -> dict[str, Any]:
    """The CPU's and the device's values on small instances, second runs timed."""
    rows = []
    for name, gated in small:
        data = instance(name)
        beta = 1e-2 * data.beta_max
        runs = {}
        for device in ("cpu", "cuda"):
            solved(data, beta, gated, 1e-2, device)  # compiles and initialises
            runs[device] = solved(data, beta, gated, 1e-8, device)
        difference = abs(runs["cpu"]["value"] - runs["cuda"]["value"]) / runs["cpu"]["value"]
        rows.append({"instance": name, "gated": gated, "difference": difference, **runs})
        print(f"{name:3} {'gated' if gated else 'relu':5} relative difference {difference:.1e}")
    return {"rows": rows, "met": all(row["difference"] <= EQUAL for row in rows)}


def large(n: int, n_patterns: int) -> dict[str, Any]:
    """The scaled instance, gated, twice: the second is free of initialisation."""
    data = instance(f"{n}x50x{n_patterns}")
    beta = 1e-2 * data.beta_max
    solved(instance("s"), 0.1, True, 1e-2, "cuda")
    runs = [solved(data, beta, True, GAP, "cuda") for _ in range(3)]
    best = min(runs, key=lambda run: run["seconds"])
    print(f"n = {n}, P = {n_patterns}: {best['seconds']:.2f} s, certified gap {best['gap']:.1e}")
    return {"n": n, "d": 50, "P": n_patterns, "runs": runs, "met": best["gap"] <= GAP}


def pyscnn(n: int, n_patterns: int, lower: float) -> dict[str, Any]:
    """R-FISTA of pyscnn on the same card, in both precisions, to the same sub-optimality."""
    if not PEERS.exists():
        return {"runs": [], "note": "the peers' environment is not installed"}
    runs = []
    for dtype in ("float32", "float64"):
        wanted = config(
            "gpu", f"{n}x50x{n_patterns}", 1e-2, "scnn_peer.gated",
            accuracy=GAP, limit=200.0, lower=lower, options={"device": "cuda", "dtype": dtype},
        )  # fmt: skip
        found = measure(wanted)
        runs.append({"dtype": dtype, **found})
        print(f"pyscnn {dtype}: {found.get('seconds')} s, excess {found.get('excess')}")
    return {"runs": runs}


def write(folder: Path, name: str, body: dict[str, Any]) -> None:
    """Keep a result with what it was measured on."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {**body, "environment": runner.environment("cuda")}
    path = folder / f"gpu-{name}.json"
    path.write_text(json.dumps(record, sort_keys=True, indent=1) + "\n", encoding="utf8")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--n", type=int, default=50_000, help="samples (50,000)")
    parser.add_argument("--patterns", type=int, default=4_000, help="patterns (4,000)")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print(
            f"torch {torch.__version__} finds no CUDA device; this script needs one. The "
            "comparison on a CPU is `make bench`.",
            file=sys.stderr,
        )
        return 2
    folder = runner.results_dir() / "benchmarks"
    same = equality(SMALL)
    write(folder, "equality", same)
    size = large(options.n, options.patterns)
    write(folder, "large", size)
    lower = max(run["lower"] for run in size["runs"])
    peer = pyscnn(options.n, options.patterns, lower)
    write(folder, "pyscnn", peer)
    return 0 if same["met"] and size["met"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
