"""Bisection over one ranking meets non-additive budgets exactly, with floors, rounding and equal shapes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunus.allocate.by_cost import Level, by_cost
from prunus.core.budget import Budget
from prunus.core.errors import BudgetUnreachable


def product_cost(counts):
    """Neighbouring widths multiply, as in a chain of layers."""
    widths = [counts[name] for name in sorted(counts)]
    return {"macs": float(sum(a * b for a, b in zip([3, *widths], [*widths, 10]))), "channels": float(sum(widths))}


def levels(sizes, seed=0, tag=""):
    rng = np.random.default_rng(seed)
    return [Level(f"g{i}", rng.random(size), tag) for i, size in enumerate(sizes)]


@given(st.lists(st.integers(2, 20), min_size=1, max_size=5), st.floats(0.3, 1.0), st.integers(0, 3))
def test_meets_the_budget_with_the_fewest_drops(sizes, share, seed):
    made = levels(sizes, seed)
    budget = Budget.parse(f"{100 * share:.4f}% macs")
    dense = product_cost({level.name: level.scores.size for level in made})["macs"]
    try:
        counts = by_cost(made, budget, product_cost, floor_share=0)
    except BudgetUnreachable:
        return
    assert product_cost(counts)["macs"] <= budget.term.limit(dense) * (1 + 1e-9)
    assert all(1 <= counts[level.name] <= level.scores.size for level in made)
    cut = [m for m in made if counts[m.name] < m.scores.size]
    worst = [(np.sort(m.scores)[m.scores.size - counts[m.name] - 1], m.name) for m in cut]
    if worst:
        back = {**counts, max(worst)[1]: counts[max(worst)[1]] + 1}
        assert product_cost(back)["macs"] > budget.term.limit(dense)


def test_floors_rounding_and_same_shape():
    made = levels([16, 16, 16], tag="block")
    counts = by_cost(made, Budget.parse("50% channels", round_to=4, floor=4), product_cost)
    assert all(count % 4 == 0 and count >= 4 for count in counts.values())
    equal = by_cost(made, Budget.parse("50% macs", same_shape=True), product_cost)
    assert len(set(equal.values())) == 1


def test_conjunction_and_unreachable():
    made = levels([10, 10])
    both = by_cost(made, Budget.parse("60% macs and 80% channels"), product_cost)
    assert sum(both.values()) <= 16
    with pytest.raises(BudgetUnreachable, match="macs") as error:
        by_cost(made, Budget.parse("1% macs"), product_cost, floor_share=0.5)
    assert "%" in error.value.nearest


def test_ties_go_by_name_and_order_does_not_matter():
    made = [Level("b", np.ones(4)), Level("a", np.ones(4))]
    one = by_cost(made, Budget.parse("5 channels"), product_cost, floor_share=0)
    two = by_cost(made[::-1], Budget.parse("5 channels"), product_cost, floor_share=0)
    assert one == two == {"a": 1, "b": 4}


def test_a_tolerance_narrower_than_a_step_names_what_can_be_had():
    made = levels([10, 10])
    assert sum(by_cost(made, Budget.parse("50% channels", tolerance=0), product_cost).values()) == 10
    with pytest.raises(BudgetUnreachable, match=r"within 1 %; nearest reachable: 50% channels or 55% channels"):
        by_cost(made, Budget.parse("54% channels", tolerance=0.01), product_cost)


def test_large_groups_are_rounded_where_time_is_meant():
    made = levels([256, 100, 127])
    counts = by_cost(made, Budget.parse("50% macs"), product_cost)
    assert counts["g0"] % 8 == 0 and counts["g1"] % 8 and counts["g2"] % 8
    exact = by_cost(made, Budget.parse("50% macs", round_to=1), product_cost)
    assert exact["g0"] % 8 and product_cost(exact)["macs"] >= product_cost(counts)["macs"]
    assert by_cost(made, Budget.parse("50% channels"), product_cost) != counts
