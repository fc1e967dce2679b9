"""Criteria of channels: they follow the units, whatever their order, and mean what their papers say."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from channels.fixtures import group, member, random_group
from prunus.channels.apoz import apoz
from prunus.channels.beta_rank import beta_rank
from prunus.channels.bn_scale import bn_scale
from prunus.channels.entropy import entropy
from prunus.channels.flap import flap, released_statistics
from prunus.channels.geometric_median import geometric_median, summed_distances
from prunus.channels.hessian_diagonal import hessian_diagonal
from prunus.channels.hrank import hrank
from prunus.channels.l1 import l1
from prunus.channels.l2 import l2
from prunus.channels.lrp import lrp
from prunus.channels.obspa import obspa
from prunus.channels.random import random
from prunus.channels.taylor import taylor
from prunus.channels.taylor_second import taylor_second
from prunus.core.errors import BadInput, NonFinite
from prunus.core.rng import Rng

seeds = st.integers(0, 500)


WEIGHTS = ("weight", "grad", "grad_square")
UNIT_FIELDS = (*WEIGHTS, "input_mean", "input_var", "input_norm", "input_off", "input_rank", "input_pooled")


def permuted(bound, order):
    moved = copy.deepcopy(bound)
    for one in (*moved.readers, *moved.writers, *moved.vectors):
        for field in UNIT_FIELDS:
            if getattr(one, field, None) is not None:
                setattr(one, field, getattr(one, field)[order])
        one.outputs = {name: value[order] for name, value in one.outputs.items()}
        if hasattr(one, "hessian"):
            width = one.weight.shape[1]
            columns = (order[:, None] * width + torch.arange(width)).reshape(-1)
            one.hessian = one.hessian[columns][:, columns]
    return moved


def block_obspa(bound):
    return obspa(bound, score="block")


def joint_taylor(bound):
    return taylor(bound, joint=True)


def state_entropy(bound):
    return entropy(bound, of="state")


ALL = [l1, l2, taylor, joint_taylor, flap, obspa, block_obspa, bn_scale, geometric_median, hessian_diagonal,
       taylor_second, beta_rank, hrank, apoz, entropy, state_entropy, lrp]  # fmt: skip


@pytest.mark.parametrize("score", ALL)
@given(seed=seeds)
@settings(max_examples=6, deadline=None)
def test_scores_move_with_their_units(score, seed):
    bound = random_group(seed)
    order = torch.randperm(bound.size, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(score(permuted(bound, order)), score(bound)[order], rtol=1e-6, atol=1e-8)
    assert score(bound).shape == (bound.size,)


@pytest.mark.parametrize(
    "score", [l1, l2, taylor, joint_taylor, obspa, block_obspa, bn_scale, hessian_diagonal, taylor_second, beta_rank]
)
def test_a_dead_unit_scores_zero_and_is_the_least(score):
    bound = random_group(0)
    for one in (*bound.readers, *bound.writers, *bound.vectors):
        one.weight[2] = 0
    assert score(bound)[2] == 0
    assert score(bound).argmin() == 2


def test_norms_of_writers_and_readers():
    bound = random_group(1)
    torch.testing.assert_close(
        l1(bound, members="writers"), bound.writers[0].weight.abs().sum((1, 2)), rtol=1e-5, atol=0
    )
    torch.testing.assert_close(l1(bound), l1(bound, members="writers") + l1(bound, members="readers"))
    with pytest.raises(BadInput, match="no writers"):
        l2(group(bound.readers), members="writers")


def test_taylor_of_coupled_scales_stays():
    one, two = random_group(2), random_group(2)
    for bound_member, factor in ((two.writers[0], 4.0), (two.readers[0], 0.5)):
        bound_member.weight *= factor
        bound_member.grad /= factor
    torch.testing.assert_close(taylor(one), taylor(two))
    assert (taylor(one, joint=True) <= taylor(one) + 1e-9).all()
    with pytest.raises(BadInput, match="no grad: collect"):
        taylor(group((member(torch.ones(2, 1, 1)),)))


def test_obspa_with_white_inputs_is_magnitude_and_block_is_no_less_than_one_column():
    bound = random_group(3)
    for reader in bound.readers:
        reader.hessian = torch.eye(12)
    torch.testing.assert_close(obspa(bound, damp=0.0), l2(bound, members="readers"), rtol=1e-5, atol=0)
    single = random_group(4, per_unit=1)
    torch.testing.assert_close(obspa(single), obspa(single, score="block"))


@given(seed=seeds, shift=st.floats(-5, 5))
@settings(max_examples=10, deadline=None)
def test_flap_looks_at_fluctuation_not_at_level(seed, shift):
    generator = torch.Generator().manual_seed(seed)
    weight, inputs = torch.randn(5, 1, 3, generator=generator), torch.randn(5, 40, generator=generator)
    scores = flap(group((member(weight, inputs),)))
    torch.testing.assert_close(flap(group((member(weight, inputs + shift),))), scores, atol=1e-5, rtol=1e-4)
    assert scores.mean().abs() < 1e-9
    assert scores.std() == pytest.approx(1)
    constant = inputs.clone()
    constant[3] = 7.0
    assert flap(group((member(weight, constant),))).argmin() == 3


def test_flap_of_equal_columns_is_zero_and_nan_is_refused():
    one = member(torch.ones(3, 2, 2), torch.ones(6, 4))
    assert flap(group((one,))).tolist() == [0, 0, 0]
    one.input_var = torch.full((3, 2), float("nan"))
    with pytest.raises(NonFinite, match="group g"):
        flap(group((one,)))
    one.input_norm = None
    with pytest.raises(BadInput, match="input_norm of m"):
        flap(group((one,)), metric="wifn")


def test_flap_standardises_columns_before_it_averages_heads():
    bound = group((random_group(5).readers[0],))
    columns = bound.readers[0].input_var * bound.readers[0].weight.square().sum(2)
    expected = ((columns - columns.mean()) / columns.std()).mean(1)
    torch.testing.assert_close(flap(bound), expected)


def test_released_fluctuation_ignores_the_first_sequence_and_needs_many_to_settle():
    inputs = torch.randn(400, 9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    fluctuation, mean, squares = released_statistics(inputs)
    torch.testing.assert_close(mean, inputs.reshape(-1, 3).mean(0))
    torch.testing.assert_close(squares, inputs.square().sum((0, 1)) / 400)
    torch.testing.assert_close(fluctuation, 9 * inputs.reshape(-1, 3).var(0), rtol=0.05, atol=0)
    assert not released_statistics(inputs[:1])[0].any()


def test_random_depends_on_seed_and_group():
    bound, rng = random_group(6), Rng(3, "channels/random")
    assert random(bound, rng=rng).equal(random(bound, rng=rng))
    other = copy.copy(bound)
    other.name = "h"
    assert not random(other, rng=rng).equal(random(bound, rng=rng))


def test_scales_of_norms_not_slopes_and_deviations_where_there_is_none():
    scale, shift, slope = (
        member(torch.tensor([[[v]] for v in values])) for values in ([-2.0, 1.0], [0.0, 9.0], [5.0, 0.0])
    )
    scale.name, shift.name, slope.name = "bn.weight", "bn.bias", "prelu.weight"
    writer = member(torch.tensor([[[3.0, 4.0]], [[1.0, 0.0]]]))
    assert bn_scale(group((), (writer,), (scale, shift, slope))).tolist() == [2, 1]
    assert bn_scale(group((), (writer,), (slope,))).tolist() == [5, 1]
    twice = group((), (writer,), (scale, shift, renamed(scale, "b.weight", 2), renamed(shift, "b.bias", 1)))
    assert bn_scale(twice).tolist() == [3, 1.5]
    assert bn_scale(twice, reduce="max").tolist() == [4, 2]


def renamed(one, name, factor):
    other = copy.deepcopy(one)
    other.name, other.weight = name, one.weight * factor
    return other


def test_geometric_median_is_the_filter_nearest_to_the_others():
    filters = torch.tensor([[1.0, 1.0], [0.0, 0.0], [2.0, 0.0], [1.0, 3.0]])
    expected = torch.cdist(filters.double(), filters.double()).sum(1)
    torch.testing.assert_close(summed_distances(filters.double()), expected)
    bound = group((), (member(filters.unsqueeze(1)),))
    torch.testing.assert_close(geometric_median(bound), expected / expected.mean())
    assert geometric_median(bound).argmin() == 0
    assert not geometric_median(group((), (member(torch.ones(4, 1, 3)),))).any()


def test_second_order_is_exact_on_a_parabola_along_the_weights():
    weight = torch.tensor([[[2.0]], [[-1.0]]], dtype=torch.float64)
    one = member(weight)
    one.grad, one.grad_square = torch.tensor([[[3.0]], [[0.5]]]), torch.tensor([[[4.0]], [[1.0]]])
    # L(w) = g (w - w0) + h (w - w0)^2 / 2; what setting w to 0 costs, sign turned
    assert taylor_second(group((), (one,))).tolist() == [abs(2 * 3 - 4 * 4 / 2), abs(-0.5 - 0.5)]
    assert hessian_diagonal(group((), (one,))).tolist() == [16, 1]
    with pytest.raises(BadInput, match="grad_square"):
        hessian_diagonal(group((member(weight),)))


def test_activity():
    reader = member(torch.ones(3, 1, 2))
    reader.input_off = torch.tensor([[0.25], [1.0], [0.0]])
    reader.input_pooled = torch.tensor([[[0.0, 0.0, 1.0, 1.0]], [[2.0, 2.0, 2.0, 2.0]], [[0.0, 1.0, 2.0, 3.0]]])
    bound = group((reader,))
    assert apoz(bound).tolist() == [0.75, 0, 1]
    torch.testing.assert_close(entropy(bound, bins=4), torch.tensor([2.0, 1.0, 4.0], dtype=torch.float64).log())
    assert entropy(bound, of="state")[1:].tolist() == [0, 0]
    with pytest.raises(BadInput, match="bins"):
        entropy(bound, bins=0)
    with pytest.raises(BadInput, match="input_rank"):
        hrank(bound)


def test_relevance_by_sign():
    writer = member(torch.ones(2, 1, 2))
    writer.outputs = {
        "output_relevance": torch.tensor([[3.0], [1.0]]),
        "output_relevance_signed": torch.tensor([[-1.0], [1.0]]),
    }
    bound = group((), (writer, member(torch.ones(2, 1, 2))))
    assert [lrp(bound, reduce=how).tolist() for how in ("abs", "signed", "positive")] == [[3, 1], [-1, 1], [1, 1]]
    with pytest.raises(BadInput, match="output_spread"):
        beta_rank(bound)
