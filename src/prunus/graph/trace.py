"""What a recorded pass consists of, and how a model is called and its tensors are named."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Ref:
    """Stands for a tensor inside recorded arguments."""

    value: int


@dataclass(slots=True)
class Value:
    """One tensor of the pass. `kind`: parameter, buffer, input, constant or computed."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    kind: str
    name: str = ""


@dataclass(slots=True)
class Node:
    """One operator call: `args` and `kwargs` hold `Ref` where tensors were; `module` is the innermost module."""

    op: str
    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[int | None, ...]
    module: str

    def inputs(self) -> list[int]:
        """Value ids of every tensor argument, in order."""
        found: list[int] = []
        _refs((self.args, self.kwargs), found)
        return found


@dataclass(slots=True)
class Call:
    """One module call: the tensors that went in and came out, and its range of nodes."""

    path: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...] = ()
    first: int = 0
    last: int = 0


@dataclass(slots=True)
class Trace:
    """A recorded pass."""

    values: list[Value] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    tensors: dict[str, int] = field(default_factory=dict)
    outputs: list[int] = field(default_factory=list)
    training: bool = False
    fake: bool = True
    failure: tuple[str, str] | None = None

    def seen(self) -> set[str]:
        """Names of the parameters and buffers that any operator read."""
        used = {value for node in self.nodes for value in node.inputs()}
        return {name for name, value in self.tensors.items() if value in used}


def _refs(item: Any, found: list[int]) -> None:
    if isinstance(item, Ref):
        found.append(item.value)
    elif isinstance(item, (tuple, list)):
        for part in cast("list[Any]", item):
            _refs(part, found)
    elif isinstance(item, dict):
        for part in cast("dict[str, Any]", item).values():
            _refs(part, found)


def tensors_in(item: Any, depth: int = 0) -> Iterator[Tensor]:
    """Tensors of a nested structure of mappings, sequences and dataclasses, in order."""
    if isinstance(item, Tensor):
        yield item
    elif depth > 8:
        return
    elif isinstance(item, Mapping):
        for part in cast("Mapping[Any, Any]", item).values():
            yield from tensors_in(part, depth + 1)
    elif isinstance(item, (list, tuple)):
        for part in cast("list[Any]", item):
            yield from tensors_in(part, depth + 1)


def map_tensors(item: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """The same nested structure with every tensor replaced by `function(tensor)`."""
    if isinstance(item, Tensor):
        return function(item)
    if isinstance(item, Mapping):
        return {key: map_tensors(part, function) for key, part in cast("Mapping[Any, Any]", item).items()}
    if isinstance(item, tuple) and hasattr(item, "_fields"):
        return type(item)(*[map_tensors(part, function) for part in item])
    if isinstance(item, (list, tuple)):
        parts = [map_tensors(part, function) for part in cast("list[Any]", item)]
        return parts if isinstance(item, list) else tuple(parts)
    return item


def run(model: nn.Module, example: Any) -> Any:
    """`model(example)`: a mapping is passed as keywords, a tuple as positional arguments, all else as one argument.

    Language models are called with `use_cache=False`, so that no cache counts as an output.
    """
    if isinstance(example, Mapping) or (hasattr(example, "keys") and hasattr(example, "__getitem__")):
        keywords = {str(key): example[key] for key in example}
        return model(**_without_cache(model, keywords))
    arguments = example if isinstance(example, tuple) else (example,)
    return model(*arguments, **_without_cache(model, {}))


def _without_cache(model: nn.Module, keywords: dict[str, Any]) -> dict[str, Any]:
    config = getattr(model, "config", None)
    if config is not None and "use_cache" not in keywords and hasattr(config, "to_dict"):
        known = inspect.signature(model.forward).parameters
        if "use_cache" in known:
            return keywords | {"use_cache": False}
    return keywords


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter, buffer and plain tensor attribute by qualified name, ties under each of their names."""
    found: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    found.update(model.named_buffers(remove_duplicate=False))
    for path, module in model.named_modules(remove_duplicate=False):
        for attribute, tensor in vars(module).items():
            if isinstance(tensor, Tensor):
                found.setdefault(f"{path}.{attribute}" if path else attribute, tensor)
    return found


def taken_apart(func: Any, args: Any, kwargs: Any) -> Any:
    """Result of a composite operator as simpler operators, or NotImplemented. A weight norm is written out: over an axis
    that is cut its norm takes the kept positions, as every reduction does."""
    if func._schema.name == "aten::_weight_norm":
        weight, size = cast("tuple[Tensor, Tensor]", args[:2])
        dim = int(args[2]) if len(args) > 2 else int(kwargs.get("dim", 0))
        others = [axis for axis in range(weight.dim()) if axis != dim]  # dim -1: one norm of all
        return weight * (size / torch.linalg.vector_norm(weight, 2, others, keepdim=True))
    return func.decompose(*args, **kwargs) if func._can_decompose() else NotImplemented
