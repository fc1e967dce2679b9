"""Synaptic flow: what each weight carries of the sum of outputs, on |weights| and an input of ones (Tanaka et al. 2020).

Needs no data. Evaluation mode, so that norms are fixed. The sum is a product over all layers: where it leaves float32,
everything is done again in float64.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from prunus.core.errors import BadInput, NonFinite

Forward = Callable[[nn.Module, Any], Any]


class Flow:
    """A copy of a model with absolute parameters, and an example of ones to send through it.

    Args:
        model: left as it was.
        example: what it is called with; floating inputs become ones.
        run: `(model, example) -> output`.
    """

    def __init__(self, model: nn.Module, example: Any, run: Forward) -> None:
        self._model = copy.deepcopy(model).float().eval()
        with torch.no_grad():
            for tensor in (*self._model.parameters(), *self._model.buffers()):
                if tensor.is_floating_point():
                    tensor.abs_()
        for parameter in self._model.parameters():
            parameter.requires_grad_(True)
        self._example, self._run = _ones(example), run
        self._dense = {name: p.detach().clone() for name, p in self._model.named_parameters()}

    def scores(self, masks: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """parameter * gradient of the summed output, under masks (parameter name -> bool, True stays).

        Raises:
            NonFinite: the flow left the finite numbers of float64.
        """
        named = dict(self._model.named_parameters())
        with torch.no_grad():
            for name, mask in (masks or {}).items():
                named[name].copy_(self._dense[name] * mask)
        with torch.enable_grad():
            total = torch.stack([out.sum() for out in _tensors(self._run(self._model, self._example))]).sum()
            grads = torch.autograd.grad(total, list(named.values()), materialize_grads=True)
        found = {name: value.detach() * grad for (name, value), grad in zip(named.items(), grads)}
        if all(bool(torch.isfinite(score).all()) for score in found.values()):
            return found
        if total.dtype == torch.float64:
            raise NonFinite(f"the synaptic flow is {float(total.detach())}: too many layers, or a weight is not finite")
        self._model.double()
        self._dense = {name: value.double() for name, value in self._dense.items()}
        self._example = _ones(self._example, torch.float64)
        return self.scores(masks)


def _ones(example: Any, dtype: torch.dtype = torch.float32) -> Any:
    if isinstance(example, Tensor):
        return torch.ones_like(example, dtype=dtype) if example.is_floating_point() else example
    if isinstance(example, Mapping):
        return {key: _ones(value, dtype) for key, value in example.items()}
    if isinstance(example, (tuple, list)):
        return type(example)([_ones(value, dtype) for value in example])
    return example


def _tensors(output: Any) -> list[Tensor]:
    parts = (
        output.values() if isinstance(output, Mapping) else output if isinstance(output, (tuple, list)) else [output]
    )
    found = [part for part in parts if isinstance(part, Tensor) and part.is_floating_point()]
    if not found:
        raise BadInput(f"the synaptic flow needs a model that gives tensors, not {type(output).__name__}")
    return found
