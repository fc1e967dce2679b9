"""FasterVLM and VisPruner against arrays made by the authors' own code. Everything is read from the case."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from prunus.core.registry import find
from prunus.core.score import GroupScore
from prunus.prunables.stream import TokenStream
from prunus.signals.cls_attention import cls_attention
from prunus.tokens.anyres import kept_tokens
from prunus.tokens.gate import TokenSignals, gates
from prunus.tokens.select import gather, keep_mask, keep_top
from prunus.tokens.splice import resize_images, splice
from prunus.tokens.vispruner import keep_diverse

transformers = pytest.importorskip("transformers", reason="the golden case holds a transformers CLIP state dict")
TOLERANCE = 2e-5


def clip_of(case) -> nn.Module:
    """The vision model whose state dict the case holds; its configuration is told by the shapes."""
    state = {key[len("clip.") :]: torch.from_numpy(np.array(case[key])) for key in case if key.startswith("clip.")}
    layers = 1 + max(int(key.split(".")[2]) for key in state if key.startswith("encoder.layers."))
    patch = state["embeddings.patch_embedding.weight"]
    config = transformers.CLIPVisionConfig(
        hidden_size=patch.shape[0],
        intermediate_size=state["encoder.layers.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=layers,
        num_attention_heads=case["cls_attn_heads"].shape[1],
        image_size=case["pixel_values"].shape[-1],
        patch_size=patch.shape[-1],
        num_channels=patch.shape[1],
        hidden_act="quick_gelu",
    )
    model = transformers.CLIPVisionModel(config).eval()
    found = model.load_state_dict(state, strict=False)
    assert not found.unexpected_keys, found.unexpected_keys
    assert not [key for key in found.missing_keys if "position_ids" not in key], found.missing_keys
    return model


def projector_of(case) -> nn.Module:
    weights = [torch.from_numpy(np.array(case[f"proj.{i}.weight"])) for i in (0, 2)]
    projector = nn.Sequential(nn.Linear(*weights[0].shape[::-1]), nn.GELU(), nn.Linear(*weights[1].shape[::-1]))
    projector.load_state_dict({k[5:]: torch.from_numpy(np.array(case[k])) for k in case if k.startswith("proj.")})
    return projector.eval()


@torch.no_grad()
def encode(case, pixels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Patch features `[B, N, d]` and CLS attention `[B, heads, N]` at the case's layer, on the fused kernel."""
    model, layer = clip_of(case), int(case.value("select_layer"))
    block = model.encoder.layers[layer]
    seen: list[torch.Tensor] = []
    handle = block.self_attn.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
    )
    # hidden_states[-2] is the output of block L - 2, whose own attention is attentions[-2]
    hidden = model(pixel_values=torch.from_numpy(pixels), output_hidden_states=True).hidden_states
    handle.remove()
    assert len(hidden) == len(model.encoder.layers) + 1
    return hidden[layer][:, 1:], cls_attention(model.encoder.layers[layer].self_attn, seen[0])


def scores(attention: torch.Tensor) -> torch.Tensor:
    return find("tokens/fastervlm").load()(TokenSignals(attention, cls_attention=attention))


