"""Files of networks that somebody damaged."""

from pathlib import Path

import torch

from convexlib.cli.models import load_model
from convexlib.errors import ConvexlibError


def check_read_or_refused(path: Path, *options: str) -> None:
    """A file gives finite weights, or is refused in words of a length that is read."""
    try:
        network = load_model(path, *options).network
    except ConvexlibError as error:
        network, text = None, str(error)
    if network is None:
        assert len(text) < 2000
    else:
        assert all(bool(torch.isfinite(p).all()) for p in network.parameters())
