"""Tiny language models of several families, with random gains and biases, and texts for them."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import transformers
from torch import nn

from prunus.prunables.model import ModelPrunable

EXAMPLE = {"input_ids": torch.arange(3, 11)[None]}
SIZES: dict[str, Any] = {"vocab_size": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
COMMON: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
GROUPED: dict[str, Any] = {**COMMON, "intermediate_size": 48, "num_key_value_heads": 2}
CONFIGS: dict[str, Any] = {
    "llama": lambda: transformers.LlamaConfig(**SIZES, **GROUPED, tie_word_embeddings=True),
    "qwen2": lambda: transformers.Qwen2Config(**SIZES, **GROUPED),
    "phi3": lambda: transformers.Phi3Config(**SIZES, **GROUPED),
    "gpt2": lambda: transformers.GPT2Config(**SIZES, n_embd=32, n_layer=3, n_head=4, n_positions=64),
    "opt": lambda: transformers.OPTConfig(
        **SIZES, **COMMON, ffn_dim=48, max_position_embeddings=64, word_embed_proj_dim=32
    ),
    "gemma": lambda: transformers.GemmaConfig(**SIZES, **GROUPED, head_dim=8),
}
FAMILIES = tuple(CONFIGS)


def make(family: str, **changes: Any) -> nn.Module:
    """A model of this family, seeded, in evaluation mode; nothing is left at 0 or 1."""
    config = CONFIGS[family]()
    config.update(changes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.3 if parameter.dim() == 1 else 0.05)
    return model


@cache
def prunable(family: str) -> ModelPrunable:
    """The model with its graph, recorded once; no test may change it."""
    return ModelPrunable(make(family), EXAMPLE)


def texts(count: int = 4, rows: int = 4) -> list[dict[str, torch.Tensor]]:
    """Batches of tokens."""
    generator = torch.Generator().manual_seed(5)
    return [{"input_ids": torch.randint(3, 64, (rows, 12), generator=generator)} for _ in range(count)]


def uncached(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Logits of the whole text at once."""
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits


def cached(model: Any, ids: torch.Tensor, first: int = 3) -> torch.Tensor:
    """The same logits, the text read in two parts and then token by token, each after the cache of those before."""
    parts = [ids[:, :first], ids[:, first : first + 2], *ids[:, first + 2 :].split(1, 1)]
    cache, found = None, []
    with torch.no_grad():
        for part in parts:
            out = model(input_ids=part, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            found.append(out.logits)
    return torch.cat(found, 1)
