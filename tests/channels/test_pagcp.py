"""PAGCP: the schedule's identities, budgets of losses that hold on measuring again, and failures that count as such."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from prunus.channels.task_budget import decay, visiting_order, walk
from prunus.core.budget import Budget
from prunus.core.errors import BadInput, BudgetUnreachable
from prunus.core.registry import find
from prunus.flow.search import Probe, plan_search
from prunus.prunables.dataset import Dataset
from prunus.prunables.model import ModelPrunable
from prunus.train.step import Step

METHOD = find("channels/pagcp")


class TwoHeads(nn.Module):
    """Two linear readings of the same 12 neurons."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU())
        self.kind, self.parity = nn.Linear(12, 3), nn.Linear(12, 2)

    def forward(self, x):
        x = self.body(x)
        return self.kind(x), self.parity(x)


def step(model, batch):
    ids, x, y = batch
    kind, half = model(x)
    losses = {
        "kind": nn.functional.cross_entropy(kind, y, reduction="none"),
        "half": nn.functional.cross_entropy(half, y % 2, reduction="none"),
    }
    return Step(ids, kind, y, losses["kind"] + losses["half"], losses=losses)


@pytest.fixture
def parts():
    generator = torch.Generator().manual_seed(3)
    net = TwoHeads().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 3)
    x = torch.randn(40, 6, generator=generator)
    with torch.no_grad():
        y = net(x)[0].argmax(1)
    data = Dataset((x.numpy(), y.numpy()), role="fit")
    return ModelPrunable(net, x[:1]), data


def plan(parts, budget="70% macs", **options):
    prunable, data = parts
    return plan_search(prunable, METHOD, Budget.parse(budget), data=data, step=step, options=options)


@pytest.mark.parametrize(("rate", "limit", "groups"), [(0.05, 5.0, 57), (0.06, 6.0, 20), (0.3, 2.0, 3), (0.02, 2, 200)])
def test_thresholds_together_use_up_the_limit(rate, limit, groups):
    factor = decay(rate, limit, groups)
    np.testing.assert_allclose(np.prod(1 + rate * factor ** np.arange(groups)), limit, rtol=1e-8)
    assert (factor < 1) == ((1 + rate) ** groups > limit)


def test_a_limit_that_the_first_group_uses_up_is_refused():
    with pytest.raises(BadInput, match="limit"):
        decay(0.5, 1.5, 4)


def test_equal_gains_keep_their_order():
    assert visiting_order([3, 5, 3, 5], 0.9).tolist() == [1, 3, 0, 2]
    assert visiting_order([3, 5, 3, 5], 1.1).tolist() == [0, 2, 1, 3]


def test_nan_fails_and_a_group_that_passes_all_is_cut_unless_official():
    def losses(chosen):
        group, at = list(chosen.items())[-1]
        return [np.nan] if group == 0 and at == 1 else [1.0]

    done = walk([0, 1], 3, losses, [1.0], 0.1, 0.5)
    assert done.chosen == {0: 0, 1: 2}
    assert [visit[1:3] for visit in done.visits] == [(0, 0.05), (-2, 0.025)]
    assert walk([1], 3, losses, [1.0], 0.1, 0.5, parity="official").chosen == {}


def test_losses_of_every_task_are_kept_and_hold_when_measured_again(parts):
    found = plan(parts, rounds=1, limit=1.5, rate=0.2, step=0.1)
    made = found.provenance
    assert made["tasks"] == ["kind", "half"]
    again = Probe(parts[0], parts[1], step).tasks(found)
    np.testing.assert_allclose(list(again.values()), made["losses_after"], rtol=1e-6)
    assert (np.array(made["losses_after"]) <= 1.5 * np.array(made["losses_before"])).all()


def test_the_budget_is_met_closely_and_more_rounds_reach_further(parts):
    found = plan(parts, "75% macs")
    unit = max(parts[0].priced({"body.0.weight:0": 15}).values()) / found.dense["macs"]
    assert 0.75 - unit < found.planned["macs"] / found.dense["macs"] <= 0.75
    with pytest.raises(BudgetUnreachable, match="rounds") as caught:
        plan(parts, "10% macs", rounds=1, rate=0.001, limit=1.01)
    assert "macs" in caught.value.nearest
    assert plan(parts, "20% macs", rounds=40).planned["macs"] <= 0.2 * found.dense["macs"]


def test_rounding_and_one_loss(parts):
    prunable, data = parts
    found = plan_search(prunable, METHOD, Budget.parse("60% macs", round_to=4), data=data, step=_one)
    assert found.provenance["tasks"] == ["loss"]
    assert all(group.count % 4 == 0 for group in found.groups.values())


def _one(model, batch):
    both = step(model, batch)
    return Step(both.ids, both.logits, both.labels, both.loss)
