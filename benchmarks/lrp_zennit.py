"""Relevance of every convolution of ResNet-18 by our rules and by zennit, the library for them. JSON.

zennit attaches its rules to modules and needs a canoniser written for this network, to fold its norms and to split its
residual sums; ours are attached to operators. Random weights with drawn running statistics, random images. Needs zennit
(extra `explain`) and torchvision.
"""

from __future__ import annotations

import json

import torch
from torch import Tensor, nn
from torchvision.models import resnet18
from zennit.composites import EpsilonPlus
from zennit.torchvision import ResNetCanonizer

from prunus.core.rng import torch_fork
from prunus.signals.collect import collect

ROWS, CLASSES = 4, 10


def network() -> nn.Module:
    """In float64, so that differences are of rules, not of rounding."""
    with torch_fork(0, "lrp"):
        net = resnet18(num_classes=CLASSES).double().eval()
        nn.init.zeros_(net.fc.bias)  # zennit's composite leaves every bias out, ours those of convolutions only
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.1)
    return net


def by_zennit(net: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Sum of |relevance| at the outputs of each convolution, whose norms are folded while the rules are attached."""
    maps: dict[str, Tensor] = {}

    def keep(name: str):
        def hook(module: nn.Module, args: object, output: Tensor) -> None:
            output.register_hook(lambda grad: maps.update({name: grad.detach()}))

        return hook

    composite = EpsilonPlus(epsilon=1e-6, zero_params="bias", canonizers=[ResNetCanonizer()])
    with composite.context(net) as ready:
        hooks = [m.register_forward_hook(keep(n)) for n, m in ready.named_modules() if isinstance(m, nn.Conv2d)]
        logits = ready(x.clone().requires_grad_(True))
        logits.backward(torch.eye(CLASSES, dtype=logits.dtype)[y])
        for hook in hooks:
            hook.remove()
    return {name: relevance.abs().sum((0, 2, 3)) for name, relevance in maps.items()}


def main() -> None:
    """One line: the largest difference over all filters, relative to the largest relevance of the layer."""
    net = network()
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(ROWS, 3, 64, 64, generator=generator, dtype=torch.float64), torch.arange(ROWS)
    ours = collect(net, (x, y), "output_relevance").modules
    theirs = by_zennit(net, x, y)
    gaps = {n: float((ours[n].output_relevance - v).abs().max() / v.max()) for n, v in theirs.items()}
    worst = max(gaps, key=lambda name: gaps[name])
    print(json.dumps({"layers": len(gaps), "largest difference": gaps[worst], "in": worst}))


if __name__ == "__main__":
    main()
