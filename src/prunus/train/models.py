"""Small reference networks for tests, recipes and benchmarks. No method imports them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunus.core.rng import torch_fork


class _Block(nn.Module):
    """Two 3x3 convolutions with an option-A shortcut: stride-2 subsampling, zeros on both sides of the channel axis."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.padding = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        """`[B, inputs, h, w]` -> `[B, outputs, h / stride, w / stride]`."""
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if self.padding:
            left = self.padding // 2
            x = F.pad(x, (0, 0, 0, 0, left, self.padding - left))
        return F.relu(out + x)


class CifarResNet(nn.Module):
    """The CIFAR ResNet of He et al. 2016: 6n + 2 layers in three stages of width w, 2w, 4w.

    Args:
        depth: 6n + 2, such as 8, 20, 56.
        width: filters of the first stage.
        classes: outputs.
    """

    def __init__(self, depth: int = 20, width: int = 16, classes: int = 10) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"depth must be 6n + 2 (8, 14, 20, ...), not {depth}")
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, blocks, 1)
        self.layer2 = _stage(width, 2 * width, blocks, 2)
        self.layer3 = _stage(2 * width, 4 * width, blocks, 2)
        self.linear = nn.Linear(4 * width, classes)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, 3, h, w]` -> logits `[B, classes]`."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


class TinyCNN(nn.Module):
    """Two convolutions and a linear layer, for 8x8 digits or the like.

    Args:
        channels: of the input.
        width: filters of the first convolution.
        classes: outputs.
    """

    def __init__(self, channels: int = 1, width: int = 16, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.linear = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, channels, h, w]` -> logits `[B, classes]`."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        return self.linear(F.relu(self.bn2(self.conv2(x))).mean((2, 3)))


class _Attention(nn.Module):
    """Multi-head self-attention with one fused projection; rows of `qkv` are q, then k, then v, head by head."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.scale = heads, dim // heads, (dim // heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return self.proj(mixed.transpose(1, 2).reshape(batch, tokens, -1))


class _Encoder(nn.Module):
    def __init__(self, dim: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(dim), _Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, ratio * dim), nn.GELU(), nn.Linear(ratio * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class TinyViT(nn.Module):
    """A vision transformer with a CLS token, for images of 8 to 32 pixels.

    Args:
        size, patch, channels: of the square input.
        dim, depth, heads, ratio: of the encoder.
        classes: outputs.
    """

    def __init__(
        self, size: int = 16, patch: int = 4, channels: int = 3, dim: int = 64, depth: int = 4, heads: int = 4,
        ratio: int = 2, classes: int = 10,
    ) -> None:  # fmt: skip
        super().__init__()
        self.num_patches = (size // patch) ** 2
        self.patch_embed = nn.Conv2d(channels, dim, patch, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.randn(1, self.num_patches + 1, dim) * 0.02)
        self.blocks = nn.ModuleList([_Encoder(dim, heads, ratio) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, channels, size, size]` -> logits `[B, classes]`."""
        tokens = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], 1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers of these widths with ReLU between them; images are flattened: `mlp(64, 128, 10)`."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def resnet8(width: int = 16, classes: int = 10) -> CifarResNet:
    """The eight-layer CIFAR ResNet (75,290 parameters at width 16)."""
    return CifarResNet(8, width, classes)


def seeded(factory: Callable[..., nn.Module], seed: int, *args: int, **options: int) -> nn.Module:
    """A network with weights drawn from `seed`; torch's own generator is left as it was."""
    with torch_fork(seed, "weights"):
        return factory(*args, **options)


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    first = _Block(inputs, outputs, stride)
    return nn.Sequential(first, *(_Block(outputs, outputs, 1) for _ in range(blocks - 1)))
