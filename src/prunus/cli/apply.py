"""`prunus apply`: the model or the rows with only what stays, written to disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from prunus.cli import inputs
from prunus.cli.flags import DATA, HOURS, MODEL, AllowCode, DryRun, Json, Like, MaxHours, Overwrite
from prunus.cli.forecast import nothing_to_time
from prunus.cli.show import facts, new_place, show, table
from prunus.core.errors import BadInput, UnknownName

if TYPE_CHECKING:
    from torch import nn

    from prunus.core.plan import Plan

FORMATS = {".parquet": "parquet", ".csv": "csv", ".jsonl": "jsonl", ".txt": "txt", ".npy": "npy", ".npz": "npz"}
MODES = ("cut", "mask")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("apply")(apply)


def apply(
    plan: Annotated[str, typer.Argument(metavar="PLAN", help="Folder of `prunus plan`.")],
    target: Annotated[str, typer.Argument(metavar="MODEL|DATA", help=f"What the plan was made for. {MODEL} {DATA}")],
    out: Annotated[
        str, typer.Option(help="Model: a folder. Rows: FILE.parquet, .npz, .csv, .jsonl, or a folder of links.")
    ] = "",
    mode: Annotated[str, typer.Option(help="cut removes; mask puts zeros (research: size and time stay).")] = "cut",
    like: Like = "",
    allow_code: AllowCode = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    max_hours: MaxHours = HOURS,
    as_json: Json = False,
) -> None:
    """Make the smaller model (loadable with px.load or as MODEL of any verb), or the file of the rows that stay."""
    place = (
        Path("out")
        if dry_run
        else new_place(out, overwrite=overwrite, what="--out DIR, or --out FILE.parquet for rows")
    )
    made = load_plan(plan)
    limits: dict[str, Any] = {"dry_run": dry_run, "max_hours": max_hours, "as_json": as_json}
    if made.unit == "rows":
        if inputs.is_model(target):
            raise BadInput(f"{plan} is a plan over rows, {target} is a model: name the rows it was made for")
        _rows(made, target, place, overwrite, limits)
        return
    if mode not in MODES:
        raise UnknownName("mode", mode, MODES)
    if nothing_to_time(**limits):
        return
    opened = inputs.open_model(target, like=like, allow_code=allow_code)
    rewritten, small = applied(made, opened, mode=mode)
    inputs.save_model(opened, small, (*opened.plans, rewritten), place)
    _tell(rewritten, opened, small, mode, place, as_json)


def load_plan(folder: str) -> Plan:
    """The plan of a folder, or BadInput saying what it is instead."""
    from prunus.core.plan import Plan

    if not inputs.is_folder_of(folder, "plan.json") and not folder.endswith("plan.json"):
        what = "a score: prunus plan makes plans" if inputs.is_folder_of(folder, "score.json") else "no plan"
        raise BadInput(f"{folder} is {what}; a plan is a folder with plan.json")
    return Plan.load(folder)


def applied(plan: Plan, model: inputs.Model, *, mode: Literal["cut", "mask"] = "cut") -> tuple[Plan, nn.Module]:
    """(the plan as it fits this model, the model after it).

    A plan made for the dense model is rewritten for what earlier plans left of it.
    """
    if not model.plans or plan.unit == "tokens" or plan.fingerprint != model.plans[0].fingerprint:
        return plan, plan.apply(model.net, mode=mode)
    if plan.unit in [before.unit for before in model.plans] or plan.edits:
        raise BadInput(
            f"{model.spec} is cut already, and this plan was made for the model before: make one for it, "
            f"prunus plan {model.spec} METHOD BUDGET (budgets count against the dense model)"
        )
    for parent in model.plans:
        plan = plan.after(parent)
    return plan, plan.apply(model.net, mode=mode)


def _rows(plan: Plan, spec: str, place: Path, overwrite: bool, limits: dict[str, Any]) -> None:
    from prunus.cli.export import foresee_export, write

    data = inputs.open_rows(spec)
    kept = data.apply(plan)
    kind = FORMATS.get(place.suffix.lower(), "symlinks" if not place.suffix else "")
    if not kind:
        raise BadInput(f"{place}: rows are written to {', '.join(FORMATS)}, or as links to a folder without suffix")
    if foresee_export(kept, limits, place):
        return
    write(plan, data, place, kind, which="kept", overwrite=overwrite)
    result = {"rows": len(kept), "of": len(data), "asked": str(plan.asked), "format": kind, "out": str(place)}
    lines = {"asked": str(plan.asked), "got": f"{len(kept):,} of {len(data):,} rows", "written": f"{place} ({kind})"}
    show(result, as_json=limits["as_json"], text=facts(lines))


def _tell(plan: Plan, model: inputs.Model, small: nn.Module, mode: str, place: Path, as_json: bool) -> None:
    got = _counted(plan, small)
    rows = [
        {"quantity": name, "dense": plan.dense.get(name), "planned": plan.planned.get(name), "got": got.get(name)}
        for name in dict.fromkeys([*plan.planned, *got])
    ]
    result = {"unit": plan.unit, "asked": str(plan.asked), "planned": dict(plan.planned), "got": got, "mode": mode}
    result |= {"dense": dict(plan.dense), "plans": len(model.plans) + 1, "out": str(place)}
    from prunus.prunables.model import shares

    lines = [f"asked    {plan.asked}", "", table(rows), "", f"written  {place}"]
    if shares(plan):
        lines += ["shared: fewer numbers are stored and trained; its time is not less than before. Train it now"]
    elif plan.unit == "weights" or mode == "mask":
        lines += ["masked: its size and its time are unchanged"]
    show(result, as_json=as_json, text="\n".join(lines))


def _counted(plan: Plan, small: nn.Module) -> dict[str, float]:
    """Parameters, and MACs where the plan says what the model is called with."""
    from prunus.prunables.model import shares
    from prunus.train.sharing import shared_numbers

    got = {"params": float(sum(parameter.numel() for parameter in small.parameters()))}
    if plan.unit == "weights" and shares(plan):
        alone = [name for name in plan.groups if name in dict(small.named_parameters())]
        got["weights"] = float(shared_numbers(small) + sum(small.get_parameter(name).numel() for name in alone))
    elif plan.unit == "weights":
        got["weights"] = float(sum(int((small.get_parameter(name) != 0).sum()) for name in plan.groups))
    if plan.unit in ("channels", "layers", "ranks") and plan.provenance.get("example"):
        from prunus.graph.example import restore
        from prunus.prunables.model import ModelPrunable

        got["macs"] = ModelPrunable(small, restore(plan.provenance["example"])).count()["macs"]
    return got
