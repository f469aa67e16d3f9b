"""The search for the best scale, by functions whose peak is known."""

import math

import pytest

from convexlib.losses.base import best_of_scales


@pytest.mark.parametrize(("peak", "limit"), [(3.0, math.inf), (0.2, math.inf), (3.0, 1.5), (-1, 9)])
def test_golden_section(peak, limit):
    found = best_of_scales(lambda s: -((s - peak) ** 2), limit)
    assert found == pytest.approx(min(max(peak, 0.0), limit), abs=1e-7)


def test_golden_section_with_an_end():
    def value(s):
        return math.log(1.0 - s) + 3.0 * s if s < 1.0 else -math.inf

    assert best_of_scales(value, math.inf) == pytest.approx(2 / 3, abs=1e-6)
