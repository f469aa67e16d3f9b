"""The GPU script where there is no GPU, and its one-device parts where there is none needed."""

import pytest
import torch

from benchmarks import gpu
from benchmarks.instances import instance


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_without_a_device_it_says_so(capsys):
    assert gpu.main([]) == 2
    assert "finds no CUDA device" in capsys.readouterr().err


def test_a_solve_is_scored_by_the_referee():
    data = instance("60x4x30")
    for gated in (True, False):
        found = gpu.solved(data, 0.05 * data.beta_max, gated, 1e-8, "cpu")
        assert found["gap"] <= 1e-8
        assert found["violation"] <= 1e-12
        assert found["lower"] <= found["value"]
