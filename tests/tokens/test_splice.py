import pytest
import torch

from prunus.core.errors import BadInput
from prunus.tokens.anyres import kept_tokens, stitch
from prunus.tokens.splice import resize_images, splice

IMAGE = 9


def shrink(ids, kept, **options):
    return resize_images(torch.tensor(ids), IMAGE, torch.tensor(kept), run=4, **options)


def test_a_run_shrinks_and_positions_restart():
    prompt = shrink([[1, 9, 9, 9, 9, 2]], [[1, 3]])
    assert prompt.input_ids.tolist() == [[1, 9, 9, 2]]
    assert prompt.position_ids.tolist() == [[0, 1, 2, 3]]
    assert prompt.attention_mask.tolist() == [[1, 1, 1, 1]]


def test_gaps_keep_the_numbers_of_the_unpruned_sequence():
    prompt = shrink([[1, 9, 9, 9, 9, 2]], [[1, 3]], positions="gaps")
    assert prompt.position_ids.tolist() == [[0, 2, 4, 5]]


def test_one_placeholder_grows_the_same_way():
    ids = torch.tensor([[1, 9, 2]])
    prompt = resize_images(ids, IMAGE, torch.tensor([[1, 3]]), run=1, span=4, positions="gaps")
    assert prompt.input_ids.tolist() == [[1, 9, 9, 2]]
    assert prompt.position_ids.tolist() == [[0, 2, 4, 5]]


def test_two_images_in_one_prompt_may_touch():
    ids = [[9, 9, 9, 9, 9, 9, 9, 9, 5]]
    prompt = shrink(ids, [[0, 1], [2, 3]], positions="gaps")
    assert prompt.position_ids.tolist() == [[0, 1, 6, 7, 8]]


def test_prompts_with_unequal_images_are_padded_again_and_labels_follow():
    ids = [[1, 9, 9, 9, 9, 9, 9, 9, 9], [1, 9, 9, 9, 9, 2, 3, 0, 0]]
    mask = torch.tensor([[1] * 9, [1] * 7 + [0] * 2])
    labels = torch.tensor([[1] * 9, [1, 7, 7, 7, 7, 2, 3, 0, 0]])
    prompt = shrink(ids, [[0], [1], [2]], attention_mask=mask, labels=labels)
    assert prompt.input_ids.tolist() == [[1, 9, 9, 0], [1, 9, 2, 3]]
    assert prompt.attention_mask.tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert prompt.labels.tolist() == [[1, -100, -100, -100], [1, -100, 2, 3]]


def test_left_padding_stays_left():
    mask = torch.tensor([[0, 1, 1, 1, 1, 1], [1] * 6])
    prompt = shrink([[0, 9, 9, 9, 9, 2], [1, 9, 9, 9, 9, 2]], [[0], [3]], attention_mask=mask)
    assert prompt.input_ids.tolist() == [[0, 9, 2], [1, 9, 2]]
    assert prompt.attention_mask.tolist() == [[0, 1, 1], [1, 1, 1]]
    assert prompt.position_ids.tolist() == [[0, 0, 1], [0, 1, 2]]


def test_wrong_counts_are_named():
    with pytest.raises(BadInput, match="no multiple of 4"):
        shrink([[9, 9, 9]], [[0]])
    with pytest.raises(BadInput, match="2 images take 4 each"):
        shrink([[9, 9, 9, 9]], [[0], [1]])


def test_splice_puts_features_at_images_and_zeros_at_padding():
    mask = torch.tensor([[1, 1, 1, 1, 1, 0]])
    prompt = shrink([[1, 9, 9, 9, 9, 7]], [[1, 3]], attention_mask=mask)
    prompt = resize_images(prompt.input_ids, IMAGE, torch.tensor([[0, 1]]), run=2)
    features = torch.tensor([[5.0, 5.0], [6.0, 6.0]])
    out = splice(prompt, IMAGE, features, lambda ids: ids.unsqueeze(-1).float().expand(*ids.shape, 2))
    assert out.tolist() == [[[1.0, 1.0], [5.0, 5.0], [6.0, 6.0]]]
    with pytest.raises(BadInput, match="places for 2"):
        splice(prompt, IMAGE, features[:1], lambda ids: ids.unsqueeze(-1).float())


def test_tiles_are_read_in_raster_order_of_the_stitched_image():
    width, height, side = 3, 2, 2
    image = torch.arange(width * height * side * side).view(height * side, width * side)
    tiles = image.unfold(0, side, side).unfold(1, side, side).reshape(width * height, side * side)
    assert torch.equal(stitch(tiles, (width, height)), image.flatten())
    with pytest.raises(BadInput, match="grid"):
        stitch(tiles, (2, 2))


def test_every_tile_keeps_its_tokens():
    features = torch.rand(5, 9, 2)
    mask = torch.zeros(5, 9, dtype=torch.bool)
    mask[:, :4] = True
    assert kept_tokens(features, mask, (2, 2)).shape == (20, 2)
