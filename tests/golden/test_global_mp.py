"""Global magnitude, vanilla and with a minimum for each layer, against the released functions."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from prunus.allocate.minimum_threshold import minimum_count, minimum_threshold, official_sparsities, threshold
from prunus.allocate.request import Request
from prunus.core.score import GroupScore
from prunus.select.per_group import per_group
from prunus.weights.magnitude import magnitude

pytestmark = pytest.mark.golden("global-mp--vanilla-and-min-threshold")


@pytest.fixture
def net(case):
    """Scores of every layer, target sparsity, minimum in percent, request."""
    sparsity, minimum = (float(x) for x in case["hyper"])
    weights = [torch.from_numpy(case[f"weight/{i}"]) for i in range(len(case["numel"]))]
    scores = [magnitude(SimpleNamespace(weight=w.flatten(1))).numpy() for w in weights]
    size = sum(s.size for s in scores)
    request = Request.of([s.size for s in scores], size - int(sparsity * size), scores=[s.reshape(-1) for s in scores])
    return scores, sparsity, minimum, request


def _masks(scores, counts):
    for values, count in zip(scores, counts):
        mask = np.zeros(values.size, dtype=bool)
        if count:
            mask[per_group(GroupScore(values, np.arange(values.size)), int(count))] = True
        yield mask


def test_sizes_and_minimum(case, net):
    scores, _, minimum, _ = net
    np.testing.assert_array_equal([s.size for s in scores], case["numel"])
    assert minimum_count([s.size for s in scores], minimum) == case.value("min_weight_target")


def test_vanilla(case, net):
    scores, sparsity, _, request = net
    assert threshold(scores, sparsity) == pytest.approx(case.value("threshold_vanilla"), rel=1e-7)
    counts = minimum_threshold(request, minimum=0, parity="official", sparsity=sparsity)
    np.testing.assert_array_equal(counts, case["kept_vanilla"])
    for i, mask in enumerate(_masks(scores, counts)):
        np.testing.assert_array_equal(mask, case[f"mask_vanilla/{i}"].reshape(-1).astype(bool))


def test_minimum_threshold(case, net):
    scores, sparsity, minimum, request = net
    np.testing.assert_allclose(official_sparsities(scores, sparsity, minimum), case["layer_sparsity_mt"], rtol=1e-6)
    counts = minimum_threshold(request, minimum=minimum, parity="official", sparsity=sparsity)
    np.testing.assert_array_equal(counts, case["kept_mt"])
    for i, mask in enumerate(_masks(scores, counts)):
        np.testing.assert_array_equal(mask, case[f"mask_mt/{i}"].reshape(-1).astype(bool))


def test_our_default_is_exact_and_starves_no_layer(case, net):
    scores, _, minimum, request = net
    counts = minimum_threshold(request, minimum=minimum)
    assert counts.sum() == request.whole_total
    assert (counts >= np.minimum(case.value("min_weight_target"), case["numel"])).all()
    plain = minimum_threshold(request, minimum=0)
    assert np.abs(plain - case["kept_vanilla"]).sum() <= 1, "the released cut keeps the k-th smallest itself"
    np.testing.assert_array_equal(counts, minimum_threshold(request, minimum=minimum))
    assert len(scores) == counts.size
