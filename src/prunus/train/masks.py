"""Masks: zeros that stay zero while training. The only place that applies them, inside the optimizer's step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from prunus.core.errors import BadInput, UnknownName


class Masks:
    """Boolean masks of parameters, applied to weights, gradients' momenta and all other per-element optimizer state.

    They live here, in one dict, and nowhere on the model: `deepcopy`, `state_dict` and saving see plain parameters.

    Args:
        model: owner of the parameters.
        masks: parameter name -> bool, True = stays, in the parameter's shape.

    Raises:
        UnknownName: no such parameter.
        BadInput: another shape or dtype; later, a masked parameter that the model no longer has.
    """

    def __init__(self, model: nn.Module, masks: Mapping[str, Tensor]) -> None:
        self._model = model
        self._parameters: dict[str, nn.Parameter] = {}
        self._masks: dict[str, Tensor] = {}
        self._dropped: dict[str, Tensor] = {}
        self._handle: Any = None
        self._optimizer: torch.optim.Optimizer | None = None
        self.update(masks)

    def update(self, masks: Mapping[str, Tensor]) -> None:
        """Replace all masks (a prune, regrow or rewind event) and apply them now: to the weights, and to the moments of
        the optimizer they are attached to."""
        self._parameters = self._named()
        checked: dict[str, Tensor] = {}
        for name, mask in masks.items():
            if name not in self._parameters:
                raise UnknownName("parameter", name, self._parameters)
            weight = self._parameters[name]
            if mask.dtype != torch.bool or mask.shape != weight.shape:
                raise BadInput(
                    f"the mask of {name} must be bool {list(weight.shape)}, not {mask.dtype} {list(mask.shape)}"
                )
            checked[name] = mask.to(weight.device)
        self._masks = checked
        self._dropped = {name: ~mask for name, mask in checked.items()}
        self.apply()

    @property
    def named(self) -> dict[str, Tensor]:
        """Parameter name -> mask."""
        return dict(self._masks)

    def density(self) -> float:
        """Share of the masked matrices' elements that stay."""
        total = sum(mask.numel() for mask in self._masks.values())
        return sum(int(mask.sum()) for mask in self._masks.values()) / max(total, 1)

    @torch.no_grad()
    def apply(self) -> None:
        """Zero what is masked, in the weights and in the moments of the optimizer they are attached to."""
        self._parameters = named = self._named()
        for name, dropped in self._dropped.items():
            if name not in named or named[name].shape != dropped.shape:
                self._gone(name)
        self._zero()

    def attach(self, optimizer: torch.optim.Optimizer) -> Masks:
        """Apply after every step of this optimizer, moments included. A second call moves the masks to the new one."""
        self.detach()
        self._optimizer = optimizer
        self._handle = optimizer.register_step_post_hook(self._after_step)
        self.apply()
        return self

    def detach(self) -> None:
        """Leave the optimizer; the weights stay as they are."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = self._optimizer = None

    @torch.no_grad()
    def _after_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        named = self._named()
        for name in self._dropped:
            if named.get(name) is not self._parameters[name]:
                self._gone(name)
        self._zero()

    def _zero(self) -> None:
        """A moment left alive would move a weight off zero at the next step, so it's zeroed too."""
        states = {} if self._optimizer is None else self._optimizer.state
        for name, dropped in self._dropped.items():
            weight = self._parameters[name]
            weight.masked_fill_(dropped, 0)
            for value in states.get(weight, {}).values():
                if isinstance(value, Tensor) and value.shape == dropped.shape:
                    value.masked_fill_(dropped, 0)

    def _named(self) -> dict[str, nn.Parameter]:
        return dict(self._model.named_parameters(remove_duplicate=False))

    def _gone(self, name: str) -> NoReturn:
        raise BadInput(
            f"there is a mask for {name} {list(self._dropped[name].shape)}, and the parameter it was made for is no longer in "
            "the model: a layer was cut or replaced. Make Masks of the new model, with masks of its shapes"
        )
