"""What is measured: lists of configurations, in the interleaved order in which they run.

A case is measured over and over with all methods in turn, so that a slow minute of the machine
meets all of them. What is fast runs five times (the group Lassos three times), above `SLOW`
seconds three times, above `VERY_SLOW` or when it fails once.
"""

from __future__ import annotations

from typing import Any

Config = dict[str, Any]

THREADS = 1
REPEATS, SLOW, VERY_SLOW = 5, 5.0, 15.0
ACCURACY = 1e-6
THREE = ("ours.solve", "scnn_peer.gated", "lasso_peers.celer")
LASSOS = ("lasso_peers.celer", "lasso_peers.skglm", "lasso_peers.adelie")
GATED = (
    [("s", 1e-2), ("a", 1e-1), ("a", 1e-2), ("a", 1e-3), ("b", 1e-1), ("b", 1e-2)]
    + [("c", 1e-1), ("c", 1e-2), ("d5", 1e-1), ("d5", 1e-2)]
)  # fmt: skip
LASSO_CASES = [("s", 1e-2), ("a", 1e-2), ("a", 1e-3), ("b", 1e-2), ("c", 1e-2)]
CASES = ("s", "a", "b", "c", "d5")
GATED_FULL = [(name, ratio) for name in CASES for ratio in (1e-1, 1e-2, 1e-3)]
RELU = [("s", 1e-2), ("a", 1e-2), ("a", 1e-3)]
SCALING = {
    "n": [f"{n}x20x200" for n in (500, 1000, 2000, 4000, 8000, 20_000, 50_000)],
    "d": [f"1000x{d}x200" for d in (10, 20, 40, 80)],
    "P": [f"1000x20x{P}" for P in (100, 200, 400, 800, 1600)],
}
# Sizes and regularisations that a user may have: no dimension small in all of them.
GRID = (
    [("2000x50x1000", 1e-2), ("2000x10x5000", 1e-3), ("5000x10x5000", 1e-2), ("5000x20x1000", 1e-4)]
    + [("10000x50x200", 1e-1), ("10000x10x1000", 1e-3), ("10000x20x1000", 1e-2)]
    + [("20000x50x200", 1e-2), ("50000x10x200", 1e-1), ("50000x10x200", 1e-3)]
    + [("50000x10x1000", 1e-2), ("50000x50x200", 1e-1)]
)  # fmt: skip
ADAM_RATES = (0.1, 0.03, 0.01, 0.003)


def config(suite: str, instance: str, ratio: float, method: str, **changes: Any) -> Config:
    """One configuration; the defaults are those of a gated program."""
    base = {
        "suite": suite,
        "instance": instance,
        "ratio": ratio,
        "method": method,
        "gated": True,
        "scores": "program",
        "tol": ACCURACY,
        "accuracy": ACCURACY,
        "limit": 60.0,
        "threads": THREADS,
        "repeat": 0,
        "options": {},
    }
    return {**base, **changes}


def reference(instance: str, ratio: float, gated: bool) -> Config:
    """The solve whose lower bound every excess of a case refers to."""
    return config(
        "reference", instance, ratio, "ours.solve",
        gated=gated, tol=1e-8, accuracy=1e-8, limit=300.0,
    )  # fmt: skip


def gated(
    cases: list[tuple[str, float]], limit: float = 60.0, everything: bool = False
) -> list[Config]:
    """Gated programs: ours and pyscnn; the group Lassos and Clarabel where they keep up."""
    found = []
    for name, ratio in cases:
        methods = ["ours.solve", "scnn_peer.gated"]
        if everything or (name, ratio) in LASSO_CASES:
            methods += LASSOS
        if (name, ratio) in (("s", 1e-2), ("a", 1e-2)):
            methods.append("cvxpy_peer.clarabel")
        found += [config("gated", name, ratio, method, limit=limit) for method in methods]
    return found


def relu(cases: list[tuple[str, float]], limit: float = 120.0) -> list[Config]:
    """Programs with cones: ours, pyscnn's augmented Lagrangian (to 1e-3), CVXPY."""
    found = []
    for name, ratio in cases:
        shared = {"gated": False, "limit": limit}
        found.append(config("relu", name, ratio, "ours.solve", **shared))
        if ratio == 1e-2:
            found.append(config("relu", name, ratio, "scnn_peer.relu", **shared, accuracy=1e-3))
            solvers = ("qoco", "clarabel", "ecos", "scs") if name == "s" else ("qoco", "clarabel")
            found += [config("relu", name, ratio, f"cvxpy_peer.{s}", **shared) for s in solvers]
    return found


