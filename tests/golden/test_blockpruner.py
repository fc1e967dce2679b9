"""The greedy search over branches against the released one, on a made perplexity with interactions."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from prunus.core.budget import Budget
from prunus.graph.chains import Chain
from prunus.layers.blockpruner import blockpruner

pytestmark = pytest.mark.golden("blockpruner--greedy-search")


@pytest.fixture
def searched(case):
    """`searched(**options)` -> the plan."""
    layers = int(case.value("n_layers"))
    rows = tuple(
        Chain(f"h:{kind}", tuple(f"h.{i}.{kind}" for i in range(layers)), (True,) * layers, kind == "mha")
        for kind in ("mha", "mlp")
    )
    prunable = SimpleNamespace(branches=rows, chains=())

    def perplexity(plan):
        gone = np.zeros(2 * layers)
        for number, row in enumerate(rows):
            gone[number * layers + plan.dropped(row.path)] = 1
        return float(np.exp(2 + case["linear"] @ gone + gone @ case["quadratic"] @ gone))

    def search(**options):
        budget = Budget.parse(f"drop {case.value('n_remove')} layers")
        return blockpruner(prunable, budget, probe=perplexity, pin_first=False, **options)

    return search


def test_order_and_perplexity(case, searched):
    made = searched().provenance
    order = [(("mha", "mlp").index(name.split(".")[2]), int(name.split(".")[1])) for name in made["order"]]
    np.testing.assert_array_equal(order, case["removal_order"])
    np.testing.assert_allclose(made["loss"], case["ppl_after_each"], rtol=1e-9)
    assert made["evaluations"] == case.value("n_evaluations")


def test_what_goes(case, searched):
    plan = searched()
    for number, kind in enumerate(("mha", "mlp")):
        gone = np.sort([layer for row, layer in case["removal_order"] if row == number])
        np.testing.assert_array_equal(plan.dropped(f"h:{kind}"), gone)
    assert plan.planned["layers"] == 2 * case.value("n_layers") - case.value("n_remove")


def test_all_at_once(case, searched):
    made = searched(once=True).provenance
    np.testing.assert_allclose(made["loss"], [case.value("oneshot_ppl")], rtol=1e-9)
    assert made["evaluations"] == 2 * case.value("n_layers") + 1
