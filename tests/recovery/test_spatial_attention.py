"""Attention does not see channels or sizes; its gap falls with training; layers are found, checked and let go."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from prunus.core.errors import BadInput, UnknownName
from prunus.graph.scales import part
from prunus.prunables.dataset import Dataset
from prunus.recovery.spatial_attention import keeping, scale_ends, spatial_attention
from prunus.train.attention import attention, attention_gap, gaps
from prunus.train.models import CifarResNet, seeded


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def parts():
    x = draw(24, 3, 16, 16)
    return Dataset((x.numpy(), np.arange(24) % 10), role="fit"), seeded(CifarResNet, 0, 8).eval()


def test_attention_is_blind_to_order_and_size_of_channels():
    maps = draw(2, 5, 4, 4)
    torch.testing.assert_close(attention(maps), attention(-3 * maps[:, [4, 1, 0, 2, 3]]))
    torch.testing.assert_close(attention_gap(2 * maps, maps), torch.zeros(2))
    assert attention_gap(draw(2, 3, 4, 4), draw(2, 6, 2, 2)).shape == (2,)
    assert attention(torch.zeros(1, 2, 3, 3)).isfinite().all()
    with pytest.raises(BadInput, match="feature maps"):
        attention(torch.zeros(2, 3))


def test_layers_are_the_ends_of_scales(parts):
    _, net = parts
    assert scale_ends(net, lambda: net(torch.zeros(1, 3, 16, 16))) == ("layer1", "layer2", "layer3")
    assert [part(name) for name in ("backbone.body.layer1", "backbone.fpn.inner.0", "head.conv", "rpn.head")] == [
        "backbone", "neck", "head", "head",
    ]  # fmt: skip


def test_training_brings_attention_nearer_and_leaves_no_hook(parts):
    data, teacher = parts
    student = seeded(CifarResNet, 5, 8).eval()
    x = torch.from_numpy(np.asarray(data.backing.column("x")))

    def gap(model):
        with keeping(model, ["layer3"]) as seen, keeping(teacher, ["layer3"]) as shown, torch.no_grad():
            model(x), teacher(x)
            return float(gaps(seen["layer3"], shown["layer3"], 2.0).mean())

    plain, taught = (
        spatial_attention(
            copy.deepcopy(student), data, teacher=teacher, steps=30, batch=12, lr=0.05, weight=weight, layers=("layer3",)
        )
        for weight in (0.0, 50.0)
    )  # fmt: skip
    assert gap(taught) < min(gap(student), gap(plain))
    assert not any(module._forward_hooks for module in (*taught.modules(), *teacher.modules()))


@pytest.mark.parametrize(
    ("options", "error"),
    [({"layers": ("nothing",)}, UnknownName), ({"weight": -1.0}, BadInput), ({"teacher": None}, BadInput)],
)
def test_refusals(parts, options, error):
    data, teacher = parts
    with pytest.raises(error):
        spatial_attention(copy.deepcopy(teacher), data, steps=1, **{"teacher": teacher, **options})
