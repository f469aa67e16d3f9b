"""One measurement: a configuration runs in a process of its own, and the referee scores it."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.instances import Instance, instance
from benchmarks.referee import Referee, excess, network_objective

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / "benchmarks" / ".venv" / "bin" / "python"
START_UP = 120.0  # seconds that imports and compilation may take beside the solve
POOLS = ("OMP", "MKL", "OPENBLAS", "NUMBA", "VECLIB_MAXIMUM", "NUMEXPR")


class MeasurementError(RuntimeError):
    """The method raised an error: that is no measurement, and leaves no record."""


Log = list[dict[str, Any]]
cached_instance = lru_cache(maxsize=4)(instance)


def measure(config: dict[str, Any]) -> dict[str, Any]:
    """Run and score a configuration (see `benchmarks.suites`); what is returned is the record."""
    data = cached_instance(config["instance"])
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        beta = config["ratio"] * (data.beta_max if len(data.masks) else 1.0)
        ending = _spawn(folder, config, data, beta)
        log = _read_log(folder)
        report = {"network": _networks, "program": _programs}[config["scores"]]
        result = report(folder, config, data, beta, [line for line in log if "index" in line])
    peaks, before = ([line[name] for line in log] for name in ("peak_mb", "before_mb"))
    facts = {key: value for line in log for key, value in line.items() if key not in OWN}
    if not result["reached"] and ending:
        result["ending"] = ending
    return {
        **result,
        "beta": facts.get("beta", beta),
        "sizes": [*data.X.shape, len(data.masks)],
        "peak_mb": round(max(peaks, default=0.0), 1),
        "added_mb": round(max(peaks, default=0.0) - min(before, default=0.0), 1),
        "facts": facts,
        "machine": {**machine(), "load_before": load},
    }


OWN = ("seconds", "index", "label", "peak_mb", "before_mb", "done", "iteration")


def is_ours(config: dict[str, Any]) -> bool:
    """Whether no peer, and hence no environment of theirs, is needed."""
    return bool(config["method"].startswith("ours."))


def _spawn(folder: Path, config: dict[str, Any], data: Instance, beta: float) -> str:
    """Run the child to its end or the time limit; say how it ended, "" for well."""
    np.savez(folder / "task.npz", X=data.X, y=data.y, masks=data.masks, gates=data.gates)
    keys = ("method", "gated", "tol", "threads", "limit", "options")
    task = {key: config[key] for key in keys}
    accuracy = config["accuracy"]
    # Half of the accuracy's last digit is left to the lower bound's own distance.
    task |= {"beta": beta, "target": config.get("lower", 0.0) / (1.0 - accuracy)}
    (folder / "task.json").write_text(json.dumps(task), encoding="utf8")
    python = sys.executable if is_ours(config) else str(PEERS)
    threads = {f"{pool}_NUM_THREADS": str(config["threads"]) for pool in POOLS}
    cuda = {} if config["options"].get("device") == "cuda" else {"CUDA_VISIBLE_DEVICES": ""}
    command = [python, "-m", "benchmarks.child", str(folder)]
    patience = 1.5 * config["limit"] + START_UP  # the child keeps its limit itself
    with (folder / "errors.txt").open("w") as errors:
        try:
            done = subprocess.run(
                command, cwd=ROOT, env={**os.environ, **threads, **cuda}, timeout=patience,
                stdout=errors, stderr=errors, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return "time limit"
    if done.returncode in (-signal.SIGPROF, -signal.SIGALRM):
        return "time limit"
    if done.returncode <= 0:  # negative: killed, which happens to what takes too much memory
        return f"killed by signal {-done.returncode}" if done.returncode else ""
    tail = (folder / "errors.txt").read_text(encoding="utf8", errors="replace").strip()
    raise MeasurementError(tail.splitlines()[-1] if tail else f"exit status {done.returncode}")


def _read_log(folder: Path) -> Log:
    path = folder / "log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _programs(
    folder: Path, config: dict[str, Any], data: Instance, beta: float, moments: Log
) -> dict[str, Any]:
    """Score the weights of a program: the first that are good enough, else the last."""
    referee = Referee(data.X, data.y, data.masks, beta, config["gated"])
    reached: dict[str, Any] | None = None
    curve = []
    for moment in moments:
        with np.load(folder / f"{moment['index']:04}.npz") as arrays:
            weights, z = arrays["weights"], arrays.get("z")
        own = z is not None or "lower" not in config
        score = referee.score(weights, z) if own else None
        value = score.value if score else referee.value(weights)
        above = excess(value, max(config.get("lower", 0.0), score.lower if score else 0.0))
        # Ours has to prove its gap; of a peer, which has no bound, only the value is asked.
        measured = score.gap if score else above
        violation = referee.violation(weights)
        curve.append([_digits(moment["seconds"]), _digits(above), _digits(violation)])
        good = measured <= config["accuracy"] and moment["seconds"] <= config["limit"]
        if good or moment is moments[-1]:
            final = score or referee.score(weights, z)
            reached = {
                "reached": good,
                "seconds": moment["seconds"],
                "label": moment["label"],
                "value": final.value,
                "lower": final.lower,
                "gap": final.gap,
                "excess": above,
                "violation": violation,
            }
            if good:
                break
    timings = [[moment["seconds"], moment["label"]] for moment in moments]
    return {**(reached or {"reached": False}), "curve": curve, "timings": timings}


def _networks(
    folder: Path, config: dict[str, Any], data: Instance, beta: float, moments: Log
) -> dict[str, Any]:
    """Score networks by their training objective; the best one counts, at the total time."""
    values = []
    beta = next((moment["beta"] for moment in moments if "beta" in moment), beta)
    for moment in moments:
        with np.load(folder / f"{moment['index']:04}.npz") as arrays:
            weights = arrays["U"], arrays["alpha"], beta, arrays.get("free", 0.0)
            value = network_objective(data.X, data.y, *weights)
        values.append([moment["label"], _digits(moment["seconds"]), value])
    if not values:
        return {"reached": False, "runs": []}
    best, total = min(value for *_, value in values), max(seconds for _, seconds, _ in values)
    return {"reached": True, "seconds": total, "value": best, "runs": values}


def _digits(value: float) -> float:
    return float(f"{value:.6g}")


def machine() -> dict[str, Any]:
    """Return what the timings depend on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {"cpu": models[0] if models else platform.machine(), "cores": os.cpu_count()}
