"""Settings that hold for every test: one thread, no display, reproducible hypothesis draws."""

import matplotlib as mpl
import numba
import pytest
import scipy.linalg  # noqa: F401  # its BLAS is a pool of its own, and only loaded pools are limited
import torch
from hypothesis import settings
from threadpoolctl import threadpool_limits

mpl.use("Agg")
settings.register_profile("convexlib", derandomize=True, deadline=None, max_examples=25)
settings.load_profile("convexlib")
threadpool_limits(limits=1)
numba.set_num_threads(1)  # before torch: starting numba's pool resets the OpenMP threads of both
torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `cuda`, by name, where no CUDA device exists."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device on this machine"))
