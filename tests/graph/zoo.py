"""Small models of many families, in float64 with nothing left at zero."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import timm
import torch
import torch.nn.functional as F
import torchvision
import transformers as hf
from torch import Tensor, nn

IDS = {"input_ids": torch.arange(7)[None]}
TEXT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 50}


class Block(nn.Module):
    """CIFAR residual block; option A pads the shortcut with zero channels, option B projects it."""

    def __init__(self, ins: int, outs: int, stride: int, option: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(ins, outs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outs)
        self.conv2 = nn.Conv2d(outs, outs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outs)
        self.pad = (outs - ins) // 2
        self.shortcut = nn.Conv2d(ins, outs, 1, stride) if ins != outs and option == "B" else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.shortcut is not None:
            x = self.shortcut(x)
        elif self.pad:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(x + y)


class CifarResNet(nn.Module):
    """ResNet of three stages."""

    def __init__(self, option: str = "A", blocks: int = 2) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        widths = [8, 8, 16, 32]
        for stage in (1, 2, 3):
            ins, outs = widths[stage - 1], widths[stage]
            first = Block(ins, outs, 1 if stage == 1 else 2, option)
            rest = [Block(outs, outs, 1, option) for _ in range(blocks - 1)]
            setattr(self, f"layer{stage}", nn.Sequential(first, *rest))
        self.linear = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(F.avg_pool2d(x, x.size(3)).flatten(1))


def image(size: int = 32) -> Tensor:
    """A fixed random image, float64 `[1, 3, size, size]`."""
    return torch.randn(1, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def _tv(name: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: getattr(torchvision.models, name)(weights=None, **options)


def _hf(name: str, **options: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        family = name.removesuffix("ForCausalLM").removesuffix("LMHeadModel").removesuffix("ForSequenceClassification")
        config = getattr(hf, f"{family}Config")(**options)
        return getattr(hf, name)(config)

    return make


ZOO: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "cifar_a": (lambda: CifarResNet("A"), image()),
    "cifar_b": (lambda: CifarResNet("B"), image()),
    "resnet18": (_tv("resnet18"), image()),
    "vgg11": (
        lambda: nn.Sequential(
            torchvision.models.vgg11_bn(weights=None).features[:15], nn.Flatten(), nn.Linear(4096, 5)
        ),
        image(),
    ),
    "densenet": (lambda: torchvision.models.DenseNet(8, (2, 3, 2), 16), image(64)),
    "mobilenet_v3": (_tv("mobilenet_v3_small"), image()),
    "shufflenet": (_tv("shufflenet_v2_x0_5"), image()),
    "googlenet": (_tv("googlenet", init_weights=False), image(64)),
    "squeezenet": (_tv("squeezenet1_1"), image(64)),
    "efficientnet": (_tv("efficientnet_b0"), image()),
    "resnext": (
        lambda: torchvision.models.ResNet(
            torchvision.models.resnet.Bottleneck, [1, 1, 1, 1], groups=4, width_per_group=8
        ),
        image(),
    ),
    "vit": (lambda: torchvision.models.VisionTransformer(32, 8, 2, 4, 32, 48), image()),
    "timm_vit": (lambda: timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2), image()),
    "timm_swin": (
        lambda: timm.create_model(
            "swin_tiny_patch4_window7_224", img_size=56, depths=(1, 2), embed_dim=24, num_heads=(2, 4)
        ),
        image(56),
    ),
    "swin": (lambda: torchvision.models.SwinTransformer([4, 4], 16, [2, 2], [2, 4], [4, 4]), image()),
    "mixer": (lambda: timm.models.mlp_mixer.MlpMixer(5, 32, patch_size=8, num_blocks=2, embed_dim=24), image()),
    "convnext": (lambda: timm.create_model("convnext_atto", depths=(1, 1, 1, 1)), image()),
    "llama": (_hf("LlamaForCausalLM", **TEXT, num_key_value_heads=2), IDS),
    "llama_tied": (_hf("LlamaForCausalLM", **TEXT, num_key_value_heads=2, tie_word_embeddings=True), IDS),
    "qwen2": (_hf("Qwen2ForCausalLM", **TEXT, num_key_value_heads=2), IDS),
    "qwen3": (_hf("Qwen3ForCausalLM", **TEXT, num_key_value_heads=2, head_dim=16), IDS),
    "gemma": (_hf("GemmaForCausalLM", **TEXT, num_key_value_heads=1, head_dim=8), IDS),
    "phi3": (_hf("Phi3ForCausalLM", **TEXT, num_key_value_heads=2, pad_token_id=0), IDS),
    "gpt2": (
        _hf("GPT2LMHeadModel", n_embd=32, n_layer=2, n_head=4, vocab_size=50, bos_token_id=0, eos_token_id=0),
        IDS,
    ),
    "bert": (_hf("BertForSequenceClassification", **TEXT), IDS),
    "opt": (
        _hf(
            "OPTForCausalLM",
            hidden_size=32,
            ffn_dim=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            vocab_size=50,
            word_embed_proj_dim=32,
        ),
        IDS,
    ),
}


SINGLE = ("mobilenet_v3", "shufflenet", "efficientnet", "convnext")


def make(name: str) -> tuple[nn.Module, Any]:
    """A model of the zoo in evaluation mode with its example input."""
    build, example = ZOO[name]
    torch.manual_seed(0)
    model = build().double().eval()
    if name in SINGLE:  # depthwise convolutions in float64 take seconds
        model, example = model.float(), example.float()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() < 2 or float(parameter.abs().max()) < 1e-3:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter)
        for buffer in model.buffers():
            if buffer.is_floating_point() and buffer.dim() == 1:
                buffer += 0.2 * torch.rand(buffer.shape, generator=generator, dtype=torch.float64).to(buffer)
    return model, example
