"""Prune, combine, augment against an independent derivation: the rows chosen, the images packed, the tiles a crop stays in."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import prunus as px
from prunus.train.tiles import TileCrop, boxes

pytestmark = pytest.mark.golden("pca-compression--combine")


def kept(case, images: np.ndarray) -> tuple[px.Score, px.Dataset]:
    """(the score, the rows that stay): the same number of the easiest of every class."""
    data = px.Dataset((images, case["labels"]))
    score = px.Score("rows", {"rows": case["el2n"]}, "hard", {"rows": data.ids})
    score = px.Score("rows", score.values, "hard", score.ids, signals=px.Signals(ids=data.ids, labels=case["labels"]))
    together = int(case.value("factor")) ** 2
    count = int(case.value("ipc")) * together * len(case["selected_easiest"])
    plan = px.plan(score, f"{count} rows", select="balanced", balance=1.0, keep="easiest")
    return score, plan.apply(data)


def test_the_easiest_of_every_class_stay(case):
    _, rows = kept(case, case["images"])
    chosen = case["selected_easiest"]
    np.testing.assert_array_equal(np.sort(rows.ids), np.sort(chosen.reshape(-1)))
    easy = np.lexsort((np.arange(len(case["el2n"])), case["el2n"]))
    for label, ours in zip(np.unique(case["labels"]), chosen):
        here = easy[case["labels"][easy] == label]
        np.testing.assert_array_equal(here[np.isin(here, rows.ids)], ours)


def test_they_are_packed_in_their_order(case):
    ipc, factor, expected = int(case.value("ipc")), int(case.value("factor")), case["combined_float"]
    score, rows = kept(case, case["images"].astype(np.float32))
    packed = px.combine(rows, factor=factor, score=score)
    images, labels = packed.unwrapped()
    np.testing.assert_allclose(images, expected.reshape(-1, *expected.shape[2:]), atol=1e-4)
    np.testing.assert_array_equal(labels, np.repeat(np.unique(case["labels"]), ipc))
    np.testing.assert_array_equal(packed.ids, case["selected_easiest"][:, :: factor**2].reshape(-1))
    stored, _ = px.combine(kept(case, case["images"])[1], factor=factor, score=score).unwrapped()
    assert stored.dtype == np.uint8
    np.testing.assert_array_equal(stored, np.rint(images))


def test_crops_stay_in_one_tile(case):
    height, width = case["images"].shape[2:]
    factor, tiles = int(case.value("factor")), case["tile_boxes_top_left_h_w"]
    np.testing.assert_array_equal(boxes(height, width, factor), tiles)
    share = tiles[:, 2] * tiles[:, 3] / (height * width)
    np.testing.assert_allclose(share, case.value("single_tile_area_scale"))
    drawn = TileCrop(factor).draw(200, height, width, torch.Generator().manual_seed(0)).numpy()
    assert {tuple(tile) for tile in drawn[:, :4]} == {tuple(tile) for tile in tiles.astype(float)}
    assert (drawn[:, 4:6] >= drawn[:, :2]).all()
    assert (drawn[:, 4:6] + drawn[:, 6:] <= drawn[:, :2] + drawn[:, 2:4] + 1e-9).all()
