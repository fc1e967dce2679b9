"""`px.score` and `px.plan`: one pair of verbs for every unit. Each unit's own flow is in the file of its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prunus.core import registry
from prunus.core.budget import Budget
from prunus.core.chain import find_selector
from prunus.core.errors import BadInput, UnknownName
from prunus.core.plan import Plan
from prunus.core.prunable import as_prunable
from prunus.core.registry import Method
from prunus.core.score import Score

if TYPE_CHECKING:
    from prunus.prunables.dataset import Dataset

CHOOSERS = ("criterion", "solver", "search")


def score(target: Any, method: str, /, **settings: Any) -> Score:
    """Measure what is missing and score every unit once; many budgets can then be cut from the result.

    Args:
        target: rows (arrays, Dataset, datasets, table) or a model.
        method: a criterion, as `el2n` or `rows/el2n`.
        **settings: rows: `signals=`, or `model=` for one pass, or `fit=px.Fit(...)`; models: `data=`, `step=`, `example=`;
            all: `seed=`; and the method's own options.

    Returns:
        A Score, which can be saved.

    Raises:
        BadInput: a setting nobody knows, or signals that are missing and can't be measured.
    """
    found = _method(method, ("rows",) if _is_data(target) else (), ("criterion",))
    _, options = _settings(found, settings)
    if found.unit == "rows":
        from prunus.flow.rows import score_rows
        from prunus.flow.signals import FROM, row_signals

        data = _dataset(target, found)
        given = {name: settings.pop(name) for name in FROM if name in settings}
        signals = row_signals(data, found, **given)
        _nothing_left(settings, options, ("seed", "quarantine", "max_ram"), found)
        own = {name: settings[name] for name in ("seed", "quarantine", "max_ram") if name in settings}
        return score_rows(data, found.id, signals=signals, options=options, **own)
    from prunus.flow import units

    if found.unit in units.SCORERS:
        from prunus.flow.signals import module_signals

        prunable = units.model_of(target, settings)
        _nothing_left(settings, options, ("data", "step", "seed", "signals"), found)
        signals = settings.get("signals") or module_signals(
            prunable, set(found.needs), data=settings.get("data"), step=settings.get("step"), what=found.id
        )
        scorer = units.SCORERS[found.unit]
        return scorer(prunable, found.id, signals=signals, seed=settings.get("seed", 0), options=options)
    raise BadInput(f"{found.id}: scores over {found.unit} are not kept on their own; use px.plan")


def plan(target: Any, /, *what: Any, **settings: Any) -> Plan:
    """What stays.

    `plan(score, "30% rows", select="ccs")` cuts from a Score made before; `plan(net, "taylor", "50% macs", data=calib)` measures,
    scores and plans in one go.

    Args:
        target: a Score, rows, or a model.
        *what: the budget for a Score; else the method and the budget.
        **settings: the unit's own (`select`, `allocate`, `over`, `val`, `scope`, `compensate`, ...), budget options (`floor`, `round_to`,
            `same_shape`, `pin`, `ban`, `tolerance`), `seed`, and the options of the methods used.
    """
    if isinstance(target, Score):
        if len(what) != 1:
            raise BadInput(f"px.plan(score, budget) takes the budget only, got {len(what)} arguments")
        return _from_score(target, _budget(what[0], settings), settings)
    if len(what) != 2:
        raise BadInput("px.plan takes (score, budget) or (data or model, method, budget)")
    method, budget = str(what[0]), _budget(what[1], settings)
    if budget.unit == "rows":
        found = _method(method, ("rows",), ("criterion",))
        _, options = _settings(found, settings)
        own = {name: settings.pop(name) for name in ("signals", "model", "fit", "step") if name in settings}
        own |= {name: settings[name] for name in ("quarantine", "max_ram") if name in settings}
        made = score(target, found.id, seed=settings.get("seed", 0), **own, **options)
        return _from_score(made, budget, {k: v for k, v in settings.items() if k not in options})
    from prunus.flow import units

    found = _method(method, budget.units, CHOOSERS)
    rest, options = _settings(found, settings)
    if found.unit not in units.PLANNERS:
        raise BadInput(f"{found.id}: plans over {found.unit} are not made by this version")
    return units.PLANNERS[found.unit](target, found, budget, options, rest)


def _from_score(made: Score, budget: Budget, settings: dict[str, Any]) -> Plan:
    if made.unit == "rows":
        from prunus.flow.rows import plan_rows
        from prunus.flow.split import split_of

        chosen = find_selector(settings.get("select") or ("top" if made.sense == "keep" else "ccs"))
        own = {name: settings.pop(name) for name in ("val", "max_ram", "quarantine") if name in settings}
        rest, options = _settings(chosen, settings)
        split = split_of(rest, own.get("val"))
        known = ("select", "allocate", "over", "seed", "data", "val", "max_ram", "quarantine", "weights")
        _nothing_left(rest, options, known, chosen)
        return plan_rows(made, budget, allocate=split, options=options, **own, **rest)
    from prunus.flow import units

    if made.unit in units.SCORERS:
        if "model" not in settings:
            raise BadInput(f"a plan from a score over {made.unit} needs model=, to know what its {made.unit} cost")
        found = registry.find(str(made.provenance["method"]))
        rest = {**settings, "score": made}
        return units.PLANNERS[made.unit](rest.pop("model"), found, budget, {}, rest)
    raise BadInput(f"plans over {made.unit} are made from the model: px.plan(model, method, budget)")


def _budget(given: str | Budget, settings: dict[str, Any]) -> Budget:
    names = ("tolerance", "floor", "round_to", "same_shape", "pin", "ban")
    options = {name: settings.pop(name) for name in names if name in settings}
    for name in ("pin", "ban"):
        if name in options:
            options[name] = tuple(options[name])
    return Budget.parse(given, **options)


def _method(name: str, units: tuple[str, ...], kinds: tuple[str, ...]) -> Method:
    found = registry.find_first(name, units, kinds) if units else registry.find(name, kind=kinds)
    if units and found.unit not in (*units, ""):
        raise BadInput(f"{found.id} removes {found.unit}, the budget is over {units[0]}")
    return found


def _settings(method: Method, settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the other settings, the method's own options)."""
    options = {name: value for name, value in settings.items() if name in method.keywords}
    return {name: value for name, value in settings.items() if name not in options}, options


def _nothing_left(settings: dict[str, Any], options: dict[str, Any], known: tuple[str, ...], method: Method) -> None:
    for name in settings:
        if name not in options and name not in known:
            raise UnknownName(f"setting of {method.id}", name, [*known, *method.keywords])


def _dataset(target: Any, method: Method) -> Dataset:
    from prunus.prunables.dataset import Dataset

    data = as_prunable(target)
    if not isinstance(data, Dataset):
        raise BadInput(f"{method.id} scores rows: give it a dataset or arrays, not a {type(target).__name__}")
    return data


def _is_data(target: Any) -> bool:
    from prunus.core.prunable import Prunable

    if isinstance(target, Prunable):
        return getattr(target, "unit", "") == "rows"
    return not any(base.__module__ == "torch.nn.modules.module" for base in type(target).__mro__)
