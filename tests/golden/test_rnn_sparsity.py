"""Masks of stacked recurrent networks and what the masked networks give, against the thesis' released classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import prunus as px

pytestmark = pytest.mark.golden("rnn-sparsity--masks-and-outputs")
CELLS = {
    "RNN_TANH": lambda i, h: nn.RNN(i, h, nonlinearity="tanh"),
    "RNN_RELU": lambda i, h: nn.RNN(i, h, nonlinearity="relu"),
    "GRU": nn.GRU,
    "LSTM": nn.LSTM,
}
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


class Stack(nn.Module):
    """Recurrent layers of any widths on `[T, B, in]`; gives the last step of the last one."""

    def __init__(self, part, mode) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        names = [name for name in part if name.startswith("param/") and name.endswith("weight_ih")]
        for number in range(len(names)):
            own = {n: torch.from_numpy(part[f"param/recurrent_layers.{number}.{n}"]) for n in STORED}
            gates = {"GRU": 3, "LSTM": 4}.get(mode, 1)
            layer = CELLS[mode](own["weight_ih"].shape[1], own["weight_hh"].shape[0] // gates)
            with torch.no_grad():
                for name, value in own.items():
                    getattr(layer, f"{name}_l0").copy_(value)
            self.layers.append(layer)

    def forward(self, x):
        for layer in self.layers:
            x, _ = layer(x)
        return x[-1]


STORED = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
KINDS = {"i2h": "weight_ih_l0", "h2h": "weight_hh_l0"}


def test_outputs_and_masks(case):
    for mode in case.parts:
        part = case.part(mode)
        net, x = Stack(part, mode), torch.from_numpy(part["x"])
        with torch.no_grad():
            np.testing.assert_allclose(net(x), part["dense/output"], **CLOSE)
        wanted = {tuple(name.split("/")[:2]) for name in part if name.split("/")[0].replace(".", "").isdigit()}
        assert wanted
        for percent, kind in wanted:
            plan = px.plan(net, "rnn_sparsity", f"sparsity {percent}%", connections=kind)
            for other, parameter in KINDS.items():
                for number in range(len(net.layers)):
                    mask = part[f"{percent}/{kind}/mask_{other}/{number}"].astype(bool)
                    name = f"layers.{number}.{parameter}"
                    if kind in (other, "both"):
                        np.testing.assert_array_equal(plan.groups[name].mask().reshape(mask.shape), mask, err_msg=name)
                    else:
                        assert mask.all() and name not in plan.groups, "the other kind stays whole"
            with torch.no_grad():
                found = plan.apply(net)(x)
            np.testing.assert_allclose(
                found, part[f"{percent}/{kind}/output"], err_msg=f"{mode} {percent} {kind}", **CLOSE
            )


def test_pooled_share_and_gates(case):
    mode = next(name for name in case.parts if name in ("GRU", "LSTM"))
    net = Stack(case.part(mode), mode)
    for percent in (0, 10, 55, 90):
        plan = px.plan(net, "rnn_sparsity", f"sparsity {percent}%")
        dense, kept = plan.dense["weights"], plan.planned["weights"]
        assert dense == sum(p.numel() for n, p in net.named_parameters() if "weight" in n)
        assert abs(kept - dense * (1 - percent / 100)) <= 1
        gates = plan.provenance["gates"]
        for name, one in plan.groups.items():
            assert np.mean(gates[name]) == pytest.approx(one.count / one.size, abs=1e-5)
            assert len(gates[name]) == {"GRU": 3, "LSTM": 4}[mode]
