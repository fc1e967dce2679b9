"""Residual branches: found in vision and language models, left out exactly, and with their norms."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from prunus.core.budget import Budget
from prunus.core.errors import BadInput
from prunus.core.plan import Plan
from prunus.core.registry import find
from prunus.flow.controls import random_like
from prunus.flow.search import Probe, plan_search
from prunus.prunables.model import ModelPrunable
from prunus.train.models import CifarResNet, TinyViT, seeded


def llama() -> ModelPrunable:
    shape = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3}
    config = LlamaConfig(**shape, num_attention_heads=4, num_key_value_heads=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ModelPrunable(LlamaForCausalLM(config).eval(), {"input_ids": torch.arange(6)[None]})


def vit() -> ModelPrunable:
    return ModelPrunable(seeded(TinyViT, 0, depth=3, dim=16, heads=2).eval(), torch.zeros(1, 3, 16, 16))


def test_rows_of_branches():
    found = {row.path: (row.attends, sum(row.removable)) for row in (*llama().branches, *vit().branches)}
    assert found == {
        "model.layers:self_attn": (True, 3), "model.layers:mlp": (False, 3), "blocks:attn": (True, 3), "blocks:mlp": (False, 3),
    }  # fmt: skip
    assert ModelPrunable(CifarResNet(8).eval(), torch.zeros(1, 3, 8, 8)).branches == ()


def rows(prunable):
    if isinstance(prunable.example, dict):
        return [{"input_ids": torch.arange(12).reshape(2, 6)}]
    return [(torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.arange(4))]


@pytest.mark.parametrize("make", [llama, vit])
def test_what_is_left_out_is_as_if_it_gave_zero(make):
    prunable = make()
    plan = plan_search(prunable, find("layers/blockpruner"), Budget.parse("drop 3 layers"), data=rows(prunable))
    small = prunable.apply(plan)
    zeroed = copy.deepcopy(prunable.model)
    for edit in plan.edits:
        zeroed.get_submodule(edit.module).register_forward_hook(nothing)
    example = prunable.example if isinstance(prunable.example, dict) else {"x": prunable.example + 0.3}
    one, other = (model(**example) for model in (small, zeroed))
    torch.testing.assert_close(getattr(one, "logits", one), getattr(other, "logits", other))
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in prunable.model.parameters())
    assert plan.provenance["evaluations"] == 5 + 4 + 3
    assert not any(edit.module.endswith(("layers.0.self_attn", "blocks.0.attn")) for edit in plan.edits)


def nothing(module, args, output):
    return (torch.zeros_like(output[0]), *output[1:]) if isinstance(output, tuple) else torch.zeros_like(output)


def test_losses_are_those_of_the_plan_and_smaller_budgets_are_prefixes():
    prunable = vit()
    data = rows(prunable)
    long, short = (
        plan_search(prunable, find("layers/blockpruner"), Budget.parse(f"drop {n} layers"), data=data) for n in (3, 1)
    )
    assert long.provenance["order"][:1] == short.provenance["order"]
    assert Probe(prunable, data)(long) == pytest.approx(long.provenance["loss"][-1], rel=1e-6)
    assert [len(long.keep(row.path)) for row in prunable.branches] != [3, 3]


def test_kinds_controls_and_files(tmp_path):
    prunable = vit()
    given = {"data": rows(prunable)}
    for kind, row in (("attention", "blocks:attn"), ("mlp", "blocks:mlp"), ("layer", "blocks")):
        plan = plan_search(
            prunable, find("layers/blockpruner"), Budget.parse("drop 1 layers"), options={"block_type": kind}, **given
        )
        assert list(plan.groups) == [row]
    mixed = plan_search(prunable, find("layers/blockpruner"), Budget.parse("drop 2 layers"), **given)
    control = random_like(mixed, 0, prunable=prunable)
    assert {n: kept.count for n, kept in control.groups.items()} == {n: kept.count for n, kept in mixed.groups.items()}
    assert len(control.edits) == 2
    mixed.save(tmp_path)
    again = Plan.load(tmp_path).apply(prunable.model)
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(again(x), prunable.apply(mixed)(x), rtol=0, atol=0)
    with pytest.raises(BadInput, match="no attention"):
        plan_search(
            ModelPrunable(CifarResNet(8), torch.zeros(1, 3, 8, 8)), find("layers/blockpruner"),
            Budget.parse("drop 1 layers"), options={"block_type": "attention"}, **given,
        )  # fmt: skip


@pytest.mark.parametrize("make", [llama, vit])
@pytest.mark.parametrize("once", [True, False])
def test_blocks_before_a_change_are_not_run_again(make, once, monkeypatch):
    """The losses are those of probes that remember nothing, and fewer blocks run."""
    prunable, ran = make(), []
    prunable.record_branch_outputs()  # a pass of its own, once
    kind = type(prunable.model.get_submodule(prunable.chains[0].children[0]))
    forward = kind.forward
    monkeypatch.setattr(kind, "forward", lambda self, *args, **kwargs: ran.append(1) or forward(self, *args, **kwargs))

    def searched():
        ran.clear()
        plan = plan_search(
            prunable,
            find("layers/blockpruner"),
            Budget.parse("drop 2 layers"),
            data=rows(prunable),
            options={"once": once},
        )
        return plan.provenance["order"], plan.provenance["loss"], len(ran)

    order, loss, count = searched()
    monkeypatch.setattr(Probe, "remember", lambda self, plan: None)
    plain_order, plain_loss, plain_count = searched()
    assert order == plain_order and count < plain_count
    assert loss == pytest.approx(plain_loss, rel=1e-6)
