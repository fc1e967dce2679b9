"""oBERT in a model: the signal, gradual steps, runs of four, controls, and the layouts of weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from prunus.core import registry
from prunus.core.budget import Budget
from prunus.core.errors import BadInput
from prunus.flow.controls import random_like
from prunus.flow.weights import plan_weights
from prunus.maths.block_fisher import in_blocks, inverse
from prunus.prunables.model import ModelPrunable
from prunus.signals.collect import collect

OBERT = registry.find("weights/obert")


@pytest.fixture(scope="module")
def batches():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(240, 8, generator=generator)
    y = (x @ torch.randn(8, 4, generator=generator)).argmax(1)
    return [(x[at : at + 4], y[at : at + 4]) for at in range(0, 240, 4)]


@pytest.fixture(scope="module")
def prunable(batches):
    """Trained: an empirical Fisher matrix stands for the Hessian near a minimum only."""
    x, y = (torch.cat(parts) for parts in zip(*batches))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 4))
        optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
        for _ in range(150):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
    net.zero_grad()
    return ModelPrunable(net.eval(), torch.zeros(1, 8))


def loss_of(model, batches):
    x, y = (torch.cat(parts) for parts in zip(*batches))
    with torch.no_grad():
        return float(nn.functional.cross_entropy(model(x), y))


def planned(prunable, batches, budget="sparsity 60%", **settings):
    return plan_weights(prunable, OBERT, Budget.parse(budget), data=batches, **settings)


def test_blocks_are_the_mean_over_rows_of_their_gradients(prunable, batches):
    found = collect(prunable.model, batches, "fisher_blocks", fisher_block=10, modules=["2"]).modules
    weight, expected = prunable.model[2].weight, 0
    x, y = (torch.cat(parts) for parts in zip(*batches))
    for row in range(len(y)):
        one = slice(row, row + 1)
        (grad,) = torch.autograd.grad(nn.functional.cross_entropy(prunable.model(x[one]), y[one]), weight)
        block = in_blocks(grad, 10)
        expected = expected + block.unsqueeze(2) * block.unsqueeze(1) / len(y)
    torch.testing.assert_close(found["2"].fisher_blocks, expected)
    turned = collect(prunable.model, batches[::-1], "fisher_blocks", fisher_block=10, modules=["2"]).modules
    torch.testing.assert_close(turned["2"].fisher_blocks, found["2"].fisher_blocks)


def test_the_inverse_is_the_released_recursion(batches):
    """Sherman, Morrison and Woodbury, one gradient after the other."""
    generator = torch.Generator().manual_seed(2)
    rows = torch.randn(20, 6, generator=generator, dtype=torch.float64)
    slow = torch.eye(6, dtype=torch.float64) / 0.01
    for row in rows:
        turned = slow @ row
        slow = slow - torch.outer(turned, turned) / (len(rows) + row @ turned)
    torch.testing.assert_close(inverse((rows.T @ rows / len(rows))[None], 0.01)[0], slow)


def test_a_diagonal_fisher_matrix_makes_runs_the_sum_of_their_members():
    layer = registry.find("weights/obert").load()
    generator = torch.Generator().manual_seed(3)
    fisher = torch.diag_embed(torch.rand(4, 16, generator=generator))
    one = torch.nn.Module()
    one.name, one.weight, one.fisher_blocks = "fc", torch.randn(8, 8, generator=generator), fisher
    alone = layer(one).reshape(-1, 4).sum(1)
    torch.testing.assert_close(layer(one, group=4).reshape(-1, 4)[:, 0], alone)


def test_runs_of_four_stay_together(prunable, batches):
    plan = planned(prunable, batches, "50% weights", fisher_block=16, options={"group": 4})
    total = 0
    for one in plan.groups.values():
        four = one.mask().reshape(-1, 4).sum(1)
        assert set(four.tolist()) <= {0, 4}
        total += int(four.sum())
    assert total == 0.5 * plan.dense["weights"]
    with pytest.raises(BadInput, match="runs of 4 do not divide"):
        planned(prunable, batches, fisher_block=50, options={"group": 4})


def test_the_update_lowers_the_loss_and_steps_do_not_revive(prunable, batches):
    plain = planned(prunable, batches, fisher_block=16, compensate="none")
    once = planned(prunable, batches, fisher_block=16)
    steps = planned(prunable, batches, fisher_block=16, steps=4)
    assert once.planned == steps.planned == plain.planned and steps.provenance["steps"] == 4
    masked, one, four = (loss_of(prunable.apply(plan), batches) for plan in (plain, once, steps))
    control = planned(prunable, batches, fisher_block=16, steps=1, compensate="none")
    for name, kept in control.groups.items():
        np.testing.assert_array_equal(kept.mask(), once.groups[name].mask())
    assert four < one < masked
    sparse = ModelPrunable(prunable.apply(once), prunable.example)
    more = planned(sparse, batches, "sparsity 80%", fisher_block=16)
    assert all((more.groups[name].mask() <= once.groups[name].mask()).all() for name in once.groups)


def test_steps_need_rows_and_a_share(prunable, batches):
    signals = collect(prunable.model, batches, "fisher_blocks").modules
    with pytest.raises(BadInput, match="measures anew"):
        plan_weights(prunable, OBERT, Budget.parse("50% weights"), signals=signals, steps=3)
    with pytest.raises(BadInput, match="share"):
        planned(prunable, batches, "2:4", steps=3)


def test_controls_get_the_same_update(prunable, batches):
    signals = collect(prunable.model, batches, "fisher_blocks").modules
    plan = plan_weights(prunable, OBERT, Budget.parse("50% weights"), signals=signals)
    control = random_like(plan, 1, prunable=prunable, signals=signals)
    assert len(control.edits) == len(plan.edits) > 0
    assert loss_of(prunable.apply(plan), batches) < loss_of(prunable.apply(control), batches)


def test_wrong_damping_and_blocks_are_refused(prunable, batches):
    with pytest.raises(BadInput, match="damp"):
        planned(prunable, batches, options={"damp": 0.0})
    with pytest.raises(BadInput, match="fisher_block"):
        planned(prunable, batches, fisher_block=0)
