"""From records to the table of targets: aimed at, measured, met or missed, and why."""

from __future__ import annotations

import statistics
import tomllib
from pathlib import Path
from typing import Any

from convexlib.errors import DataError
from experiments import runner

Record = dict[str, Any]
Target = dict[str, Any]
Row = dict[str, Any]

TARGETS = Path(__file__).with_name("targets.toml")
GATED = ("gated", "path", "grid")  # suites of gated programs, unless a target says otherwise
VIOLATION = 1e-12  # what our solutions may be outside of their cones


def load(place: Path) -> list[Record]:
    """Return the records of a folder, none if there is none."""
    try:
        return runner.records(place.name, place.parent)
    except DataError:
        return []


def targets() -> list[Target]:
    return tomllib.loads(TARGETS.read_text(encoding="utf8"))["target"]


def chosen(
    records: list[Record], suite: str, instance: str, ratio: float, method: str, gated: bool
) -> list[Record]:
    """The repeats of one measurement."""
    wanted = (suite, instance, ratio, method, gated)
    return [record for record in records if key(record["config"]) == wanted]


def key(config: dict[str, Any]) -> tuple[Any, ...]:
    """What the repeats of one measurement have in common."""
    return tuple(config[name] for name in ("suite", "instance", "ratio", "method", "gated"))


def seconds(repeats: list[Record]) -> float | None:
    """The median time, None unless every repeat has got there."""
    if not repeats or not all(record["result"]["reached"] for record in repeats):
        return None
    return statistics.median(record["result"]["seconds"] for record in repeats)


def row(target: Target, records: list[Record]) -> Row:
    """One line of the table; ``met`` is None where something has not been measured or decided."""
    gated = target.get("gated", target["suite"] in GATED)
    case = (target["suite"], target["instance"], target["ratio"])
    named = {"columns": "columns", "path": "path", "global": "globally"}
    method = named.get(target["kind"], "solve")
    own = chosen(records, *case, f"ours.{method}", gated)
    peers = {name: chosen(records, *case, name, gated) for name in target["peers"]}
    blank = {"what": target["what"], "limit": target["limit"], "kind": target["kind"]}
    blank |= {"ours": None, "peer": None, "by": "", "measured": None, "met": None, "reason": ""}
    if not own or not all(peers.values()):
        return blank
    found = {**blank, **KINDS[target["kind"]](own, peers)}
    measured = found["measured"]
    found["met"] = measured is not None and measured <= target["limit"] and found.pop("valid", True)
    found.pop("valid", None)
    if not found["met"]:
        found["reason"] = target["reason"]
        if found.get("beyond") and measured is not None:
            # The ratio is an upper bound, so it proves no miss.
            found |= {"met": None, "reason": "the peer did not get there within its limit"}
    return found


def _ratio(own: list[Record], peers: dict[str, list[Record]]) -> Row:
    """Time to accuracy over that of the fastest peer; a peer that never got there had its limit."""
    ours = seconds(own)
    worst = max(record["result"].get("violation", 0.0) for record in own)
    times = {name: seconds(found) for name, found in peers.items()}
    reached = {name: time for name, time in times.items() if time is not None}
    if reached:
        by = min(reached, key=lambda name: reached[name])
        peer, beyond = reached[by], False
    else:
        by, beyond = next(iter(peers)), True
        peer = max(found[0]["config"]["limit"] for found in peers.values())
    measured = None if ours is None else ours / peer
    return {
        "ours": ours, "peer": peer, "by": by, "beyond": beyond, "measured": measured,
        "repeats": len(own), "valid": worst <= VIOLATION,
    }  # fmt: skip


def _memory(own: list[Record], peers: dict[str, list[Record]]) -> Row:
    """Memory that the solve adds, over that of the fastest peer."""
    found = _ratio(own, peers)
    ours, peer = (
        statistics.median(record["result"]["added_mb"] for record in repeats)
        for repeats in (own, peers[found["by"]])
    )
    return {**found, "ours": ours, "peer": peer, "measured": ours / peer if peer else None}


def _seconds(own: list[Record], peers: dict[str, list[Record]]) -> Row:
    time = seconds(own)
    return {"ours": time, "measured": time, "repeats": len(own)}


def _columns(own: list[Record], peers: dict[str, list[Record]]) -> Row:
    """Total time over that of the sweep with the best network; the objective must not be worse."""
    best = min((r for found in peers.values() for r in found), key=lambda r: r["result"]["value"])
    ours, sweep = own[0]["result"], best["result"]
    options = best["config"]["options"]
    history = own[0]["result"]["facts"].get("history", [])
    passed = next((t for t, primal, _ in history if primal <= sweep["value"]), None)
    return {
        "ours": ours["seconds"], "peer": sweep["seconds"],
        "by": options.get("optimizer") or f"MLPRegressor, {options['solver']}",
        "measured": ours["seconds"] / sweep["seconds"], "valid": ours["value"] <= sweep["value"],
        "objective": ours["value"], "peer_objective": sweep["value"], "passed_after": passed,
    }  # fmt: skip


def _path(own: list[Record], peers: dict[str, list[Record]]) -> Row:
    """Time of the path over that of one cold solve."""
    ratios, times = [], []
    for record in own:
        (whole, *_), (cold, *_) = record["result"]["timings"]
        ratios.append(whole / cold)
        times.append((whole, cold))
    middle = sorted(range(len(own)), key=lambda index: ratios[index])[len(own) // 2]
    valid = all(r["result"]["facts"]["worst_gap"] <= r["config"]["tol"] for r in own)
    whole, cold = times[middle]
    return {
        "ours": whole, "peer": cold, "by": "cold", "measured": ratios[middle],
        "repeats": len(own), "valid": valid,
    }  # fmt: skip


def _global(own: list[Record], peers: dict[str, list[Record]]) -> Row:
    """Time to a rigorous gap, the proof from the network included."""
    result = own[0]["result"]
    facts = result["facts"]
    if "relative_gap" not in facts:
        return {"measured": None}
    total = result["seconds"] + facts["proof_seconds"]
    valid = facts["rigorous"] and facts["relative_gap"] <= own[0]["config"]["tol"]
    return {
        "ours": total, "measured": total, "valid": valid, "gap": facts["relative_gap"],
        "solve": result["seconds"], "proof": facts["proof_seconds"],
    }  # fmt: skip


KINDS = {
    "ratio": _ratio,
    "memory": _memory,
    "seconds": _seconds,
    "columns": _columns,
    "path": _path,
    "global": _global,
}


def text(records: list[Record]) -> str:
    """Return the table of targets as text."""
    lines = [f"{'target':96} {'aim':>8} {'measured':>9} {'ours':>9} {'peer':>9}  verdict"]
    for target in targets():
        found = row(target, records)
        numbers = [found["limit"], found["measured"], found["ours"], found["peer"]]
        shown = [f"{number:.3g}" if number is not None else "-" for number in numbers]
        unknown = "no record" if found["measured"] is None else "undecided"
        verdict = {True: "met", False: "missed", None: unknown}[found["met"]]
        reason = f": {found['reason']}" if found["reason"] else ""
        lines.append(
            f"{found['what']:96} {shown[0]:>8} {shown[1]:>9} {shown[2]:>9} {shown[3]:>9}  "
            f"{verdict}{reason}"
        )
    return "\n".join(lines)
