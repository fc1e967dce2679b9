"""PruneNet: equal shares of neurons, spectra that can only shrink, a policy that can be asked again, and a guard."""

from __future__ import annotations

import pytest
import torch

import prunus as px
from channels.lms import cached, prunable, texts, uncached
from prunus.channels.prunenet import neurons
from prunus.core.errors import BadInput
from prunus.core.rng import Rng
from prunus.maths.row_policy import RowPolicy, leverage, spectrum, towards_half


def planned(family="llama", budget="75% channels", **settings) -> px.Plan:
    return px.plan(prunable(family), "prunenet", budget, **{"episodes": 2, "data": None, **settings})


@pytest.mark.parametrize("family", ["llama", "phi3", "gpt2", "opt"])
def test_neurons_are_those_between_two_matrices(family):
    found = neurons(prunable(family))
    assert [len(matrix) for matrix in found.values()] == [48 if family != "gpt2" else 128] * 3
    gate = {
        "llama": "model.layers.0.mlp.gate_proj", "phi3": "model.layers.0.mlp.gate_up_proj", "gpt2": "transformer.h.0.mlp.c_fc",
        "opt": "model.decoder.layers.0.fc1",
    }[family]  # fmt: skip
    weight = prunable(family).model.get_submodule(gate).weight
    rows = weight.T if family == "gpt2" else weight
    first = next(matrix for name, matrix in found.items() if ".0." in name)
    torch.testing.assert_close(first, rows[: len(first)].detach())


@pytest.mark.parametrize("family", ["llama", "phi3"])
def test_equal_widths_and_cache(family):
    plan = planned(family)
    assert {kept.count for kept in plan.groups.values()} == {36} and plan.planned["channels"] == 3 * 36
    small, ids = prunable(family).apply(plan), texts()[0]["input_ids"]
    torch.testing.assert_close(cached(small, ids), uncached(small, ids), rtol=1e-4, atol=1e-4)
    assert plan.planned["params"] == sum(p.numel() for p in small.parameters())
    assert len(plan.provenance["ks_random"]) == 3 and "loss" not in plan.provenance


def test_modes_and_seeds():
    assert planned().hash() == planned().hash() != planned(seed=1, mode="sample").hash()
    near = planned(mode="best", draws=8)
    assert near.provenance["ks"] <= min(planned().provenance["ks"], planned(mode="sample").provenance["ks"])
    assert planned(features="norm_leverage", kl=0.1).planned == planned().planned
    with pytest.raises(BadInput, match="mode"):
        planned(mode="other")


def test_perplexity_guard():
    made = planned(data=texts()).provenance
    assert len(made["loss_random"]) == 3 and made["loss"] > 0
    with pytest.raises(BadInput, match="random neurons"):
        planned(data=texts(), guard=-100.0)
    assert planned(data=texts(), guard=100.0).provenance["loss"] == made["loss"]


def test_spectra_interlace_and_order_of_rows_is_free():
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(20, 8, generator=generator)
    assert (spectrum(matrix[:15]) <= spectrum(matrix) + 1e-9).all()
    torch.testing.assert_close(spectrum(matrix).float(), torch.linalg.svdvals(matrix))
    torch.testing.assert_close(spectrum(matrix[:5]).float(), torch.linalg.svdvals(matrix[:5]))
    order = torch.randperm(20, generator=generator)
    policy = RowPolicy(20, 8, Rng(0, "test"))
    torch.testing.assert_close(policy(matrix[order]), policy(matrix)[order])
    torch.testing.assert_close(leverage(matrix[order]), leverage(matrix)[order])
    assert float(leverage(matrix).sum()) == pytest.approx(8)


def test_terms_of_sure_policies_have_gradients():
    logits = torch.tensor([60.0, -60.0, 0.0], requires_grad=True)
    towards_half(logits).backward()
    assert torch.isfinite(logits.grad).all()
    assert float(towards_half(torch.zeros(3))) == pytest.approx(0, abs=1e-6)
