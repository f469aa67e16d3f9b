"""Where data files lie, how they are verified, and how they are downloaded.

The manifest in `data/` names every file with the sha256 of its content. A file is looked for in
`data/`, in the mirror folder that the environment variable CONVEXLIB_MIRROR names, and in the
user's cache, in that order. Nothing is parsed before its sha256 is verified.
"""

from convexlib.store.download import fetch
from convexlib.store.files import locate, missing, read
from convexlib.store.manifest import Entry, catalogue

__all__ = ["Entry", "catalogue", "fetch", "locate", "missing", "read"]
