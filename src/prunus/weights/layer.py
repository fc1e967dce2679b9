"""A layer as criteria of weights see it: its matrix, with the statistics of its inputs where they were measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunus.core.errors import BadInput
from prunus.core.score import LazyValues, Score, Sense
from prunus.signals.modules import ModuleSignals, ModuleStats
from prunus.signals.scan import transposed


@dataclass(frozen=True, eq=False)
class Layer:
    """One weight matrix.

    Attributes:
        name: of the parameter.
        weight: `[outputs, inputs * taps]`, detached; a view where the parameter allows it.
        taps: kernel positions of one input channel, 1 for linear layers.
        stats: what a pass measured of the module, or None.
    """

    name: str
    weight: Tensor
    taps: int = 1
    stats: ModuleStats | None = None

    @property
    def input_norm(self) -> Tensor:
        """`[1, inputs * taps]`, or `[outputs, inputs * taps]` where outputs see different inputs."""
        return self._inputs("input_norm")

    @property
    def input_var(self) -> Tensor:
        """As `input_norm`."""
        return self._inputs("input_var")

    @property
    def grad(self) -> Tensor:
        """`[outputs, inputs * taps]`."""
        return self._stats("grad").grad.reshape(self.weight.shape)

    @property
    def hessian(self) -> Tensor:
        """`[inputs * taps, inputs * taps]`, or one for each group of outputs."""
        return self._stats("hessian").hessian

    def _inputs(self, field: str) -> Tensor:
        return self._stats(field).per_output(field, len(self.weight))

    def _stats(self, field: str) -> ModuleStats:
        if self.stats is None or field not in self.stats:
            raise BadInput(f"{self.name} has no {field}: its module was not measured; collect {field}, or leave it out")
        return self.stats


def layer_of(model: nn.Module, name: str, signals: ModuleSignals | None = None) -> Layer:
    """The layer of one parameter.

    Args:
        model: the dense model.
        name: qualified parameter name, as groups of unit weights have it.
        signals: of one pass, for criteria that need more than the weights.
    """
    path = name.rpartition(".")[0]
    module = model.get_submodule(path)
    weight = model.get_parameter(name).detach()
    turned = weight.transpose(0, 1) if transposed(module) or getattr(module, "transposed", False) else weight
    stats = signals[path] if signals is not None and path in signals else None
    if stats is not None and "grad" in stats and turned is not weight:
        stats = ModuleStats(stats.name, {**stats.fields, "grad": stats.grad.transpose(0, 1)}, stats.groups)
    matrix = turned.reshape(len(turned), -1)
    return Layer(name, matrix, int(np.prod(turned.shape[2:], dtype=np.int64)), stats)


def lazy_score(
    model: nn.Module,
    names: tuple[str, ...],
    function: Callable[..., Tensor],
    *,
    signals: ModuleSignals | None = None,
    sense: Sense = "keep",
    options: Mapping[str, Any] | None = None,
    fingerprint: str = "",
    provenance: Mapping[str, Any] | None = None,
) -> Score:
    """A Score of unit weights whose values are computed, matrix by matrix, each time they are asked for.

    Args:
        model: the dense model.
        names: parameters that are scored, in the order of the plan.
        function: a criterion over weights.
        signals: of one pass, where the criterion needs them.
        sense: of the criterion.
        options: of the criterion, with `rng` where it draws.
        fingerprint: of the prunable.
        provenance: of the score.
    """
    given = dict(options or {})

    def compute(name: str) -> np.ndarray:
        with torch.no_grad():
            return function(layer_of(model, name, signals), **given).cpu().numpy()

    values = LazyValues(names, compute)
    return Score("weights", values, sense, None, fingerprint, dict(provenance or {}))


def taps_of(model: nn.Module, names: tuple[str, ...]) -> dict[str, int]:
    """Kernel taps of each parameter, for N:M along input channels."""
    return {name: layer_of(model, name).taps for name in names}
