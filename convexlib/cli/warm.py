"""`convexlib warm`: compile every kernel, or load it where it is compiled."""

from __future__ import annotations

import argparse
import time
from typing import Any

from numba import types

from convexlib import runtime
from convexlib.cli.console import DONE, FAILED, complain, tell
from convexlib.cones import kernels, unit_cones
from convexlib.pricing import ascent, branch_and_bound, relaxation

REAL, WHOLE = types.float64, types.int64
REALS = {1: REAL[::1], 2: REAL[:, ::1], 3: REAL[:, :, ::1]}
WHOLES = {1: WHOLE[::1], 2: WHOLE[:, ::1]}
BOOLS = {1: types.boolean[::1], 2: types.boolean[:, ::1], 3: types.boolean[:, :, ::1]}
BYTES = {2: types.int8[:, ::1], 3: types.int8[:, :, ::1], 4: types.int8[:, :, :, ::1]}


def signatures() -> list[tuple[str, Any, tuple[Any, ...]]]:
    """The kernels that Python calls: their names, they themselves, the types of their arguments.

    Notes
    -----
    `tests/cli/test_warm.py` checks that the library calls them with no others.
    """
    one, two, three = REALS.values()
    index, table = WHOLES.values()
    state = (table, index, index, two, three, three, two)  # of a `ConeProjector`
    cones = (two, BYTES[2], index, two, REAL, *state, BOOLS[1], two, types.boolean)
    slope = (two, one, one, two, two, BOOLS[1], one, one, one)
    search = (two, one, one, one, one, REAL, one, REAL, REAL, WHOLE, one, one, index)
    stack, pool = (three, two, table, one, table, table), (index, two, one)
    units = (two, BOOLS[3], BYTES[4])
    ball = (types.boolean, REAL, REAL, one, one, two)
    return [
        ("project_few", kernels.project_few, cones),
        ("project_many", kernels.project_many, cones),
        ("climb", ascent._climb, (two, one, one, one, two, one, WHOLE)),
        ("value_of", branch_and_bound.value_of, (two, one, one, one)),
        ("shortest_slope", branch_and_bound.shortest_slope, slope),
        ("edge_to_halve", branch_and_bound.edge_to_halve, (two, one)),
        ("expand", branch_and_bound.expand, (*search, types.Tuple(stack), types.Tuple(pool))),
        ("penalise", relaxation._penalise, (two, two, index, index, one, REAL, two, two, one)),
        ("walls", unit_cones.walls, (two, BOOLS[2], BYTES[3], two)),
        ("maxima", unit_cones.maxima, (two, *units, BYTES[3], index, one, *ball)),
        ("projections", unit_cones.projections, (*units, index, two, two)),
    ]


def define(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=warm)


def warm(chosen: argparse.Namespace) -> int:
    """Compile or load each kernel, and say how long it took."""
    runtime.notice.said = True  # the lines below say more
    every = signatures()
    for number, (name, kernel, arguments) in enumerate(every, 1):
        tell(f"{number:2} of {len(every)}  {name:16}", end="")  # some take long
        began = time.perf_counter()
        kernel.compile(arguments)
        tell(f"{time.perf_counter() - began:6.1f} s")
    if runtime.place is not None:
        complain("no folder can keep the kernels; name one that can in NUMBA_CACHE_DIR.")
        return FAILED
    return DONE
