"""One thread, no display, no progress bars: as in tests/conftest.py, for runs without pytest."""

import matplotlib as mpl
import numba
import torch
from threadpoolctl import threadpool_limits


def quiet() -> None:
    """Set them."""
    mpl.use("Agg")
    threadpool_limits(limits=1)
    numba.set_num_threads(1)  # before torch: starting numba's pool resets the threads of both
    torch.set_num_threads(1)
