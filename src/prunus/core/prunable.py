"""What holds units: the Prunable protocol, and the Group that says which units share a budget.

A Group of model channels lists Slots: where its units live in which parameter. No criterion ever asks for a layer type.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast, runtime_checkable

from prunus.core.errors import BadInput

if TYPE_CHECKING:
    import numpy as np

    from prunus.core.plan import Plan

UNITS = ("rows", "pairs", "tables", "weights", "channels", "layers", "ranks", "experts", "tokens")
Role = Literal["writer", "reader", "vector"]


@dataclass(frozen=True, eq=False)
class Slot:
    """Where one group lives in one parameter.

    Attributes:
        parameter: qualified name, as in `named_parameters` or `named_buffers`.
        axis: the axis of that parameter.
        role: writer (makes the channels), reader (consumes them), vector (one value each: norms, biases).
        index: int64 `[size, per_unit]`; `index[u]` holds the positions along `axis` that unit `u` owns.
    """

    parameter: str
    axis: int
    role: Role
    index: np.ndarray


@dataclass(frozen=True, eq=False)
class Group:
    """Units that share a budget.

    Attributes:
        name: for channels the lexicographically first (parameter, axis), as `layer1.0.conv1.weight:0`.
        unit: one of UNITS.
        size: how many units.
        slots: for model units, every place that must be cut together.
        cost: relative price of one unit (parameters, for channels), used by cost-aware allocators.
        tag: equal for isomorphic groups (the same operator subgraph), which may be ranked together.
    """

    name: str
    unit: str
    size: int
    slots: tuple[Slot, ...] = ()
    cost: float = 1.0
    tag: str = ""


@runtime_checkable
class Prunable(Protocol):
    """What every dataset, lake, model and token stream offers."""

    def groups(self, unit: str | None = None) -> tuple[Group, ...]:
        """The groups of one unit (default: the prunable's own unit)."""
        ...

    def cost(self, plan: Plan | None = None) -> dict[str, float]:
        """Quantity -> number, dense or under `plan`: rows, params, macs, tokens, ..."""
        ...

    def apply(self, plan: Plan, *, mode: Literal["cut", "mask"] = "cut", inplace: bool = False) -> Any:
        """The same kind of thing, really smaller (`cut`) or with zeros (`mask`, research only)."""
        ...

    def fingerprint(self) -> str:
        """Content identity: changes when what is pruned changes."""
        ...


# Which room wraps which kind of object: by the name of a base class, so that nothing is imported to ask. "" is the rest.
WRAPPERS = {
    ("torch.nn.modules.module.Module", "tokens"): "prunus.prunables.stream:TokenStream",
    ("torch.nn.modules.module.Module", ""): "prunus.prunables.model:ModelPrunable",
    ("", ""): "prunus.prunables.bare:bare",
}


def as_prunable(target: Any, unit: str = "") -> Prunable:
    """`target` itself if it is a Prunable, else the wrapper that fits: a model, a token stream, or a dataset."""
    if isinstance(target, Prunable):
        return target
    if target is None:
        raise BadInput("there is nothing to prune: the data or model given is None")
    bases = {f"{base.__module__}.{base.__qualname__}" for base in type(target).__mro__}
    for (base, wanted), place in WRAPPERS.items():
        if (not base or base in bases) and wanted in ("", unit):
            module, _, name = place.partition(":")
            return cast(Prunable, getattr(importlib.import_module(module), name)(target))
    raise BadInput(f"prunus can't prune a {type(target).__name__}")
