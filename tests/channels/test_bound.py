"""Criteria and compensators on a real graph: a residual network that pads channels between stages."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from prunus.channels.flap import flap
from prunus.channels.l1 import l1
from prunus.channels.l2 import l2
from prunus.channels.obspa import obspa
from prunus.channels.taylor import taylor
from prunus.compensate.joint_ls import joint_ls
from prunus.compensate.mean_bias import mean_bias
from prunus.compensate.sweep import sweep
from prunus.graph.members import bind, readers_of
from prunus.prunables.model import ModelPrunable
from prunus.signals.collect import collect
from prunus.train.models import CifarResNet

NEED = ("grad", "input_mean", "input_var", "input_norm", "hessian")


@pytest.fixture(scope="module")
def measured():
    generator = torch.Generator().manual_seed(0)
    net = CifarResNet(8, width=4).eval()
    x, y = torch.randn(12, 3, 8, 8, generator=generator), torch.arange(12) % 10
    return ModelPrunable(net, x[:2]), collect(net, (x, y), NEED).modules


@pytest.mark.parametrize("score", [l1, l2, taylor, flap, obspa, lambda group: obspa(group, score="block")])
def test_every_group_gets_finite_scores(measured, score):
    prunable, signals = measured
    for group in prunable.groups("channels"):
        values = score(bind(group, prunable.model, signals))
        assert values.shape == (group.size,)
        assert torch.isfinite(values).all(), group.name


def test_statistics_line_up_with_weights(measured):
    prunable, signals = measured
    for group in prunable.groups("channels"):
        for reader in bind(group, prunable.model, signals).readers:
            width = reader.weight.shape[0] * reader.weight.shape[1]
            assert reader.input_var.shape == reader.weight.shape[:2]
            assert reader.hessian.shape == (width, width)
            per_column = reader.input_norm.reshape(-1).square()
            torch.testing.assert_close(reader.hessian.diagonal() / 2 / 12, per_column, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("compensator", [joint_ls, mean_bias, sweep])
def test_every_reader_is_compensated_in_dense_shape(measured, compensator):
    prunable, signals = measured
    keep = {group.name: np.arange(group.size)[::2] for group in prunable.groups("channels")}
    tensors = dict(prunable.model.named_parameters())
    found = list(readers_of(prunable.graph, prunable.model, keep, signals))
    assert len(found) > 5
    for reader, dropped in found:
        (edit,) = compensator(reader, dropped)
        assert np.isfinite(edit.value).all()
        expected = tensors[reader.parameter].shape if compensator is not mean_bias else reader.weight.shape[2:]
        assert edit.value.shape == tuple(expected)
