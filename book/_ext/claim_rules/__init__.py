"""Verdicts on what the papers say of experiments, computed from the records below results/."""

from collections.abc import Callable

from claim_rules import descent, recovery, reflections, speed, tables
from claim_rules.verdicts import Finding

RULES: dict[str, Callable[[], Finding]] = {
    rule.__name__: rule
    for module in (descent, tables, recovery, reflections, speed)
    for rule in module.RULES
}
