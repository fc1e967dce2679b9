"""Thresholds, order of filters and greedy choices of PAGCP, against released functions and an independent walk."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from prunus.channels.pagcp import pagcp, ratios, removed, saliency
from prunus.channels.task_budget import decay, visiting_order, walk
from prunus.core.budget import Budget
from prunus.core.prunable import Group, Slot

pytestmark = pytest.mark.golden("pagcp--schedule")
CLOSE = {"rtol": 1e-8, "atol": 1e-8}
SIZE = 1000  # channels of each made group: every ratio is a whole number of them


def test_factors(case):
    found = [[decay(rate, limit, round(n)) for limit in case["lambda_targets"]] for rate, n in case["lambda_args"]]
    np.testing.assert_allclose(found, case["lambda_table"], **CLOSE)
    groups = len(case["flops_gain"])
    factor = decay(case.value("initial_rate"), case.value("initial_thres"), groups)
    np.testing.assert_allclose(factor, case.value("lam"), **CLOSE)
    np.testing.assert_allclose(ratios(float(case["ratios"][0])), case["ratios"], **CLOSE)


def test_filters(case):
    weights = [torch.from_numpy(case[name]) for name in sorted(case) if name.startswith("group_w")]
    group = SimpleNamespace(writers=tuple(SimpleNamespace(weight=weight.flatten(2)) for weight in weights))
    first = np.argsort(saliency(group).numpy(), kind="stable")
    for name in (name for name in case if name.startswith("group_prune_")):
        count = removed(len(first), int(name.rsplit("_", 1)[1]) / 100)
        np.testing.assert_array_equal(first[:count], case[name], err_msg=name)


def test_walk(case):
    order = visiting_order(case["flops_gain"], case.value("lam"))
    np.testing.assert_array_equal(order, case["order"])
    table = case["loss_table"]

    def losses(chosen):
        group, at = list(chosen.items())[-1]
        return table[group, at]

    rates = case.value("initial_rate"), case.value("lam")
    done = walk(order.tolist(), table.shape[1], losses, case["base_losses"], *rates, parity="official")
    chosen = {group: at for group, at, _, _ in done.visits}
    np.testing.assert_array_equal([chosen[group] for group in range(len(table))], case["chosen"])
    history = [[threshold, *base] for _, _, threshold, base in done.visits]
    np.testing.assert_allclose(history, case["history"], **CLOSE)


class Made:
    """Groups whose price is what the case says, and a model with a filter for each channel."""

    def __init__(self, gains):
        self.price = np.asarray(gains) / 0.3 / SIZE
        self.model = nn.ModuleList(nn.Linear(1, SIZE, bias=False) for _ in gains)
        self.names = [f"{i:03}.weight:0" for i in range(len(gains))]

    def groups(self, unit):
        index = np.arange(SIZE)[:, None]
        return [
            Group(name, unit, SIZE, (Slot(f"{i}.weight", 0, "writer", index),)) for i, name in enumerate(self.names)
        ]

    def priced(self, counts):
        return {"macs": float(sum(cost * counts[name] for cost, name in zip(self.price, self.names)))}


def test_the_search_decides_the_same(case):
    made, table, order = Made(case["flops_gain"]), case["loss_table"], case["order"].tolist()

    def tasks(plan):
        gone = [plan.groups[name].size - plan.groups[name].count for name in made.names]
        tried = [group for group in order if gone[group]]
        at = [round(gone[group] / SIZE / case["ratios"][0]) - 1 for group in tried]
        found = table[tried[-1], at[-1]] if tried else case["base_losses"]
        return dict(enumerate(found.tolist()))

    kept = [SIZE if at < 0 else SIZE - removed(SIZE, case["ratios"][at]) for at in case["chosen"]]
    whole = made.priced(dict.fromkeys(made.names, SIZE))["macs"]
    share = 100 * made.priced(dict(zip(made.names, kept)))["macs"] / whole
    options = {"rate": case.value("initial_rate"), "limit": case.value("initial_thres"), "rounds": 1}
    plan = pagcp(
        made, Budget.parse(f"{share + 1e-9}% macs", round_to=1), probe=SimpleNamespace(tasks=tasks), parity="official",
        step=float(case["ratios"][0]), **options,
    )  # fmt: skip
    assert [plan.groups[name].count for name in made.names] == kept
    np.testing.assert_allclose(plan.provenance["losses_before"], case["base_losses"], **CLOSE)
