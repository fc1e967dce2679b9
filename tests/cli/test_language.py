"""Language models from the shell: text files become windows of tokens; a two-layer llama stands for all."""

from __future__ import annotations

import pytest

from cli.shell import done, refused

TEXT = "t.txt?window=16&tokenizer=bytes&limit=12"


@pytest.fixture
def llama(here, tmp_path_factory):
    transformers = pytest.importorskip("transformers")
    import torch

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=256, hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2,
        max_position_embeddings=64, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(here / "llama")
    (here / "t.txt").write_text("the quick brown fox jumps over the lazy dog. " * 20)
    return "llama"


def test_layers_go_and_perplexity_is_measured(llama):
    done("plan", llama, "block_influence", "drop 1 layers", "--data", TEXT, "--out", "p")
    done("apply", "p", llama, "--out", "shallow")
    found = done("measure", "shallow", TEXT, "--metrics", "perplexity,params", "--dense", llama, "--json").json
    metrics = {(row["what"], row["metric"]) for row in found["results"]}
    assert ("shallow", "perplexity") in metrics and ("shallow", "kl_to_dense") in metrics
    assert "window=16" in found["results"][0]["note"]


def test_weights_of_blocks_only(llama):
    found = done("plan", llama, "wanda", "50% weights", "--data", TEXT, "--out", "p", "--json").json
    assert all(".layers." in group["group"] for group in found["groups"])


def test_text_without_a_tokenizer_is_refused(llama):
    assert "tokenizer" in refused(2, "check", "t.txt?window=16")
