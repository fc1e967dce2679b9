"""Token plans on timm, torchvision and transformers encoders."""

import copy

import pytest
import torch
import torchvision
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from prunus.core.errors import BadInput, BudgetUnreachable, FingerprintMismatch, NonFinite, UnknownName
from prunus.core.plan import Plan
from prunus.measure.macs import macs
from prunus.prunables.downsample import downsampled
from prunus.prunables.stream import TokenStream, policy_of
from prunus.tokens.gate import gates
from prunus.train.models import TinyViT

transformers = pytest.importorskip("transformers")
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
IMAGE = {"image_size": 16, "patch_size": 4}


def timm_vit(**options) -> nn.Module:
    sizes = {"img_size": 16, "patch_size": 4, "num_classes": 5, "embed_dim": 32, "depth": 3, "num_heads": 4}
    return VisionTransformer(**{**sizes, **options})


def torchvision_vit() -> nn.Module:
    model = torchvision.models.VisionTransformer(16, 4, 3, 4, 32, 48, num_classes=5)
    nn.init.normal_(model.heads.head.weight)
    return model


MODELS = {
    "timm": timm_vit,
    "timm_registers": lambda: timm_vit(reg_tokens=3, init_values=0.5, qk_norm=True),
    "timm_average": lambda: timm_vit(global_pool="avg"),
    "torchvision": torchvision_vit,
    "vit": lambda: transformers.ViTForImageClassification(transformers.ViTConfig(**SIZES, **IMAGE)),
    "clip": lambda: transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**SIZES, **IMAGE)),
    "siglip": lambda: transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**SIZES, **IMAGE)),
}


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    for parameter_name, parameter in model.named_parameters():
        if ("q" in parameter_name and parameter.dim() == 2) or ("in_proj" in parameter_name and parameter.dim() == 2):
            nn.init.normal_(parameter, std=0.3)  # flat attention would make every score a near-tie
    return model


