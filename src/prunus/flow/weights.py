"""Weights: masks of every matrix of a model. One matrix of scores is held at a time, and none is ever written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from prunus.allocate.matrices import Allocate
from prunus.core import registry
from prunus.core.budget import Budget
from prunus.core.counted import counted
from prunus.core.edits import Edit, LowRank, SetWeight
from prunus.core.errors import BadInput, BudgetUnreachable, NonFinite
from prunus.core.plan import Kept, Plan
from prunus.core.prunable import Group
from prunus.core.registry import Method
from prunus.core.score import LazyValues, Score
from prunus.flow.matrices import allocated, chosen, matrix, score_weights
from prunus.flow.signals import module_signals
from prunus.prunables.edits import with_low_rank
from prunus.prunables.model import ModelPrunable, as_lines, in_storage
from prunus.select.within import keep_masks, pattern_of
from prunus.signals.modules import ModuleSignals


def plan_weights(
    prunable: ModelPrunable,
    found: Method,
    budget: Budget,
    *,
    data: Any = None,
    step: Any = None,
    signals: ModuleSignals | None = None,
    general: Any = None,
    within: str | None = None,
    minimum: float = 0.05,
    tail: str = "refuse",
    allocate: Allocate | None = None,
    allocate_options: Mapping[str, Any] | None = None,
    layers: str = "all",
    compensate: str | Sequence[str] | None = None,
    fisher_block: int = 50,
    temperature: float = 200.0,
    steps: int = 1,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Plan:
    """Which weights stay, and the new weights where a solver or a compensator makes up for the others.

    Args:
        prunable: the model.
        found: a criterion or a solver over weights.
        budget: `50% weights`, `sparsity 90%`, `2:4`.
        data: calibration rows of role fit or val, where the criterion needs signals.
        step: adapter of a batch.
        signals: measured before, instead of `data`.
        general: rows of role fit that the signals a criterion calls general are measured on (d_pruner: the hessian); `data` by
            default.
        within: who competes with whom: all, group, output, cumulative, `n:m`; the criterion's own by default.
        minimum: within="all" only: least weights of a matrix, in percent of all weights.
        tail: N:M only: `refuse` inputs that fill no group, or leave them `dense`.
        allocate: how many weights of each matrix stay: an allocator (erk, uniform, ...), another plan over weights whose densities
            are taken over, or densities by name. Each matrix is then cut alone.
        allocate_options: the allocator's own.
        layers: see `score_weights`.
        compensate: a compensator over weights, given those of the method's options that it knows; the method's own by default,
            "none" for none.
        fisher_block: weights in a block of the Fisher matrix, for methods that need one.
        temperature: what logits are divided by, for methods that need the curvature (grasp); 1 is the step's own loss.
        steps: go to the budget in so many equal steps, measuring anew after each; needs `data`.
        seed: for criteria that draw.
        options: the criterion's own.
    """
    update = compensator_of(found, compensate)
    if steps != 1:
        if update is not None and adds_low_rank(update):
            raise BadInput(
                f"{update.id} adds a path beside what is left in the end: with steps={steps}, compensate otherwise"
            )
        given = {"data": data, "step": step, "general": general, "within": within, "minimum": minimum, "tail": tail}
        more = {"compensate": compensate, "fisher_block": fisher_block, "seed": seed, "options": options}
        more |= {"temperature": temperature, "allocate": allocate, "allocate_options": allocate_options}
        return _in_steps(prunable, found, budget, steps, signals, {**given, **more, "layers": layers})
    if signals is None:
        needs = {need for one in (found, update) if one is not None for need in one.needs}
        told = {"fisher_block": fisher_block, "temperature": temperature}
        signals = _measured(prunable, found, needs, data, general, step, layers, **told)
    if found.kind == "solver" and allocate is not None:
        raise BadInput(f"{found.id} solves every matrix at the same share: leave allocate= out")
    theirs = set(update.keywords if update else ()) - set(found.keywords)  # the compensator's alone
    if found.kind == "solver":
        settings: dict[str, Any] = {"signals": signals, "within": within, "layers": layers, "options": options}
        return solve_weights(prunable, found, budget, update=update, **settings)
    own = {name: value for name, value in (options or {}).items() if name not in theirs}
    score = score_weights(prunable, found, signals=signals, layers=layers, seed=seed, options=own)
    rule = within or str(found.facts.get("within", "group"))
    taps = {group.name: _taps(prunable, group) for group in chosen(prunable, layers)}
    together = int((options or {}).get(str(found.facts.get("together", "")), 1))
    if allocate is None:
        masks = runs(score, budget, together, within=rule, minimum=minimum, taps=taps, tail=tail)
    else:
        rule = within or "group"
        counts = allocated(prunable, score, budget, allocate, allocate_options)
        masks = keep_masks(score, budget, within=rule, counts=counts)
    made = {**score.provenance, "within": f"{budget.nm[0]}:{budget.nm[1]}" if budget.nm else rule}
    if allocate is not None:
        made["allocate"] = allocate if isinstance(allocate, str) else "densities"
    if update is not None:
        made |= {"compensate": [update.id], "options": dict(options or {})}
    kept: dict[str, Kept] = {}
    edits: list[Edit] = []
    groups = {group.name: group for group in chosen(prunable, layers)}
    for name, mask in masks:
        kept[name] = Kept.of_mask(mask)
        if update is not None and not mask.all():
            edits.append(_compensated(prunable, groups[name], mask, update, signals, options or {}))
    return _plan(prunable, budget, kept, tuple(edits), made, signals)


def compensator_of(found: Method, asked: str | Sequence[str] | None) -> Method | None:
    """The compensator over weights that was asked for, or the method's own."""
    names = [asked] if isinstance(asked, str) else list(asked or ())
    if len(names) > 1:
        raise BadInput(f"weights take one compensator, not {', '.join(names)}")
    name = (names or [""])[0] or str(found.facts.get("compensate", "none"))
    if name == "none":
        return None
    update = registry.find(name, kind="compensator", unit="weights")
    if update.unit != "weights" or (found.kind == "solver" and not adds_low_rank(update)):
        known = [one.name for one in registry.methods(unit="weights", kind="compensator")]
        why = "solves for its weights itself" if found.kind == "solver" else f"goes with one of {', '.join(known)}"
        raise BadInput(f"{found.id} {why}; compensate={name!r} can't follow it")
    return update


