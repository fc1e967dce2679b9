"""AST over enough steps that masks are made anew: the mask moves, its zeros stay, and training makes up for some of them."""

from __future__ import annotations

import pytest
import torch

import prunus as px
from contract import fixtures
from prunus.train.loop import fit

X = fixtures.draw(96, 1, 16, 16)
ROWS = (X, (X.mean((1, 2, 3)) > X.mean()).long())


@pytest.fixture(scope="module")
def dense():
    model = fixtures.model("weights")
    fit(model, ROWS, steps=40, batch=32, lr=0.05, progress=False)
    return model.eval()


def gap(dense, model):
    with torch.no_grad():
        return float((dense(X) - model(X)).square().mean())


@pytest.mark.parametrize("budget", ["30% weights", "2:4"])
def test_masks_move_and_training_makes_up_for_zeros(dense, budget):
    rule = {"within": "output"} if "%" in budget else {"tail": "dense"}
    start = px.plan(dense, "magnitude", budget, **rule)
    plan = px.plan(dense, "ast", budget, data=ROWS, steps=40, every=2, lr=2e-3, batch=32)
    assert any((plan.groups[name].mask() != kept.mask()).any() for name, kept in start.groups.items())
    trained = plan.apply(dense)
    for name, kept in plan.groups.items():
        assert int((trained.get_parameter(name) != 0).sum()) <= kept.count
    assert gap(dense, trained) < gap(dense, start.apply(dense))
