"""PERP's three adapters that keep zeros against the released layers: outputs, gradients, merged weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from prunus.train.adapters import attach, merge

pytestmark = pytest.mark.golden("perp--adapters")
KINDS = ("lora_prune", "mask_lora", "scale_lora")


def adapted(case, kind, *, start=False):
    """(the pruned layer with the case's factors, its adapter)."""
    weight = torch.from_numpy(case["W_pruned"])
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(torch.from_numpy(case["bias"]))
    rank = case["lora_A"].shape[0]
    options = {"rank": rank, "scale": case.value("scaling"), "stored": False}
    adapter = attach(layer, kind, weight != 0, generator=torch.Generator().manual_seed(0), **options)
    if not start:
        shift = rank**-0.5 if kind == "scale_lora" else 0.0
        with torch.no_grad():
            adapter.a.copy_(torch.from_numpy(case["lora_A"]) + shift)
            adapter.b.copy_(torch.from_numpy(case["lora_B"]) + shift)
    return layer, adapter


def close(ours, theirs):
    np.testing.assert_allclose(ours.detach().numpy(), theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_and_gradients(case, kind):
    layer, adapter = adapted(case, kind)
    y = layer(torch.from_numpy(case["x"]))
    close(y, case[f"{kind}.y_train"])
    (y * torch.from_numpy(case["grad_y"])).sum().backward()
    close(adapter.a.grad, case[f"{kind}.grad_A"])
    close(adapter.b.grad, case[f"{kind}.grad_B"])


@pytest.mark.parametrize("kind", KINDS)
def test_merged(case, kind):
    layer, _ = adapted(case, kind)
    merge(layer, ("weight", "bias"))
    assert type(layer) is nn.Linear and list(layer.state_dict()) == ["weight", "bias"]
    close(layer.weight, case[f"{kind}.W_merged"])
    assert not layer.weight[torch.from_numpy(case["W_pruned"] == 0)].any()
    y = layer(torch.from_numpy(case["x"]))
    close(y, case[f"{kind}.y_merged"])
    if kind == "lora_prune":
        assert np.abs(y.detach().numpy() - case[f"{kind}.y_train"]).max() > 1e-3
    else:
        close(y, case[f"{kind}.y_train"])


def test_the_start_is_the_pruned_layer(case):
    layer, adapter = adapted(case, "scale_lora", start=True)
    close(adapter.a, case["scale_lora.init_A"])
    close(adapter.b, case["scale_lora.init_B"])
    close(layer(torch.from_numpy(case["x"])), case["scale_lora.y_at_init"])
    plain = torch.nn.functional.linear(*(torch.from_numpy(case[name]) for name in ("x", "W_pruned", "bias")))
    for kind in KINDS:
        close(adapted(case, kind, start=True)[0](torch.from_numpy(case["x"])), plain)


def test_the_pruned_matrix_is_the_dense_one_with_zeros(case):
    kept = case["W_pruned"] != 0
    np.testing.assert_array_equal(case["W_pruned"], case["W_dense"] * kept)