def images(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def logits(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    output = model(x)
    found = getattr(output, "logits", None)
    return found if found is not None else getattr(output, "pooler_output", output)


def rule_for(stream: TokenStream) -> str:
    return "fastervlm" if stream.encoder.has_cls else "received"


@pytest.mark.parametrize("name", MODELS)
def test_all_tokens_give_identical_logits(name):
    model = build(name)
    stream = TokenStream(model)
    same = stream.apply(stream.plan(rule_for(stream), "100% tokens", at=0))
    assert torch.equal(logits(same, images()), logits(model, images()))


@pytest.mark.parametrize("name", MODELS)
def test_apply_keeps_classes_keys_and_the_original(name, tmp_path):
    model = build(name)
    before, classes = logits(model, images()), [type(m) for m in model.modules()]
    stream = TokenStream(model)
    plan = stream.plan(rule_for(stream), "5 tokens", at=1)
    pruned = stream.apply(plan)
    assert torch.equal(logits(model, images()), before)
    assert list(pruned.state_dict()) == list(model.state_dict())
    assert [type(m) for m in pruned.modules() if type(m).__name__ != "TokenGate"] == classes
    out = logits(pruned, images())
    assert not torch.equal(out, before)
    assert torch.equal(logits(copy.deepcopy(pruned), images()), out)
    again = TokenStream(build(name)).apply(Plan.load(plan.save(tmp_path)))
    assert torch.equal(logits(again, images()), out)
    (gate,) = gates(pruned).values()
    assert gate.kept.shape == (2, 5)
    assert (gate.kept.diff(dim=1) > 0).all()


@pytest.mark.parametrize("name", ["timm", "timm_registers", "torchvision", "vit"])
def test_gathering_equals_hiding_the_dropped_tokens_from_later_attention(name):
    """The same logits as the full sequence in which later blocks can't see the dropped patches."""
    model = build(name)
    stream = TokenStream(model)
    pruned = stream.apply(stream.plan("fastervlm", "4 tokens", at=0))
    out = logits(pruned, images(1))
    (gate,) = gates(pruned).values()
    keep = torch.cat([torch.arange(stream.encoder.prefix), gate.kept[0] + stream.encoder.prefix])
    blocks = [model.get_submodule(block) for block in stream.encoder.blocks]
    handle = blocks[0].register_forward_hook(lambda m, args, output: output[:, keep])
    torch.testing.assert_close(out, logits(model, images(1)), atol=1e-5, rtol=1e-5)
    handle.remove()


def test_dropped_patches_do_not_matter_any_more():
    model = build("timm")
    stream = TokenStream(model)
    pruned = stream.apply(stream.plan("grid", "4 tokens", at=0))
    block = pruned.blocks[0]

    def disturb(module, args, output):
        output = output.clone()
        output[:, 2] += 100  # patch 1 is not on the 4-token grid
        return output

    out = logits(pruned, images())
    block.register_forward_hook(disturb, prepend=True)
    assert torch.equal(logits(pruned, images()), out)


def test_results_do_not_depend_on_the_batch():
    model = build("timm")
    stream = TokenStream(model)
    for rule in ("fastervlm", "random", "grid", "feature_norm", "vispruner"):
        pruned = stream.apply(stream.plan(rule, "6 tokens", at=1))
        whole = logits(pruned, images(4))
        torch.testing.assert_close(torch.cat([logits(pruned, x[None]) for x in images(4)]), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("rule", "count"), [("fastervlm", 5), ("random", 3), ("received", 8), ("vispruner", 5)])
def test_macs_fall_by_the_formula(rule, count):
    model = build("timm")
    for block in model.blocks:
        block.attn.fused_attn = False  # the counter of torch does not see the fused kernel
    stream = TokenStream(model)
    plan = stream.plan(rule, f"{count} tokens", at=1)
    pruned = stream.apply(plan)

    def counted(net: nn.Module) -> float:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net(images(1))
        return sum(counter.get_flop_counts()["VisionTransformer.blocks"].values()) / 2

    assert counted(model) == stream.cost()["block_macs"]
    assert counted(pruned) == plan.planned["block_macs"]
    d, m, before, after = 32, 128, 17, count + 1
    full = before * (4 * d * d + 2 * d * m) + 2 * before**2 * d
    short = after * (4 * d * d + 2 * d * m) + 2 * after**2 * d
    assert plan.planned["block_macs"] >= 2 * full + short


@pytest.mark.parametrize("rule", ["fastervlm", "vispruner", "grid"])
def test_macs_of_the_graph_agree_with_the_formula(rule):
    model, rows = build("timm"), (images(1), torch.zeros(1).long())
    stream = TokenStream(model)
    plan = stream.plan(rule, "4 tokens", at=0)
    saved = macs(model, rows)["macs"][0] - macs(stream.apply(plan), rows)["macs"][0]
    assert saved == plan.dense["block_macs"] - plan.planned["block_macs"]


@pytest.mark.parametrize("name", ["timm", "timm_registers", "torchvision", "vit", "clip", "siglip", "small"])
def test_down_sampling_is_the_control_with_as_many_tokens(name):
    model = TinyViT(16, 4, 1, dim=16, depth=2).eval() if name == "small" else build(name)
    x = torch.randn(2, 1, 16, 16) if name == "small" else images()
    small, tokens = downsampled(model, 5)
    seen = []
    block = small.get_submodule(TokenStream(model).encoder.blocks[0])
    block.register_forward_hook(lambda m, args, output: seen.append(output.shape[1]))
    assert logits(small, x).shape == logits(model, x).shape
    assert (tokens, seen) == (4, [4 + TokenStream(model).encoder.prefix])
    with pytest.raises(BadInput, match="down-sampled"):
        downsampled(model, 17 * 17)


def test_down_sampling_to_all_tokens_changes_nothing():
    model = build("torchvision")
    same, tokens = downsampled(model, 16)
    assert tokens == 16
    torch.testing.assert_close(logits(same, images()), logits(model, images()), atol=1e-5, rtol=1e-5)


def test_several_places_count_from_the_original():
    model = build("timm")
    stream = TokenStream(model)
    first = stream.apply(stream.plan("fastervlm", "9 tokens", at=0))
    second = TokenStream(first)
    both = second.apply(second.plan("fastervlm", "4 tokens", at=1))
    logits(both, images())
    assert [gate.kept.shape[1] for gate in gates(both).values()] == [9, 4]
    with pytest.raises(BadInput, match="already"):
        second.apply(second.plan("fastervlm", "4 tokens", at=0))


def test_policy_and_ranks_are_in_the_plan():
    stream = TokenStream(build("timm"))
    plan = stream.plan("feature_norm", "25% tokens", at="blocks.1", seed=3, lowest=True)
    assert plan.keep("blocks.1:tokens").tolist() == [0, 1, 2, 3]
    policy = policy_of(plan)
    assert (policy.rule, policy.count, policy.seed, policy.options) == ("tokens/feature_norm", 4, 3, {"lowest": True})
    assert plan.planned["tokens"] == 4
    assert plan.dense["tokens"] == 16
    assert stream.plan("feature_norm", "25% tokens", at=1, seed=3, lowest=True).hash() == plan.hash()
    assert stream.plan("feature_norm", "25% tokens", at=1, seed=4, lowest=True).hash() != plan.hash()


def test_the_control_of_a_plan_draws_as_many_tokens_at_the_same_place():
    from prunus.flow.controls import random_like

    stream = TokenStream(build("timm"))
    plan = stream.plan("vispruner", "4 tokens", at=1)
    one, other = (random_like(plan, seed) for seed in (0, 1))
    assert (policy_of(one).rule, policy_of(one).count, policy_of(one).select) == ("tokens/random", 4, "top")
    assert list(one.groups) == list(plan.groups)
    kept = []
    for control in (one, other):
        pruned = stream.apply(control)
        logits(pruned, images())
        kept.append(next(iter(gates(pruned).values())).kept)
    assert not torch.equal(*kept)


def test_errors_say_what_to_do():
    stream = TokenStream(build("siglip"))
    with pytest.raises(BadInput, match="tokens/received"):
        stream.plan("fastervlm", "4 tokens", at=0)
    stream = TokenStream(build("timm"))
    with pytest.raises(BadInput, match="behind which"):
        stream.plan("fastervlm", "4 tokens")
    with pytest.raises(BudgetUnreachable):
        stream.plan("fastervlm", "17 tokens", at=0)
    with pytest.raises(BadInput, match="budget in tokens"):
        stream.plan("fastervlm", "50% macs", at=0)
    with pytest.raises(UnknownName, match="fastervlm"):
        stream.plan("fastvlm", "4 tokens", at=0)
    with pytest.raises(UnknownName, match="lowest"):
        stream.plan("feature_norm", "4 tokens", at=0, lowes=True)
    with pytest.raises(UnknownName):
        stream.plan("fastervlm", "4 tokens", at=0, positions="other")
    with pytest.raises(UnknownName):
        stream.plan("fastervlm", "4 tokens", at="blocks.7")
    plan = stream.plan("fastervlm", "4 tokens", at=0)
    with pytest.raises(FingerprintMismatch):
        TokenStream(timm_vit(depth=4)).apply(plan)


def test_models_whose_tokens_cannot_leave_are_refused():
    with pytest.raises(BadInput, match="chains of attention blocks"):
        TokenStream(torchvision.models.SwinTransformer([4, 4], 8, [1, 1], [2, 2], [4, 4]))
    with pytest.raises(BadInput, match="no chain"):
        TokenStream(nn.Sequential(nn.Linear(3, 3)))


def test_nan_from_the_encoder_is_an_error():
    model = build("timm")
    stream = TokenStream(model)
    pruned = stream.apply(stream.plan("feature_norm", "4 tokens", at=0))
    with pytest.raises(NonFinite, match="NaN"):
        pruned(torch.full((1, 3, 16, 16), float("nan")))


def test_gradients_flow_through_the_gate():
    model = build("timm")
    stream = TokenStream(model)
    pruned = stream.apply(stream.plan("fastervlm", "4 tokens", at=0))
    pruned(images()).sum().backward()
    assert pruned.patch_embed.proj.weight.grad.abs().sum() > 0


def test_the_gate_survives_export():
    model = build("timm")
    stream = TokenStream(model)
    pruned = stream.apply(stream.plan("fastervlm", "4 tokens", at=0))
    with torch.no_grad():
        exported = torch.export.export(pruned, (images(),)).module()
        torch.testing.assert_close(exported(images()), logits(pruned, images()))


def test_any_selector_over_rows_with_an_embedding_runs_on_tokens():
    """Selectors are unit-blind: what picks rows picks tokens."""
    from prunus.core.registry import methods

    stream = TokenStream(build("timm"))
    names = [m.id for m in methods(kind="selector") if m.name in ("kcenter", "k_center", "herding", "facility")]
    for name in names:
        pruned = stream.apply(stream.plan("fastervlm", "5 tokens", at=0, select=name))
        assert logits(pruned, images()).isfinite().all()
        assert next(iter(gates(pruned).values())).kept.shape == (2, 5)
