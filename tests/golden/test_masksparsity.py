"""Thresholds on scales, the vote of a residual group, and the gradients the penalty adds, against the released functions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from prunus.channels.scale_threshold import energy_threshold, kept_above, vote
from prunus.train.penalty import Penalty, penalty_gradient

pytestmark = pytest.mark.golden("masksparsity--bn")
CLOSE = {"rtol": 0, "atol": 1e-12}
RULES = {"L1": "l1", "L2": "l2", "smoothL1": "smooth_l1"}


def test_thresholds(case):
    for name in sorted(key for key in case if key.startswith("th_ot_")):
        energy = float(name.removeprefix("th_ot_").replace("e", "e-"))
        found = [energy_threshold(scales, energy) for scales in case["gamma"]]
        np.testing.assert_allclose(found, case[name], err_msg=name, **CLOSE)


def test_masks_and_vote(case):
    kept = [kept_above(scales, limit) for scales, limit in zip(case["gamma"], case["th_fixed"])]
    np.testing.assert_array_equal(kept, case["keep_fixed"])
    np.testing.assert_array_equal(vote(kept), case["residual_keep"])


def test_added_gradients(case):
    gamma, removed = torch.from_numpy(case["gamma"]), ~torch.from_numpy(case["keep_fixed"])
    strength, lr = float(case.value("lambda_")), float(case.value("lr"))
    for name, rule in RULES.items():
        found = penalty_gradient(gamma, removed, strength, rule=rule, lr=lr)
        np.testing.assert_allclose(found, case[f"grad_mask_{name}"], err_msg=name, **CLOSE)
    np.testing.assert_allclose(penalty_gradient(gamma, None, strength), case["grad_global_L1"], **CLOSE)


@pytest.mark.parametrize("name", list(RULES))
def test_the_optimizer_adds_them(case, name):
    """One step of plain SGD from gradients of 0 moves the scales by -lr times what was added."""
    net = nn.Module()
    net.norms = nn.ParameterList(nn.Parameter(torch.from_numpy(scales.copy())) for scales in case["gamma"])
    removed = {f"norms.{i}": ~torch.from_numpy(kept) for i, kept in enumerate(case["keep_fixed"])}
    lr = float(case.value("lr"))
    engine = Penalty(net, removed, float(case.value("lambda_")), RULES[name]).sgd(lr, momentum=0)(net.parameters())
    for scale in net.norms:
        scale.grad = torch.zeros_like(scale)
    engine.step()
    moved = np.stack([scale.detach().numpy() for scale in net.norms]) - case["gamma"]
    np.testing.assert_allclose(moved, -lr * case[f"grad_mask_{name}"], **CLOSE)
