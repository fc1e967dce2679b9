"""Two networks beside each other: a line between them, their outputs, and the regimes that follow."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from prunus.core.errors import BadInput, NonFinite, SplitError
from prunus.maths.cka import kernel_cka, linear_cka, linear_kernel, rbf_kernel
from prunus.maths.connectivity import jensen_shannon, mode_connectivity, path_statistics
from prunus.maths.regimes import Point, regime, regime_map, select, tune
from prunus.measure.connectivity import connectivity, line
from prunus.measure.similarity import similarity
from prunus.prunables.dataset import Dataset
from prunus.train.loop import fit
from prunus.train.models import TinyCNN, mlp, seeded


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def rows():
    """Two rings: two networks that learn them apart are far apart."""
    angle = 2 * np.pi * np.arange(200) / 200
    y = np.arange(200) % 2
    x = np.stack([(1 + y) * np.cos(angle), (1 + y) * np.sin(angle)], 1).astype(np.float32)
    return x, y


@pytest.fixture(scope="module")
def ends(rows):
    nets = [seeded(mlp, seed, 2, 16, 16, 2) for seed in (0, 1)]
    for net in nets:
        fit(net, rows, steps=600, lr=0.1, batch=50, weight_decay=0, progress=False)
    return nets


def test_cka_is_symmetric_and_blind_to_rotation_and_scale():
    x, y = drawn(30, 6), drawn(30, 4, seed=1) + drawn(30, 6)[:, :4]
    turn = torch.linalg.qr(drawn(6, 6, seed=2))[0]
    for debiased in (False, True):
        assert linear_cka(x, y, debiased=debiased) == pytest.approx(linear_cka(y, x, debiased=debiased), abs=1e-12)
        assert linear_cka(3 * x @ turn, y, debiased=debiased) == pytest.approx(linear_cka(x, y, debiased=debiased))
        kernels = linear_kernel(x), linear_kernel(y)
        assert kernel_cka(*kernels, debiased=debiased) == pytest.approx(linear_cka(x, y, debiased=debiased), abs=1e-10)
    assert 0 <= kernel_cka(rbf_kernel(x), rbf_kernel(y)) <= 1


def test_debiased_cka_of_unrelated_features_is_about_zero():
    apart = [linear_cka(drawn(20, 50, seed=s), drawn(20, 50, seed=s + 100), debiased=True) for s in range(20)]
    assert abs(np.mean(apart)) < 0.05 < linear_cka(drawn(20, 50), drawn(20, 50, seed=100))
    with pytest.raises(BadInput, match="4 rows"):
        linear_cka(drawn(3, 2), drawn(3, 2), debiased=True)


def test_a_barrier_is_below_zero_and_a_path_has_a_length():
    assert mode_connectivity([0.1, 0.5, 0.2]) == pytest.approx(-0.35)
    assert mode_connectivity([0.2, 0.1, 0.2]) == pytest.approx(0.1)
    found = path_statistics([0.0, 1.0, 0.0], [9.0, 3.0, 1.0])
    assert (found.integral, found.mean) == (pytest.approx(0.5), pytest.approx(1 / 3))
    with pytest.raises(NonFinite):
        mode_connectivity([0.1, float("nan")])


def test_divergence_lies_between_zero_and_log_two():
    a = np.array([[50.0, 0.0], [0.0, 50.0]])
    assert jensen_shannon(a, a) == pytest.approx(0, abs=1e-9)
    assert jensen_shannon(a, a[::-1].copy()) == pytest.approx(np.log(2))


def test_the_line_between_two_networks(rows, ends):
    a, b = ends
    found = connectivity(a, rows, dense=b)
    assert found["connectivity"][0] < -0.1 and found["barrier"][0] > 0.1
    turned = connectivity(b, rows, dense=a)
    assert found["connectivity"][0] == pytest.approx(turned["connectivity"][0], abs=1e-6)
    same = connectivity(a, rows, dense=copy.deepcopy(a))
    assert same["connectivity"][0] == same["distance"][0] == 0
    apart = torch.cat([(x - y).flatten() for x, y in zip(a.parameters(), b.parameters())]).norm()
    assert found["distance"][0] == pytest.approx(float(apart.detach()), rel=1e-5)


def test_the_line_stays_inside_a_shared_mask(ends):
    a, b = (copy.deepcopy(end) for end in ends)
    for end in (a, b):
        end[1].weight.data[:, 0] = 0
    assert all(float(between[1].weight[:, 0].detach().abs().max()) == 0 for between in line(a, b, 5))


def test_masks_that_differ_are_told(rows, ends):
    a, b = (copy.deepcopy(end) for end in ends)
    b[1].weight.data[:8] = 0
    assert "zero_at_one_end" in connectivity(a, rows, dense=b, points=3).facts
    assert "zero_at_one_end" not in connectivity(a, rows, dense=ends[1], points=3).facts


def test_norms_need_fit_rows_and_no_architecture_is_mixed_with_another(rows):
    x, y = np.zeros((8, 1, 8, 8), dtype=np.float32), np.arange(8)
    with pytest.raises(SplitError, match="refresh"):
        connectivity(TinyCNN(), Dataset((x, y), role="test"))
    with pytest.raises(BadInput, match="0.weight|1.weight"):
        connectivity(mlp(2, 4, 2), rows, dense=mlp(2, 5, 2))


def test_outputs_beside_each_other(rows, ends):
    a, b = ends
    found = similarity(a, rows, dense=b)
    assert 0.5 < found["cka"][0] < 1 and found["agreement"][0] > 0.9 and 0 < found["js"][0] < 0.1
    assert similarity(a, rows)["cka"][0] == pytest.approx(1)
    with pytest.raises(BadInput, match="same outputs"):
        similarity(a, rows, dense=mlp(2, 3))
    constant = copy.deepcopy(a)
    nn.init.zeros_(constant[-1].weight)
    with pytest.warns(UserWarning, match="not defined"):
        assert np.isnan(similarity(a, rows, dense=constant)["cka"][0])


def points(values):
    return [Point(t, d, c, s) for (t, d), (c, s) in values.items()]


def test_regimes_and_moves():
    found = regime_map(points({(0, "5%"): (-0.2, 0.9), (1, "5%"): (-0.001, 0.95), (2, "5%"): (0.0, 0.5)}), alike=0.9)
    assert [found.regime(p) for p in found.at("5%")] == ["I", "II-B", "II-A"]
    assert [found.move(p) for p in found.at("5%")] == ["raise", "keep", "lower"]
    assert found.best("5%").temperature == 1
    assert regime(-0.01, 1.0, alike=0.5) == "II-B"
    assert regime_map(found.points).alike == pytest.approx(0.9)
    with pytest.raises(BadInput, match="nothing was measured"):
        found.at("80%")


def test_selection_breaks_ties_by_similarity():
    points = [Point(0, 1, -0.1, 0.9), Point(1, 1, 0.002, 0.5), Point(2, 1, 0.0, 0.6)]
    assert (select(points), select(points, barrier=0.2), select(points[:2], barrier=0)) == (2, 0, 1)


@pytest.mark.parametrize(
    ("regimes", "end", "asked"),
    [
        (["I", "I", "I", "I", "I"], 4, 3),
        (["II-A"] * 5, 0, 3),
        (["I", "I", "I", "II-B", "II-A"], 3, 2),
        (["I", "I", "I", "II-A", "II-A"], 3, 2),
        (["I", "I", "II-A", "II-A", "II-A"], 2, 2),
    ],
)
def test_tuning_walks_to_the_border(regimes, end, asked):
    calls = []
    assert tune(5, lambda at: (calls.append(at), regimes[at])[1]) == end
    assert len(calls) == asked == len(set(calls))
