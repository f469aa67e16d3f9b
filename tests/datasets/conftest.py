"""A copy of the data, which tests may damage."""

from pathlib import Path

import pytest

from tests.helpers.datafiles import add_tiny, isolate


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of data/ with one more table, the only one that is used."""
    copy = isolate(tmp_path, monkeypatch)
    add_tiny(copy)
    return copy
