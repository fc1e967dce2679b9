"""Parameters and MACs."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from graph.zoo import make
from prunus.graph.build import build
from prunus.graph.count import Counter, count


@pytest.mark.parametrize("name", ["cifar_a", "resnet18", "resnext", "mobilenet_v3", "bert_free"])
def test_agrees_with_torch_where_torch_is_right(name):
    model, example = (nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), torch.randn(4, 6)) \
        if name == "bert_free" else make(name)  # fmt: skip
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        model.eval()(example)
    assert count(build(model, example)).macs * 2 == flops.get_total_flops()


def test_attention_by_hand():
    """torch's counter misses fused attention on CPU; per head: T x T x (D + D)."""
    width, heads, tokens, layers = 32, 4, 17, 2
    model = torchvision.models.VisionTransformer(32, 8, layers, heads, width, 48).eval()
    patches = 16 * (3 * 8 * 8) * width
    block = tokens * (3 * width * width + width * width + 2 * width * 48) + 2 * tokens * tokens * width
    assert count(build(model, torch.randn(1, 3, 32, 32))).macs == patches + layers * block + width * 1000


def test_vit_b_16_is_17_56_billion():
    with torch.device("meta"):
        model = torchvision.models.vit_b_16(weights=None)
    model = model.to_empty(device="cpu").eval()
    counts = count(build(model, torch.randn(1, 3, 224, 224)))
    assert counts.macs == 17_563_828_224
    assert counts.params == 86_567_656


def test_grouped_query_attention_counts_query_heads():
    model, example = make("llama")
    tokens, width, heads, head = 7, 32, 4, 8
    block = tokens * (2 * width * width + 2 * width * 16 + 3 * width * 48) + 2 * heads * tokens * tokens * head
    extra = count(build(model, example)).macs - 2 * block - tokens * width * 50
    assert 0 <= extra <= tokens * head  # the outer product of positions and rotary frequencies


def test_ties_count_once():
    model, example = make("llama_tied")
    assert count(build(model, example)).params == sum(p.numel() for p in model.parameters())


def test_table_adds_up():
    model, example = make("resnet18")
    counter = Counter(build(model, example))
    rows = counter.table()
    counts = counter.count()
    assert sum(row.macs for row in rows) == counts.macs
    assert sum(row.params for row in rows) == counts.params
    assert {row.module: row.kind for row in rows}["layer1.0.conv1"] == "Conv2d"
