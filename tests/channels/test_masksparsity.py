"""MaskSparsity: what goes is pulled to zero, what stays is not; thresholds and votes at their edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from prunus.channels.masksparsity import masksparsity
from prunus.channels.scale_threshold import energy_threshold, kept_above, vote
from prunus.core.budget import Budget
from prunus.core.errors import BadInput, BudgetUnreachable, NonFinite
from prunus.core.registry import find
from prunus.flow.search import plan_search
from prunus.prunables.model import ModelPrunable
from prunus.train.models import TinyCNN, mlp, seeded
from prunus.train.penalty import Penalty


def rows():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(64, 1, 8, 8, generator=generator).numpy(), np.arange(64) % 10


def planned(**options):
    prunable = ModelPrunable(seeded(TinyCNN, 0, width=4), torch.zeros(1, 1, 8, 8))
    torch.nn.init.ones_(prunable.model.bn1.bias)
    return prunable, plan_search(
        prunable, find("channels/masksparsity"), Budget.parse("60% channels"), data=rows(), options=options
    )


def test_what_goes_is_at_zero_and_what_stays_is_not():
    _, plan = planned(steps=30, lr=0.1, strength=0.5, rule="smooth_l1", batch=32)
    trained = {edit.parameter: edit.value for edit in plan.edits}
    for name, kept in plan.groups.items():
        scale = trained[name.replace("conv", "bn").removesuffix(":0")]
        assert np.abs(scale[kept.dropped()]).max(initial=0) < 0.1
        assert np.abs(scale[kept.index()]).min() > 0.5
        shift = trained[name.replace("conv", "bn").replace(".weight:0", ".bias")]
        assert np.abs(shift[kept.dropped()]).max(initial=0) < 0.1
    assert "bn1.running_mean" in trained


def test_released_penalties_leave_shifts_alone():
    _, ours = planned(steps=1, lr=0.1, strength=10.0)
    _, released = planned(steps=1, lr=0.1, strength=10.0, parity="official")
    gone = ours.groups["conv1.weight:0"].dropped()
    moved = [abs(value("bn1.bias", plan)[gone]).max() for plan in (ours, released)]
    assert moved[0] < 0.5 < moved[1]
    np.testing.assert_allclose(value("bn1.weight", ours)[gone], value("bn1.weight", released)[gone])


def value(name, plan):
    return next(edit.value for edit in plan.edits if edit.parameter == name)


def test_nothing_is_trained_without_steps():
    _, plan = planned(steps=0)
    assert not plan.edits
    assert plan.planned["channels"] <= 0.6 * 12


def test_thresholds_that_keep_too_much_are_refused():
    with pytest.raises(BudgetUnreachable, match="nearest reachable: 100% channels"):
        planned(steps=0, threshold="fixed")


def test_a_model_without_norms_or_with_frozen_ones_is_refused():
    with pytest.raises(BadInput, match="no group"):
        masksparsity(ModelPrunable(mlp(4, 8, 2), torch.zeros(1, 4)), Budget.parse("50% macs"), fit=None)
    prunable = ModelPrunable(seeded(TinyCNN, 0, width=4), torch.zeros(1, 1, 8, 8))
    prunable.model.bn1.weight.requires_grad_(False)
    with pytest.raises(BadInput, match=r"bn1\.weight is frozen"):
        plan_search(prunable, find("channels/masksparsity"), Budget.parse("60% channels"), data=rows())


def test_thresholds_at_their_edges():
    assert energy_threshold([1e-4, -5e-4]) == 1.0
    assert energy_threshold([1.0, 1.0]) == 0.0
    assert energy_threshold([0.001, -1.0]) == pytest.approx(0.5005)
    assert [energy_threshold([0.1, 0.2, 1.0], share) for share in (0.0, 0.01, 0.05)] == pytest.approx([0, 0.15, 0.6])
    assert kept_above([0.5, -0.7, 0.2], 1.0).tolist() == [False, True, False]
    assert kept_above([0.5, 0.5, 0.2], 1.0).tolist() == [True, False, False]
    with pytest.raises(NonFinite):
        energy_threshold([np.nan, 1.0])
    with pytest.raises(BadInput, match="energy"):
        energy_threshold([1.0], 2.0)


def test_votes():
    kept = np.array([[0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 1, 1]], dtype=bool)
    assert vote(kept).tolist() == [False, True, True, True]
    assert vote(kept[:2]).tolist() == [False, False, False, True]
    assert vote(kept[:1]).tolist() == kept[0].tolist()
    with pytest.raises(BadInput, match="vote"):
        vote([True, False])


def test_a_penalty_names_what_does_not_fit():
    net = mlp(3, 2)
    with pytest.raises(BadInput, match="1.bias is"):
        Penalty(net, {"1.bias": torch.ones(3, dtype=torch.bool)}, 1.0)
    with pytest.raises(BadInput, match="strength"):
        Penalty(net, {}, -1.0)
