"""Neighbours: exactly those of brute force, whatever faiss proposes, ties by the lower index."""

from __future__ import annotations

import numpy as np
import pytest

from prunus.core.errors import BadInput
from prunus.maths import neighbours
from prunus.maths.neighbours import nearest


def brute(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    away = x.astype(np.float64)[:, None] - x[None]
    squares = (away**2).sum(2)
    np.fill_diagonal(squares, np.inf)
    rows = np.argsort(squares, axis=1, kind="stable")[:, :k]
    return rows, np.take_along_axis(squares, rows, 1)


@pytest.mark.parametrize("spare", [0, 8])
@pytest.mark.parametrize("kind", ["plain", "equal", "outlier", "far", "float64"])
def test_as_brute_force(kind, spare, monkeypatch):
    monkeypatch.setattr(neighbours, "SPARE", spare)
    x = np.random.default_rng(0).standard_normal((90, 5)).astype(np.float32)
    if kind == "equal":  # more equal rows than candidates
        x[10:60] = x[3]
    if kind == "outlier":  # float32 can't tell the others apart beside it
        x[7] *= 1e6
    if kind == "far":
        x += 1000
    if kind == "float64":
        x = 1 + 1e-9 * x.astype(np.float64)
    found, expected = nearest(x, 6), brute(x, 6)
    np.testing.assert_array_equal(found.rows, expected[0])
    np.testing.assert_allclose(found.squares, expected[1], rtol=1e-12)


def test_blocks_do_not_matter(monkeypatch):
    x = np.random.default_rng(1).standard_normal((70, 4))
    expected = nearest(x, 5)
    monkeypatch.setattr(neighbours, "CHUNK", 9)
    monkeypatch.setattr(neighbours, "BYTES", 300)
    found = nearest(x, 5)
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.squares, expected.squares)


def test_few_rows():
    x = np.eye(3)
    assert nearest(x, 10).rows.tolist() == [[1, 2], [0, 2], [0, 1]]
    assert nearest(x[:1], 4).rows.shape == (1, 0)
    assert nearest(x[:0], 4).rows.shape == (0, 0)
    with pytest.raises(BadInput, match="-1 neighbours"):
        nearest(x, -1)
