"""The data of the experiments: electrocardiograms, the New York Stock Exchange, digits, UCI.

The manifest in `data/` names every file with the sha256 of its content. A file is looked for in
`data/`, in the mirror folder that the environment variable CONVEXLIB_MIRROR names, and in the
user's cache; two UCI tables are rebuilt from files of scikit-learn where these have none. Nothing
is parsed before its sha256 is verified.
"""

from convexlib.datasets.files import fetch, locate, missing, read
from convexlib.datasets.loaders import (
    autoregression,
    list_uci,
    load_ecg,
    load_ecg_beats,
    load_mnist,
    load_nyse,
    load_uci,
)
from convexlib.datasets.manifest import Entry, catalogue
from convexlib.datasets.rebuild import SCIKIT_LEARN

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
