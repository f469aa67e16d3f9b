"""pooch, without the warning that it causes in a notebook that has no ipywidgets.

pooch imports tqdm's bar for notebooks, which warns there on import, used or not.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="IProgress not found")
    import pooch  # type: ignore[import-untyped]  # no stubs

__all__ = ["pooch"]
