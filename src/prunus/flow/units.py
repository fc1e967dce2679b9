"""Which planner makes plans over which unit of a model."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from prunus.core import registry
from prunus.core.budget import Budget
from prunus.core.errors import BadInput, UnknownName
from prunus.core.plan import Plan
from prunus.core.registry import Method
from prunus.core.score import Score
from prunus.flow.channels import plan_channels, score_channels
from prunus.flow.layers import plan_layers, score_layers
from prunus.flow.ranks import plan_ranks
from prunus.flow.search import plan_search
from prunus.flow.weights import compensator_of, plan_weights
from prunus.prunables.example import example_of
from prunus.prunables.model import ModelPrunable
from prunus.prunables.stream import TokenStream

Settings = dict[str, Any]


def model_of(target: Any, settings: Settings) -> ModelPrunable:
    """The ModelPrunable of a model; its example input comes from `example=`, or from the first rows of `data=`."""
    example = settings.pop("example", None)
    if isinstance(target, ModelPrunable):
        return target
    if not isinstance(target, nn.Module):
        raise BadInput(
            f"channels, weights, layers and ranks are taken from a torch model, not from a {type(target).__name__}"
        )
    if example is None and settings.get("data") is not None:
        example = example_of(settings["data"], target)
    return ModelPrunable(target, example, step=settings.get("step"))


def _known(planner: Callable[..., Plan], settings: Settings, found: Method) -> None:
    """Refuse a setting that neither the planner nor the method has."""
    own = [name for name, p in inspect.signature(planner).parameters.items() if p.kind is p.KEYWORD_ONLY]
    for name in settings:
        if name not in own:
            raise UnknownName(f"setting of {found.id}", name, [*own, *found.keywords])


def _search(prunable: ModelPrunable, found: Method, budget: Budget, options: Settings, settings: Settings) -> Plan:
    if any(term.quantity == "ms" for term in budget.terms):
        raise BadInput(f"{found.id} takes no budget in ms: give macs or params, or use a criterion over channels")
    _known(plan_search, settings, found)
    return plan_search(prunable, found, budget, options=options, **settings)


def _channels(target: Any, found: Method, budget: Budget, options: Settings, settings: Settings) -> Plan:
    prunable = model_of(target, settings)
    if found.kind == "search":
        return _search(prunable, found, budget, options, settings)
    _known(plan_channels, settings, found)
    return plan_channels(prunable, found.id, budget, options=options, **settings)


def _weights(target: Any, found: Method, budget: Budget, options: Settings, settings: Settings) -> Plan:
    prunable = model_of(target, settings)
    if found.kind == "search":
        return _search(prunable, found, budget, options, settings)
    if isinstance(settings.get("allocate"), str):
        names = registry.find(settings["allocate"], kind="allocator").keywords
        own = {name: settings.pop(name) for name in names if name in settings}
        settings["allocate_options"] = {**(settings.get("allocate_options") or {}), **own}
    update = compensator_of(found, settings.get("compensate"))
    theirs = {name: settings.pop(name) for name in (update.keywords if update is not None else ()) if name in settings}
    _known(plan_weights, settings, found)
    return plan_weights(prunable, found, budget, options={**options, **theirs}, **settings)


def _layers(target: Any, found: Method, budget: Budget, options: Settings, settings: Settings) -> Plan:
    prunable = model_of(target, settings)
    if found.kind == "search":
        return _search(prunable, found, budget, options, settings)
    _known(plan_layers, settings, found)
    return plan_layers(prunable, found, budget, options=options, **settings)


def _ranks(target: Any, found: Method, budget: Budget, options: Settings, settings: Settings) -> Plan:
    prunable = model_of(target, settings)
    if found.kind == "search":
        return _search(prunable, found, budget, options, settings)
    _known(plan_ranks, settings, found)
    return plan_ranks(prunable, found, budget, options=options, **settings)


def _tokens(target: Any, found: Method, budget: Budget, options: Settings, settings: Settings) -> Plan:
    stream = target if isinstance(target, TokenStream) else TokenStream(target)
    _known(stream.plan, settings, found)
    return stream.plan(found.id, budget, **settings, **options)


PLANNERS: dict[str, Callable[[Any, Method, Budget, Settings, Settings], Plan]] = {
    "channels": _channels,
    "weights": _weights,
    "layers": _layers,
    "ranks": _ranks,
    "tokens": _tokens,
}

# Units whose scores are kept on their own; weights are as large as the model, tokens are scored while it runs.
SCORERS: dict[str, Callable[..., Score]] = {"channels": score_channels, "layers": score_layers}
