"""Exhaustive cuts of a small classifier, and what ranks say of them, against an independent derivation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from prunus.flow.oracle import combinations, oracle_losses, oracle_plans
from prunus.measure.rank_agreement import rank_agreement
from prunus.prunables.model import ModelPrunable

pytestmark = pytest.mark.golden("oracle-pruning--enumeration-and-statistics")
CLOSE = {"rtol": 1e-9, "atol": 1e-12}
GROUP = "0.weight:0"


def network(case) -> nn.Sequential:
    hidden, inputs = case["W"].shape
    net = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, case["V"].shape[0])).double()
    parts = {"0.weight": case["W"], "0.bias": case["b"], "2.weight": case["V"], "2.bias": case["c"]}
    net.load_state_dict({name: torch.from_numpy(value) for name, value in parts.items()})
    return net.eval()


def test_every_cut(case):
    net, x = network(case), torch.from_numpy(case["X"])
    units, dropped = case["W"].shape[0], case["combos"].shape[1]
    candidates = combinations({GROUP: units}, {GROUP: dropped}, most=len(case["combos"]))
    np.testing.assert_array_equal([one[GROUP] for one in candidates], case["combos"])
    plans = oracle_plans(ModelPrunable(net, x[:1]), candidates)
    losses = oracle_losses(net, plans, (x, torch.from_numpy(case["Y"])), example=x[:1])
    np.testing.assert_allclose(losses, case["pruned_train_loss"], **CLOSE)
    assert losses.argmin() == case["oracle_index"]


def test_statistics(case):
    before = case["pruned_train_loss"]
    accuracy = rank_agreement(before, case["final_test_acc"], better="higher")
    loss = rank_agreement(before, case["final_test_loss"], better="lower")
    assert accuracy.oracle == loss.oracle == case["oracle_index"]
    np.testing.assert_allclose((accuracy.tau, accuracy.p), case["kendall_acc"], **CLOSE)
    np.testing.assert_allclose((loss.tau, loss.p), case["kendall_loss"], **CLOSE)
    np.testing.assert_allclose(accuracy.spearman, case["spearman_acc"], **CLOSE)
    np.testing.assert_allclose(accuracy.pearson, case["pearson_acc"], **CLOSE)
    np.testing.assert_allclose(accuracy.anomalies, case["anomaly_ratio_acc"], **CLOSE)
    np.testing.assert_allclose(loss.anomalies, case["anomaly_ratio_loss"], **CLOSE)
