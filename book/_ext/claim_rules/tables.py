"""Rules on the 438 problems of the UCI tables."""

from __future__ import annotations

import numpy as np

from claim_rules.verdicts import NOT_ATTEMPTED, Finding, graded, stored
from experiments import uci

EPOCHS = 2000  # of the authors' SGD and Adam


def uci_shares(methods: tuple[str, ...], networks: str) -> Finding:
    """Compare the share of problems that a program solves with those of SGD and Adam."""
    if not uci.tables.by_problem(stored("uci"), methods):
        return f"no records of {' and '.join(methods[1:])}", NOT_ATTEMPTED
    counted = uci.tables.panel(stored("uci"), methods)
    shown = [
        f"{' / '.join(f'{100 * part[tol]:.0f}' for part in counted.shares.values())} % to {tol:g}"
        for tol in uci.tables.ACCURACIES
    ]
    trained = epochs(methods)
    text = (
        f"{networks} program / SGD / Adam: {', '.join(shown)}, on the {counted.live} problems with "
        f"a neuron of {counted.every} of {uci.tables.PROBLEMS} "
        f"({' and '.join(map(str, trained))} epochs of descent)"
    )
    larger = counted.leads()
    whole = counted.every == uci.tables.PROBLEMS and trained == [EPOCHS]
    return text, graded(all(larger) and whole, any(larger))


def epochs(methods: tuple[str, ...]) -> list[int]:
    """Return the numbers of epochs of the stored runs of some methods of descent."""
    configs = [r["config"] for r in stored("uci")]
    return sorted({config["epochs"] for config in configs if config["method"] in methods[1:]})


def uci_gated() -> Finding:
    """Compare the shares of problems solved, gated program and gated networks with its gates.

    Problems whose program has no neuron are left out. Reproduced if the program's share is larger
    than those of SGD and Adam at each of the accuracies 1, 0.5 and 0.1, all 438 problems have
    records, and descent has the authors' 2,000 epochs; in part if it is larger at some accuracy.
    One draw of the patterns for each problem.
    """
    return uci_shares(uci.tables.GATED, "gated")


def uci_relu() -> Finding:
    """Compare the shares of problems solved, ReLU program and 2,000 epochs on ReLU networks.

    The verdict is found as for gated networks.
    """
    return uci_shares(uci.tables.RELU, "ReLU")


def uci_relu_short() -> Finding:
    """Compare the shares of problems solved, ReLU program and 100 epochs on ReLU networks.

    Networks as wide as that of the program. The verdict is found as for gated networks.
    """
    return uci_shares(uci.tables.SHORT, "ReLU")


def uci_time() -> Finding:
    """Compare median times, ReLU program against one run of descent on ReLU networks.

    A run counts as if its rate and seed had been known; beside it the whole grid. Reproduced if the
    program's median is below those of one run of SGD and of Adam at each of the three accuracies
    and all problems have records; in part if it is below one of them at some accuracy.
    """
    counted = uci.tables.panel(stored("uci"), uci.tables.OWN)
    program, *rivals = counted.seconds.values()
    faster = [program[tol] < min(rival[tol] for rival in rivals) for tol in program]
    partly = [program[tol] < max(rival[tol] for rival in rivals) for tol in program]

    def cells(times: dict[str, dict[float, float]], tol: float) -> str:
        middle = [part[tol] for part in times.values()]
        return " / ".join(f"{s:.2g}" if np.isfinite(s) else "never" for s in middle)

    shown = [
        f"{cells(counted.seconds, tol)} to {tol:g}, with the grid {cells(counted.grid, tol)}"
        for tol in program
    ]
    text = (
        f"median seconds of ReLU program / SGD / Adam: {'; '.join(shown)} (never: less than half "
        f"of the problems), on the {counted.live} problems with a neuron of {counted.every} of "
        f"{uci.tables.PROBLEMS}, one thread, 100 epochs"
    )
    return text, graded(all(faster) and counted.every == uci.tables.PROBLEMS, any(partly))


def uci_problems() -> Finding:
    """Count the problems with records of the four methods.

    Reproduced if these are all 438; in part if some.
    """
    count = len(uci.tables.by_problem(stored("uci"), ("gated", "relu", "sgd", "adam")))
    tables = {data for data, _ in uci.tables.by_problem(stored("uci"), ("gated",))}
    every = {(c["data"], c["lambda"]) for c in uci.configs("full")}
    text = f"{count} of {len(every)} problems have all four methods, {len(tables)} tables begun"
    return text, graded(count == len(every), count > 0)


RULES = (
    uci_gated,
    uci_relu,
    uci_relu_short,
    uci_time,
    uci_problems,
)
