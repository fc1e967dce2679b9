"""Block influence against the released function and the layers it removes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from prunus.layers.block_influence import block_influence
from prunus.signals.collect import collect
from prunus.signals.step import Step

pytestmark = pytest.mark.golden("shortgpt--block-influence")


class Replay(nn.Module):
    """A block that gives the next recorded hidden state, whatever it reads."""

    def __init__(self, after: torch.Tensor) -> None:
        super().__init__()
        self.after = after

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.after


@pytest.fixture
def layers(case):
    hidden = torch.from_numpy(case["hidden"])
    net = nn.Sequential(*map(Replay, hidden[1:]))
    names = [str(index) for index in range(len(net))]

    def step(model, batch):
        return Step(batch[0], model(batch[1]), None, None)

    need = ("block_influence", "block_angle", "block_tokens")
    rows = len(hidden[0])
    found = collect(net, (hidden[0], torch.zeros(rows)), need, step=step, batch=rows, layers=names).modules
    return [found[name] for name in names]


def test_sums(case, layers):
    sums = [float(block_influence(layer, parity="official")) for layer in layers]
    angles = [float(block_influence(layer, parity="official", angular=True)) for layer in layers]
    np.testing.assert_allclose(sums, case["bi_sum"], rtol=1e-5)
    np.testing.assert_allclose(angles, case["bi_angular_sum"], rtol=1e-5)


def test_removed(case, layers):
    scores = np.array([float(block_influence(layer)) for layer in layers])
    lowest = np.argsort(scores, kind="stable")[: case.value("n_remove")]
    np.testing.assert_array_equal(lowest, case["removed"])
