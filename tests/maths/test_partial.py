"""Partial selection agrees with a stable sort, and the pooled cut with pooling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from prunus.core.errors import BadInput
from prunus.maths.partial import keep_largest, keep_largest_of_few, pooled_counts, sortable

few = st.sampled_from([-2.0, -0.0, 0.0, 0.5, 1.0, 3.0])
matrices = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=7), elements=few)


def by_sorting(values, count):
    mask = np.ones(values.shape, dtype=bool)
    for line, row in enumerate(values):
        mask[line, np.argsort(row, kind="stable")[: values.shape[1] - count]] = False
    return mask


@given(values=matrices, share=st.floats(0, 1))
@settings(max_examples=80, deadline=None)
def test_keep_largest_is_the_tail_of_a_stable_sort(values, share):
    count = round(share * values.shape[1])
    expected = by_sorting(values, count)
    np.testing.assert_array_equal(keep_largest(values, count), expected)
    np.testing.assert_array_equal(keep_largest_of_few(values, count), expected)


@given(values=matrices, data=st.data())
@settings(max_examples=30, deadline=None)
def test_a_count_for_each_line(values, data):
    counts = data.draw(hnp.arrays(np.int64, len(values), elements=st.integers(0, values.shape[1])))
    np.testing.assert_array_equal(keep_largest(values, counts).sum(1), counts)


@given(
    groups=st.lists(st.lists(few, min_size=1, max_size=6), min_size=1, max_size=4),
    kind=st.sampled_from([np.float32, np.float64]),
    data=st.data(),
)
@settings(max_examples=150, deadline=None)
def test_pooled_counts_agree_with_greedy_filling(groups, kind, data):
    arrays = [np.array(group, dtype=kind) for group in groups]
    floors = np.array([data.draw(st.integers(0, a.size)) for a in arrays])
    total = data.draw(st.integers(int(floors.sum()), sum(a.size for a in arrays)))
    counts = pooled_counts(lambda: iter(arrays), total, floors)
    np.testing.assert_array_equal(counts, greedy(arrays, floors, total))


def greedy(arrays, floors, total):
    """Floors first, then one after the other the largest of what is left; of equal ones the last."""
    counts = floors.astype(np.int64).copy()
    ranked = [np.sort(a)[::-1] for a in arrays]
    while counts.sum() < total:
        heads = [r[c] if c < r.size else -np.inf for r, c in zip(ranked, counts)]
        best = max(heads)
        counts[max(i for i, head in enumerate(heads) if head == best)] += 1
    return counts


def test_pooled_counts_on_many_values_need_no_copy():
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(n).astype(np.float32) for n in (5000, 70, 20_000)]
    pooled = np.sort(np.concatenate(arrays))
    for total in (1, 700, 25_069):
        counts = pooled_counts(lambda: iter(arrays), total, np.zeros(3, dtype=int))
        np.testing.assert_array_equal(counts, [(a >= pooled[-total]).sum() for a in arrays])


@given(values=hnp.arrays(np.float64, 8, elements=st.floats(-1e300, 1e300)))
@settings(max_examples=50, deadline=None)
def test_sortable_keeps_the_order(values):
    keys = sortable(values)
    np.testing.assert_array_equal(np.argsort(keys, kind="stable"), np.argsort(values, kind="stable"))
    assert (sortable(np.array([-0.0])) == sortable(np.array([0.0]))).all()


def test_counts_outside_are_refused():
    with pytest.raises(BadInput, match="can't keep"):
        keep_largest(np.ones((1, 3)), 4)
    with pytest.raises(BadInput, match="float32 or float64"):
        sortable(np.arange(3))
