"""Uniform cuts of transformers models load with stock `from_pretrained`; what a config can't say is told."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

import prunus as px
from prunus.core.errors import BadInput
from prunus.core.plan import Kept

transformers = pytest.importorskip("transformers")
IDS = torch.arange(8)[None]


def tiny(kind: str) -> tuple[Any, Any]:
    """(model, example), seeded."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "bos_token_id": 1, "eos_token_id": 2}
    if kind == "llama":
        options = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        made = transformers.LlamaForCausalLM(
            transformers.LlamaConfig(**sizes, **options, num_key_value_heads=2, tie_word_embeddings=True)
        )
        return made.eval(), {"input_ids": IDS}
    if kind == "gpt2":
        made = transformers.GPT2LMHeadModel(
            transformers.GPT2Config(**sizes, n_embd=32, n_layer=2, n_head=4, n_positions=32)
        )
        return made.eval(), {"input_ids": IDS}
    options = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    made = transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes, **options))
    return made.eval(), {"input_ids": IDS, "decoder_input_ids": IDS}


def mlp(model: Any, example: Any, width: int | tuple[int, ...]) -> px.Plan:
    """A plan that keeps so many neurons in every feed-forward part, all else whole."""
    prunable = px.ModelPrunable(model, example)
    names = [
        g.name for g in prunable.groups() if g.size in (64, 128) and ":head" not in g.name and "embed" not in g.name
    ]
    widths = [width] * len(names) if isinstance(width, int) else [width[i % 2] for i in range(len(names))]
    base = px.plan(prunable, "l1", "99% params", same_shape=True)
    sizes = {g.name: g.size for g in prunable.groups()}
    groups = {name: Kept.of_ids(range(keep), sizes[name]) for name, keep in zip(names, widths)}
    return replace(base, groups=groups)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "t5"])
def test_stock_from_pretrained_computes_the_same(kind, tmp_path):
    model, example = tiny(kind)
    plan = mlp(model, example, 24)
    small = plan.apply(model)
    px.save(small, plan, tmp_path)
    assert "from_pretrained" in json.loads((tmp_path / "applied.json").read_text())["config"]
    stock, info = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    with torch.no_grad():
        torch.testing.assert_close(stock(**example).logits, small(**example).logits)
    assert set(stock.state_dict()) == set(model.state_dict()) == set(small.state_dict())
    assert sum(p.numel() for p in stock.parameters()) == sum(p.numel() for p in small.parameters())


def test_heads_and_neurons_together(tmp_path):
    model, example = tiny("llama")
    plan = px.plan(model, "l1", "70% macs", example=example, groups="inner", same_shape=True)
    assert any(name.endswith(":head") and one.count < one.size for name, one in plan.groups.items())
    small = plan.apply(model)
    px.save(small, plan, tmp_path)
    stock = type(model).from_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(stock(**example).logits, small(**example).logits)


def test_layers_of_different_widths_have_no_config(tmp_path):
    model, example = tiny("llama")
    plan = mlp(model, example, (24, 40))
    px.save(plan.apply(model), plan, tmp_path)
    assert not (tmp_path / "config.json").exists()
    assert "layers differ" in json.loads((tmp_path / "applied.json").read_text())["config"]
    again = px.load(tmp_path, like=lambda: tiny("llama")[0])
    with torch.no_grad():
        torch.testing.assert_close(again(**example).logits, plan.apply(model)(**example).logits)


def test_like_takes_a_constructor(tmp_path):
    make = partial(px.open_model, "prunus:tinycnn", weights="random")
    model, x = make(), torch.zeros(1, 1, 8, 8)
    plan = px.plan(model, "l1", "50% macs", example=x)
    small = plan.apply(model)
    px.save(small, plan, tmp_path)
    torch.testing.assert_close(px.load(tmp_path, like=make)(x), small(x))
    with pytest.raises(BadInput, match="gave a dict"):
        px.load(tmp_path, like=dict)
