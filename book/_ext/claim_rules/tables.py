"""Rules on the 438 problems of the UCI tables."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from claim_rules.verdicts import NOT_ATTEMPTED, Finding, graded, stored
from experiments import uci

ACCURACIES = (1.0, 0.5, 0.1)  # of the figures of Mishkin, Sahiner and Pilanci
PROBLEMS = 438
EPOCHS = 2000  # of their SGD and Adam


def at_accuracies(
    methods: tuple[str, ...], statistic: Callable[[np.ndarray], float], alone: bool = True
) -> tuple[int, int, dict[float, dict[str, float]]]:
    """Count the problems of some methods, all and those whose program (the first) has a neuron.

    The times to each of the accuracies are summed up over the latter, as in the authors' code: a
    problem whose optimum has no neuron is solved by whoever does nothing.
    """
    problems = uci.tables.by_problem(stored("uci"), methods)
    live = {key: part for key, part in problems.items() if part[methods[0]]["neurons"] > 0}
    times = {tol: uci.tables.times_to(live, methods, tol, alone=alone) for tol in ACCURACIES}
    return (
        len(problems),
        len(live),
        {
            tol: {method: statistic(part[method]) for method in methods}
            for tol, part in times.items()
        },
    )


def uci_shares(rivals: tuple[str, str]) -> Finding:
    """Compare the share of problems that the ReLU program solves with those of SGD and Adam."""
    methods = ("relu", *rivals)
    count, live, found = at_accuracies(methods, lambda times: float(np.isfinite(times).mean()))
    larger = [share["relu"] > max(share[m] for m in rivals) for share in found.values()]
    shown = [
        f"{' / '.join(f'{100 * share[m]:.0f}' for m in methods)} % to {tol:g}"
        for tol, share in found.items()
    ]
    trained = epochs(rivals)
    text = (
        f"ReLU program / SGD / Adam: {', '.join(shown)}, on the {live} problems with a neuron of "
        f"{count} of {PROBLEMS} ({' and '.join(map(str, trained))} epochs of descent)"
    )
    return text, graded(all(larger) and count == PROBLEMS and trained == [EPOCHS], any(larger))


def epochs(methods: tuple[str, str]) -> list[int]:
    """Return the numbers of epochs of the stored runs of some methods of descent."""
    configs = [r["config"] for r in stored("uci")]
    return sorted({config["epochs"] for config in configs if config["method"] in methods})


def uci_relu() -> Finding:
    """Compare the shares of problems solved, ReLU program and ReLU networks.

    Problems whose program has no neuron are left out. Reproduced if the program's share is larger
    than those of SGD and Adam at each of the accuracies 1, 0.5 and 0.1, all 438 problems have
    records, and descent has the authors' 2,000 epochs; in part if it is larger at some accuracy.
    One draw of the patterns for each problem.
    """
    return uci_shares(("sgd", "adam"))


def uci_time() -> Finding:
    """Compare median times, ReLU program against one run of descent on ReLU networks.

    A run counts as if its rate and seed had been known; beside it the whole grid. Reproduced if the
    program's median is below those of one run of SGD and of Adam at each of the three accuracies
    and all problems have records; in part if it is below one of them at some accuracy.
    """
    methods = ("relu", "sgd", "adam")
    count, live, found = at_accuracies(methods, lambda times: float(np.median(times)))
    *_, grid = at_accuracies(methods, lambda times: float(np.median(times)), alone=False)
    faster = [middle["relu"] < min(middle["sgd"], middle["adam"]) for middle in found.values()]
    partly = [middle["relu"] < max(middle["sgd"], middle["adam"]) for middle in found.values()]

    def cells(middle: dict[str, float]) -> str:
        return " / ".join(f"{s:.2g}" if np.isfinite(s) else "never" for s in middle.values())

    shown = [f"{cells(found[tol])} to {tol:g}, with the grid {cells(grid[tol])}" for tol in found]
    text = (
        f"median seconds of ReLU program / SGD / Adam: {'; '.join(shown)} (never: less than half "
        f"of the problems), on the {live} problems with a neuron of {count} of {PROBLEMS}, one "
        "thread, 100 epochs"
    )
    return text, graded(all(faster) and count == PROBLEMS, any(partly))


def uci_problems() -> Finding:
    """Count the problems with records of the four methods.

    Reproduced if these are all 438; in part if some.
    """
    count = len(uci.tables.by_problem(stored("uci"), ("gated", "relu", "sgd", "adam")))
    tables = {data for data, _ in uci.tables.by_problem(stored("uci"), ("gated",))}
    every = {(c["data"], c["lambda"]) for c in uci.configs("full")}
    text = f"{count} of {len(every)} problems have all four methods, {len(tables)} tables begun"
    return text, graded(count == len(every), count > 0)


def uci_epochs_relu() -> Finding:
    """Compare the shares where descent has 2,000 epochs, ReLU program and ReLU networks.

    The verdict is found as for 100 epochs; nothing is said without such records.
    """
    long = ("sgd-2000", "adam-2000")
    if not uci.tables.by_problem(stored("uci"), ("relu", *long)):
        return "no records of 2,000 epochs", NOT_ATTEMPTED
    return uci_shares(long)


RULES = (
    uci_relu,
    uci_time,
    uci_problems,
    uci_epochs_relu,
)
