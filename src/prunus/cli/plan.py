"""`prunus plan`: what stays, from a score made before, or from a model or rows in one go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunus.cli import inputs
from prunus.cli.flags import (
    DATA,
    HOURS,
    MODEL,
    AllowCode,
    Batch,
    DryRun,
    Json,
    Like,
    MaxHours,
    MaxRam,
    Out,
    Overwrite,
    Quarantine,
    Seed,
    Select,
    Size,
)  # fmt: skip
from prunus.cli.forecast import nothing_to_time
from prunus.cli.options import EXTRA, arguments, assign, find_method, own_flags, refuse_unfit, settings_of
from prunus.cli.show import facts, new_place, note, show, table
from prunus.core import registry
from prunus.core.budget import Budget
from prunus.core.chain import find_selector
from prunus.core.errors import BadInput

if TYPE_CHECKING:
    from prunus.core.plan import Plan
    from prunus.core.score import Score
    from prunus.signals.rowset import Signals

Settings = dict[str, Any]
BUDGET = "What stays: '30% rows', '50% macs', '60% params', '26 layers', '2:4', 'drop 6 layers', 'sparsity 90%'."
OF_BUDGET = ("tolerance", "floor", "round_to", "same_shape", "pin", "ban")
GROUPS_SHOWN = 12


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("plan", context_settings=EXTRA)(plan)


def plan(
    context: typer.Context,
    words: Annotated[list[str], typer.Argument(metavar="SCORE BUDGET | MODEL METHOD BUDGET", help=f"{BUDGET} {MODEL}")],
    select: Select = "",
    allocate: Annotated[
        str, typer.Option(help="Rows: allocator that splits the budget over classes (needs --data) or clusters.")
    ] = "",
    over: Annotated[str, typer.Option(help="Rows: what --allocate splits over: class, clusters or clusters:50.")] = "",
    val: Annotated[
        str, typer.Option(help="Rows: folder of `prunus signals` of validation rows (by_recall, glister).")
    ] = "",
    scope: Annotated[
        str, typer.Option(help="Ranked together: channels global, group or isomorphic; ranks global or group.")
    ] = "",
    scheme: Annotated[str, typer.Option(help="Ranks: how kernels are split: channel, spatial or decouple.")] = "",
    normalise: Annotated[str, typer.Option(help="Channels: what makes groups comparable.")] = "",
    compensate: Annotated[str, typer.Option(help="Channels: joint_ls, sweep, mean_bias or none, with commas.")] = "",
    within: Annotated[str, typer.Option(help="Weights: all, group, output, cumulative. Rows: all or class.")] = "",
    layers: Annotated[
        str, typer.Option(help="Weights, ranks: all, or blocks (default for language models); weights: recurrent, ...")
    ] = "",
    floor_share: Annotated[
        float | None, typer.Option(min=0, max=1, help="Channels: least share of each group that stays.")
    ] = None,
    minimum: Annotated[
        float | None, typer.Option(min=0, help="Weights within all: least percent of all in a matrix.")
    ] = None,
    tail: Annotated[
        str, typer.Option(help="N:M weights: refuse matrices that do not divide, or leave them dense.")
    ] = "",
    positions: Annotated[str, typer.Option(help="Tokens of LLaVA: restart or gaps.")] = "",
    at: Annotated[str, typer.Option(help="Tokens: block behind which they go: blocks.2, or its number.")] = "",
    floor: Annotated[int | None, typer.Option(min=0, help="Least units of a group that stay.")] = None,
    round_to: Annotated[int | None, typer.Option(min=1, help="Channels: kept widths are multiples of this.")] = None,
    same_shape: Annotated[bool, typer.Option(help="Channels: equal widths in every layer.")] = False,
    tolerance: Annotated[
        float | None, typer.Option(min=0, help="Allowed distance from the budget, as a share.")
    ] = None,
    unweighted: Annotated[
        bool, typer.Option("--unweighted", help="Rows: leave out the loss weights of craig and grad_match.")
    ] = False,
    pin: Annotated[str, typer.Option(help="File of ids that must stay.")] = "",
    ban: Annotated[str, typer.Option(help="File of ids that must go.")] = "",
    data: Annotated[str, typer.Option(help=f"Calibration rows; or the rows a score was made for. {DATA}")] = "",
    signals: Annotated[list[str] | None, typer.Option(help="Folder of `prunus signals` instead of --data.")] = None,
    model: Annotated[str, typer.Option(help="The model a score over channels was made for.")] = "",
    max_ram: MaxRam = "",
    quarantine: Quarantine = False,
    out: Out = "",
    size: Size = 0,
    batch: Batch = 64,
    seed: Seed = 0,
    like: Like = "",
    allow_code: AllowCode = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    max_hours: MaxHours = HOURS,
    as_json: Json = False,
) -> None:
    """Decide what stays. Flags of the method or selector: see `prunus methods NAME`."""
    given, pairs = arguments(context, words)
    place = Path("plan") if dry_run else new_place(out, overwrite=overwrite)
    chosen: Settings = {
        "select": select, "allocate": allocate, "over": over, "val": val, "max_ram": max_ram,
        "scope": scope, "scheme": scheme, "normalise": normalise, "within": within,
        "compensate": compensate.split(",") if compensate else "", "layers": layers, "at": at,
        "floor_share": floor_share, "minimum": minimum, "tail": tail, "positions": positions,
        "unweighted": unweighted or None,
    }  # fmt: skip
    settings = {name: value for name, value in chosen.items() if value not in ("", None)}
    plain = {"floor": floor, "round_to": round_to, "same_shape": same_shape or None, "tolerance": tolerance}
    of_budget: Settings = {name: value for name, value in plain.items() if value is not None}
    of_budget |= {name: _ids(path) for name, path in (("pin", pin), ("ban", ban)) if path}
    if len(given) < 2:
        raise BadInput(
            f"prunus plan takes SCORE BUDGET or MODEL METHOD BUDGET, not only {' '.join(given) or 'nothing'!r}"
        )
    from_score = inputs.is_folder_of(given[0], "score.json")
    budget = Budget.parse(" ".join(given[1 if from_score else 2 :]), **of_budget)
    pick: Settings = {
        "data": data, "signals": signals, "model": model, "size": size, "batch": batch, "seed": seed, "like": like,
        "allow_code": allow_code, "pairs": pairs, "flags": own_flags(context), "quarantine": quarantine,
        "limits": {"dry_run": dry_run, "max_hours": max_hours, "as_json": as_json},
    }  # fmt: skip
    made = _scored(given[0], budget, settings, pick) if from_score else _measured(given, budget, settings, pick)
    if made is not None:
        made.save(place)
        tell(made, place, as_json=as_json)


def _ids(path: str) -> tuple[Any, ...]:
    from prunus.sources.export import read_ids

    return tuple(read_ids(path).tolist())


def _scored(folder: str, budget: Budget, settings: Settings, pick: Settings) -> Plan | None:
    """A plan from a score made before; None after a dry run."""
    from prunus.core.score import Score

    score = Score.load(folder)
    if score.unit == "rows":
        if nothing_to_time(**pick["limits"]):
            return None
        return rows_plan(with_rows(score, pick), budget, settings, pick)
    if not pick["model"]:
        raise BadInput(f"{folder} scores {score.unit}: add --model SPEC, to know what they cost")
    return _of_model([pick["model"], str(score.provenance["method"])], budget, settings, pick, score)


def with_rows(score: Score, pick: Settings) -> tuple[Score, Any]:
    """The score with signals and labels beside it where they were given, and the rows themselves or None."""
    from dataclasses import replace

    from prunus.cli.score import read_signals
    from prunus.signals.rowset import Signals

    found = read_signals(pick["signals"], quarantine=pick.get("quarantine", False))
    ids = score.group("rows").ids
    beside = found[0].align(ids) if found else None
    data = inputs.open_rows(pick["data"], size=pick["size"]) if pick["data"] else None
    if data is not None and data.labels is not None and (beside is None or "labels" not in beside.names):
        from prunus.flow.rows import same_rows

        same_rows(score, data)
        labels = Signals(ids=data.ids, labels=data.labels).align(ids)
        beside = labels if beside is None else beside.merge(labels)
    return replace(score, signals=beside), data


def rows_plan(scored: tuple[Score, Any], budget: Budget, settings: Settings, pick: Settings) -> Plan:
    """A plan over rows."""
    from prunus.flow.rows import default_selector, plan_rows
    from prunus.flow.split import split_of

    score, data = scored
    selector = find_selector(settings.get("select") or default_selector(score))
    refuse_unfit(settings, ("select", "allocate", "over", "val", "max_ram", "within", "unweighted"), "rows")
    pairs = [*pick["pairs"], *([("within", settings["within"])] if "within" in settings else [])]
    parts = [registry.find(settings["allocate"], kind="allocator")] if "allocate" in settings else []
    options, *of_split = assign(pairs, selector, *parts, also=pick["flags"])
    given = {name: settings[name] for name in ("allocate", "over") if name in settings} | dict(*of_split)
    val = _validation(settings["val"]) if "val" in settings else None
    own: Settings = {
        "select": selector.id,
        "allocate": split_of(given | {"seed": pick["seed"]}, val),
        "val": val,
        "seed": pick["seed"],
        "options": options,
        "weights": not settings.get("unweighted"),
        "max_ram": settings.get("max_ram"),
        "quarantine": pick.get("quarantine", False),
    }
    return plan_rows(score, budget, data=data, **own)


def _validation(place: str) -> Signals:
    """Signals of validation rows: a folder of `prunus signals`, or a table of predictions."""
    from prunus.cli.score import read_signals

    return (read_signals([place]) if Path(place).is_dir() else read_signals(None, place))[0]


def _measured(given: list[str], budget: Budget, settings: Settings, pick: Settings) -> Plan | None:
    """A plan from rows or a model, with all that comes before it; None after a dry run."""
    if inputs.is_model(given[0]):
        return _of_model(given, budget, settings, pick, None)
    from prunus.cli.score import rows_score

    if budget.unit != "rows":
        raise BadInput(f"{given[0]} holds rows, the budget is over {budget.unit}: name a model, or write '30% rows'")
    method = find_method(given[1], "rows", "criterion", f"{given[0]} holds rows")
    own = {option.name for option in method.options}
    options = assign([pair for pair in pick["pairs"] if pair[0] in own], method)[0]
    score = rows_score(given[0], method, (pick["signals"], "", pick["model"]), options, pick, pick["limits"])
    if score is None:
        return None
    rest = {**pick, "pairs": [pair for pair in pick["pairs"] if pair[0] not in own], "data": given[0], "signals": None}
    scored = score if score.signals is not None else with_rows(score, rest)[0]
    return rows_plan((scored, None), budget, settings, rest)


def _of_model(given: list[str], budget: Budget, settings: Settings, pick: Settings, score: Score | None) -> Plan | None:
    """A plan over units of a model; None after a dry run."""
    from prunus.cli.calibrate import calibrate
    from prunus.flow.plan import CHOOSERS  # fmt: skip
    from prunus.flow.plan import plan as planned

    if budget.unit == "rows":
        raise BadInput(
            f"{given[0]} is a model, the budget {budget.short()!r} is over rows: name rows, or write '50% macs'"
        )
    method = find_method(given[1], budget.units, CHOOSERS, f"the budget {budget.short()!r} is over {budget.unit}")
    refuse_unfit(settings, settings_of(method.unit), method.unit)
    options = assign(pick["pairs"], method, also=pick["flags"])[0]
    opened = inputs.open_model(given[0], like=pick["like"], allow_code=pick["allow_code"])
    if method.unit == "tokens":
        return None if nothing_to_time(**pick["limits"]) else planned(
            opened.net, method.id, budget, seed=pick["seed"], **settings, **options
        )  # fmt: skip
    if score is not None:
        same_model(score, opened)
    compensators = compensators_of(method, settings)
    budget = of_dense(budget, opened)
    found = calibrate(
        opened, [*([] if score is not None else [method]), *compensators],
        data=pick["data"], folders=pick["signals"], size=pick["size"], batch=pick["batch"], limits=pick["limits"],
    )  # fmt: skip
    if found is None:
        return None
    cut_inside = method.unit == "weights" or (method.unit == "ranks" and method.kind == "solver")
    if cut_inside and "layers" not in settings and hasattr(opened.net, "config"):
        settings = {**settings, "layers": "blocks"}  # embeddings and heads are left alone, as everyone does
    # A search measures what it needs on the rows themselves.
    measured: Settings = {"data": found.data} if method.kind == "search" else {"signals": found.signals}
    own: Settings = {**measured, "seed": pick["seed"], **settings, **options}
    if score is None:
        return planned(found.prunable, method.id, budget, **own)
    return planned(score, budget, model=found.prunable, **own)


def of_dense(budget: Budget, model: inputs.Model) -> Budget:
    """The budget in absolute numbers where earlier plans have taken something: every budget is against the dense model."""
    from dataclasses import replace

    dense = next((plan.dense for plan in model.plans if plan.unit == budget.unit), {})
    changed = [term for term in budget.terms if term.relative and term.quantity in dense]
    if not changed or budget.unit == "weights":
        return budget
    numbers = ", ".join(f"{dense[term.quantity]:,.0f} {term.quantity}" for term in changed)
    note(f"note: {model.spec} is cut already; the budget counts against the dense model ({numbers})")
    terms = [
        replace(term, amount=term.limit(dense[term.quantity]), relative=False) if term in changed else term
        for term in budget.terms
    ]
    return replace(budget, terms=tuple(terms))


def same_model(score: Score, model: inputs.Model) -> None:
    """Refuse a model that the score was not made for."""
    from prunus.core.errors import FingerprintMismatch
    from prunus.core.fingerprint import fingerprint_model

    if score.fingerprint != fingerprint_model(model.net):
        raise FingerprintMismatch("score", str(score.provenance.get("model", "another model")), model.spec)


def compensators_of(method: registry.Method, settings: Settings) -> list[registry.Method]:
    default = [str(method.facts["compensate"])] if method.facts.get("compensate") else []
    names = settings.get("compensate") or default
    return (
        [registry.find(name, kind="compensator") for name in names if name != "none"]
        if method.unit in ("channels", "weights")
        else []
    )


def tell(made: Plan, place: Path, *, as_json: bool) -> None:
    """Asked (both sides), planned, and where."""
    result = {**summary(made), "out": str(place)}
    if made.unit != "rows":
        result["groups"] = made.table()
    lines = [facts(_head(made))]
    lines += ["", table(_quantities(made))] if made.planned else []
    if made.unit != "rows" and len(made.groups) > 1:
        groups = [{**row, "share": f"{100 * row['share']:.0f} %"} for row in made.table()]
        more = [f"and {len(groups) - GROUPS_SHOWN} more groups"] if len(groups) > GROUPS_SHOWN else []
        lines += ["", table(groups[:GROUPS_SHOWN]), *more]
    show(result, as_json=as_json, text="\n".join([*lines, "", f"written  {place}"]))


def summary(made: Plan) -> dict[str, Any]:
    """The numbers of a plan, for JSON."""
    kept = [one.count for one in made.groups.values()]
    sizes = [one.size for one in made.groups.values()]
    return {
        "unit": made.unit,
        "budget": made.asked.short(),
        "asked": str(made.asked),
        "planned": dict(made.planned),
        "dense": dict(made.dense),
        "kept": sum(kept),
        "of": sum(sizes),
        "method": made.provenance.get("method", ""),
        "reasons": made.reason_counts(),
    }


def _head(made: Plan) -> dict[str, Any]:
    kept, of = sum(one.count for one in made.groups.values()), sum(one.size for one in made.groups.values())
    chosen = made.provenance.get("select") or made.provenance.get("compensate") or ""
    chosen = ", ".join(chosen) if isinstance(chosen, list) else chosen
    groups = f" in {len(made.groups)} groups" if len(made.groups) > 1 else ""
    return {
        "asked": str(made.asked),
        "planned": f"keeps {kept:,} of {of:,} {made.unit}, drops {of - kept:,}{groups}",
        "method": " + ".join(filter(None, [str(made.provenance.get("method", "")), chosen])),
        "dropped": "; ".join(f"{count:,} {reason}" for reason, count in made.reason_counts().items() if count),
        "weights": f"{made.loss_weights().min():.3g} to {made.loss_weights().max():.3g}" if made.weights else "",
    }


def _quantities(made: Plan) -> list[dict[str, Any]]:
    return [
        {
            "quantity": name,
            "dense": made.dense.get(name),
            "planned": value,
            "stays": _share(value, made.dense.get(name)),
        }
        for name, value in made.planned.items()
    ]


def _share(value: float, dense: float | None) -> str:
    return f"{100 * value / dense:.1f} %" if dense else ""
