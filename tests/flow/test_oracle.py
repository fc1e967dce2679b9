"""Candidates of oracle pruning, and the audit of a model in memory."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from prunus.core.errors import BadInput, SplitError, UnknownName
from prunus.flow.oracle import audit, combinations, oracle_losses, oracle_plans
from prunus.prunables.dataset import Dataset
from prunus.prunables.model import ModelPrunable
from prunus.train.loop import fit
from prunus.train.models import TinyCNN, seeded

GROUP = "conv1.weight:0"


@pytest.fixture(scope="module")
def net() -> nn.Module:
    net = seeded(TinyCNN, 0, width=6).eval()
    net.bn1.bias.data.fill_(0.3)  # then removal and zeroing of the filter alone would differ
    return net


@pytest.fixture(scope="module")
def rows():
    x = torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return x.numpy(), (np.arange(40) % 10)


def test_every_combination_or_distinct_ones_at_random():
    every = combinations({"a": 5, "b": 4}, {"a": 2, "b": 1})
    assert len(every) == math.comb(5, 2) * 4 == len({tuple(sorted(one.items())) for one in every})
    some = combinations({"a": 30}, {"a": 10}, most=50, seed=1)
    assert len({one["a"] for one in some}) == 50
    assert all(len(set(one["a"])) == 10 for one in some)
    assert some == combinations({"a": 30}, {"a": 10}, most=50, seed=1) != combinations({"a": 30}, {"a": 10}, most=50)
    with pytest.raises(UnknownName, match="conv"):
        combinations({"conv1": 4}, {"conv": 1})
    with pytest.raises(BadInput, match="1 to 3"):
        combinations({"a": 4}, {"a": 4})


def test_the_loss_is_that_of_the_network_with_the_norm_output_zeroed(net, rows):
    x, y = torch.from_numpy(rows[0]), torch.from_numpy(rows[1])
    dropped = combinations({GROUP: 6}, {GROUP: 2}, most=4, seed=0)
    found = oracle_losses(net, oracle_plans(ModelPrunable(net, x[:1]), dropped), rows, example=x[:1])
    for candidate, loss in zip(dropped, found):

        def hook(module, args, out, gone=candidate[GROUP]):
            keep = torch.ones(out.shape[1])
            keep[list(gone)] = 0
            return out * keep[None, :, None, None]

        handle = net.bn1.register_forward_hook(hook)
        with torch.no_grad():
            masked = F.cross_entropy(net(x), y)
        handle.remove()
        assert loss == pytest.approx(float(masked), rel=1e-5)


def test_an_audit_gives_every_candidate_the_same_retraining(net, rows):
    x = torch.from_numpy(rows[0])
    plans = oracle_plans(ModelPrunable(net, x[:1]), combinations({GROUP: 6}, {GROUP: 3}, most=12))
    calls = []

    def recover(model, seed):
        calls.append((model.conv1.out_channels, seed))
        fit(model, rows, steps=2, lr=0.01, batch=20, seed=seed, progress=False)
        return model

    found = audit(net, plans, fit=rows, test=rows, recover=recover, seeds=(0, 1), example=x[:1])
    assert calls == [(3, 0), (3, 1)] * 12
    assert found.of_loss.candidates == found.of_accuracy.candidates == 12
    np.testing.assert_array_equal(found.before, oracle_losses(net, plans, rows, example=x[:1]))
    assert (found.loss != found.before).all()
    again = audit(net, plans[:3], fit=rows, test=rows, recover=lambda model, seed: model, seeds=(0,), example=x[:1])
    np.testing.assert_array_equal(again.loss, again.before)


def test_no_choice_on_test_rows(net, rows):
    with pytest.raises(SplitError):
        oracle_losses(net, [], Dataset(rows, role="test"), example=None)
