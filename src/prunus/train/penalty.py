"""Penalties on single elements of parameters: what they add to the gradient before each step of an optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from prunus.core.errors import BadInput, UnknownName

Rule = Literal["l1", "l2", "smooth_l1"]


def penalty_gradient(
    value: Tensor, chosen: Tensor | None, strength: float, *, rule: Rule = "l1", lr: float = 0.0
) -> Tensor:
    """What a penalty adds to the gradient.

    Args:
        value: the parameter.
        chosen: bool of its shape, True = penalised; None = all.
        strength: weight of the penalty.
        rule: l1 strength * sign; l2 strength * value; smooth_l1 as l1, but as l2 where |value| < lr * strength, which
            l1 steps over again and again.
        lr: learning rate, for smooth_l1.

    Returns:
        of the parameter's shape, 0 where not chosen.
    """
    if rule not in ("l1", "l2", "smooth_l1"):
        raise UnknownName("penalty", rule, ("l1", "l2", "smooth_l1"))
    added = strength * (value if rule == "l2" else value.sign())
    if rule == "smooth_l1":
        added = torch.where(value.abs() >= lr * strength, added, strength * value)
    return added if chosen is None else torch.where(chosen, added, torch.zeros_like(added))


class Penalty:
    """A penalty on chosen elements, added to the gradients by a hook of the optimizer; the loss is not changed.

    Args:
        model: owner of the parameters.
        chosen: parameter name -> bool, True = penalised.
        strength, rule: as in `penalty_gradient`; smooth_l1 takes the learning rate of the moment.
        course: multiple of the strength at a step, counted from 0; constant by default.

    Raises:
        UnknownName: no such parameter.
        BadInput: another shape, or a negative strength.
    """

    def __init__(
        self,
        model: nn.Module,
        chosen: Mapping[str, Tensor],
        strength: float,
        rule: Rule = "l1",
        *,
        course: Callable[[int], float] | None = None,
    ) -> None:
        named = dict(model.named_parameters())
        if strength < 0:
            raise BadInput(f"the strength of a penalty is 0 or more, not {strength}")
        for name, mask in chosen.items():
            if name not in named:
                raise UnknownName("parameter", name, named)
            if mask.shape != named[name].shape:
                raise BadInput(f"{name} is {list(named[name].shape)}, its mask {list(mask.shape)}")
        self._chosen = {named[name]: mask.to(named[name].device) for name, mask in chosen.items()}
        self._strength = strength
        self._rule: Rule = rule
        self._course, self._steps = course, 0

    def sgd(
        self, lr: float, *, momentum: float = 0.9, weight_decay: float = 5e-4
    ) -> Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]:
        """For `train.loop.fit(optimizer=)`: SGD with this penalty, and no weight decay on parameters it touches, so
        that what is not chosen really is not pulled."""

        def make(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
            both = list(parameters)
            touched = [p for p in both if p in self._chosen]
            rest = [p for p in both if p not in self._chosen]
            groups = [{"params": rest}, {"params": touched, "weight_decay": 0.0}]
            filled: list[dict[str, Any]] = [group for group in groups if group["params"]]
            engine = torch.optim.SGD(filled, lr, momentum=momentum, weight_decay=weight_decay)
            engine.register_step_pre_hook(self._before_step)
            return engine

        return make

    @torch.no_grad()
    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        strength = self._strength * (1.0 if self._course is None else self._course(self._steps))
        self._steps += 1
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter in self._chosen and parameter.grad is not None:
                    chosen = self._chosen[parameter]
                    lr = float(group["lr"])
                    parameter.grad += penalty_gradient(parameter, chosen, strength, rule=self._rule, lr=lr)
