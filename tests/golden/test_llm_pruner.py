"""Taylor scores of coupled attention and feed-forward weights against LLM-Pruner's functions, and what they remove."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from prunus.channels.hessian_diagonal import hessian_diagonal
from prunus.channels.l1 import l1
from prunus.channels.l2 import l2
from prunus.channels.taylor import taylor
from prunus.channels.taylor_second import taylor_second
from prunus.core.score import GroupScore

pytestmark = pytest.mark.golden("llm-pruner--taylor")
CLOSE = {"rtol": 1e-5, "atol": 1e-9}
WRITERS = {"attn": ("q", "k", "v"), "mlp": ("gate", "up")}
READERS = {"attn": "o", "mlp": "down"}


def member(case, name, *, reads):
    """`[channels, 1, other]` of a matrix [out, in]."""

    def side(key):
        value = torch.from_numpy(case[f"{key}_{name}"])
        return (value.T if reads else value).unsqueeze(1).contiguous()

    return SimpleNamespace(name=name, weight=side("W"), grad=side("G"), grad_square=side("G2"))


def group(case, part):
    writers = tuple(member(case, name, reads=False) for name in WRITERS[part])
    reader = member(case, READERS[part], reads=True)
    return SimpleNamespace(name=part, size=len(reader.weight), writers=writers, readers=(reader,), vectors=())


def members_alone(case, part, score):
    """The score of each matrix of the group by itself, `[matrices, channels]`."""
    whole = group(case, part)
    alone = [
        SimpleNamespace(name=part, size=whole.size, writers=(m,), readers=(), vectors=())
        for m in (*whole.writers, *whole.readers)
    ]
    return np.stack([score(one).numpy() for one in alone])


@pytest.mark.parametrize("part", ["attn", "mlp"])
def test_taylor(case, part):
    whole = group(case, part)
    np.testing.assert_allclose(taylor(whole), case[f"{part}_param_first"], **CLOSE)
    np.testing.assert_allclose(hessian_diagonal(whole), case[f"{part}_param_second"], **CLOSE)
    np.testing.assert_allclose(taylor_second(whole), case[f"{part}_param_mix"], **CLOSE)
    np.testing.assert_allclose(taylor(whole, joint=True), case[f"{part}_vectorize"], rtol=1e-4, atol=1e-6)


def test_other_ways_to_add_members_up(case):
    alone = members_alone(case, "mlp", taylor)
    for how in ("mean", "max", "prod"):
        np.testing.assert_allclose(getattr(alone, how)(0), case[f"mlp_param_first_{how}"], **CLOSE)


def test_magnitude(case):
    for name, score, part in (("mlp_l2", l2, "mlp"), ("attn_l1", l1, "attn")):
        np.testing.assert_allclose(members_alone(case, part, score).mean(0), case[name], **CLOSE)


def lowest(scores, count):
    order = GroupScore(scores, np.arange(len(scores))).keep_order()
    return np.sort(order[len(scores) - count :])


def test_what_goes(case):
    heads, width, ratio = (case.value(name) for name in ("n_heads", "head_dim", "ratio"))
    by_head = taylor(group(case, "attn")).numpy().reshape(heads, width).sum(1)
    gone = (heads * width - int(heads * width * (1 - ratio))) // width
    np.testing.assert_array_equal(lowest(by_head, gone), np.sort(case["heads_pruned"]))
    neurons = taylor(group(case, "mlp")).numpy()
    gone = neurons.size - int(neurons.size * (1 - ratio))
    np.testing.assert_array_equal(lowest(neurons, gone), np.sort(case["neurons_pruned"]))
