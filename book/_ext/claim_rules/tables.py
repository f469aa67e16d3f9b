"""Rules on the 438 problems of the UCI tables."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from claim_rules.verdicts import NOT_ATTEMPTED, Finding, graded, stored
from convexlib.experiments import profiles, uci

PAPER = (1.0, 0.5, 0.1)  # the accuracies of Mishkin, Sahiner and Pilanci
PROBLEMS = 438


def at_accuracies(
    methods: tuple[str, ...], statistic: Callable[[np.ndarray], float]
) -> tuple[int, dict[float, dict[str, float]]]:
    """Count the problems of some methods, and sum up their times to each of the accuracies."""
    problems = profiles.by_problem(stored("uci"), methods)
    times = {tol: profiles.times_to(problems, methods, tol) for tol in PAPER}
    return len(problems), {
        tol: {method: statistic(part[method]) for method in methods} for tol, part in times.items()
    }


def uci_shares(own: str, rivals: tuple[str, str] = ("sgd", "adam")) -> Finding:
    """Compare the share of problems that a program solves with those of SGD and Adam."""
    methods = (own, *rivals)
    count, found = at_accuracies(methods, lambda times: float(np.isfinite(times).mean()))
    larger = [share[own] > max(share[m] for m in rivals) for share in found.values()]
    shown = [
        f"{' / '.join(f'{100 * share[m]:.0f}' for m in methods)} % to {tol:g}"
        for tol, share in found.items()
    ]
    text = (
        f"{own} / SGD / Adam: {', '.join(shown)}, on {count} of {PROBLEMS} problems "
        f"({epochs(rivals)} epochs of descent)"
    )
    return text, graded(all(larger) and count == PROBLEMS, any(larger))


def epochs(methods: tuple[str, str]) -> str:
    """Return the number of epochs of the stored runs of some methods of descent."""
    configs = [r["config"] for r in stored("uci")]
    numbers = {config["epochs"] for config in configs if config["method"] in methods}
    return " and ".join(map(str, sorted(numbers)))


def uci_gated() -> Finding:
    """Compare the shares of problems solved, gated program.

    Reproduced if the program's is larger than those of SGD and Adam at each of the accuracies 1,
    0.5 and 0.1 and all 438 problems have records; in part if at some accuracy, or while problems
    are missing.
    """
    return uci_shares("gated")


def uci_relu() -> Finding:
    """Compare the shares of problems solved, ReLU program and ReLU networks only.

    The verdict is found as for the gated program.
    """
    return uci_shares("relu")


def uci_time() -> Finding:
    """Compare median times, gated program against one run of descent.

    Reproduced if the program's is below those of SGD and Adam at each of the three accuracies and
    all problems have records; in part if it is at some accuracy.
    """
    count, found = at_accuracies(("gated", "sgd", "adam"), lambda times: float(np.median(times)))
    faster = [middle["gated"] < min(middle["sgd"], middle["adam"]) for middle in found.values()]
    shown = []
    for tol, middle in found.items():
        cells = [f"{s:.2g}" if np.isfinite(s) else "never" for s in middle.values()]
        shown.append(f"{' / '.join(cells)} to {tol:g}")
    text = (
        f"median seconds of gated / SGD / Adam: {', '.join(shown)} (never: less than half of the "
        f"problems), on {count} of {PROBLEMS} problems"
    )
    return text, graded(all(faster) and count == PROBLEMS, any(faster))


def uci_problems() -> Finding:
    """Count the problems with records of the four methods.

    Reproduced if these are all 438; in part if some.
    """
    count = len(profiles.by_problem(stored("uci"), ("gated", "relu", "sgd", "adam")))
    tables = {data for data, _ in profiles.by_problem(stored("uci"), ("gated",))}
    every = {(c["data"], c["lambda"]) for c in uci.configs("full")}
    text = f"{count} of {len(every)} problems have all four methods, {len(tables)} tables begun"
    return text, graded(count == len(every), count > 0)


def uci_long_shares(own: str) -> Finding:
    """Compare the shares where descent has the 2,000 epochs of the paper, if there are records."""
    long = ("sgd-2000", "adam-2000")
    if not profiles.by_problem(stored("uci"), (own, *long)):
        return "no records of 2,000 epochs", NOT_ATTEMPTED
    return uci_shares(own, long)


def uci_epochs_gated() -> Finding:
    """Compare the shares where descent has 2,000 epochs, gated program.

    The verdict is found as for 100 epochs; nothing is said without such records.
    """
    return uci_long_shares("gated")


def uci_epochs_relu() -> Finding:
    """Compare the shares where descent has 2,000 epochs, ReLU program and ReLU networks only.

    The verdict is found as for 100 epochs; nothing is said without such records.
    """
    return uci_long_shares("relu")


RULES = (
    uci_gated,
    uci_relu,
    uci_time,
    uci_problems,
    uci_epochs_gated,
    uci_epochs_relu,
)
