"""What must hold of geometry whatever the numbers: signs, scales, rotations, empty classes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ortho_group, spearmanr

from prunus.core.errors import BadInput, NonFinite
from prunus.maths.geometry import class_angles, flips, fragile, measure_geometry, similarity


@pytest.fixture
def parts():
    rng = np.random.default_rng(0)
    return np.abs(rng.normal(size=(50, 6))), rng.normal(size=(4, 6)), rng.normal(size=4), rng.integers(0, 3, 50)


def test_margins_tell_right_from_wrong_and_the_nearest_border_is_no_further(parts):
    found = measure_geometry(*parts)
    np.testing.assert_array_equal(found.margin > 0, found.correct)
    assert (found.nearest <= found.margin + 1e-12).all()
    assert ((found.angles >= 0) & (found.angles <= 180)).all()


def test_scale_and_rotation(parts):
    features, weight, bias, labels = parts
    found, twice = measure_geometry(*parts), measure_geometry(2 * features, weight, bias, labels)
    np.testing.assert_allclose(twice.length, 2 * found.length)
    np.testing.assert_allclose(twice.angle, found.angle)
    turn = ortho_group.rvs(6, random_state=1)
    turned = measure_geometry(features @ turn, weight @ turn, bias, labels)
    for name in ("angle", "length", "margin", "p_true"):
        np.testing.assert_allclose(getattr(turned, name), getattr(found, name), atol=1e-9)


def test_a_class_without_rows_has_no_mean(parts):
    found = measure_geometry(*parts)
    means = found.class_means(found.length)
    assert np.isnan(means[3])
    np.testing.assert_allclose(means[0], found.length[parts[3] == 0].mean())


def test_fragile_rows_and_flips(parts):
    features, weight, bias, labels = parts
    dense = measure_geometry(*parts)
    noisy = [measure_geometry(np.abs(features - 0.9 * k), weight, bias, labels) for k in (1, 2, 3)]
    expected = dense.correct & (sum(~one.correct for one in noisy) >= 2)
    np.testing.assert_array_equal(fragile(dense, noisy), expected)
    assert not flips(dense, dense).any()
    with pytest.raises(BadInput, match="pruned"):
        fragile(dense, [])


def test_similarity_is_a_rank_correlation():
    values = np.random.default_rng(2).normal(size=(3, 40)).round(1)
    np.testing.assert_allclose(similarity(values), spearmanr(values.T).statistic, atol=1e-12)
    np.testing.assert_allclose(np.diag(class_angles(values)), 0)


@pytest.mark.parametrize("labels", [[0, 4], [0, -1], [0]])
def test_labels_that_do_not_fit_are_refused(labels):
    with pytest.raises(BadInput):
        measure_geometry(np.ones((2, 3)), np.ones((4, 3)), None, labels)


def test_features_that_are_not_finite_are_refused():
    with pytest.raises(NonFinite):
        measure_geometry([[np.nan, 1.0]], np.ones((2, 2)), None, [0])
