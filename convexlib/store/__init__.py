"""Where data files lie, how they are verified, and how they are downloaded.

The manifest in `data/` names every file with the sha256 of its content. A file is looked for in
`data/`, in the mirror folder that the environment variable CONVEXLIB_MIRROR names, and in the
user's cache; two UCI tables are rebuilt from files of scikit-learn where these have none. Nothing
is parsed before its sha256 is verified.
"""

from convexlib.store.download import fetch
from convexlib.store.files import locate, missing, read
from convexlib.store.manifest import Entry, catalogue
from convexlib.store.rebuild import SCIKIT_LEARN

__all__ = ["SCIKIT_LEARN", "Entry", "catalogue", "fetch", "locate", "missing", "read"]
