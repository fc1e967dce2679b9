"""Selectors of weights: exact counts, scopes, ties, refusals; and masks of a whole model with one matrix in memory."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from prunus.core.budget import Budget
from prunus.core.errors import BadInput, BudgetUnreachable, NonFinite
from prunus.core.score import GroupScore, LazyValues, Score
from prunus.select.cumulative import cumulative
from prunus.select.nm import nm
from prunus.select.per_group import per_group
from prunus.select.per_output import per_output
from prunus.select.within import keep_masks

positive = st.floats(0, 8, width=32)
matrices = hnp.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 8)), elements=positive)


def group(values):
    return GroupScore(values, np.arange(values.size), name="g")


def mask_of(values, kept):
    mask = np.zeros(values.size, dtype=bool)
    mask[kept] = True
    assert mask.sum() == len(kept)
    return mask.reshape(values.shape)


@given(values=matrices, share=st.floats(0.01, 1))
@settings(max_examples=60, deadline=None)
def test_exact_counts_and_no_kept_below_a_dropped(values, share):
    count = max(1, int(share * values.size))
    for choose in (per_group, per_output, cumulative):
        mask = mask_of(values, choose(group(values), count))
        assert mask.sum() == count
        lines = zip(values, mask) if choose is not per_group else [(values.ravel(), mask.ravel())]
        for line, kept in lines:
            assert kept.all() or not kept.any() or line[kept].min() >= line[~kept].max()


@given(values=matrices)
@settings(max_examples=20, deadline=None)
def test_masks_are_nested_and_blind_to_scale(values):
    masks = [mask_of(values, per_group(group(values), count)) for count in range(1, values.size + 1)]
    for small, large in pairwise(masks):
        assert (large | ~small).all()
    np.testing.assert_array_equal(masks[0], mask_of(values, per_group(group(values * 4), 1)))


def test_the_same_number_in_each_output():
    values = np.random.default_rng(0).random((5, 15)).astype(np.float32)
    assert (mask_of(values, per_output(group(values), 5 * 8)).sum(1) == 8).all()
    assert sorted(mask_of(values, per_output(group(values), 5 * 8 + 2)).sum(1)) == [8, 8, 8, 9, 9]


def test_ties_drop_the_lower_index_and_the_released_rule_drops_all():
    flat = np.ones((2, 4), dtype=np.float32)
    np.testing.assert_array_equal(per_group(group(flat), 3), [5, 6, 7])
    np.testing.assert_array_equal(per_output(group(flat), 4), [2, 3, 6, 7])
    np.testing.assert_array_equal(nm(group(flat), 4), [2, 3, 6, 7])
    assert per_group(group(flat), 4, parity="official").size == 0


@given(values=hnp.arrays(np.float32, (3, 16), elements=positive), n=st.integers(1, 3), m=st.sampled_from([4, 8]))
@settings(max_examples=30, deadline=None)
def test_nm_keeps_n_of_every_m(values, n, m):
    mask = mask_of(values, nm(group(values), 0, n=n, m=m)).reshape(-1, m)
    lines = values.reshape(-1, m)
    assert (mask.sum(1) == n).all()
    assert all(line[kept].min() >= line[~kept].max() for line, kept in zip(lines, mask))


def test_nm_of_convolutions_runs_along_input_channels():
    values = np.random.default_rng(1).random((3, 8, 2, 2)).astype(np.float32)
    mask = mask_of(values, nm(group(values.reshape(3, -1)), 0, n=2, m=4, taps=4))
    assert (mask.reshape(3, 2, 4, 2, 2).sum(2) == 2).all()


def test_nm_of_ragged_inputs():
    values = np.random.default_rng(2).random((2, 7)).astype(np.float32)
    with pytest.raises(BadInput, match="7 input channels, no multiple of 4"):
        nm(group(values), 0, n=2)
    mask = mask_of(values, nm(group(values), 0, n=2, tail="dense"))
    assert mask[:, 4:].all()
    assert (mask[:, :4].sum(1) == 2).all()
    with pytest.raises(BadInput, match="not N of every 4"):
        nm(group(np.ones((2, 8), dtype=np.float32)), 7)


def test_nan_and_impossible_counts_are_refused():
    values = np.ones((2, 4), dtype=np.float32)
    values[1, 2] = np.nan
    for choose in (per_group, per_output, cumulative, nm):
        with pytest.raises(NonFinite, match=r"at ids \[6\]"):
            choose(group(values), 4)
    for choose in (per_group, per_output, cumulative):
        with pytest.raises(BadInput, match="can't keep 0 of the 8"):
            choose(group(np.ones((2, 4))), 0)
    with pytest.raises(BadInput, match="scores >= 0"):
        cumulative(group(-np.ones((2, 4))), 4)


SHAPES = {"a": (4, 8), "b": (6, 16), "c": (2, 4)}


@pytest.fixture
def score():
    rng = np.random.default_rng(5)
    scale = {"a": 1, "b": 1, "c": 0.05}
    values = {name: (rng.random(shape) * scale[name]).astype(np.float32) for name, shape in SHAPES.items()}
    asked = []

    def compute(name):
        asked.append(name)
        return values[name]

    lazy = Score("weights", LazyValues(tuple(values), compute))
    lazy.provenance["asked"] = asked
    return lazy


def kept_of(score, budget, **options):
    return {name: mask.sum() for name, mask in keep_masks(score, Budget.parse(budget), **options)}


def test_within_all_meets_the_budget_and_starves_no_matrix(score):
    sizes = {name: int(np.prod(shape)) for name, shape in SHAPES.items()}
    total = sum(sizes.values())
    plain = kept_of(score, "sparsity 90%", within="all", minimum=0)
    assert plain == kept_of(score, "10% weights", within="all", minimum=0)
    assert sum(plain.values()) == total - int(0.9 * total)
    assert plain["c"] == 1, "the floor of the budget"
    least = kept_of(score, "sparsity 90%", within="all", minimum=3)
    assert sum(least.values()) == sum(plain.values())
    assert min(least.values()) >= int(0.03 * total)
    with pytest.raises(BudgetUnreachable, match="nearest reachable: 121 weights"):
        kept_of(score, "sparsity 90%", within="all", minimum=60)


def test_one_cut_over_unlike_scales_warns():
    values = {"a": np.full((2, 4), 500.0), "b": np.ones((2, 4)), "dead": np.zeros((2, 4))}
    with pytest.warns(UserWarning, match="scores of a are 500 times those of b"):
        kept_of(Score("weights", values), "50% weights", within="all")


def test_within_group_output_and_nm(score):
    assert kept_of(score, "50% weights") == {"a": 16, "b": 48, "c": 4}
    assert kept_of(score, "sparsity 80%", within="output") == {"a": 4 * 2, "b": 6 * 4, "c": 2 * 1}
    assert kept_of(score, "2:4") == kept_of(score, "50% weights", within="2:4") == {"a": 16, "b": 48, "c": 4}
    assert kept_of(score, "68 weights") == {"a": 16, "b": 48, "c": 4}
    assert sum(kept_of(score, "40% weights", within="cumulative").values()) == 13 + 39 + 4


def test_masks_come_one_matrix_at_a_time(score):
    for budget in ("2:4", "50% weights"):
        score.provenance["asked"].clear()
        next(keep_masks(score, Budget.parse(budget)))
        assert score.provenance["asked"] == ["a"]


def test_unknown_scope_and_empty_results_are_refused(score):
    with pytest.raises(BadInput, match="within is one of"):
        kept_of(score, "50% weights", within="layer")
    with pytest.raises(BudgetUnreachable, match="none of 8 weights that compete in a"):
        kept_of(score, "sparsity 100%", within="output")
