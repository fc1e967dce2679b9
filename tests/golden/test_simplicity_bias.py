"""Slab data sets of the authors' generator: every value lies where we say it may, and ours lie there too."""

from __future__ import annotations

import numpy as np
import pytest

from prunus.maths.slabs import nearest_label, slab_data, support

pytestmark = pytest.mark.golden("simplicity-bias--slab-datasets")
KINDS = {"lin": (1, 0), "LMS5": (1, 5), "LMS7": (1, 7), "MS57": (5, 7), "nLMS7": (1, 7)}
NOISY = {"nLMS7"}


def data(case):
    _, linear, slab, width = case["hyper"].tolist()
    for name in case.parts:
        first, others = KINDS[name]
        x = case[f"{name}/X"].astype(np.float64)
        yield name, x, case[f"{name}/Y"], (first, *(others,) * (x.shape[1] - 1)), (linear, slab), width


def settings(kind, margins, width):
    return {"slabs": kind, "margin": margins[kind > 1], "width": width}


def test_values_lie_where_their_label_may(case):
    assert len(case.parts) >= 2
    for name, x, y, kinds, margins, width in data(case):
        for at, kind in enumerate(kinds):
            if kind == 0:
                assert (x[:, at] >= 0).all() and (x[:, at] <= width).all(), name
                continue
            inside = support(x[:, at], y, **settings(kind, margins, width))
            right = nearest_label(x[:, at], **settings(kind, margins, width)) == y
            share = inside.mean()
            if kind == 1 and name in NOISY:
                assert 0.85 < share < 0.95 and (right == inside).all(), name
            else:
                assert share == 1 and right.all(), (name, at)


def test_ours_have_the_supports_and_the_shares_of_slabs(case):
    for name, x, y, kinds, margins, width in data(case):
        ours = slab_data(len(x), kinds, margins=margins, width=width, noise=0.1 if name in NOISY else 0.0)
        assert abs(ours.y.mean() - y.mean()) < 0.1
        for at, kind in enumerate(kinds):
            theirs, mine = np.abs(x[:, at]), np.abs(ours.x[:, at].astype(np.float64))
            for label in (0, 1):
                a, b = np.sort(theirs[y == label]), np.sort(mine[ours.y == label])
                grid = np.linspace(0, width, 50)
                gap = np.searchsorted(a, grid) / a.size - np.searchsorted(b, grid) / b.size
                assert np.abs(gap).max() < 2.2 * np.sqrt(1 / a.size + 1 / b.size), (name, at, label)
            if kind and not (kind == 1 and name in NOISY):
                assert support(ours.x[:, at], ours.y, **settings(kind, margins, width)).all()
