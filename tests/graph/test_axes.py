"""The algebra of dimensions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunus.graph.axes import (
    Axis,
    concat,
    cut,
    freeze,
    index_of,
    is_frozen,
    leaves,
    mask_of,
    narrow,
    product,
    resolve,
    size_of,
    split,
    strided,
    unify,
)  # fmt: skip


def test_leaves_unify_to_the_older():
    a, b = Axis(4), Axis(4)
    unify(b, a, "")
    assert resolve(b) is a
    assert a.bound is None


def test_products_are_refined_to_common_factors():
    a, b = product((Axis(6), Axis(4))), product((Axis(3), Axis(8)))
    unify(a, b, "")
    assert [leaf.size for leaf in leaves(a)] == [3, 2, 4]
    assert list(leaves(a)) == list(leaves(b))


def test_what_does_not_line_up_is_frozen():
    a, b = product((Axis(2), Axis(3))), product((Axis(3), Axis(2)))
    unify(a, b, "shapes")
    assert is_frozen(a)
    assert is_frozen(b)
    assert next(leaves(a)).frozen == "shapes"


def test_concatenations_share_their_pieces():
    a, b, whole = Axis(5), Axis(3), Axis(8)
    unify(concat((a, b)), whole, "")
    assert list(leaves(whole)) == [a, b]


def test_halves_swapped_tie_into_pairs():
    dim = Axis(8)
    head, tail = cut(dim, 4, "")
    unify(concat((tail, head)), dim, "")
    leaf = resolve(head)
    np.testing.assert_array_equal(index_of(resolve(dim), leaf), [[0, 4], [1, 5], [2, 6], [3, 7]])


def test_misaligned_blocks_tie_positions():
    """Channels 6 + 4 into a convolution of 2 groups: position i and i + 5 belong together."""
    a, b, inner = Axis(6), Axis(4), Axis(5)
    unify(concat((a, b)), product((Axis(2), inner)), "")
    pieces = list(leaves(a))
    assert [piece.size for piece in pieces] == [1, 4, 1]
    assert pieces[0] is pieces[2]
    assert list(leaves(b)) == [pieces[1]]


def test_concatenation_as_rows_of_equal_parts():
    parts = [Axis(6), Axis(6), Axis(6)]
    outer, inner = split(concat(parts), 6, "")
    assert outer.size == 3
    assert all(resolve(part) is resolve(inner) for part in parts)


def test_strided_selects_within_pairs():
    dim = Axis(6)
    even, odd = strided(dim, 0, 3, 2, ""), strided(dim, 1, 3, 2, "")
    assert resolve(even) is resolve(odd)


def test_frozen_spreads_over_ties():
    a, b = Axis(4), product((Axis(2), Axis(2)))
    freeze(a, "why")
    unify(b, a, "")
    assert is_frozen(b)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([2, 3, 4]), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_mask_and_size_agree(sizes, random):
    made = [Axis(size) for size in sizes]
    dim = concat((product(made), made[0], product(made[::-1])))
    keep = {leaf: np.array([random.random() < 0.6 for _ in range(leaf.size)]) for leaf in made}
    mask = mask_of(dim, keep)
    assert mask.size == dim.size
    assert mask.sum() == size_of(dim, {leaf: int(kept.sum()) for leaf, kept in keep.items()})


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 12), st.data())
def test_narrow_is_a_slice_of_the_mask(size, data):
    start = data.draw(st.integers(0, size - 1))
    stop = data.draw(st.integers(start + 1, size))
    dim = Axis(size)
    part = narrow(dim, start, stop, "")
    keep = {leaf: np.arange(leaf.size) % 2 == 0 for leaf in leaves(dim)}
    np.testing.assert_array_equal(mask_of(part, keep), mask_of(dim, keep)[start:stop])


@pytest.mark.parametrize("shape", [(2, 3, 4), (4, 2)])
def test_index_covers_each_position_once(shape):
    made = [Axis(size) for size in shape]
    dim = product(made)
    for leaf in made:
        assert sorted(index_of(dim, leaf).reshape(-1)) == list(range(dim.size))
