"""Projection, nuclear-norm slope, ranks by energy and real factors of one convolution, against the released functions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import prunus as px
from prunus.core.plan import Kept
from prunus.flow.ranks import factored
from prunus.maths.rank_parts import energy_rank, truncated
from prunus.prunables.model import ModelPrunable
from prunus.train.rank_projection import RankProjection

pytestmark = pytest.mark.golden("trp--truncate-and-decompose")
CLOSE = {"rtol": 1e-8, "atol": 1e-10}
SCHEMES = {"NC": "channel", "VH": "spatial", "ND": "decouple"}
each = pytest.mark.parametrize("kind", list(SCHEMES))


@pytest.fixture
def net(case):
    """One convolution of the case inside a network."""
    weight = torch.from_numpy(case["weight"])
    outputs, inputs, *kernel = weight.shape
    conv = nn.Conv2d(inputs, outputs, tuple(kernel), padding=tuple(k // 2 for k in kernel), bias=False).double()
    with torch.no_grad():
        conv.weight.copy_(weight)
    return nn.Sequential(conv).eval()


def rank_of(case, kind):
    return int(case.value(f"{kind}/rank") if f"{kind}/rank" in case else case.value(f"{kind}/paths"))


@each
def test_projection_and_slope(case, kind):
    near, slope, ranks = truncated(torch.from_numpy(case["weight"]), case.value("hyper"), scheme=SCHEMES[kind])
    np.testing.assert_allclose(near, case[f"{kind}/approx"], **CLOSE)
    np.testing.assert_allclose(slope, case[f"{kind}/subgradient"], **CLOSE)
    assert int(ranks.max()) == rank_of(case, kind)


@each
def test_the_optimizer_projects_and_adds_the_slope(case, kind, net):
    """From gradients of 0, the first step of plain SGD is -lr times strength times the slope; then the weight is projected."""
    lr, strength, x = 0.1, 0.01, torch.from_numpy(case["x"])
    chosen = {"0.weight": (1, SCHEMES[kind])}
    projection = RankProjection(net, chosen, energy=case.value("hyper"), strength=strength, period=2)
    np.testing.assert_allclose(net[0].weight.detach(), case[f"{kind}/approx"], **CLOSE)
    np.testing.assert_allclose(net(x).detach(), case[f"{kind}/y_approx"], **CLOSE)
    engine = projection.sgd(lr, momentum=0, weight_decay=0)(net.parameters())
    net[0].weight.grad = torch.zeros_like(net[0].weight)
    engine.step()
    moved = case[f"{kind}/approx"] - lr * strength * case[f"{kind}/subgradient"]
    np.testing.assert_allclose(net[0].weight.detach(), moved, **CLOSE)
    net[0].weight.grad = torch.zeros_like(net[0].weight)
    engine.step()  # no slope at the second step, but the projection before the third
    again, _, _ = truncated(torch.from_numpy(moved), case.value("hyper"), scheme=SCHEMES[kind])
    np.testing.assert_allclose(net[0].weight.detach(), again, **CLOSE)


@each
def test_real_factors_give_the_projected_outputs(case, kind, net):
    """The projected weight has the rank of the case (decouple: of its richest filter), so two convolutions hold all of it."""
    with torch.no_grad():
        net[0].weight.copy_(torch.from_numpy(case[f"{kind}/approx"]))
    x, rank = torch.from_numpy(case["x"]), rank_of(case, kind)
    prunable = ModelPrunable(net, x)
    (matrix,) = prunable.rank_matrices(SCHEMES[kind])
    if matrix.stays(rank) == rank:
        plan = px.plan(prunable, "ranks/svd", f"{rank} ranks", scheme=SCHEMES[kind])
        assert plan.groups["0.weight"].count == rank
    else:  # two layers of this rank are dearer than one: no plan makes them, the edit still can
        least = px.plan(prunable, "ranks/svd", "1 ranks", scheme=SCHEMES[kind])
        kept = {"0.weight": Kept.of_ids(np.arange(rank), matrix.size)}
        plan = replace(least, groups=kept, edits=factored(prunable, kept, SCHEMES[kind]))
    small = plan.apply(net)
    with torch.no_grad():
        np.testing.assert_allclose(small(x), case[f"{kind}/y_decomposed"], rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(small(x), case[f"{kind}/y_approx"], rtol=1e-8, atol=1e-8)
    stored = {name.rpartition("/")[2]: case[name].shape for name in case if name.startswith(f"{kind}/factor/")}
    first, second = {"NC": ("C", "N"), "VH": ("V", "H"), "ND": ("", "")}[kind]
    if stored:
        assert (tuple(small[0][0].weight.shape), tuple(small[0][1].weight.shape)) == (stored[first], stored[second])
        assert stored.keys() == {first, second}


def test_products_of_the_released_factors(case):
    """The factors themselves are unique only up to a rotation; their product is not."""
    column, row = case["NC/factor/C"], case["NC/factor/N"]
    product = np.einsum("nr,rchw->nchw", row[:, :, 0, 0], column)
    np.testing.assert_allclose(product, case["NC/approx"], **CLOSE)
    product = np.einsum("rch,nrw->nchw", case["VH/factor/V"][..., 0], case["VH/factor/H"][:, :, 0])
    np.testing.assert_allclose(product, case["VH/approx"], **CLOSE)


def test_ranks_by_energy(case):
    sigma = torch.from_numpy(case["sigma_NC"])
    found = [int(energy_rank(sigma, float(level))) for level in case["energy_levels"]]
    np.testing.assert_array_equal(found, case["energy_rank"])
    weight = torch.from_numpy(case["weight"])
    np.testing.assert_allclose(torch.linalg.svdvals(weight.flatten(1)), sigma, **CLOSE)


@each
def test_invariants(case, kind):
    weight, energy = torch.from_numpy(case["weight"]), case.value("hyper")
    near, slope, ranks = truncated(weight, energy, scheme=SCHEMES[kind])
    twice, _, same = truncated(near, 1 - 1e-9, scheme=SCHEMES[kind])
    np.testing.assert_allclose(twice, near, rtol=1e-6, atol=1e-6)
    assert (same <= ranks).all()
    assert float((weight - near).square().sum()) <= (1 - energy) * float(weight.square().sum()) * (1 + 1e-9)
    whole, _, _ = truncated(weight, 1.0, scheme=SCHEMES[kind])
    np.testing.assert_allclose(whole, weight, **CLOSE)
    moved, _, _ = truncated(weight.flip(0), energy, scheme=SCHEMES[kind])
    np.testing.assert_allclose(moved, near.flip(0), **CLOSE)
    if kind == "NC":
        before = torch.linalg.svdvals(near.flatten(1)).sum()
        assert torch.linalg.svdvals((near - 1e-3 * slope).flatten(1)).sum() < before
