"""What the flow injects into methods: `rng`, `probe`, `fit`, only where the method asks for them by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from prunus.core.rng import Rng


def asks_for(function: Any, name: str) -> bool:
    """Whether a function (or a class, when made) has a parameter of this name."""
    return name in inspect.signature(function).parameters


def does_without(function: Any, name: str) -> bool:
    """Whether a function that asks for this can be called without it."""
    return inspect.signature(function).parameters[name].default is not inspect.Parameter.empty


def takes_any(function: Any) -> bool:
    """Whether a function hands keyword arguments that it does not name on to another."""
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(function).parameters.values())


def with_rng(function: Any, options: Mapping[str, Any], rng: Rng) -> dict[str, Any]:
    """The options, with `rng` where the method draws."""
    return {**options, "rng": rng} if asks_for(function, "rng") else dict(options)
