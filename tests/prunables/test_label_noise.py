"""Wrong labels put in on purpose: how many, which, and that they follow ids alone."""

from __future__ import annotations

import numpy as np
import pytest

from prunus.core.errors import BadInput
from prunus.core.rng import Rng
from prunus.prunables.label_noise import symmetric

RNG = Rng(0, "test")
IDS = np.arange(20_000)
CLEAN = (IDS * 7 % 5) * 10  # classes 0, 10, ..., 40: names with gaps


def test_the_share_asked_for_is_wrong_and_every_wrong_class_is_as_likely() -> None:
    noisy = symmetric(CLEAN, IDS, 0.2, RNG)
    wrong = noisy != CLEAN
    assert abs(wrong.mean() - 0.2) < 0.012  # 4 standard deviations
    assert set(np.unique(noisy)) == set(np.unique(CLEAN))
    shares = np.bincount((noisy[wrong] - CLEAN[wrong]) // 10 % 5, minlength=5) / wrong.sum()
    assert shares[0] == 0 and np.abs(shares[1:] - 0.25).max() < 0.03


def test_draws_follow_ids_not_order_or_neighbours() -> None:
    noisy = symmetric(CLEAN, IDS, 0.3, RNG)
    turned = np.random.default_rng(0).permutation(IDS.size)
    assert np.array_equal(symmetric(CLEAN[turned], IDS[turned], 0.3, RNG), noisy[turned])
    assert np.array_equal(symmetric(CLEAN[:5000], IDS[:5000], 0.3, RNG), noisy[:5000])
    assert not np.array_equal(symmetric(CLEAN, IDS, 0.3, Rng(1, "test")), noisy)


def test_more_noise_keeps_the_rows_that_less_noise_spoilt() -> None:
    few, many = (symmetric(CLEAN, IDS, share, RNG) != CLEAN for share in (0.1, 0.4))
    assert many[few].all()


@pytest.mark.parametrize("labels", [np.zeros(4, np.int64), np.zeros(4, np.float32), np.zeros((4, 2), np.int64)])
def test_labels_that_are_no_classes_are_refused(labels: np.ndarray) -> None:
    with pytest.raises(BadInput, match="label noise"):
        symmetric(labels, np.arange(4), 0.2, RNG)
