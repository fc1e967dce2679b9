"""Example inputs as plain JSON: their structure, shapes and types are all that a recording needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from prunus.core.errors import BadInput


def describe(example: Any) -> Any:
    """JSON of a nested example: tensors become their shape and type, numbers and texts stay."""
    if isinstance(example, Tensor):
        return {"tensor": list(example.shape), "dtype": str(example.dtype).removeprefix("torch.")}
    if isinstance(example, Mapping):
        return {"dict": {str(key): describe(item) for key, item in cast("Mapping[Any, Any]", example).items()}}
    if isinstance(example, (tuple, list)):
        kind = "tuple" if isinstance(example, tuple) else "list"
        return {kind: [describe(item) for item in cast("list[Any]", example)]}
    if example is None or isinstance(example, (bool, int, float, str)):
        return {"value": example}
    raise BadInput(f"an example input of type {type(example).__name__} cannot be stored; use tensors, tuples, dicts")


def restore(text: Any) -> Any:
    """Zeros of the described structure, for recording."""
    if "tensor" in text:
        return torch.zeros(text["tensor"], dtype=getattr(torch, text["dtype"]))
    if "dict" in text:
        return {key: restore(item) for key, item in text["dict"].items()}
    if "tuple" in text:
        return tuple(restore(item) for item in text["tuple"])
    if "list" in text:
        return [restore(item) for item in text["list"]]
    return text["value"]
