"""Where a curve bends."""

from __future__ import annotations

import pytest

from prunus.core.errors import BadInput
from prunus.measure.knee import knee


def test_the_knee_lies_highest_above_the_chord():
    assert knee([(10, 0.5), (30, 0.85), (50, 0.88), (100, 0.9)]) == 30


def test_a_straight_or_falling_curve_has_none():
    assert knee([(10, 0.5), (20, 0.6), (30, 0.7)]) is None
    assert knee([(10, 0.9), (20, 0.8), (30, 0.7)]) is None
    assert knee([(10, 0.5), (90, 0.9)]) is None


def test_one_value_a_share():
    with pytest.raises(BadInput, match="one point for each share"):
        knee([(10, 0.5), (10, 0.6), (30, 0.7)])
