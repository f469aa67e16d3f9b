"""The rule on reflections in standard networks."""

from __future__ import annotations

from claim_rules.verdicts import Finding, graded, stored
from experiments.reflections.tables import finding


def reflections() -> Finding:
    """Count trained networks that bend at mirrors of their data, and compare with chance.

    Chance leaves each bend in its piece between data points and corners, and spreads it evenly
    there. Reproduced if most cells of either activation have more runs with a bend at a mirror, at
    5 % after Holm's adjustment for the number of cells; in part if any cell has.
    """
    text, holds = finding(stored("reflections"))
    return text, graded(holds["abs"] and holds["relu"], holds["some"])


RULES = (reflections,)
