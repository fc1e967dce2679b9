"""Data of known features."""

from __future__ import annotations

import numpy as np
import pytest

from prunus.core.errors import BadInput
from prunus.maths.slabs import lms, ms57, nearest_label, slab_data, slab_width, support

ROWS, MARGIN = 4000, 0.05
EVERY = slab_data(ROWS, (1, 3, 5, 7, 0), margins=(0.1, MARGIN), seed=3)


@pytest.mark.parametrize(("at", "slabs", "margin"), [(0, 1, 0.1), (1, 3, MARGIN), (2, 5, MARGIN), (3, 7, MARGIN)])
def test_each_feature_alone_is_always_right_and_stays_in_its_slabs(at, slabs, margin):
    x = EVERY.x[:, at]
    assert support(x, EVERY.y, slabs=slabs, margin=margin).all()
    assert not support(x, 1 - EVERY.y, slabs=slabs, margin=margin).any()
    np.testing.assert_array_equal(nearest_label(x, slabs=slabs, margin=margin), EVERY.y)
    assert np.abs(x).max() <= 1 and abs(x.mean()) < 0.05
    if slabs > 1:  # nothing lies in a gap, which is two margins wide
        edges = np.sort(np.abs(x))
        gaps = np.diff(edges)[np.diff(edges) > MARGIN]
        np.testing.assert_allclose(gaps, 2 * MARGIN, atol=0.02)
        assert gaps.size == slabs // 2


def test_labels_are_balanced_features_independent_and_seeds_their_own():
    assert abs(EVERY.y.mean() - 0.5) < 0.03
    for label in (0, 1):
        apart = np.corrcoef(np.abs(EVERY.x[EVERY.y == label]).T) - np.eye(5)
        assert np.abs(apart).max() < 0.08
    state = np.random.get_state()[1].copy()
    np.testing.assert_array_equal(slab_data(ROWS, (1, 3, 5, 7, 0), margins=(0.1, MARGIN), seed=3).x, EVERY.x)
    assert not np.array_equal(slab_data(ROWS, (1, 3, 5, 7, 0), margins=(0.1, MARGIN), seed=4).x, EVERY.x)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_named_sets_noise_and_rotation():
    found = lms(1000, 5, 4, noise=0.1)
    assert found.kinds == (1, 5, 5, 5) and found.columns(5) == (1, 2, 3)
    wrong = nearest_label(found.x[:, 0], slabs=1, margin=0.1) != found.y
    np.testing.assert_array_equal(np.flatnonzero(wrong), np.sort(found.noisy))
    assert found.noisy.size == 100
    assert ms57(10, 3).kinds == (5, 7, 7)
    turned, straight = ms57(500, 4, rotate=True), ms57(500, 4)
    np.testing.assert_allclose(turned.rotation @ turned.rotation.T, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(turned.x @ turned.rotation.T, straight.x, atol=1e-5)


def test_what_does_not_fit_is_refused():
    with pytest.raises(BadInput, match="do not fit"):
        slab_width(7, 0.2)
    with pytest.raises(BadInput, match="not 4"):
        slab_data(10, (4,))
