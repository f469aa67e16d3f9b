"""The public names, and which of them take no input that could be fuzzed."""

from __future__ import annotations

import argparse
import importlib

from convexlib import cli

PACKAGES = (
    "convexlib",
    "convexlib.arrangements",
    "convexlib.arrangements.zonotope",
    "convexlib.certify",
    "convexlib.datasets",
    "convexlib.errors",
    "convexlib.estimators",
    "convexlib.experiments.runner",
    "convexlib.losses",
    "convexlib.networks",
    "convexlib.networks.parallel",
    "convexlib.plots",
    "convexlib.pricing",
    "convexlib.solvers",
    "convexlib.training",
    "convexlib.solvers.interpolation",
)
WITHOUT_INPUT = {
    "COLOURS", "GREY", "STYLE", "OPTIMIZERS",  # constants
    "ConvergenceWarning", "ConvexlibError", "DataError", "InputError", "NotCertifiableError",
    "ProblemError", "SolverError", "TooManyArrangementsError",  # what comes of bad input
    "ParallelReading", "ShiftedLoss", "Training",  # made by the library only
    "parallel_outputs", "read_parallel", "now", "check_config", "Median",  # for the library only
    "row_space",
}  # fmt: skip


def public_names() -> set[str]:
    """Every public name of the packages, and every subcommand as `convexlib NAME`."""
    names = {name for package in PACKAGES for name in importlib.import_module(package).__all__}
    commands = argparse.ArgumentParser().add_subparsers()
    for add in cli.COMMANDS:
        add(commands)
    return (names | {f"convexlib {command}" for command in commands.choices}) - WITHOUT_INPUT
