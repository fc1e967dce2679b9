"""Low-rank paths beside pruned language models: applied, counted, saved and read back without pickle."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

import prunus as px
from prunus.core.edits import LowRank

transformers = pytest.importorskip("transformers")
SIZES = {"vocab_size": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
GROUPED = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
GROUPED |= {"num_key_value_heads": 2}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {**GROUPED, "tie_word_embeddings": True}),
    "qwen2": ("Qwen2", GROUPED),
    "gemma": ("Gemma", {**GROUPED, "head_dim": 8}),
    "gpt2": ("GPT2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32}),
    "opt": (
        "OPT",
        {
            "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
            "max_position_embeddings": 32, "word_embed_proj_dim": 32,
        },
    ),
}  # fmt: skip


def tiny(kind: str) -> torch.nn.Module:
    """A causal model of this family with random weights, seeded."""
    name, options = KINDS[kind]
    config = getattr(transformers, f"{name}Config")(**SIZES, **options)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = "LMHeadModel" if kind == "gpt2" else "ForCausalLM"
        return getattr(transformers, f"{name}{head}")(config).eval()


def windows() -> list[dict[str, torch.Tensor]]:
    """Calibration rows: 4 windows of 16 tokens at a time."""
    made = torch.Generator().manual_seed(1)
    return [{"input_ids": torch.randint(3, 64, (4, 16), generator=made)} for _ in range(4)]


@pytest.mark.parametrize(("kind", "budget"), [*((kind, "50% weights") for kind in KINDS), ("llama", "2:4")])
def test_applied_counted_saved_and_read_back(kind, budget, tmp_path):
    model, rows = tiny(kind), windows()
    prunable = px.ModelPrunable(model, rows[0])
    settings = {"data": rows, "layers": "blocks"}
    plain = px.plan(prunable, "wanda", budget, **settings)
    plan = px.plan(prunable, "wanda", budget, compensate="eora", rank=4, **settings)
    masked, repaired = prunable.apply(plain), prunable.apply(plan)
    with torch.no_grad():
        dense, one, other = (net(**rows[0]).logits for net in (model, masked, repaired))
    assert (other - dense).norm() < (one - dense).norm()
    for name, kept in plan.groups.items():
        assert int(repaired.get_parameter(name).count_nonzero()) <= kept.count, "a zero was lost"
    more = sum(p.numel() for p in repaired.parameters()) - sum(p.numel() for p in masked.parameters())
    assert more == plan.planned["low_rank"] == sum(e.a.size + e.b.size for e in plan.edits if isinstance(e, LowRank))

    px.save(repaired, plan, tmp_path)
    assert "from_pretrained" not in json.loads((tmp_path / "applied.json").read_text()).get("config", "")
    assert not (tmp_path / "config.json").exists(), "stock classes know no path beside a matrix"
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".json", ".safetensors"}
    same = px.load(tmp_path, like=lambda: tiny(kind))
    with torch.no_grad():
        assert torch.equal(same(**rows[0]).logits, other)


def test_full_rank_is_the_dense_model():
    model, rows = tiny("llama"), windows()
    settings = {"data": rows, "layers": "blocks", "compensate": "eora", "rank": 48}
    repaired = px.plan(px.ModelPrunable(model, rows[0]), "magnitude", "50% weights", **settings).apply(model)
    with torch.no_grad():
        torch.testing.assert_close(repaired(**rows[0]).logits, model(**rows[0]).logits, rtol=1e-4, atol=1e-5)
