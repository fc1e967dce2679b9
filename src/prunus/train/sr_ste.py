"""Training with masks that move: every weight gets a gradient, pruned ones decay, and the mask is read off the weights again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunus.core.errors import NonFinite, UnknownName
from prunus.maths.partial import keep_largest


@dataclass(frozen=True)
class Pattern:
    """What stays of each output's inputs.

    Attributes:
        share: of the inputs, for each output; not read where there is a pattern.
        nm: (n, m): n of m consecutive inputs; the inputs that fill no group all stay.
    """

    share: float = 1.0
    nm: tuple[int, int] | None = None

    def keep(self, lines: Tensor) -> Tensor:
        """bool of `lines [outputs, inputs]`, True stays: the largest magnitudes; of equal ones the later stay."""
        sizes = lines.detach().abs().float().cpu().numpy()
        if not np.isfinite(sizes).all():
            raise NonFinite("a weight is NaN or infinite: look at the model, or lower the learning rate")
        outputs, inputs = sizes.shape
        if self.nm is None:
            return torch.from_numpy(keep_largest(sizes, int(inputs * self.share + 1e-9))).to(lines.device)
        n, m = self.nm
        whole, mask = inputs // m * m, np.ones(sizes.shape, dtype=bool)
        mask[:, :whole] = keep_largest(np.ascontiguousarray(sizes[:, :whole]).reshape(-1, m), n).reshape(outputs, whole)
        return torch.from_numpy(mask).to(lines.device)


class Straight(nn.Module):
    """A parametrisation: the layer computes with W * mask (and a path beside it), and all of W gets the gradient.

    Args:
        weight: the dense parameter as stored.
        pattern: of the mask.
        stored: the weight is `[inputs, outputs]`.
        width: consecutive inputs whose sum the path reads; 0 for no path.

    Attributes:
        mask: bool `[outputs, inputs]`.
        path: `[outputs, inputs / width]`, the path's own weights, which start as the means of what the mask takes.
        flips: entries of the mask that changed at the last `update`, and against the first mask.
    """

    mask: Tensor

    def __init__(self, weight: Tensor, pattern: Pattern, *, stored: bool, width: int = 0) -> None:
        super().__init__()
        self.pattern, self.stored, self.width = pattern, stored, width
        lines = self.lines(weight.detach())
        self.register_buffer("mask", pattern.keep(lines), persistent=False)
        self.first, self.flips = self.mask.clone(), (0, 0)
        self.path = nn.Parameter(block_means(lines * ~self.mask, width)) if width else None

    def lines(self, weight: Tensor) -> Tensor:
        """A stored weight as `[outputs, inputs * taps]`."""
        return weight.T if self.stored else weight.flatten(1)

    def kept(self, weight: Tensor) -> Tensor:
        """The mask in the shape of the stored weight."""
        return self.mask.T if self.stored else self.mask.view(weight.shape)

    @torch.no_grad()
    def update(self, weight: Tensor) -> None:
        """The mask of the weights as they are now."""
        new = self.pattern.keep(self.lines(weight))
        self.flips = int((new != self.mask).sum()), int((new != self.first).sum())
        self.mask.copy_(new)

    def projection(self) -> Tensor:
        """`[inputs / width, inputs]`: ones on the inputs that each weight of the path reads."""
        inputs = self.mask.shape[1]
        block = torch.arange(inputs, device=self.mask.device) // self.width
        return (block == torch.arange(-(-inputs // self.width), device=self.mask.device)[:, None]).float()

    def forward(self, weight: Tensor) -> Tensor:
        """What the layer computes with."""
        used = weight + (weight * self.kept(weight) - weight).detach()
        if self.path is None:
            return used
        beside = self.path.repeat_interleave(self.width, 1)[:, : self.mask.shape[1]]
        return used + (beside.T if self.stored else beside.view(weight.shape))


def block_means(lines: Tensor, width: int) -> Tensor:
    """Mean over every `width` consecutive inputs, `[outputs, ceil(inputs / width)]`; the last block may be shorter."""
    return torch.cat([part.mean(1, keepdim=True) for part in lines.split(width, 1)], 1)


def ramp(step: int, over: int, top: float) -> float:
    """A straight rise from 0 to `top` over so many steps, constant after."""
    return top * min(step / over, 1.0) if over > 0 else top


class DecayingAdamW(torch.optim.Optimizer):
    """AdamW in which pruned weights are pulled to zero, and the pull stays out of the first moment.

    u <- b1 u + (1 - b1) g; a = u + decay * (pruned) * w; v <- b2 v + (1 - b2) a^2;
    w <- w (1 - lr wd), before all of it; w <- w - lr / (1 - b1^t) * a / (sqrt(v / (1 - b2^t)) + eps).

    Args:
        parameters: what trains.
        masks: parameter -> function that gives its mask of now, True stays; others are plain AdamW.
        decay: the pull at a step, counted from 0.
        lr, betas, eps, weight_decay: of AdamW.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        masks: Mapping[nn.Parameter, Callable[[], Tensor]],
        decay: Callable[[int], float],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self._masks, self._decay, self._steps = dict(masks), decay, 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step of every parameter with a gradient."""
        if closure is not None:
            raise UnknownName("argument of step", "closure", ("(none: the gradients are there)",))
        pull, self._steps = self._decay(self._steps), self._steps + 1
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._one(parameter, parameter.grad, group, pull)

    def _one(self, w: nn.Parameter, grad: Tensor, group: dict[str, Any], pull: float) -> None:
        state = self.state[w]
        if not state:
            state |= {"step": 0, "first": torch.zeros_like(w), "second": torch.zeros_like(w)}
        state["step"] += 1
        (b1, b2), lr = group["betas"], group["lr"]
        w.mul_(1 - lr * group["weight_decay"])
        first, second = state["first"], state["second"]
        first.mul_(b1).add_(grad, alpha=1 - b1)
        used = first + pull * (w * ~self._masks[w]()) if w in self._masks else first
        second.mul_(b2).addcmul_(used, used, value=1 - b2)
        scale = (second / (1 - b2 ** state["step"])).sqrt_().add_(group["eps"])
        w.addcdiv_(used, scale, value=-lr / (1 - b1 ** state["step"]))
