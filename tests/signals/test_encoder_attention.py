"""Attention rows of the usual encoders, against their own eager attention."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from prunus.core.errors import BadInput
from prunus.signals.collect import collect
from prunus.train.step import Step


def encoder_step(model: nn.Module, batch) -> Step:
    """An encoder without a classifier: only its attention is asked for."""
    model(batch[0])
    return Step(None, None, None, None)


def test_fused_projection_as_in_timm():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, num_classes=5).eval()
    x, y = torch.randn(3, 3, 32, 32), torch.tensor([0, 1, 2])
    found = collect(model, (x, y), ("cls_attention", "received_attention"), attention_layer=-2).rows
    block = copy.deepcopy(model).blocks[0]
    seen = []
    block.attn.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        block(model.norm_pre(model._pos_embed(model.patch_embed(x))))
        q, k, _ = block.attn.qkv(seen[0]).reshape(3, 17, 3, 3, 64).permute(2, 0, 3, 1, 4)
        eager = (q * 64**-0.5 @ k.transpose(-1, -2)).softmax(-1)
    torch.testing.assert_close(found.cls_attention, eager[:, :, 0, 1:], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.received_attention, eager.mean(2)[:, :, 1:], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["CLIPVisionModel", "ViTModel", "DeiTModel"])
def test_separate_projections_as_in_transformers(name):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": 24,
        "patch_size": 8,
    }
    config = getattr(transformers, name.replace("Model", "Config"))(**sizes)
    model = getattr(transformers, name)(config).eval()
    x = torch.randn(2, 3, 24, 24)
    leading = 2 if name == "DeiTModel" else 1
    found = collect(model, [(x, None)], "cls_attention", step=encoder_step, attention_layer=1, prefix=leading).rows
    model.set_attn_implementation("eager")
    with torch.no_grad():
        eager = model(x, output_attentions=True).attentions[1]
    torch.testing.assert_close(found.cls_attention, eager[:, :, 0, leading:], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("batch_first", [True, False])
def test_torch_multihead_attention(batch_first):
    torch.manual_seed(0)

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 4, batch_first=batch_first)

        def forward(self, x):
            x = x if batch_first else x.transpose(0, 1)
            return self.attention(x, x, x, need_weights=True, average_attn_weights=False)[1]

    model, x = Encoder().eval(), torch.randn(3, 7, 16)
    with torch.no_grad():
        eager = model(x)
    found = collect(model, [(x, None)], ("cls_attention", "received_attention"), step=encoder_step, prefix=1).rows
    torch.testing.assert_close(found.cls_attention, eager[:, :, 0, 1:], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.received_attention, eager.mean(2)[:, :, 1:], rtol=1e-4, atol=1e-6)


def test_no_readable_attention_is_said(net, images):
    with pytest.raises(BadInput, match="0 attention modules"):
        collect(net, images, "cls_attention")


def test_embedding_of_encoders_with_and_without_a_head():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    x, y = torch.randn(3, 3, 32, 32), torch.tensor([0, 1, 0])
    for name, options in (("vit_tiny_patch16_224", {"img_size": 32, "patch_size": 8, "depth": 1}), ("resnet10t", {})):
        model = timm.create_model(name, num_classes=0, **options).eval()
        with torch.no_grad():
            features = model(x)
        torch.testing.assert_close(collect(model, [(x, None)], "embedding").rows.embedding, features)
        headed = timm.create_model(name, num_classes=4, **options).eval()
        found = collect(headed, (x, y), "embedding").rows.embedding
        with torch.no_grad():
            torch.testing.assert_close(found, headed.forward_head(headed.forward_features(x), pre_logits=True))
