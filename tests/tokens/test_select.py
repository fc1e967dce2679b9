import numpy as np
import pytest
import torch

from prunus.core.errors import BadInput, NonFinite
from prunus.core.registry import find
from prunus.core.rng import Rng
from prunus.core.score import GroupScore
from prunus.tokens.gate import TokenSignals
from prunus.tokens.grid import bayer, grid_shape
from prunus.tokens.select import gather, keep_mask, keep_top
from prunus.tokens.vispruner import keep_diverse


def scores(batch: int = 3, tokens: int = 20, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, tokens, generator=torch.Generator().manual_seed(seed))


def test_ties_go_to_the_lower_index_and_raster_order_is_kept():
    kept = keep_top(torch.tensor([[1.0, 2.0, 2.0, 2.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0]]), 2)
    assert kept.tolist() == [[1, 2], [0, 1]]


def test_zero_and_minus_zero_are_a_tie():
    assert keep_top(torch.tensor([[-0.0, 0.0, 0.0]]), 1).tolist() == [[0]]


@pytest.mark.parametrize("count", [5, 9])
def test_as_many_as_there_are_or_more_is_identity(count):
    assert keep_top(scores(2, 5), count).tolist() == [list(range(5))] * 2


@pytest.mark.parametrize("count", [0, -3])
def test_no_tokens_is_an_error(count):
    with pytest.raises(BadInput, match="at least 1"):
        keep_top(scores(), count)


def test_nan_is_an_error_that_names_the_place():
    bad = scores(2, 4)
    bad[1, 2] = float("nan")
    with pytest.raises(NonFinite, match=r"\[\[1, 2\]\]"):
        keep_top(bad, 2)


def test_scores_of_another_shape_are_refused():
    with pytest.raises(BadInput, match="must be"):
        keep_top(torch.rand(4), 2)


def test_every_example_keeps_as_many_and_a_factor_changes_nothing():
    mask = keep_mask(keep_top(scores(), 7), 20)
    assert mask.sum(1).tolist() == [7, 7, 7]
    assert torch.equal(keep_top(scores(), 7), keep_top(scores() * 3.5, 7))


def test_gather_keeps_the_prefix_and_any_trailing_shape():
    tokens = torch.arange(2 * 6 * 2 * 3).view(2, 6, 2, 3)
    kept = torch.tensor([[0, 3], [1, 2]])
    out = gather(tokens, kept, prefix=2)
    assert torch.equal(out[0], tokens[0, [0, 1, 2, 5]])
    assert torch.equal(out[1], tokens[1, [0, 1, 3, 4]])


def test_fastervlm_does_not_depend_on_the_order_of_heads():
    attention = torch.rand(2, 4, 9)
    rule = find("tokens/fastervlm").load()
    one = rule(TokenSignals(attention, cls_attention=attention))
    other = rule(TokenSignals(attention, cls_attention=attention[:, [2, 0, 3, 1]]))
    torch.testing.assert_close(one, other)


def test_random_is_the_same_for_every_batch_and_differs_by_seed_and_image():
    rule = find("tokens/random").load()
    rng = Rng(0, "tokens/random")
    small, large = (rule(TokenSignals(torch.zeros(b, 9, 2)), rng=rng) for b in (1, 5))
    assert torch.equal(small[0], large[4])
    assert not torch.equal(small, rule(TokenSignals(torch.zeros(1, 9, 2)), rng=Rng(1, "tokens/random")))
    named = rule(TokenSignals(torch.zeros(2, 9, 2), ids=["a", "b"]), rng=rng)
    assert not torch.equal(named[0], named[1])
    swapped = rule(TokenSignals(torch.zeros(2, 9, 2), ids=["b", "a"]), rng=rng)
    assert torch.equal(named[0], swapped[1])


def test_grid_is_the_stride_grid_at_a_quarter():
    kept = keep_top(find("tokens/grid").load()(TokenSignals(torch.zeros(1, 64, 1))), 16)[0]
    assert kept.tolist() == [8 * row + column for row in range(0, 8, 2) for column in range(0, 8, 2)]


@pytest.mark.parametrize(("height", "width"), [(3, 5), (24, 24), (1, 7)])
def test_grid_ranks_all_places_and_spreads_them(height, width):
    rank = bayer(height, width)
    assert rank.unique().numel() == height * width
    half = rank.argsort()[: height * width // 2]
    rows = torch.bincount(half // width, minlength=height)
    assert rows.max() - rows.min() <= (width + 1) // 2 + 1


def test_grid_needs_a_grid():
    with pytest.raises(BadInput, match="width="):
        grid_shape(10, None)
    assert grid_shape(10, 5) == (2, 5)


@pytest.mark.parametrize(
    ("tokens", "count", "ratio"), [(17, 6, 0.5), (16, 1, 0.0), (9, 8, 0.3), (33, 12, 0.0), (12, 12, 0.5)]
)
def test_vispruner_keeps_exactly_what_is_asked_at_odd_sizes_too(tokens, count, ratio):
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(2, tokens, 5, generator=generator)
    kept = keep_diverse(scores(2, tokens), features, count, ratio)
    assert kept.shape == (2, count)
    assert (kept.diff(dim=1) > 0).all()
    top = keep_top(scores(2, tokens), max(int(count * ratio), 1))
    if int(count * ratio):
        assert all(set(a) <= set(b) for a, b in zip(top.tolist(), kept.tolist()))


def test_vispruner_at_ratio_one_is_fastervlm():
    assert torch.equal(keep_diverse(scores(), torch.rand(3, 20, 4), 6, 1.0), keep_top(scores(), 6))


def test_vispruner_drops_one_of_two_equal_tokens():
    features = torch.eye(6)[None].repeat(1, 1, 1)
    features[0, 3] = features[0, 0]
    kept = keep_diverse(torch.arange(6.0, 0, -1)[None], features, 5, 0.0)[0].tolist()
    assert len({0, 3} & set(kept)) == 1


def test_vispruner_refuses_what_makes_no_sense():
    with pytest.raises(BadInput, match="share"):
        keep_diverse(scores(), torch.rand(3, 20, 4), 6, 1.5)
    with pytest.raises(BadInput, match="belong"):
        keep_diverse(scores(), torch.rand(3, 19, 4), 6)


def test_vispruner_as_a_selector():
    features = torch.randn(20, 4)
    score = GroupScore(scores()[0].numpy(), np.arange(20), "keep", TokenSignals(features))
    kept = find("tokens/vispruner").load()(score, 6, important_ratio=0.5)
    assert kept.tolist() == keep_diverse(scores()[:1], features[None], 6)[0].tolist()
