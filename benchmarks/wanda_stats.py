"""What calibration statistics cost on a llama block (hidden 576, feed-forward 1536, 9 / 3 heads of 64): seven matrices.

Against the bare forward pass of the block; 8 x 512 tokens. Wanda needs input norms, FLAP means and variances,
second-order methods the Hessians (whose own floor is their matrix products).
"""

from __future__ import annotations

import argparse

import torch
from interleaved import line
from torch import Tensor, nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding

from prunus.signals.collect import collect
from prunus.train.step import Step

NEEDS = {"input_norm": ("input_norm",), "input_mean, input_var": ("input_mean", "input_var"), "hessian": ("hessian",)}
LIMITS = {"input_norm": 1.05, "input_mean, input_var": 1.15, "hessian": 2.2}


def main() -> None:
    """Each set of statistics in its own figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    config = LlamaConfig(
        hidden_size=576, intermediate_size=1536, num_attention_heads=9, num_key_value_heads=3, num_hidden_layers=1,
        head_dim=64, attn_implementation="sdpa",
    )  # fmt: skip
    block = LlamaDecoderLayer(config, 0).eval()
    hidden = torch.randn(options.rows, options.tokens, 576)
    place = LlamaRotaryEmbedding(config)(hidden, torch.arange(options.tokens)[None])

    def step(model: nn.Module, batch: tuple[Tensor, None]) -> Step:
        return Step(None, model(batch[0], position_embeddings=place), None, None)

    def forward() -> None:
        with torch.no_grad():
            block(hidden, position_embeddings=place)

    for name, need in NEEDS.items():

        def statistics(need: tuple[str, ...] = need) -> None:
            collect(block, [(hidden, None)], need, step=step, progress=False)

        ways = {"bare forward": forward, name: statistics}
        line(f"{name} / bare forward", ways, over="bare forward", limit=LIMITS[name], rounds=options.rounds,
             tokens=options.rows * options.tokens)  # fmt: skip


if __name__ == "__main__":
    main()
