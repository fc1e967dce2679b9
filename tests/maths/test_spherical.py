"""Directions and their clusters: what does not change them, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from prunus.core.errors import BadInput, NonFinite
from prunus.maths import spherical


def points(n=120, d=6, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def test_block_size_changes_nothing(monkeypatch):
    x = points()
    whole = spherical.kmeans(x, 5, seed=3)
    monkeypatch.setattr(spherical, "BLOCK", 7)
    parts = spherical.kmeans(x, 5, seed=3)
    np.testing.assert_array_equal(parts.assigned, whole.assigned)
    np.testing.assert_allclose(parts.distance, whole.distance, atol=2e-12)


def test_scale_and_rotation_change_nothing():
    x, rng = points(), np.random.default_rng(1)
    start = x[:4]
    base = spherical.settle(x, start)
    turn = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    for other, other_start in (
        (x * rng.uniform(0.1, 9, (120, 1)).astype(np.float32), start),
        (x.astype(np.float64) @ turn, start @ turn),
        (x * np.float32(1e-30), start),
    ):
        found = spherical.settle(other, other_start)
        np.testing.assert_array_equal(found.assigned, base.assigned)
        np.testing.assert_allclose(found.distance, base.distance, atol=1e-6)
    assert base.distance.min() >= 0 and base.distance.max() <= 2


def test_a_fixed_point_and_an_empty_cluster():
    x = points(40, 3)
    start = np.concatenate([x[:3], -x[:1] * 0 + np.array([[0, 0, 1e-3]], dtype=np.float32)])
    found = spherical.settle(x, start)
    again = spherical.mean_directions(x, found.assigned, found.centroids)
    np.testing.assert_allclose(again, found.centroids, atol=1e-12)
    old = np.array([[1.0, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(spherical.mean_directions(x, np.zeros(40, dtype=np.int64), old)[1], old[1])


def test_as_many_clusters_as_points_and_equal_points():
    x = points(9, 4)
    np.testing.assert_allclose(spherical.kmeans(x, 50).distance, 0, atol=1e-12)
    same = np.tile(x[:1], (30, 1))
    assert np.unique(spherical.kmeans(same, 4).distance).tolist() == [0.0]


def test_refusals_name_the_ids():
    x, ids = points(5), np.array(["a", "b", "c", "d", "e"])
    x[3] = 0
    with pytest.raises(BadInput, match="'d'"):
        spherical.check_directions(x, ids)
    x[2, 1] = np.nan
    with pytest.raises(NonFinite, match="'c'"):
        spherical.check_directions(x, ids)
    with pytest.raises(BadInput, match="at least 1"):
        spherical.kmeans(points(), 0)
    with pytest.raises(BadInput, match=r"cluster 0\.\.1"):
        spherical.Clusters.around(points(), points(2), np.full(120, 2))
