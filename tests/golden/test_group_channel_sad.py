"""One threshold for each group of norms, and the gap of spatial attentions, against an independent derivation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from prunus.channels.group_channel import kept_by_section
from prunus.channels.scale_threshold import share_threshold
from prunus.train.attention import attention, attention_gap

pytestmark = pytest.mark.golden("group-channel-sad--parts")
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def test_thresholds_and_masks(case):
    for number, (ratio, threshold) in enumerate(zip(case["ratios"], case["thresholds"])):
        scales, kept = case[f"gamma{number}"], case[f"keep{number}"]
        np.testing.assert_allclose(share_threshold(scales, ratio), threshold, **CLOSE)
        half = scales.size // 2  # two layers of one section share the threshold
        found = kept_by_section({"a": scales[:half], "b": scales[half:]}, ratio)
        np.testing.assert_array_equal(np.concatenate([found["a"], found["b"]]), kept)


def test_attention(case):
    for who in ("teacher", "student"):
        found = attention(torch.from_numpy(case[who]))
        np.testing.assert_allclose(found, case[f"attention_{who}"], **CLOSE)


def test_gap(case):
    found = attention_gap(torch.from_numpy(case["student"]), torch.from_numpy(case["teacher"]))
    np.testing.assert_allclose(found.mean(), case.value("sad_loss"), **CLOSE)
