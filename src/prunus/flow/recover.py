"""`px.recover`: what follows a cut, in the order listed; masks of a plan over weights are kept throughout.

It is also how a new model is trained on the rows that a plan keeps, with or without a teacher that saw them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from prunus.core import registry
from prunus.core.errors import BadInput
from prunus.core.plan import Plan
from prunus.core.registry import Method
from prunus.flow.calls import asks_for, takes_any
from prunus.prunables.model import in_storage, shares
from prunus.train.copies import copied
from prunus.train.kinds import BatchNorm

DEFAULT = ("bn_stats", "finetune")


def recover(
    model: nn.Module,
    *,
    data: Any,
    how: str | Sequence[str] = DEFAULT,
    plan: Plan | None = None,
    teacher: nn.Module | None = None,
    inplace: bool = False,
    **settings: Any,
) -> nn.Module:
    """Train (or re-estimate) what a cut has lost.

    Args:
        model: after the cut; or a new one, where the plan is over rows.
        data: rows of role fit.
        how: recoveries in order: bn_stats, finetune, distill, ...
        plan: the plan that was applied; one over weights brings the masks that recovery must keep. One over rows is
            applied to `data` (what it has cut before stays as it is) and tells distill what share is kept.
        teacher: for distill: the dense model, or one that was trained on every row.
        inplace: change `model` instead of a copy.
        **settings: of the recoveries: epochs or steps, lr, batch, seed, augment, step, ... Each goes to those that have it.

    Returns:
        The recovered model in evaluation mode.

    Raises:
        UnknownName: a setting that no recovery of the list has.
    """
    names = [how] if isinstance(how, str) else list(how)
    methods = [registry.find(name, kind="recovery") for name in names if name != "none"]
    model = model if inplace else copied(model)
    given = {"teacher": teacher, "masks": masks_of(model, plan), **settings}
    told: dict[str, Any] = {}
    if plan is not None and plan.unit == "rows":
        data, told = plan.apply(data), {"kept": plan.share}
    _refuse_unknown(settings, methods)
    for method in methods:
        function = method.load()
        if method.name == "bn_stats" and not has_batch_norm(model):
            continue
        own = {name: value for name, value in given.items() if takes_any(function) or asks_for(function, name)}
        own = {**{name: value for name, value in told.items() if asks_for(function, name)}, **own}
        model = function(model, data, **own)
    return model.eval()


def masks_of(model: nn.Module, plan: Plan | None) -> dict[str, Any] | None:
    """bool masks by parameter name, for a plan over weights."""
    if plan is None or plan.unit != "weights" or shares(plan):
        return None
    return {name: in_storage(model, name, one.mask()) for name, one in plan.groups.items()}


def has_batch_norm(model: nn.Module) -> bool:
    """Whether there are running statistics to re-estimate."""
    return any(isinstance(module, BatchNorm) for module in model.modules())


def _refuse_unknown(settings: dict[str, Any], methods: list[Method]) -> None:
    functions = [method.load() for method in methods]
    if any(takes_any(function) for function in functions):
        return  # the training loop refuses what it does not know
    for name in settings:
        if not any(asks_for(function, name) for function in functions):
            raise BadInput(f"none of {', '.join(m.id for m in methods) or 'the recoveries'} has a setting {name!r}")
