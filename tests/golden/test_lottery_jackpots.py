"""Search of a mask over frozen weights: scores, swaps and masks of every step by the released rule."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from prunus.maths.partial import keep_largest
from prunus.weights.lottery_jackpots import MaskSearch

pytestmark = pytest.mark.golden("lottery-jackpots--mask-search")


class Net(nn.Module):
    """The convolution of the case, and a linear layer that reads its mean over space."""

    def __init__(self, case):
        super().__init__()
        weight, head = torch.from_numpy(case["weight"]), torch.from_numpy(case["fc_weight"])
        self.conv = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], padding=1, bias=False)
        self.fc = nn.Linear(head.shape[1], head.shape[0])
        state = {"conv.weight": weight, "fc.weight": head, "fc.bias": torch.from_numpy(case["fc_bias"])}
        self.load_state_dict(state)

    def forward(self, x):
        return self.fc(self.conv(x).relu().mean((2, 3)))


def first_mask(case):
    sizes = np.abs(case["weight"]).reshape(1, -1)
    off = int(float(case["hyper"][0]) * sizes.size)
    return torch.from_numpy(keep_largest(sizes, sizes.size - off)).reshape(case["weight"].shape)


def test_every_step(case):
    net, (_, lr, momentum, off) = Net(case), case["hyper"].tolist()
    weight, mask = net.conv.weight, first_mask(case)
    np.testing.assert_array_equal(mask.numpy(), case["mask_init"].astype(bool))
    shares = case["restriction"].tolist()
    given = {"lr": lr, "momentum": momentum, "off": off, "restrict": lambda step: shares[step]}
    engine = MaskSearch(net.parameters(), {weight: mask}, **given)
    np.testing.assert_allclose(engine.scores[weight].detach().numpy(), case["score_init"], rtol=1e-7)
    x, y = torch.from_numpy(case["X"]), torch.from_numpy(case["Y"])
    for step, expected in enumerate(case["loss"].tolist()):
        net.zero_grad()
        loss = F.cross_entropy(net(x), y)
        assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
        loss.backward()
        engine.step()
        np.testing.assert_allclose(engine.scores[weight].detach().numpy(), case["scores"][step], rtol=1e-4, atol=1e-6)
        assert engine.swaps == case["swaps"][step]
        np.testing.assert_array_equal(engine.masks[weight].numpy(), case["masks"][step].astype(bool))
        assert engine.masks[weight].sum() == mask.sum()
    np.testing.assert_array_equal(engine.weights[weight].numpy(), case["weight"])
    np.testing.assert_array_equal(weight.detach().numpy(), case["weight"] * case["masks"][-1])
