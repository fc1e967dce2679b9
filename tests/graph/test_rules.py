"""Each operator rule, between a layer that writes channels and one that reads them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from prunus.graph.build import build
from prunus.graph.cut import cut
from prunus.graph.prove import prove


class Between(nn.Module):
    """linear 6 -> width, an operator, linear -> 3; tensors `[2, 5, width]`."""

    def __init__(self, function, width=8, out=8, **parts):
        super().__init__()
        self.first, self.last = nn.Linear(6, width), nn.Linear(out, 3)
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.last(self.function(self, self.first(x)))


class Images(Between):
    """convolution 3 -> width, an operator, mean over places, linear; tensors `[2, width, 6, 6]`."""

    def __init__(self, function, width=8, out=8, **parts):
        super().__init__(function, width, out, **parts)
        self.first = nn.Conv2d(3, width, 3, padding=1)

    def forward(self, x):
        return self.last(self.function(self, self.first(x)).mean((2, 3)))


TOKENS = {
    "relu": (lambda m, x: F.relu(x), {}),
    "add": (lambda m, x: x + x * 2, {}),
    "parameter": (lambda m, x: x * m.scale, {"scale": nn.Parameter(torch.rand(8))}),
    "layer_norm": (lambda m, x: m.norm(x), {"norm": nn.LayerNorm(8)}),
    "bare_norm": (lambda m, x: F.layer_norm(x, x.shape[-1:]), {}),
    "rms_norm": (lambda m, x: m.norm(x), {"norm": nn.RMSNorm(8)}),
    "rms_by_hand": (lambda m, x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6), {}),
    "normalize": (lambda m, x: F.normalize(x, dim=-1), {}),
    "chunk": (lambda m, x: torch.cat([F.silu(a) * b for a, b in [x.chunk(2, -1)]] * 2, -1), {}),
    "glu": (lambda m, x: F.glu(x, -1).repeat(1, 1, 2), {}),
    "flip_halves": (lambda m, x: x + torch.cat((-x[..., x.shape[-1] // 2 :], x[..., : x.shape[-1] // 2]), -1), {}),
    "interleave": (lambda m, x: torch.stack((x[..., ::2], x[..., 1::2]), -1).flatten(-2), {}),
    "transpose": (lambda m, x: x.transpose(1, 2).contiguous().permute(0, 2, 1), {}),
    "unflatten": (lambda m, x: x.unflatten(-1, (2, -1)).flatten(-2), {}),
    "expand": (lambda m, x: x + m.bias.expand(2, 5, -1), {"bias": nn.Parameter(torch.rand(8))}),
    "matmul": (lambda m, x: x @ m.matrix, {"matrix": nn.Parameter(torch.rand(8, 8))}),
    "einsum": (lambda m, x: torch.einsum("btc,cd->btd", x, m.matrix), {"matrix": nn.Parameter(torch.rand(8, 8))}),
    "prelu": (lambda m, x: m.prelu(x.transpose(1, 2)).transpose(1, 2), {"prelu": nn.PReLU(8)}),
    "write_views": (lambda m, x: _write(x), {}),
    "where": (lambda m, x: torch.where(x > 0, x, torch.zeros_like(x)), {}),
    "sequence_pool": (lambda m, x: x.softmax(1) * x, {}),
    "fourier_over_tokens": (lambda m, x: torch.fft.fft(x, dim=1).real, {}),
    "write_at_mask": (lambda m, x: _put(x, torch.tensor([[True, False, True, False, True]] * 2), m.token),
                      {"token": nn.Parameter(torch.rand(8))}),
    "write_at_places": (lambda m, x: _put(x, (slice(None), torch.tensor([3, 1])), m.tokens),
                        {"tokens": nn.Parameter(torch.rand(2, 8))}),
    "detach_data": (lambda m, x: x + x.detach().data, {}),
}  # fmt: skip


def _put(x, where, value):
    y = x.clone()
    y[where] = value
    return y


def _write(x):
    y = torch.zeros_like(x)
    half = x.shape[-1] // 2
    y[..., :half] = x[..., :half] * 2
    y[..., half:] = x[..., half:] * 3
    return y


IMAGES = {
    "batch_norm": (lambda m, x: m.norm(x), {"norm": nn.BatchNorm2d(8)}),
    "group_norm": (lambda m, x: m.norm(x), {"norm": nn.GroupNorm(2, 8)}),
    "instance_norm": (lambda m, x: m.norm(x), {"norm": nn.InstanceNorm2d(8, affine=True)}),
    "depthwise": (lambda m, x: m.conv(x), {"conv": nn.Conv2d(8, 8, 3, groups=8)}),
    "multiplier": (lambda m, x: m.conv(x)[:, ::2] + m.conv(x)[:, 1::2], {"conv": nn.Conv2d(8, 16, 3, groups=8)}),
    "grouped": (lambda m, x: m.conv(x), {"conv": nn.Conv2d(8, 8, 3, groups=2)}),
    "transposed": (lambda m, x: m.conv(x), {"conv": nn.ConvTranspose2d(8, 8, 2, stride=2)}),
    "transposed_grouped": (lambda m, x: m.conv(x), {"conv": nn.ConvTranspose2d(8, 8, 2, groups=2)}),
    "max_pool": (lambda m, x: F.max_pool2d(x, 2), {}),
    "avg_pool": (lambda m, x: F.adaptive_avg_pool2d(x, 2), {}),
    "interpolate": (lambda m, x: F.interpolate(x, scale_factor=2), {}),
    "bilinear": (lambda m, x: F.interpolate(x, size=(9, 9), mode="bilinear"), {}),
    "cat": (lambda m, x: torch.cat([m.a(x), m.b(x)], 1), {"a": nn.Conv2d(8, 3, 1), "b": nn.Conv2d(8, 5, 1)}),
    "shuffle": (lambda m, x: _shuffle(x), {}),
    "native_shuffle": (lambda m, x: m.shuffle(x), {"shuffle": nn.ChannelShuffle(2)}),
    "pixel_shuffle": (lambda m, x: m.conv(F.pixel_shuffle(x, 2)), {"conv": nn.Conv2d(2, 8, 1)}),
    "pixel_unshuffle": (lambda m, x: m.conv(F.pixel_unshuffle(x, 2)), {"conv": nn.Conv2d(32, 8, 1)}),
    "squeeze_excite": (lambda m, x: x * torch.sigmoid(m.up(m.down(x.mean((2, 3), keepdim=True)))),
                       {"down": nn.Conv2d(8, 4, 1), "up": nn.Conv2d(4, 8, 1)}),
    "spatial_gate": (lambda m, x: x * torch.sigmoid(x.mean(1, keepdim=True) + x.amax(1, keepdim=True)), {}),
    "unfold": (lambda m, x: m.conv(F.unfold(x, 2, stride=2).unflatten(2, (3, 3))), {"conv": nn.Conv2d(32, 8, 1)}),
    "split": (lambda m, x: torch.cat([m.conv(x.split(4, 1)[0]), x.split(4, 1)[1]], 1), {"conv": nn.Conv2d(4, 4, 1)}),
    "roll": (lambda m, x: torch.roll(x, (1, 1), (2, 3)), {}),
    "weight_norm": (lambda m, x: m.conv(x), {"conv": weight_norm(nn.Conv2d(8, 8, 3), dim=0)}),
    "weight_norm_of_taps": (lambda m, x: m.conv(x), {"conv": weight_norm(nn.Conv2d(8, 8, 3, groups=2), dim=3)}),
    "weight_norm_of_all": (lambda m, x: m.conv(x), {"conv": weight_norm(nn.Conv2d(8, 8, 3), dim=None)}),
    "conv_bias_twice": (lambda m, x: m.conv(x) + m.conv(F.relu(x)), {"conv": nn.Conv2d(8, 8, 1)}),
}  # fmt: skip


def _shuffle(x):
    b, c, h, w = x.shape
    return x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)


def _check(model, example, least=1):
    model = model.double().eval()
    graph = build(model, example)
    assert len(graph.groups) >= least, dict(graph.frozen.items())
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        keep = {
            g.name: np.sort(rng.choice(g.size, max(1, int(g.size * rng.uniform(0.3, 0.9))), replace=False))
            for g in graph.groups
        }
        assert prove(model, graph, keep, example) < 1e-9
    return graph


@pytest.mark.parametrize("name", list(TOKENS))
def test_tokens(name):
    function, parts = TOKENS[name]
    torch.manual_seed(0)
    _check(Between(function, **parts), torch.randn(2, 5, 6, dtype=torch.float64))


@pytest.mark.parametrize("name", list(IMAGES))
def test_images(name):
    function, parts = IMAGES[name]
    torch.manual_seed(0)
    _check(Images(function, **parts), torch.randn(2, 3, 6, 6, dtype=torch.float64))


def test_grouped_convolution_can_lose_whole_blocks():
    graph = _check(
        Images(lambda m, x: m.conv(x), conv=nn.Conv2d(8, 8, 3, groups=4)), torch.randn(2, 3, 6, 6).double(), 3
    )
    model = Images(lambda m, x: m.conv(x), conv=nn.Conv2d(8, 8, 3, groups=4)).double().eval()
    blocks = next(g for g in graph.groups if g.size == 4)
    small = cut(model, build(model, torch.randn(2, 3, 6, 6).double()), {blocks.name: np.array([1, 3])})
    assert small.conv.groups == 2
    assert small.conv.in_channels == 4


def test_softmax_over_channels_is_frozen_and_named():
    model = Between(lambda m, x: x.softmax(-1)).eval()
    graph = build(model, torch.randn(2, 5, 6))
    assert not graph.groups
    assert "softmax" in graph.frozen[("first.weight", 0)]


def test_unknown_operator_is_frozen_and_named():
    model = Between(lambda m, x: torch.cdist(x, x) @ x).eval()
    graph = build(model, torch.randn(2, 5, 6))
    assert "no rule" in graph.frozen[("first.weight", 0)]


def test_literal_size_is_reported_with_its_place():
    model = Between(lambda m, x: x.view(2, 5, 2, 4).flatten(2)).eval()
    graph = build(model, torch.randn(2, 5, 6))
    assert not graph.groups
    assert "view" in graph.frozen[("first.weight", 0)]


def test_scale_that_follows_the_width_is_frozen():
    model = Between(lambda m, x: (x * x.shape[-1] ** -0.5) @ (x.transpose(1, 2) @ m.first(torch.ones(5, 6))))
    graph = build(model.eval(), torch.randn(2, 5, 6))
    assert all("number" in graph.frozen.get(("first.weight", 0), "number") for _ in (0,))
    assert "first.weight:0" not in graph.axes


def test_list_of_sizes_in_user_code_is_updated():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.sizes = nn.Linear(6, 9), [4, 5]
            self.a, self.b = nn.Linear(4, 3), nn.Linear(5, 3)

        def forward(self, x):
            a, b = self.first(x).split(self.sizes, -1)
            return self.a(a) + self.b(b)

    model = Mixed().double().eval()
    graph = build(model, torch.randn(2, 6).double())
    small = cut(model, graph, {"first.weight:0": np.array([0, 3]), "first.weight:0@2": np.array([1, 2, 4])})
    assert small.sizes == [2, 3]
    assert model.sizes == [4, 5]
    assert prove(model, graph, {"first.weight:0": np.array([2])}, torch.randn(2, 6).double()) < 1e-9


def test_attribute_in_user_code_is_updated():
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.heads, self.width = 4, 3
            self.qkv, self.out = nn.Linear(6, 36), nn.Linear(12, 6)

        def forward(self, x):
            b, n, _ = x.shape
            q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, self.width).permute(2, 0, 3, 1, 4)
            y = ((q @ k.transpose(-1, -2)) * 0.5).softmax(-1) @ v
            return self.out(y.transpose(1, 2).reshape(b, n, self.heads * self.width))

    model = Heads().double().eval()
    example = torch.randn(2, 5, 6).double()
    graph = build(model, example)
    assert set(graph.axes) == {"qkv.weight:0:head", "qkv.weight:0:dim"}
    small = cut(model, graph, {"qkv.weight:0:head": np.array([0, 3]), "qkv.weight:0:dim": np.array([1, 2])})
    assert (small.heads, small.width) == (2, 2)
    assert small.qkv.out_features == 12


class Stream(nn.Module):
    """Two residual attention blocks whose code takes the width of its heads from its input, as timm's BEiT does."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(6, 12), nn.Linear(12, 5)
        self.blocks = nn.ModuleList(Attention() for _ in range(2))

    def forward(self, x):
        x = self.embed(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads, self.qkv, self.out = 4, nn.Linear(12, 36), nn.Linear(12, 12)

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return self.out((((q @ k.mT) * 0.5).softmax(-1) @ v).transpose(1, 2).reshape(b, n, c))


def test_width_taken_from_the_input_ties_the_heads_to_the_stream():
    graph = _check(Stream(), torch.randn(2, 5, 6, dtype=torch.float64))
    assert {group.size for group in graph.groups} == {3, 4}
    for group in graph.groups:
        assert {"blocks.0.qkv.weight", "blocks.1.out.weight", "embed.weight"} <= {s.parameter for s in group.slots}


def test_tied_bias_stays_a_vector():
    model = Between(lambda m, x: x)
    model.bias = model.last.bias
    graph = _check(model, torch.randn(2, 5, 6, dtype=torch.float64))
    assert graph.parameters["last.bias"] == "bias"
    assert "bias" not in graph.reads
