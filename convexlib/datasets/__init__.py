"""The data of the experiments: electrocardiograms, the New York Stock Exchange, digits, UCI.

The manifest in `data/` names every file with the sha256 of its content. A file is looked for in
`data/`, in the mirror folder that the environment variable CONVEXLIB_MIRROR names, and in the
user's cache; two UCI tables are rebuilt from files of scikit-learn where these have none. Nothing
is parsed before its sha256 is verified.
"""

from typing import TYPE_CHECKING, Any

from convexlib.datasets.download import fetch
from convexlib.datasets.files import locate, missing, read
from convexlib.datasets.loaders import (
    list_uci,
    load_ecg,
    load_ecg_beats,
    load_mnist,
    load_nyse,
    load_uci,
)
from convexlib.datasets.manifest import Entry, catalogue
from convexlib.datasets.rebuild import SCIKIT_LEARN

if TYPE_CHECKING:
    from convexlib.datasets.series import autoregression

__all__ = [
    "SCIKIT_LEARN",
    "Entry",
    "autoregression",
    "catalogue",
    "fetch",
    "list_uci",
    "load_ecg",
    "load_ecg_beats",
    "load_mnist",
    "load_nyse",
    "load_uci",
    "locate",
    "missing",
    "read",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        # It needs torch, which takes longer to import than all else; files are listed without.
        if name == "autoregression":
            from convexlib.datasets.series import autoregression

            return autoregression
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
