"""The words of a verdict, and how one is found.

A rule returns what was measured, in a sentence, and a verdict. Its docstring is printed on the
page, so that a reader knows what the verdict means.
"""

from __future__ import annotations

from functools import cache

from experiments.records import records

PROVED = "proved and checked"
REPRODUCED = "reproduced"
PART = "reproduced in part"
NOT = "not reproduced"
NOT_ATTEMPTED = "not attempted"
VERDICTS = (PROVED, REPRODUCED, PART, NOT, NOT_ATTEMPTED)  # the strongest first
LEVEL = 0.05  # of a test

Finding = tuple[str, str]  # measured, verdict
stored = cache(records)  # the records of an experiment, read once


def graded(all_of_it: bool, some_of_it: bool = False) -> str:
    """Return the verdict on a claim that holds in full, in part or not."""
    return REPRODUCED if all_of_it else PART if some_of_it else NOT
