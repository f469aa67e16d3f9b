"""Settings that hold for every test: one thread, no display, reproducible hypothesis draws."""

import os
import sys

import matplotlib as mpl
import numba
import pytest
import scipy.linalg  # noqa: F401  # its BLAS is a pool of its own, and only loaded pools are limited
import torch
from hypothesis import settings
from threadpoolctl import threadpool_limits

mpl.use("Agg")
os.environ["CONVEXLIB_QUIET"] = "1"  # what is printed does not depend on which kernels are there
settings.register_profile("convexlib", derandomize=True, deadline=None, max_examples=25)
settings.load_profile("convexlib")
threadpool_limits(limits=1)
numba.set_num_threads(1)  # before torch: starting numba's pool resets the OpenMP threads of both
torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests by their marks, each with its reason, where this machine cannot run them."""
    reasons = {}
    if not torch.cuda.is_available():
        reasons["cuda"] = "no CUDA device on this machine"
    if not sys.prefix.isascii():
        reasons["c_locale"] = f"Python does not start in the C locale from {sys.prefix!a}"
    for item in items:
        for mark, reason in reasons.items():
            if item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))
