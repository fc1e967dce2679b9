"""ER and ERK densities against the released allocation of random pruning, and the counts made of them."""

from __future__ import annotations

import numpy as np
import pytest

from prunus.allocate.erk import densities, erk
from prunus.allocate.request import Request

pytestmark = pytest.mark.golden("random-pruning--er-erk-densities")


def _nets(case):
    for net in case.parts:
        part = case.part(net)
        for row, density in enumerate(part["global_density"]):
            for kind in ("erk", "er"):
                yield part["shapes"], float(density), kind, part[kind.upper()][row]


def test_densities(case):
    for shapes, density, kind, expected in _nets(case):
        found = densities(shapes.tolist(), density, kind=kind)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        sizes = np.where(shapes == 0, 1, shapes).prod(axis=1)
        assert found @ sizes == pytest.approx(density * sizes.sum(), rel=1e-9)


def test_counts_are_the_densities_rounded(case):
    for shapes, density, kind, expected in _nets(case):
        trimmed = [tuple(side for side in shape if side) for shape in shapes.tolist()]
        sizes = np.array([np.prod(shape) for shape in trimmed])
        total = round(density * sizes.sum())
        counts = erk(Request.of(sizes, total, shapes=trimmed), kind=kind)
        assert counts.sum() == total
        assert np.abs(counts - expected * sizes).max() < 1 + len(sizes) * 0.5
