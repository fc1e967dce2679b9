"""Token plans on the real transformers LLaVA class, with random weights."""

import copy

import pytest
import torch

from prunus.core.errors import BadInput
from prunus.prunables.llava import prune_prompt
from prunus.prunables.stream import TokenStream
from prunus.tokens.gate import gates

transformers = pytest.importorskip("transformers")
IMAGE = 63


@pytest.fixture(scope="module")
def llava():
    torch.manual_seed(0)
    vision = transformers.CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4, image_size=32, patch_size=8
    )
    text = transformers.LlamaConfig(
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=64,
        initializer_range=0.2,
    )
    config = transformers.LlavaConfig(vision_config=vision, text_config=text, image_token_id=IMAGE)
    return transformers.LlavaForConditionalGeneration(config).eval()


def prompts(tokens: int = 16, *, pad: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(1, 60, (2, tokens + 6), generator=generator)
    ids[:, 3 : 3 + tokens] = IMAGE
    mask = torch.ones_like(ids)
    if pad:
        mask[0, :pad], ids[0, :pad] = 0, 0
    return {"input_ids": ids, "attention_mask": mask, "pixel_values": torch.randn(2, 3, 32, 32, generator=generator)}


def pruned(model, budget="5 tokens", **options):
    stream = TokenStream(model)
    return stream.apply(stream.plan("fastervlm", budget, **options))


@torch.no_grad()
def run(model, **batch):
    return model(**batch).logits


def test_the_place_is_where_the_features_are_read(llava):
    encoder = TokenStream(llava).encoder
    assert encoder.blocks[encoder.feature_block].endswith("vision_tower.encoder.layers.1")


def test_all_tokens_give_identical_logits(llava):
    assert torch.equal(run(pruned(llava, "100% tokens"), **prompts()), run(llava, **prompts()))


@torch.no_grad()
def test_equal_to_building_the_embeddings_by_hand(llava):
    small, batch = pruned(llava), prompts()
    out = run(small, **batch)
    kept = next(iter(gates(small).values())).kept
    features = torch.stack(llava.model.get_image_features(batch["pixel_values"]).pooler_output)
    rows = []
    for ids, feature, index in zip(batch["input_ids"], features, kept):
        text = llava.get_input_embeddings()(ids)
        rows.append(torch.cat([text[:3], feature[index], text[19:]]))
    by_hand = llava(inputs_embeds=torch.stack(rows)).logits
    torch.testing.assert_close(out, by_hand, atol=1e-5, rtol=1e-5)


def test_only_kept_tokens_are_projected_and_hooks_order_does_not_matter(llava):
    ran = copy.deepcopy(llava)
    run(ran, **prompts())  # transformers has installed its recording hooks by now
    seen = []
    for model in (llava, ran):
        small = pruned(model)
        small.model.multi_modal_projector.register_forward_pre_hook(lambda m, args: seen.append(args[0].shape[1]))
        run(small, **prompts())
    assert seen == [5, 5]


def test_prompts_written_for_fewer_tokens_run_as_they_are(llava):
    small, batch = pruned(llava), prompts()
    short = {**prompts(5), "pixel_values": batch["pixel_values"]}
    short["input_ids"][:, :3], short["input_ids"][:, 8:] = batch["input_ids"][:, :3], batch["input_ids"][:, 19:]
    assert torch.equal(run(small, **short), run(small, **batch))


def test_labels_shrink_too(llava):
    batch = prompts()
    batch["labels"] = batch["input_ids"].clone()
    output = pruned(llava)(**batch)
    assert output.loss.isfinite()
    assert output.logits.shape[1] == 11


@pytest.mark.parametrize("positions", ["restart", "gaps"])
def test_cached_generation_equals_uncached(llava, positions):
    small = pruned(llava, positions=positions)
    settings = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    with torch.no_grad():
        assert ("position_ids" in prune_prompt(small, prompts())) == (positions == "gaps")
        cached = small.generate(**prune_prompt(small, prompts(pad=2)), **settings)
        uncached = small.generate(**prune_prompt(small, prompts(pad=2)), **settings, use_cache=False)
    assert torch.equal(cached, uncached)


def test_gaps_change_the_logits(llava):
    restart, gaps = (run(pruned(llava, positions=p), **prompts()) for p in ("restart", "gaps"))
    assert not torch.allclose(restart, gaps, atol=1e-3)


def test_generate_with_an_unpruned_prompt_says_what_to_call(llava):
    with pytest.raises((BadInput, ValueError), match=r"prune_prompt|do not match"):
        pruned(llava).generate(**prompts(), max_new_tokens=2)


def test_text_alone_passes(llava):
    batch = {"input_ids": torch.tensor([[1, 2, 3]])}
    assert torch.equal(run(pruned(llava), **batch), run(llava, **batch))
    assert prune_prompt(pruned(llava), batch) == batch


def test_another_feature_layer_after_the_plan_is_refused(llava):
    with pytest.raises(BadInput, match="vision_feature_layer"):
        run(pruned(llava), **prompts(), vision_feature_layer=-3)


def test_the_full_strategy_keeps_the_cls_token(llava):
    model = copy.deepcopy(llava)
    model.config.vision_feature_select_strategy = "full"
    small = pruned(model)
    assert run(small, **prompts(17)).shape[1] == 12
    assert torch.equal(run(pruned(model, "100% tokens"), **prompts(17)), run(model, **prompts(17)))


def test_models_that_pack_whole_grids_are_refused(llava):
    vision, text = llava.config.vision_config, llava.config.text_config
    config = transformers.LlavaNextConfig(
        vision_config=vision, text_config=text, image_token_id=IMAGE, image_grid_pinpoints=[[32, 64], [64, 32]]
    )
    stream = TokenStream(transformers.LlavaNextForConditionalGeneration(config))
    with pytest.raises(BadInput, match="anyres"):
        stream.apply(stream.plan("fastervlm", "5 tokens"))
