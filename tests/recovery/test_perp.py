"""PERP on small language models: what trains, what stays zero, what a merge changes, and blocks that follow the dense ones."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

import prunus as px
from prunus.core.errors import BadInput, UnknownName
from prunus.recovery.perp import perp

transformers = pytest.importorskip("transformers")
BRIEF = {"steps": 3, "lr": 0.01, "batch": 4}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": (
        "LlamaForCausalLM",
        {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4},
    ),
    "gpt2": ("GPT2LMHeadModel", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32}),
    "opt": (
        "OPTForCausalLM",
        {
            "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
            "max_position_embeddings": 32, "word_embed_proj_dim": 32,
        },
    ),
}  # fmt: skip


def windows() -> list[dict[str, torch.Tensor]]:
    made = torch.Generator().manual_seed(1)
    return [{"input_ids": torch.randint(3, 64, (4, 16), generator=made)} for _ in range(3)]


@cache
def pruned(kind: str) -> tuple[nn.Module, nn.Module, px.Plan]:
    """(dense, with half of its weights, the plan)."""
    head, options = KINDS[kind]
    cls = getattr(transformers, head)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = cls.config_class(vocab_size=64, bos_token_id=1, eos_token_id=2, tie_word_embeddings=True, **options)
        dense = cls(config).eval()
    prunable = px.ModelPrunable(dense, {"input_ids": windows()[0]["input_ids"][:1]})
    plan = px.plan(prunable, "magnitude", "50% weights", layers="blocks")
    return dense, plan.apply(dense), plan


def zeros(model: nn.Module, plan: px.Plan) -> dict[str, int]:
    return {name: int((model.get_parameter(name) == 0).sum()) for name in plan.groups}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("adapter", ["mask_lora", "lora_prune", "scale_lora"])
def test_sparsity_before_is_sparsity_after(kind, adapter):
    _, sparse, plan = pruned(kind)
    report: dict[str, float] = {}
    found = px.recover(sparse, data=windows(), how="perp", plan=plan, adapter=adapter, report=report, rank=4, **BRIEF)
    assert zeros(found, plan) == zeros(sparse, plan)
    assert any(not torch.equal(found.get_parameter(name), sparse.get_parameter(name)) for name in plan.groups)
    assert sum(p.numel() for p in found.parameters()) == sum(p.numel() for p in sparse.parameters())
    assert (report["lost_at_merge"] > 0) == (adapter == "lora_prune")
    assert list(found.state_dict()) == list(sparse.state_dict())
    tied = found.get_output_embeddings().weight
    assert tied is found.get_input_embeddings().weight and torch.equal(tied, sparse.get_input_embeddings().weight)


@pytest.mark.parametrize("parts", [("norms",), ("biases",), ("norms", "biases")])
def test_only_these_parts_change_and_they_are_counted(parts):
    _, sparse, plan = pruned("gpt2")
    report: dict[str, float] = {}
    found = px.recover(sparse, data=windows(), how="perp", plan=plan, parts=parts, report=report, **BRIEF)
    norm = {name for name, _ in sparse.named_parameters() if "ln_" in name}
    bias = {name for name, _ in sparse.named_parameters() if name.endswith("bias")} - norm
    wanted = (norm if "norms" in parts else set()) | (bias if "biases" in parts else set())
    changed = {n for n, p in found.named_parameters() if not torch.equal(p, sparse.get_parameter(n))}
    assert changed == wanted
    assert report["trainable"] == sum(sparse.get_parameter(name).numel() for name in wanted)
    assert report["share"] == report["trainable"] / sum(p.numel() for p in sparse.parameters())


def test_adapters_are_counted():
    _, sparse, plan = pruned("llama")
    report: dict[str, float] = {}
    px.recover(sparse, data=windows(), how="perp", plan=plan, parts=("adapters",), rank=4, report=report, **BRIEF)
    assert report["trainable"] == sum(4 * sum(sparse.get_parameter(name).shape) for name in plan.groups)


def test_no_biases_nothing_to_train():
    _, sparse, plan = pruned("llama")
    with pytest.raises(BadInput, match="biases"):
        px.recover(sparse, data=windows(), how="perp", plan=plan, parts=("biases",), **BRIEF)
    for options in ({"parts": ("norm",)}, {"mode": "rebuild"}, {"adapter": "merge_lora"}):
        with pytest.raises(UnknownName):
            px.recover(sparse, data=windows(), how="perp", plan=plan, **BRIEF, **options)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_blocks_move_towards_the_dense_ones(kind):
    dense, sparse, plan = pruned(kind)
    report: dict[str, float] = {}
    options = {"mode": "reconstruct", "teacher": dense, "plan": plan, "report": report, "rank": 4}
    found = px.recover(sparse, data=windows(), how="perp", **options, **{**BRIEF, "steps": 30, "lr": 1e-3})
    assert report["blocks"] == 2 and report["error_after"] < report["error_before"]
    assert zeros(found, plan) == zeros(sparse, plan)
    assert report["trainable"] > 0
    with torch.no_grad():
        rows = windows()[0]
        target, before, after = (net(**rows).logits for net in (dense, sparse, found))
    assert (after - target).norm() < (before - target).norm()
    with pytest.raises(BadInput, match="teacher"):
        perp(sparse, windows(), mode="reconstruct")


def test_a_block_that_gets_worse_stays_as_it_was():
    dense, sparse, plan = pruned("llama")
    report: dict[str, float] = {}
    options = {"mode": "reconstruct", "teacher": dense, "plan": plan, "report": report, "schedule": "constant"}
    found = px.recover(sparse, data=windows(), how="perp", **options, **{**BRIEF, "lr": 1.0})
    assert report["blocks_kept"] == report["blocks"] and report["error_after"] == report["error_before"]
    for name, value in found.state_dict().items():
        torch.testing.assert_close(value, sparse.state_dict()[name], rtol=0, atol=0)