def adds_low_rank(update: Method) -> bool:
    """Whether a compensator adds a path beside the matrix, and leaves the matrix to the mask or the solver."""
    return update.facts.get("gives") == "low_rank"


def compensated_weights(
    prunable: ModelPrunable, groups: Mapping[str, Kept], plan: Plan, signals: ModuleSignals | None
) -> tuple[Edit, ...]:
    """What the compensator of a plan, with its options, makes of other masks: for the plan's controls."""
    (name,) = plan.provenance["compensate"]
    update, options = registry.find(name, kind="compensator"), plan.provenance.get("options") or {}
    named = {group.name: group for group in prunable.groups("weights")}
    shapes = {name: as_lines(prunable.model, name).shape for name in groups}
    return tuple(
        _compensated(prunable, named[name], kept.mask().reshape(shapes[name]), update, signals, options)
        for name, kept in groups.items()
        if kept.count < kept.size
    )


def _compensated(
    prunable: ModelPrunable,
    group: Group,
    mask: np.ndarray,
    update: Method,
    signals: ModuleSignals | None,
    options: Mapping[str, Any],
) -> Edit:
    """New weights of one matrix under its mask, or the path beside it."""
    view = matrix(prunable, group, signals)
    own = {name: value for name, value in options.items() if name in update.keywords}
    if adds_low_rank(update):
        return _beside(prunable, view, view.weight.float().numpy() * mask, update, own)
    with torch.no_grad():
        new = np.asarray(update.load()(view, mask, **own), dtype=np.float32)
    if not np.isfinite(new).all():
        raise NonFinite(f"{update.id} gave NaN or infinity in {group.name}: check its weights and the calibration data")
    return SetWeight(group.name, in_storage(prunable.model, group.name, new).numpy())


def _beside(
    prunable: ModelPrunable, view: Any, rest: np.ndarray, update: Method, options: Mapping[str, Any]
) -> LowRank:
    """A path beside what is left of one matrix, `rest [outputs, inputs * taps]`."""
    path = view.name.rpartition(".")[0]
    module = prunable.model.get_submodule(path)
    if with_low_rank(module) is None:
        kind = f"{path} is {type(module).__name__}"
        raise BadInput(f"{update.id} needs plain linear layers or convolutions, {kind}: leave it out (layers='blocks')")
    a, b = update.load()(view, rest, **options)
    return LowRank(path, a.astype(np.float32), b.astype(np.float32))


def runs(score: Score, budget: Budget, together: int, **settings: Any) -> Iterator[tuple[str, np.ndarray]]:
    """`keep_masks` where `together` consecutive inputs, which score alike, stay or go as one."""
    if together == 1:
        yield from keep_masks(score, budget, **settings)
        return
    if budget.nm or pattern_of(settings["within"]):
        raise BadInput(f"runs of {together} inputs and N:M exclude each other: give a share, as '50% weights'")
    if not budget.term.relative:
        if budget.term.amount % together:
            raise BadInput(f"{budget.short()} is no whole number of runs of {together}")
        budget = Budget.parse(f"{int(budget.term.amount) // together} weights", floor=budget.floor)
    first = LazyValues(tuple(score.values), lambda name: np.ascontiguousarray(score.values[name][:, ::together]))
    thin = Score(score.unit, first, score.sense, None, score.fingerprint, score.provenance)
    for name, mask in keep_masks(thin, budget, **settings):
        yield name, mask.repeat(together, axis=1)


