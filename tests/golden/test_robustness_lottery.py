"""Angles, lengths, margins and flips of last-layer features, against an independent derivation."""

from __future__ import annotations

import numpy as np
import pytest

from prunus.maths.geometry import flips, measure_geometry

pytestmark = pytest.mark.golden("robustness-lottery--measures")
CLOSE = {"rtol": 1e-9, "atol": 1e-9}
NAMES = {"angle": "angle_deg", "length": "length", "margin": "margin", "predicted": "pred", "p_true": "p_true"}


@pytest.fixture
def measured(case):
    head = case["class_weight"], case["class_bias"], case["labels"]
    return {end: measure_geometry(case[f"features{end}"], *head) for end in ("", "_corrupt")}


def test_measures(case, measured):
    compared = 0
    for end, found in measured.items():
        for ours, theirs in NAMES.items():
            if theirs + end in case:
                np.testing.assert_allclose(getattr(found, ours), case[theirs + end], err_msg=theirs + end, **CLOSE)
                compared += 1
    assert compared >= len(NAMES)
    np.testing.assert_allclose(measured[""].angles, case["angle_all_deg"], **CLOSE)


def test_classes_and_flips(case, measured):
    clean = measured[""]
    np.testing.assert_allclose(clean.class_means(clean.angle), case["class_mean_angle"], **CLOSE)
    np.testing.assert_array_equal(flips(clean, measured["_corrupt"]), case["flip"])