@pytest.mark.golden("fastervlm--clip-llava")
def test_scores_masks_and_projection(case) -> None:
    features, attention = encode(case, case["pixel_values"])
    np.testing.assert_allclose(features, case["patch_features"], atol=TOLERANCE, rtol=TOLERANCE)
    np.testing.assert_allclose(attention, case["cls_attn_heads"], atol=TOLERANCE, rtol=TOLERANCE)
    score = scores(attention)
    np.testing.assert_allclose(score, case["cls_attn"], atol=TOLERANCE, rtol=TOLERANCE)
    kept = keep_top(score, int(case.value("visual_token_num")))
    np.testing.assert_array_equal(keep_mask(kept, score.shape[1]), case["keep_mask"])
    assert kept.shape[1] == case.value("visual_tokens_used")
    with torch.no_grad():
        projected = projector_of(case)(gather(features, kept))
    expected = case["projected"][case["keep_mask"]].reshape(projected.shape)
    np.testing.assert_allclose(projected, expected, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.golden("fastervlm--clip-llava")
def test_the_gate_keeps_the_same_tokens(case) -> None:
    model = clip_of(case)
    stream = TokenStream(model)
    place = len(stream.encoder.blocks) + int(case.value("select_layer"))
    pruned = stream.apply(stream.plan("fastervlm", f"{int(case.value('visual_token_num'))} tokens", at=place))
    with torch.no_grad():
        hidden = pruned(pixel_values=torch.from_numpy(case["pixel_values"]), output_hidden_states=True).hidden_states
    (gate,) = gates(pruned).values()
    np.testing.assert_array_equal(keep_mask(gate.kept, gate.incoming), case["keep_mask"])
    features = case["patch_features"][case["keep_mask"]].reshape(len(gate.kept), -1, case["patch_features"].shape[2])
    np.testing.assert_allclose(hidden[place + 1][:, 1:], features, atol=TOLERANCE, rtol=TOLERANCE)


def placeholder_of(ids: np.ndarray) -> int:
    return int(ids.min())


@pytest.mark.golden("fastervlm--clip-llava")
def test_spliced_prompt(case) -> None:
    kept = keep_top(torch.from_numpy(case["cls_attn"]), int(case.value("visual_token_num")))
    features = gather(torch.from_numpy(case["projected"]), kept).flatten(0, 1)
    ids, mask = torch.from_numpy(case["input_ids"]), torch.from_numpy(case["attention_mask"])
    image = placeholder_of(case["input_ids"])
    prompt = resize_images(ids, image, kept, run=1, attention_mask=mask)
    np.testing.assert_array_equal(prompt.attention_mask, case["spliced_mask"])
    np.testing.assert_array_equal(prompt.position_ids, case["spliced_position_ids"])
    table = torch.from_numpy(case["embed_tokens"])
    embeds = splice(prompt, image, features, lambda tokens: table[tokens])
    np.testing.assert_allclose(embeds, case["spliced_embeds"], atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.golden("fastervlm--clip-llava")
def test_any_resolution(case) -> None:
    features, attention = encode(case, case["anyres_tiles"])
    kept = keep_top(scores(attention), int(case.value("visual_token_num")))
    mask = keep_mask(kept, features.shape[1])
    np.testing.assert_array_equal(mask, case["anyres_tile_masks"])
    width, height = (int(v) for v in case["anyres_grid_wh"])
    with torch.no_grad():
        visual = kept_tokens(projector_of(case)(features), mask, (width, height))
    assert len(visual) == case.value("anyres_visual_tokens")
    ids = torch.from_numpy(case["anyres_input_ids"])
    image = placeholder_of(case["anyres_input_ids"])
    prompt = resize_images(ids, image, torch.arange(len(visual))[None], run=1)
    table = torch.from_numpy(case["embed_tokens"])
    embeds = splice(prompt, image, visual, lambda tokens: table[tokens])
    np.testing.assert_allclose(embeds, case["anyres_embeds"], atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.golden("fastervlm--vispruner-mask")
def test_vispruner(case) -> None:
    features = torch.from_numpy(case["features"])
    score = scores(torch.from_numpy(case["cls_attn_heads"]))
    method = find("tokens/vispruner").load()
    for number, (count, ratio) in enumerate(case["cases"].tolist()):
        kept = keep_diverse(score, features, int(count), ratio)
        np.testing.assert_array_equal(keep_mask(kept, score.shape[1]), case[f"mask_{number}"])
        for row in range(len(score)):
            one = GroupScore(score[row].numpy(), np.arange(score.shape[1]), "keep", TokenSignals(features[row]))
            np.testing.assert_array_equal(method(one, int(count), important_ratio=ratio), kept[row])