def columns(instance: str = "a", n_steps: int = 4000, width: int = 400) -> list[Config]:
    """Column generation and two sweeps of Adam, at the same beta."""
    shared = {"gated": False, "scores": "network", "limit": 300.0}
    sweep = {"rates": list(ADAM_RATES), "n_steps": n_steps, "width": width}
    ours = config("columns", instance, 1e-2, "ours.columns", **{**shared, "tol": 1e-3})
    sweeps = [{**sweep, "optimizer": kind} for kind in ("adam", "adam-cosine")]
    adams = [config("columns", instance, 1e-2, "ours.adam", **shared, options=s) for s in sweeps]
    # What a user would pick instead, with four seeds: a good start is a matter of luck.
    solvers = [{"solver": name, "width": width, "seeds": 4} for name in ("adam", "lbfgs")]
    mlps = [config("columns", instance, 1e-2, "ours.mlp", **shared, options=s) for s in solvers]
    return [ours, *adams, *mlps]


def threads() -> list[Config]:
    """Two threads, for the price of both: what they add to the processor time."""
    return [
        config("threads", name, 1e-2, method, threads=2)
        for name in ("a", "b", "c")
        for method in THREE
    ]


def path(instance: str = "a", n_betas: int = 50) -> list[Config]:
    """Fifty betas against one cold solve at the smallest."""
    options = {"n_betas": n_betas}
    return [
        config("path", instance, ratio, "ours.path", options=options, limit=300.0, gated=gated)
        for gated, ratio in ((True, 1e-2), (True, 1e-3), (False, 1e-2))
    ]


def globally(cases: list[tuple[str, float, float]]) -> list[Config]:
    """Proven optima over all networks: (instance, beta / beta_max, tolerance)."""
    shared = {"gated": False, "scores": "network", "limit": 420.0}
    return [
        config("global", name, ratio, "ours.globally", **shared | {"tol": tol})
        for name, ratio, tol in cases
    ]


GLOBAL = (
    [("ecg2x2000", 1e-1, 1e-6), ("ecg2x2000", 1e-2, 1e-6), ("ecg2x2000", 1e-3, 1e-6)]
    + [("ecg3x500", 1e-2, 1e-3), ("ecg4x500", 1e-2, 1e-3), ("ecg2x10000", 1e-2, 1e-6)]
)  # fmt: skip


def grid() -> list[Config]:
    """Time and memory at sizes up to n = 50,000; a limit of a minute for everyone."""
    return [config("grid", name, ratio, method) for name, ratio in GRID for method in THREE]


def scaling() -> list[Config]:
    """Time against n, d, P and beta; peers as long as they keep up with a limit of 30 s."""
    names = list(dict.fromkeys(name for names in SCALING.values() for name in names))
    cases = [(name, 1e-2) for name in names]
    cases += [("1000x20x200", ratio) for ratio in (1e-1, 1e-3, 1e-4)]
    return [
        config("scaling", name, ratio, method, limit=30.0)
        for name, ratio in cases
        for method in THREE
    ]


SUITES = ("gated", "relu", "threads", "columns", "path", "global", "grid", "scaling")


def suite(name: str, profile: str) -> list[Config]:
    """The first repeats of a suite in a profile: "quick", "default" or "full"."""
    quick, full = profile == "quick", profile == "full"
    small = [("s", 1e-2)]
    table = {
        "gated": gated(small, 10.0)
        if quick
        else gated(GATED_FULL if full else GATED, everything=full),
        "relu": relu(small, 10.0) if quick else relu(RELU),
        "columns": columns("s", 200, 50) if quick else columns(),
        "path": path("s", 10)[:1] if quick else path(),
        "global": globally([("ecg1x300", 1e-1, 1e-6)] if quick else GLOBAL),
        "threads": [] if quick else threads(),
        "grid": [] if quick else grid(),
        "scaling": scaling() if full else [],
    }
    return table[name]


def repeats(first: Config, record: dict[str, Any], wanted: int) -> list[Config]:
    """The further repeats of a measurement, from what its first one took."""
    result = record["result"]
    if not result["reached"] or first["suite"] in ("columns", "global"):
        return []
    count = 3 if first["method"].startswith("lasso") else REPEATS  # they compile every time
    if result["seconds"] > SLOW:
        count = min(count, 1 if result["seconds"] > VERY_SLOW else 3)
    options = first["options"]
    if result.get("label", "").startswith("tol "):
        options = {**options, "tolerances": [float(result["label"][4:])]}
    return [{**first, "options": options, "repeat": r} for r in range(1, min(count, wanted))]
