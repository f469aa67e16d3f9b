"""Fuzzing of the public surface: `python -m tests.fuzz`."""

from tests.fuzz import (  # noqa: F401  # they register their entries
    entries_chapters,
    entries_commands,
    entries_files,
    entries_networks,
    entries_pictures,
    entries_problems,
    entries_records,
)
from tests.fuzz.calls import ENTRIES

__all__ = ["ENTRIES"]
