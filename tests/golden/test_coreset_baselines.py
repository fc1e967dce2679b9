"""The uncertainty scores among the classical coreset baselines."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from prunus.rows.entropy import entropy
from prunus.rows.least_confidence import least_confidence
from prunus.rows.margin_uncertainty import margin_uncertainty

pytestmark = pytest.mark.golden("coreset-baselines--selections")


@pytest.mark.parametrize("criterion", [least_confidence, margin_uncertainty, entropy])
def test_uncertainty(case, criterion):
    s = SimpleNamespace(probs=torch.from_numpy(case["logits"]).softmax(-1))
    # The case holds differences of float32 probabilities: near certainty their last bit is more than 1e-6 of the score.
    np.testing.assert_allclose(criterion(s), case[criterion.__name__], rtol=1e-6, atol=2e-7)
