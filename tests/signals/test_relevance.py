"""Relevance: conserved, split at sums, the same whatever the coding of the network, and zero where nothing is said."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from prunus.core.errors import BadInput
from prunus.signals.collect import collect
from prunus.signals.relevance import one_hot
from prunus.signals.relevance_rules import Rules
from prunus.signals.step import Step
from prunus.train.models import seeded

NEED = ("output_relevance", "output_relevance_signed")


class Net(nn.Module):
    """Residual, with norms; in place or not."""

    def __init__(self, inplace: bool = False, bias: bool = False) -> None:
        super().__init__()
        self.inplace = inplace
        self.first, self.norm1 = nn.Conv2d(3, 6, 3, padding=1, bias=bias), nn.BatchNorm2d(6)
        self.second, self.norm2 = nn.Conv2d(6, 6, 3, padding=1, bias=bias), nn.BatchNorm2d(6)
        self.last = nn.Linear(6, 4, bias=bias)

    def forward(self, x):
        x = F.relu(self.norm1(self.first(x)), inplace=self.inplace)
        out = self.norm2(self.second(x))
        if self.inplace:
            out += x
        else:
            out = out + x
        return self.last(F.relu(out, inplace=self.inplace).mean((2, 3)))


def drawn(**settings) -> Net:
    net = seeded(Net, 0, **settings).double().eval()
    generator = torch.Generator().manual_seed(1)
    for norm in (net.norm1, net.norm2):
        norm.running_var.copy_(torch.rand(6, generator=generator) + 0.5)
        norm.weight.data = torch.rand(6, generator=generator, dtype=torch.float64) + 0.5
    return net


def data(rows=5):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(rows, 3, 8, 8, generator=generator, dtype=torch.float64), torch.arange(rows) % 4


def test_relevance_is_conserved_without_biases():
    found = collect(drawn(), data(), NEED).modules
    for name in ("first", "last"):
        total = float(found[name].output_relevance_signed.sum())
        assert total == pytest.approx(5, rel=1e-4), name
    assert set(found) == {"first", "second", "last"}


def test_work_in_place_changes_nothing():
    plain, inplace = (collect(drawn(inplace=way), data(), NEED).modules for way in (False, True))
    for name in plain:
        torch.testing.assert_close(inplace[name].output_relevance, plain[name].output_relevance, rtol=1e-9, atol=1e-12)


def test_a_filter_nobody_reads_has_none_and_scale_does_not_matter():
    net = drawn()
    net.second.weight.data[:, 2] = 0
    net.last.weight.data[:, 2] = 0
    x, y = data()
    found = collect(net, (x, y), NEED).modules
    assert found["first"].output_relevance[2] == 0
    louder = collect(net, (3 * x, y), NEED).modules
    torch.testing.assert_close(louder["first"].output_relevance, found["first"].output_relevance, rtol=2e-3, atol=1e-7)


def test_folding_leaves_logits_and_the_pass_leaves_gradients_alone():
    net, (x, y) = drawn(bias=True), data()
    with Rules({}, lambda *args: None):
        inside = net(x)
    torch.testing.assert_close(inside, net(x), rtol=0, atol=0)
    alone = collect(net, (x, y), "grad").modules
    both = collect(net, (x, y), ("grad", *NEED)).modules
    assert all(torch.equal(both[name].grad, alone[name].grad) for name in ("first", "second", "last"))


def test_a_text_spreads_its_relevance_over_labelled_tokens():
    share = one_hot(torch.zeros(2, 3, 5), torch.tensor([[1, -100, 2], [0, -100, -100]]))
    assert share.sum((1, 2)).tolist() == [1, 1]
    assert share[0, 2, 2] == 0.5 and share[1, 0, 0] == 1
    with pytest.raises(BadInput, match="classes"):
        one_hot(torch.zeros(2, 3), torch.zeros(2))


def test_labels_are_needed():
    with pytest.raises(BadInput, match="true class"):
        collect(drawn(), data(), NEED, step=lambda m, b: Step(None, m(b[-2]), None, None))
