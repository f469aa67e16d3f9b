"""A place where commands and loaders may do what they like: own folders, no network."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

CLOSED = "http://127.0.0.1:1"  # a proxy that refuses: no request leaves the machine


@cache
def folder() -> Path:
    """The folder of this process; the system removes it with its other temporary files."""
    return Path(tempfile.mkdtemp(prefix="convexlib-fuzz-"))


@contextmanager
def inside(results: Path | None = None) -> Iterator[Path]:
    """Let results, caches and downloads go to the sandbox."""
    changed = {
        "CONVEXLIB_RESULTS": str(results or folder() / "results"),
        "XDG_CACHE_HOME": str(folder() / "cache"),
        "CONVEXLIB_MIRROR": "",
        "HTTP_PROXY": CLOSED, "HTTPS_PROXY": CLOSED, "NO_PROXY": "",
        "http_proxy": CLOSED, "https_proxy": CLOSED, "no_proxy": "",
    }  # fmt: skip
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield folder()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
