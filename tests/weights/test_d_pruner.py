"""D-Pruner: what lam, alpha and the two sets of rows do."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from prunus.core import registry
from prunus.core.budget import Budget
from prunus.core.errors import BadInput
from prunus.flow.weights import plan_weights
from prunus.prunables.model import ModelPrunable
from prunus.signals.collect import collect
from prunus.weights.d_pruner import d_pruner


def layer(seed=0, outputs=5, inputs=8):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    rows, x = draw(30, outputs, inputs), draw(60, inputs)
    stats = {"grad": rows.mean(0), "grad_square": rows.square().mean(0), "hessian": x.T @ x}
    return SimpleNamespace(name="fc", weight=draw(outputs, inputs), **stats)


def test_without_the_regulariser_it_is_the_taylor_score_of_the_domain():
    one = layer()
    plain = (one.grad * one.weight - 0.5 * one.grad_square * one.weight.square()).abs()
    for options in ({"lam": 0.0}, {"alpha": 0.0}, {"importance": "domain"}):
        torch.testing.assert_close(d_pruner(one, **options), plain)
    assert not torch.allclose(d_pruner(one), plain)


def test_the_general_importance_grows_with_the_weight_and_with_the_inputs():
    one = layer(1)
    before = d_pruner(one, importance="general")
    assert (before > 0).all()
    one.hessian = 9 * one.hessian
    torch.testing.assert_close(d_pruner(one, importance="general"), 9 * before)
    one.weight = one.weight * 2
    torch.testing.assert_close(d_pruner(one, importance="general"), 36 * before)


def test_normalised_scores_ignore_the_scale_of_the_general_rows():
    one, two = layer(2), layer(2)
    two.hessian = 100 * two.hessian
    torch.testing.assert_close(d_pruner(one), d_pruner(two))
    assert not torch.allclose(d_pruner(one, normalise=False), d_pruner(two, normalise=False))


def test_groups_of_outputs_have_their_own_hessian():
    one = layer(3, outputs=6)
    both = SimpleNamespace(**{**vars(one), "hessian": torch.stack([one.hessian, 4 * one.hessian])})
    scores = d_pruner(both, importance="general")
    torch.testing.assert_close(scores[3:], 4 * d_pruner(one, importance="general")[3:])


def test_statistics_of_another_layer_are_refused():
    one = layer()
    one.hessian = torch.eye(3)
    with pytest.raises(BadInput, match="8 inputs but its hessian"):
        d_pruner(one)
    one = layer()
    one.grad = one.grad[:2]
    with pytest.raises(BadInput, match="but grad of"):
        d_pruner(one)


@pytest.fixture(scope="module")
def setting():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(6, 12), torch.nn.ReLU(), torch.nn.Linear(12, 3)).eval()
        general, domain = torch.randn(40, 6), 0.5 + torch.randn(24, 6)
    return ModelPrunable(net, torch.zeros(1, 6)), (general, torch.arange(40) % 3), (domain, torch.arange(24) % 3)


def planned(prunable, **settings):
    found = registry.find("weights/d_pruner")
    return plan_weights(prunable, found, Budget.parse("50% weights"), **settings)


def test_two_sets_of_rows_are_two_passes(setting):
    prunable, general, domain = setting
    made = planned(prunable, data=domain, general=general)
    first = collect(prunable.model, general, "hessian", modules=["0", "2"]).modules
    second = collect(prunable.model, domain, ("grad", "grad_square"), modules=["0", "2"]).modules
    by_hand = planned(prunable, signals=second.merge(first))
    for name, one in made.groups.items():
        np.testing.assert_array_equal(one.mask(), by_hand.groups[name].mask())
    with pytest.raises(BadInput, match="both sets of signals hold"):
        first.merge(first)


def test_only_methods_with_two_sets_take_general_rows(setting):
    prunable, general, domain = setting
    with pytest.raises(BadInput, match="one set of rows"):
        plan_weights(
            prunable, registry.find("weights/wanda"), Budget.parse("50% weights"), data=domain, general=general
        )


def test_order_of_rows_does_not_matter_and_masks_are_nested(setting):
    prunable, _, (x, y) = setting
    turned = torch.arange(len(x)).flip(0)
    one, two = planned(prunable, data=(x, y)), planned(prunable, data=(x[turned], y[turned]))
    for name in one.groups:
        np.testing.assert_array_equal(one.groups[name].mask(), two.groups[name].mask())
    found = registry.find("weights/d_pruner")
    fewer = plan_weights(prunable, found, Budget.parse("25% weights"), data=(x, y), within="group")
    more = plan_weights(prunable, found, Budget.parse("50% weights"), data=(x, y), within="group")
    assert all((more.groups[name].mask() >= fewer.groups[name].mask()).all() for name in more.groups)