def _in_steps(
    prunable: ModelPrunable,
    found: Method,
    budget: Budget,
    steps: int,
    signals: ModuleSignals | None,
    settings: dict[str, Any],
) -> Plan:
    """A plan after each step on the model that the one before leaves; one plan against the dense model in the end."""
    if steps < 1 or signals is not None:
        raise BadInput(f"steps={steps} measures anew after each step: give 1 or more, and data= instead of signals=")
    if budget.nm or not budget.term.relative:
        raise BadInput(f"steps= needs a share of the weights, as '50% weights', not {budget.short()!r}")
    current, plan = prunable, None
    for number in range(1, steps + 1):
        share = 100 * (1 - (1 - budget.term.amount) * number / steps)
        now = Budget.parse(f"{share:.10g}% weights", floor=budget.floor) if number < steps else budget
        plan = plan_weights(current, found, now, **settings)
        current = ModelPrunable(current.apply(plan), prunable.example, prunable.step)
    assert plan is not None
    named = current.model.get_parameter
    edits = [SetWeight(name, named(name).detach().float().numpy()) for name in plan.groups] if plan.edits else []
    made = {**plan.provenance, "steps": steps}
    return replace(plan, edits=tuple(edits), provenance=made, fingerprint=prunable.fingerprint())


def _measured(
    prunable: ModelPrunable,
    found: Method,
    needs: set[str],
    data: Any,
    general: Any,
    step: Any,
    layers: str,
    **options: Any,
) -> ModuleSignals | None:
    """One pass of the data over the matrices that take part, and one of the general rows where they are others."""
    modules = {group.name.rpartition(".")[0] for group in chosen(prunable, layers)}
    apart = set(found.facts.get("general", ())) if general is not None else set[str]()
    if general is not None and not apart:
        raise BadInput(f"{found.id} has one set of rows: leave general= out")
    shared: dict[str, Any] = {"step": step, "what": found.id, "modules": modules, **options}
    own = module_signals(prunable, needs - apart, data=data, **shared)
    if own is None or not apart:
        return own
    other = module_signals(prunable, apart, data=general, **shared)
    return own if other is None else own.merge(other)


def solve_weights(
    prunable: ModelPrunable,
    found: Method,
    budget: Budget,
    *,
    signals: ModuleSignals | None,
    within: str | None = None,
    layers: str = "all",
    update: Method | None = None,
    options: Mapping[str, Any] | None = None,
) -> Plan:
    """Masks and new weights of every matrix, each solved alone from the statistics of its inputs.

    Args:
        prunable: the model.
        found: a solver over weights.
        budget: `50% weights`, `sparsity 90%`, `2:4`; a share holds in every matrix.
        signals: of one calibration pass.
        within: group, or `n:m`.
        layers: see `score_weights`.
        update: a compensator that adds a path beside each solved matrix, or None.
        options: the solver's own, and the compensator's.

    Raises:
        BudgetUnreachable: a matrix would keep nothing.
        NonFinite: weights or statistics of a matrix were not finite.
    """
    pattern = budget.nm or pattern_of(within or "group")
    if pattern is None and within not in (None, "group"):
        raise BadInput(f"{found.id} prunes matrix by matrix: within is group or N:M, not {within!r}")
    if pattern is None and not budget.term.relative:
        raise BadInput(f"{found.id} prunes matrix by matrix: give a share, as '50% weights', not {budget.short()!r}")
    function, options = found.load(), dict(options or {})
    after = {name: options.pop(name) for name in update.keywords if name in options} if update is not None else {}
    kept: dict[str, Kept] = {}
    edits: list[Edit] = []
    for group in chosen(prunable, layers):
        view = matrix(prunable, group, signals)
        view.taps = _taps(prunable, group)
        count = pattern or group.size - budget.drop_count(group.size)
        if count == 0:
            raise BudgetUnreachable(
                f"{budget}: none of {group.size} weights of {group.name} would stay", nearest=f"1 of {group.size}"
            )
        mask, new = function(view, count, **options)
        if not np.isfinite(new).all():
            raise NonFinite(
                f"{found.id} gave NaN or infinity in {group.name}: check its weights and the calibration data"
            )
        kept[group.name] = Kept.of_mask(mask)
        edits.append(SetWeight(group.name, in_storage(prunable.model, group.name, new).numpy()))
        if update is not None:
            edits.append(_beside(prunable, view, new, update, after))
    rule = ":".join(map(str, pattern or ("group",)))
    made = {"method": found.id, "options": {**options, **after}, "layers": layers, "within": rule}
    made |= {} if update is None else {"compensate": [update.id]}
    return _plan(prunable, budget, kept, tuple(edits), made, signals)


def _plan(
    prunable: ModelPrunable,
    budget: Budget,
    kept: dict[str, Kept],
    edits: tuple[Edit, ...],
    made: dict[str, Any],
    signals: ModuleSignals | None,
) -> Plan:
    if signals is not None:
        made = {**made, "signals": dict(signals.provenance)}
    return Plan("weights", kept, budget, *counted("weights", kept, edits), edits, {}, (), made, prunable.fingerprint())


def _taps(prunable: ModelPrunable, group: Group) -> int:
    weight = prunable.model.get_parameter(group.name)
    return int(np.prod(weight.shape[2:])) if weight.dim() > 2 else 1
