"""InfoBatch against the released class, epoch by epoch, with the draws injected: rows, weights, scores, weighted losses."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from prunus.rows.infobatch import InfoBatch
from prunus.rows.sampler import Sampler

pytestmark = pytest.mark.golden("infobatch--epochs")


def rows_of(case, t):
    start, end = case["off"][t : t + 2]
    return case["flat"][start:end]


def made(case, parity):
    return InfoBatch(
        np.arange(int(case.value("n"))), epochs=int(case.value("epochs")), prune_ratio=float(case.value("prune_ratio")),
        delta=float(case.value("delta")), parity=parity, draw=lambda t, ids, _: np.intersect1d(ids, rows_of(case, t)),
    )  # fmt: skip


def expected_weights(case, t, parity):
    annealed = t + 1 > int(case.value("epochs")) * float(case.value("delta"))
    return np.ones_like(case["weights"][t]) if annealed and parity == "paper" else case["weights"][t]


@pytest.mark.parametrize("parity", ["paper", "official"])
def test_epochs(case, parity):
    method, ids, keep = made(case, parity), np.arange(int(case.value("n"))), float(case.value("keep_ratio"))
    sampler, pruned, batches = Sampler(method, ids), 0, list(pairwise(case["batch_off"]))
    for t in range(int(case.value("epochs"))):
        rows, weights = rows_of(case, t), expected_weights(case, t, parity)
        easy, size, plan = method.well_learnt(), method.size(t), method.epoch(t)
        np.testing.assert_array_equal(plan.ids, np.sort(rows))
        assert size == rows.size
        if rows.size < ids.size:  # (2) and (3) of the case
            assert not easy[np.setdiff1d(ids, rows)].tolist().count(False)
            assert easy[rows].sum() == int(keep * easy.sum())
        found = np.ones(rows.size) if plan.weights is None else plan.weights
        np.testing.assert_allclose(found, weights[plan.ids], rtol=1e-6)
        sampler.set_epoch(t)
        size, (start, end) = int(case.value("batch_size")), batches[t]
        for batch, stored in zip(
            np.split(rows, range(size, rows.size, size)), case["batch_loss"][start:end], strict=True
        ):
            losses = torch.from_numpy(case["loss_all"][t][batch])
            loss = float(sampler.loss(batch, losses))
            assert loss == pytest.approx(float((losses.numpy() * weights[batch]).mean()), rel=1e-6)
            if np.array_equal(weights, case["weights"][t]):
                assert loss == pytest.approx(float(stored), rel=1e-6)
        np.testing.assert_allclose(method.loss, case["scores_after"][t], rtol=1e-6)
        assert method.loss.mean() == pytest.approx(float(case["score_mean_after"][t]), rel=1e-5)
        pruned += ids.size - rows.size
    assert pruned == int(case.value("num_pruned_samples"))
