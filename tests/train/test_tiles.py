"""Tiles: exact means, boxes that cover the image, crops that never look over the border."""

from __future__ import annotations

import pytest
import torch

from prunus.core.errors import BadInput
from prunus.train.tiles import TileCrop, boxes, tiled


def images(count: int, height: int = 8, width: int = 8) -> torch.Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_a_tile_is_its_image_in_block_means(factor):
    x = images(2 * factor**2)
    packed = tiled(x, factor)
    assert packed.shape == (2, 3, 8, 8)
    for number, (top, left, down, across) in enumerate(boxes(8, 8, factor).tolist()):
        blocks = x[factor**2 + number].view(3, down, factor, across, factor).mean((2, 4))
        torch.testing.assert_close(packed[1, :, top : top + down, left : left + across], blocks)
    torch.testing.assert_close(packed.mean((2, 3)), x.view(2, -1, 3, 8, 8).mean((1, 3, 4)))


def test_sides_that_do_not_divide_leave_a_smaller_image():
    assert tiled(images(8, 7, 9), 2).shape == (2, 3, 6, 8)
    assert boxes(7, 9, 2).tolist() == [[0, 0, 3, 4], [0, 4, 3, 4], [3, 0, 3, 4], [3, 4, 3, 4]]
    torch.testing.assert_close(tiled(torch.ones(4, 1, 7, 9), 2), torch.ones(1, 1, 6, 8))


def test_impossible_factors_and_numbers_are_refused():
    with pytest.raises(BadInput, match="5 images"):
        tiled(images(5), 2)
    for factor in (0, 9):
        with pytest.raises(BadInput, match="factor must be 1 to 8"):
            boxes(8, 8, factor)
    for wrong in ({"scale": (0.0, 1.0)}, {"scale": (0.5, 1.5)}, {"scale": (0.9, 0.5)}, {"ratio": (0.0, 1.0)}):
        with pytest.raises(BadInput, match="least <= largest"):
            TileCrop(2, **wrong)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_a_crop_never_sees_another_tile(factor):
    """Every tile has a colour of its own: after the crop an image has one colour, and every colour comes up."""
    x = torch.zeros(1, 1, 12, 12)
    for number, (top, left, down, across) in enumerate(boxes(12, 12, factor).tolist()):
        x[..., top : top + down, left : left + across] = number + 1
    found = TileCrop(factor)(x.expand(200, -1, -1, -1), torch.Generator().manual_seed(1))
    assert found.shape == (200, 1, 12, 12)
    torch.testing.assert_close(found.amin((1, 2, 3)), found.amax((1, 2, 3)))
    assert set(found[:, 0, 0, 0].round().int().tolist()) == set(range(1, factor**2 + 1))


def test_a_whole_tile_is_enlarged_as_it_is():
    x = images(3)
    whole = TileCrop(1, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    torch.testing.assert_close(whole(x, torch.Generator()), x)
    packed = tiled(images(4), 2)
    crop = TileCrop(2, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    found = crop(packed.expand(40, -1, -1, -1), torch.Generator().manual_seed(0))
    tiles = [packed[..., t : t + h, w : w + a] for t, w, h, a in boxes(8, 8, 2).tolist()]
    enlarged = [torch.nn.functional.interpolate(tile, (8, 8), mode="bilinear", align_corners=False) for tile in tiles]
    gaps = torch.stack([(found - one).abs().amax((1, 2, 3)) for one in enlarged])
    assert gaps.amin(0).max() < 1e-5 and len(set(gaps.argmin(0).tolist())) == 4


def test_crops_are_drawn_from_their_generator_in_the_shares_asked_for():
    crop, draw = TileCrop(2, scale=(0.4, 0.6)), torch.Generator
    first = crop.draw(500, 32, 32, draw().manual_seed(0))
    assert torch.equal(first, crop.draw(500, 32, 32, draw().manual_seed(0)))
    share = first[:, 6] * first[:, 7] / (16 * 16)
    assert share.min() > 0.39 and share.max() < 0.61
    ratio = first[:, 7] / first[:, 6]
    assert ratio.min() > 0.74 and ratio.max() < 1.34
