"""SeTa against the released functions: groups and centres of the injected draw, windows, selections, chunks."""

from __future__ import annotations

import numpy as np
import pytest

from prunus.rows.seta import SeTa

pytestmark = pytest.mark.golden("seta--window")
PARITIES = pytest.mark.parametrize("parity", ["paper", "official"])


def made(case, parity="paper", losses=None, **options):
    n = int(case.value("n"))
    settings = {
        "prune_ratio": float(case.value("prune_ratio")), "groups": int(case.value("num_group")),
        "window": float(case.value("window_scale")), "draw": lambda t, ids, count: case["kept"],
    }  # fmt: skip
    method = SeTa(np.arange(n), parity=parity, **settings | options)
    method.seen(np.arange(n), case["losses"] if losses is None else losses)
    return method


def inertia(case, groups):
    kept = case["kept"]
    return float(((case["losses"][kept].astype(np.float64) - groups.centres[groups.of[kept]]) ** 2).sum())


def same_partition(case, parity):
    return np.array_equal(made(case, parity).grouped(0).of, case["group_of"])


@PARITIES
def test_groups(case, parity):
    groups = made(case, parity).grouped(0)
    assert inertia(case, groups) <= float(case.value("inertia")) * (1 + 1e-4)
    if parity == "official" or same_partition(case, parity):
        np.testing.assert_array_equal(groups.of, case["group_of"])
        np.testing.assert_allclose(groups.centres, case["centers"], rtol=1e-5)
    else:  # another optimum than scikit-learn's, of the same draw, and a better one
        np.testing.assert_array_equal(groups.of >= 0, case["group_of"] >= 0)
        assert inertia(case, groups) < float(case.value("inertia"))


@PARITIES
def test_windows_and_rows(case, parity):
    method, n = made(case, parity), int(case.value("n"))
    for t, (start, end) in enumerate(case["window"]):
        groups = method.grouped(t)
        assert method.span(t, groups.centres.size) == (start, end)
        selected = np.isin(np.arange(n), method.epoch(t).ids)
        np.testing.assert_array_equal(selected, (groups.of >= start) & (groups.of < end))
        if same_partition(case, parity):
            np.testing.assert_array_equal(selected, case["selected"][t])


def test_after_delta_all_that_was_drawn(case):
    epochs = len(case["window"])
    method = made(case, "paper", epochs=epochs, delta=0.5)
    assert method._count == int(float(case.value("keep_ratio")) * int(case.value("n"))) == case["kept"].size
    np.testing.assert_array_equal(method.epoch(epochs - 1).ids, np.sort(case["kept"]))


def test_equal_losses_are_dealt_into_chunks(case):
    n = int(case.value("n"))
    order = np.random.RandomState(0).permutation(n)
    method = made(case, losses=np.full(n, 3.0), prune_ratio=0.0, draw=lambda t, ids, count: order)
    of = method.grouped(0).of[order]
    np.testing.assert_array_equal(np.bincount(of), case["chunk_sizes"])
    np.testing.assert_array_equal(of, np.sort(of))  # consecutive in the order of the draw
