import pytest
import torch
import torchvision
from timm.layers import Attention
from torch import nn

from prunus.core.errors import BadInput
from prunus.signals.cls_attention import cls_attention, projections, received_attention

transformers = pytest.importorskip("transformers")


def eager_timm(attention: Attention, x: torch.Tensor) -> torch.Tensor:
    batch, tokens, _ = x.shape
    qkv = attention.qkv(x).reshape(batch, tokens, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    q, k = attention.q_norm(qkv[0]), attention.k_norm(qkv[1])
    return (q * attention.scale @ k.transpose(-2, -1)).softmax(-1)


@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_timm_rows_equal_the_eager_map(qk_norm, bias):
    torch.manual_seed(0)
    attention = Attention(24, num_heads=3, qkv_bias=bias, qk_norm=qk_norm, norm_layer=nn.LayerNorm).eval()
    x = torch.randn(2, 70, 24)
    whole = eager_timm(attention, x)
    torch.testing.assert_close(cls_attention(attention, x), whole[:, :, 0, 1:], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(received_attention(attention, x), whole.mean(2), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(cls_attention(attention, x, prefix=3), whole[:, :, 0, 3:], atol=1e-6, rtol=1e-5)


def test_torch_multihead_attention():
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(16, 4, batch_first=True).eval()
    nn.init.normal_(attention.in_proj_bias)
    x = torch.randn(2, 9, 16)
    _, whole = attention(x, x, x, need_weights=True, average_attn_weights=False)
    torch.testing.assert_close(cls_attention(attention, x), whole[:, :, 0, 1:], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", ["CLIPVision", "ViT", "SiglipVision"])
def test_transformers_rows_equal_eager_attentions_on_a_fused_model(kind):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = getattr(transformers, f"{kind}Config")(**sizes, image_size=16, patch_size=4)
    model = getattr(transformers, f"{kind}Model")(config).eval()
    seen = {}
    modules = {n: m for n, m in model.named_modules() if hasattr(m, "q_proj") and "layers" in n}
    for name, module in modules.items():
        module.register_forward_pre_hook(
            lambda m, args, kwargs, name=name: seen.__setitem__(name, args[0] if args else kwargs["hidden_states"]),
            with_kwargs=True,
        )
    pixels = torch.randn(2, 3, 16, 16)
    assert not model(pixel_values=pixels, output_attentions=True).attentions  # the silence this module is for
    model.set_attn_implementation("eager")
    whole = model(pixel_values=pixels, output_attentions=True).attentions
    for (name, module), expected in zip(modules.items(), whole):
        torch.testing.assert_close(cls_attention(module, seen[name]), expected[:, :, 0, 1:], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(received_attention(module, seen[name]), expected.mean(2), atol=1e-6, rtol=1e-5)


def test_half_precision_gives_float32():
    attention = Attention(16, num_heads=2).to(torch.bfloat16)
    assert cls_attention(attention, torch.randn(1, 5, 16, dtype=torch.bfloat16)).dtype == torch.float32
    assert cls_attention(attention.double(), torch.randn(1, 5, 16).double()).dtype == torch.float64


def test_what_cannot_be_recomputed_is_refused():
    swin = torchvision.models.swin_transformer.ShiftedWindowAttention(8, [2, 2], [0, 0], 2)
    with pytest.raises(BadInput, match="can't read queries"):
        projections(swin)
    with pytest.raises(BadInput, match="can't read queries"):
        projections(nn.Linear(3, 3))
    with pytest.raises(BadInput, match="add_bias_kv"):
        projections(nn.MultiheadAttention(8, 2, add_bias_kv=True))
    with pytest.raises(BadInput, match="cross attention"):
        projections(nn.MultiheadAttention(8, 2, kdim=4))
    with pytest.raises(BadInput, match="patch at least"):
        cls_attention(Attention(8, num_heads=2), torch.randn(1, 1, 8))
