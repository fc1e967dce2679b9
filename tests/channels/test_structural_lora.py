"""Pruning while adapters train, on a small model with grouped queries and one with biases: the cut model is the trained one."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import prunus as px
from prunus.channels.structural_lora import Adapted, inner_groups, spared
from prunus.core.errors import BadInput
from prunus.core.plan import Kept
from prunus.core.rng import Rng

transformers = pytest.importorskip("transformers")


def tiny(kind: str) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "gpt2":
            sizes = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 32}
            made = transformers.GPT2LMHeadModel(
                transformers.GPT2Config(vocab_size=64, bos_token_id=1, eos_token_id=2, **sizes)
            )
        else:
            sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
            config = transformers.LlamaConfig(
                vocab_size=64, bos_token_id=1, eos_token_id=2, num_key_value_heads=2, **sizes
            )
            made = transformers.LlamaForCausalLM(config)
    for name, parameter in made.named_parameters():
        if name.endswith("bias"):  # they begin as zeros, which would hide what a gate leaves of them
            parameter.data.uniform_(-0.1, 0.1, generator=torch.Generator().manual_seed(2))
    return made.eval()


def windows() -> list[dict[str, torch.Tensor]]:
    made = torch.Generator().manual_seed(1)
    return [{"input_ids": torch.randint(3, 64, (4, 12), generator=made)} for _ in range(3)]


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_cut_model_is_the_gated_one(kind):
    model, rows = tiny(kind), windows()
    prunable = px.ModelPrunable(model, {"input_ids": rows[0]["input_ids"][:1]})
    groups = inner_groups(prunable)
    each = 3 if kind == "llama" else 2  # neurons, heads, and with grouped queries the query heads of every group
    assert len(groups) == 3 * each and len(spared(groups, 0.34, 1)) == 2 * each
    adapted = Adapted(copy.deepcopy(model), groups, "gate", rank=2, scale=1.0, rng=Rng(0, "test"))
    for part in adapted.parts.values():
        part.b.data.normal_(0, 0.05, generator=torch.Generator().manual_seed(3))
    kept = {name: np.arange(group.size) % 2 == 0 for name, group in groups.items()}
    adapted.close(kept)
    with torch.no_grad():
        gated = adapted.model(**rows[0]).logits
    groups_kept = {name: Kept.of_ids(np.flatnonzero(mask), mask.size) for name, mask in kept.items()}
    budget = px.Budget.parse("100% params")
    plan = px.Plan("channels", groups_kept, budget, {}, {}, adapted.merged(), fingerprint=prunable.fingerprint())
    plan = replace(plan, provenance={"example": prunable.describe()})
    with torch.no_grad():
        torch.testing.assert_close(plan.apply(model)(**rows[0]).logits, gated, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["loraprune", "atp"])
def test_budget_tuning_and_a_model_that_runs(method):
    model, rows = tiny("llama"), windows()
    prunable = px.ModelPrunable(model, {"input_ids": rows[0]["input_ids"][:1]})
    plan = px.plan(prunable, method, "80% params", data=rows, steps=6, lr=0.01)
    small = plan.apply(model)
    assert plan.planned["params"] == sum(p.numel() for p in small.parameters())
    assert plan.planned["params"] <= 0.8 * sum(p.numel() for p in model.parameters())
    assert plan.edits and all(np.isfinite(edit.value).all() for edit in plan.edits)
    assert torch.isfinite(small(**rows[0]).logits).all()
    assert not any(":dim" in name or "embed" in name for name in plan.groups)
    if method == "loraprune":
        assert {name.split(".")[2] for name in plan.groups} == {"0", "1"}, "the last block is spared"
        with pytest.raises(BadInput, match="spare"):
            px.plan(prunable, method, "80% params", data=rows, steps=2, spare_last=3)
    else:
        assert plan.provenance["removed_adapter_norm"] >= 0
