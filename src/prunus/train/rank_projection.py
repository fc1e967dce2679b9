"""Weights pulled to low rank while they are trained: projection and nuclear-norm slope, as hooks of an optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from prunus.core.errors import BadInput, NonFinite
from prunus.maths.rank_parts import truncated

Reading = tuple[int, str]


class RankProjection:
    """Every `period` steps: weights become the nearest ones of low rank before the forward pass, and the gradient gets `strength` times the
    sub-gradient of their nuclear norm (Xu et al. 2018, TRP). The step may leave the low-rank set; the next projection returns to it.

    Args:
        model: owner of the parameters; projected at once, before the first step.
        chosen: parameter name -> (groups, scheme), as `maths.rank_parts` reads it; stored as `[N, C / groups, *kernel]`.
        energy: share of the squared singular values that stays.
        strength: weight of the nuclear norm.
        period: steps between two projections.

    Attributes:
        ranks: parameter name -> int64 `[b]`, at the last projection.
    """

    def __init__(
        self,
        model: nn.Module,
        chosen: Mapping[str, Reading],
        *,
        energy: float = 0.9,
        strength: float = 3e-4,
        period: int = 5,
    ) -> None:
        if period < 1 or strength < 0:
            raise BadInput(f"period is 1 or more and strength 0 or more, not {period} and {strength}")
        self._chosen = {name: (model.get_parameter(name), *reading) for name, reading in chosen.items()}
        self._energy, self._strength, self._period = energy, strength, period
        self._slopes: dict[str, Tensor] = {}
        self._steps = 0
        self.ranks: dict[str, Tensor] = {}
        self.project()

    @torch.no_grad()
    def project(self) -> None:
        """Weights become the nearest ones of low rank; their sub-gradients are kept for the next step."""
        for name, (weight, groups, scheme) in self._chosen.items():
            if not torch.isfinite(weight).all():
                raise NonFinite(f"{name} left the finite numbers while it was trained: lower lr")
            near, slope, self.ranks[name] = truncated(weight, self._energy, groups=groups, scheme=scheme)
            weight.copy_(near)
            self._slopes[name] = slope

    def sgd(
        self, lr: float, *, momentum: float = 0.9, weight_decay: float = 1e-4
    ) -> Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]:
        """For `train.loop.fit(optimizer=)`: SGD with these hooks."""

        def make(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
            engine = torch.optim.SGD(parameters, lr, momentum=momentum, weight_decay=weight_decay)
            engine.register_step_pre_hook(self._before)
            engine.register_step_post_hook(self._after)
            return engine

        return make

    @torch.no_grad()
    def _before(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if self._steps % self._period == 0:
            for name, slope in self._slopes.items():
                gradient = self._chosen[name][0].grad
                if gradient is not None:
                    gradient.add_(slope, alpha=self._strength)

    def _after(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self._steps += 1
        if self._steps % self._period == 0:
            self.project()
