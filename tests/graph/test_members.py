"""Members: every view lines up with the module's input and output."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from graph.zoo import make
from prunus.graph.build import build
from prunus.graph.members import bind, readers_of


class Net(nn.Module):
    """conv, norm, grouped conv, flatten, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.conv3 = nn.Conv2d(8, 6, 2), nn.Conv2d(6, 4, 2, groups=2)
        self.fc = nn.Linear(16, 5)

    def forward(self, x):
        x = F.relu(self.norm(self.conv1(x)))
        return self.fc(self.conv3(self.conv2(x)).flatten(1))


def _case():
    torch.manual_seed(0)
    model = Net().eval()
    graph = build(model, torch.randn(2, 3, 4, 4))
    return model, graph, {group.name: group for group in graph.groups}


def test_reader_of_a_convolution_has_its_taps_in_order():
    model, _, groups = _case()
    member = next(m for m in bind(groups["conv1.weight:0"], model).readers)
    x = torch.randn(1, 8, 4, 4)
    unfolded = F.unfold(x, 2)  # [1, 8 * 4, L], channel by channel
    y = member.weight.reshape(-1, 6).T @ unfolded
    torch.testing.assert_close(y.view(1, 6, 3, 3) + model.conv2.bias.view(1, -1, 1, 1), model.conv2(x))


def test_grouped_reader_sees_the_partners():
    model, _, groups = _case()
    group = groups["conv2.weight:0"]
    member = bind(group, model).readers[0]
    assert group.size == 3
    assert tuple(member.weight.shape) == (3, 2 * 4, 2)
    torch.testing.assert_close(member.weight[1, 4:], model.conv3.weight[2:, 1].reshape(2, 4).T)


def test_signals_line_up():
    model, _, groups = _case()
    width = 8 * 4
    stats = SimpleNamespace(
        input_mean=torch.arange(width).view(8, 4),
        hessian=torch.arange(width * width).view(width, width),
        grad=model.conv2.weight,
    )
    member = next(m for m in bind(groups["conv1.weight:0"], model, {"conv2": stats}).readers)
    assert torch.equal(member.input_mean, torch.arange(width).view(8, 4))
    assert torch.equal(member.hessian, stats.hessian)
    torch.testing.assert_close(member.grad, member.weight)


def test_grouped_hessian_keeps_the_blocks_apart():
    model, _, groups = _case()
    stats = SimpleNamespace(hessian=torch.rand(2, 12, 12), input_var=torch.arange(24).view(6, 4))
    member = bind(groups["conv2.weight:0"], model, {"conv3": stats}).readers[0]
    assert tuple(member.hessian.shape) == (24, 24)
    torch.testing.assert_close(member.hessian[8:12, 0:4], stats.hessian[0, 4:8, 0:4])
    assert not member.hessian[8:12, 4:8].any()
    assert torch.equal(member.input_var[1], torch.tensor([4, 5, 6, 7, 16, 17, 18, 19]))


def test_linear_after_flatten_has_one_column_per_place():
    model, _, groups = _case()
    member = bind(groups["conv3.weight:0"], model).readers[0]
    assert tuple(member.weight.shape) == (2, 8, 5)
    torch.testing.assert_close(member.weight[1, :4], model.fc.weight[:, 4:8].T)


def test_heads_of_a_language_model():
    model, example = make("llama")
    graph = build(model, example)
    name = "model.layers.0.self_attn.k_proj.weight:0:head"
    bound = bind(next(group for group in graph.groups if group.name == name), model)
    shapes = {m.name.split(".")[-2]: tuple(m.weight.shape) for m in (*bound.writers, *bound.readers)}
    assert shapes == {"k_proj": (2, 8, 32), "v_proj": (2, 8, 32), "q_proj": (2, 16, 32), "o_proj": (2, 16, 32)}
    o_proj = model.model.layers[0].self_attn.o_proj.weight
    torch.testing.assert_close(bound.readers[0].weight[1], o_proj[:, 16:].T)


def test_readers_for_compensators():
    model, graph, _ = _case()
    keep = {"conv1.weight:0": np.array([0, 1, 5]), "conv3.weight:0": np.array([1])}
    found = {reader.module: (reader, dropped) for reader, dropped in readers_of(graph, model, keep)}
    assert set(found) == {"conv2", "fc"}
    reader, dropped = found["conv2"]
    assert dropped.tolist() == [2, 3, 4, 6, 7]
    assert tuple(reader.weight.shape) == (8, 4, 6)
    torch.testing.assert_close(reader.dense(reader.weight), model.conv2.weight.detach())
    assert found["fc"][1].tolist() == [0, 1, 2, 3, 8, 9, 10, 11]
