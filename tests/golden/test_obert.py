"""oBERT on two parameters with one global cut against the released scorer, inverse and masks."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from prunus.compensate.obert import obert as update
from prunus.core.budget import Budget
from prunus.core.score import Score
from prunus.flow.weights import runs
from prunus.maths.block_fisher import in_blocks, inverse, losses
from prunus.maths.block_fisher import update as solve
from prunus.weights.obert import obert

pytestmark = pytest.mark.golden("obert")


@pytest.fixture
def layers(case):
    """Every parameter of the case, with its Fisher blocks from masked gradients."""
    found = []
    while f"W{len(found)}" in case:
        at = len(found)
        mask = torch.from_numpy(case[f"mask_before{at}"] != 0)
        grads = torch.from_numpy(case[f"grads{at}"]) * mask
        blocks = torch.stack([in_blocks(grad, case.value("fisher_block_size")) for grad in grads], 1)
        fisher = blocks.transpose(1, 2) @ blocks / case.value("num_grads")
        weight = torch.from_numpy(case[f"W{at}"]) * mask
        found.append(SimpleNamespace(name=str(at), weight=weight, fisher_blocks=fisher))
    assert found
    return found


def options(case):
    return {"damp": case.value("damp"), "absolute": True, "group": 4 if "block4" in case.name else 1}


def masks(case, layers):
    scores = Score("weights", {one.name: obert(one, **options(case)).numpy() for one in layers})
    total = sum(one.weight.numel() for one in layers)
    kept = total - round(total * case.value("sparsity"))
    budget = Budget.parse(f"{kept} weights")
    return dict(runs(scores, budget, options(case)["group"], within="all", minimum=0.0))


def test_inverse(case, layers):
    for at, one in enumerate(layers):
        np.testing.assert_allclose(
            inverse(one.fisher_blocks, case.value("damp")), case[f"f_inv{at}"], rtol=0, atol=1e-5 / case.value("damp")
        )


def test_scores(case, layers):
    for at, one in enumerate(layers):
        ours, theirs = obert(one, **options(case)).numpy(), case[f"score{at}"]
        alive = np.isfinite(theirs)
        np.testing.assert_allclose(ours[alive], theirs[alive], rtol=1e-5)
        assert (ours[~alive] == 0).all() and (ours[alive] > 0).all(), "what is pruned goes first"


def test_masks(case, layers):
    found = masks(case, layers)
    for at, one in enumerate(layers):
        np.testing.assert_array_equal(found[one.name], case[f"mask_after{at}"] != 0)


def test_released_update(case, layers):
    found = masks(case, layers)
    for at, one in enumerate(layers):
        new = update(one, found[one.name], joint=False, **options(case))
        np.testing.assert_allclose(new, case[f"W_after{at}"], atol=1e-5)


def test_the_joint_update_costs_least(case, layers):
    found, add = masks(case, layers), case.value("damp")
    for one in layers:
        gone = torch.from_numpy(~found[one.name]) & (one.weight != 0)
        ours, loss = solve(one.weight, one.fisher_blocks, gone, add)
        _, released = solve(one.weight, one.fisher_blocks, gone, add, joint=False, group=options(case)["group"])
        fisher = one.fisher_blocks.double() + add * torch.eye(one.fisher_blocks.shape[1], dtype=torch.float64)
        zeroed = in_blocks(torch.where(gone, -one.weight, 0.0), fisher.shape[1]).double()
        zeroing = 0.5 * float((zeroed.unsqueeze(1) @ fisher @ zeroed.unsqueeze(2)).sum())
        assert loss <= released * (1 + 1e-9) and loss <= zeroing * (1 + 1e-9)
        np.testing.assert_allclose(update(one, found[one.name], **options(case)), ours, rtol=0, atol=0)


def test_one_removed_run_in_a_block_is_obs(case, layers):
    """The released update, the joint one and the score are then the same thing."""
    group, add = options(case)["group"], case.value("damp")
    for one in layers:
        scores = losses(one.weight, one.fisher_blocks, add, group)
        width = one.fisher_blocks.shape[1]
        gone = torch.zeros(len(one.fisher_blocks) * width, dtype=torch.bool).reshape(-1, width)
        gone[:, :group] = True
        gone = gone.reshape(-1)[: one.weight.numel()].reshape(one.weight.shape)
        first = in_blocks(scores, width)[:, 0].sum()
        (joint, loss), (released, other) = (
            solve(one.weight, one.fisher_blocks, gone, add, joint=joint, group=group) for joint in (True, False)
        )
        np.testing.assert_allclose(joint, released, atol=1e-9)
        assert loss == pytest.approx(float(first), rel=1e-6) and other == pytest.approx(loss, rel=1e-6)
