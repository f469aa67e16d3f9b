"""Rules on the time of solvers, from the benchmarks."""

from __future__ import annotations

import json
from typing import Any

from claim_rules.verdicts import NOT_ATTEMPTED, Finding, graded
from experiments.records import results_dir


def summary() -> dict[str, Any]:
    """Return the summary of the benchmarks."""
    path = results_dir() / "benchmarks" / "summary.json"
    return dict(json.loads(path.read_text(encoding="utf8")))


def faster_than_interior_points() -> Finding:
    """Compare pyscnn, the authors' package, with the interior-point solvers of CVXPY.

    Over the cases that have both, reproduced if it needs less time than the fastest of them in
    each; in part if in some. The commercial solver of the paper is not among them.
    """
    pairs = []
    for case in summary()["times"]:
        times = case["seconds"]
        inner = [times[m] for m in times if m.startswith("cvxpy_peer") and "scs" not in m]
        own = [times[m] for m in times if m.startswith("scnn_peer")]
        if inner and own:
            pairs.append((own[0], min(inner), case))
    wins = [own is not None and own < inner for own, inner, _ in pairs]
    text = "; ".join(
        f"{'gated' if case['gated'] else 'ReLU'} {case['instance']}: "
        f"{'not within its limit' if own is None else f'{own:.2g} s'} against {inner:.2g} s"
        for own, inner, case in pairs
    )
    return text, graded(all(wins), any(wins))


def gpu() -> Finding:
    """Look for the record of a GPU.

    Not attempted while none is stored; reproduced if one is and its gap is below 1e-4.
    """
    path = results_dir() / "benchmarks" / "gpu-large.json"
    if not path.is_file():
        return "0 records of a GPU; `python -m benchmarks.gpu` would make them", NOT_ATTEMPTED
    result = json.loads(path.read_text(encoding="utf8"))
    run = min(result["runs"], key=lambda run: float(run["seconds"]))
    text = (
        f"{run['seconds']:.3g} s to a certified gap of {run['gap']:.1e} for n = {result['n']}, "
        f"P = {result['P']}"
    )
    return text, graded(result["met"])


RULES = (
    faster_than_interior_points,
    gpu,
)
