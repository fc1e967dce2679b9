"""Block influence against the released function and the layers it removes."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from prunus.layers.block_influence import block_influence
from prunus.maths.cosine import mean_turn

pytestmark = pytest.mark.golden("shortgpt--block-influence")


@pytest.fixture
def layers(case):
    hidden = torch.from_numpy(case["hidden"])
    found = []
    for before, after in pairwise(hidden):
        mean, tokens = mean_turn(before, after)
        angle, _ = mean_turn(before, after, angular=True)
        found.append(SimpleNamespace(block_influence=mean, block_angle=angle, block_tokens=tokens))
    return found


def test_sums(case, layers):
    sums = [float(block_influence(layer, parity="official")) for layer in layers]
    angles = [float(block_influence(layer, parity="official", angular=True)) for layer in layers]
    np.testing.assert_allclose(sums, case["bi_sum"], rtol=1e-5)
    np.testing.assert_allclose(angles, case["bi_angular_sum"], rtol=1e-5)


def test_removed(case, layers):
    scores = np.array([float(block_influence(layer)) for layer in layers])
    lowest = np.argsort(scores, kind="stable")[: case.value("n_remove")]
    np.testing.assert_array_equal(lowest, case["removed"])
