"""Tables of refusals: a call, the error that it must raise, and words of its message."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch

import convexlib as cl

Row = tuple[Callable[[], Any], type[Exception], str]

# What the calls are made of: small data that are fine, and parts of networks.
EYE, COUNT = np.eye(3)[:, :2], np.arange(3.0)
ONE = torch.ones(1, 1, dtype=torch.float64)
PLAIN = cl.TwoLayerReLU(torch.eye(2), torch.ones(2))


def refused(rows: Iterable[Row]) -> Callable[..., None]:
    """A test for each row: the call raises the error, in these words."""

    @pytest.mark.parametrize(("call", "error", "message"), rows)
    def test(call: Callable[[], Any], error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            call()

    return test
