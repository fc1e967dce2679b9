"""`prunus recover`: what follows a cut, in the order listed: statistics, fine-tuning, distillation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunus.cli import inputs
from prunus.cli.flags import DATA, HOURS, MODEL, AllowCode, DryRun, Json, Like, MaxHours, Out, Overwrite, Size
from prunus.cli.forecast import Pass, foresee
from prunus.cli.options import EXTRA, arguments, assign, own_flags
from prunus.cli.show import facts, new_place, show
from prunus.core import registry
from prunus.core.errors import BadInput

if TYPE_CHECKING:
    from torch import nn

    from prunus.core.plan import Plan
    from prunus.core.registry import Method
    from prunus.prunables.dataset import Dataset

CHEAPER = "--how bn_stats, fewer --epochs or --steps, or fewer rows ('DATA?limit=5000')"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("recover", context_settings=EXTRA)(recover)


def recover(
    context: typer.Context,
    words: Annotated[list[str], typer.Argument(metavar="MODEL", help=MODEL)],
    data: Annotated[str, typer.Option(help=f"Rows of role fit. {DATA}")],
    how: Annotated[
        str, typer.Option(help="Recoveries in order, with commas: bn_stats, finetune, distill.")
    ] = "bn_stats,finetune",
    teacher: Annotated[str, typer.Option(help="For distill: the dense model, or one trained on every row.")] = "",
    plan: Annotated[str, typer.Option(help="Rows: train only on the rows that this plan keeps.")] = "",
    out: Out = "",
    size: Size = 0,
    like: Like = "",
    allow_code: AllowCode = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    max_hours: MaxHours = HOURS,
    as_json: Json = False,
) -> None:
    """Recover a cut model. --epochs, --steps, --lr, --batch, ... are flags of the recoveries: `prunus methods finetune`."""
    given, pairs = arguments(context, words)
    if len(given) != 1:
        raise BadInput(f"prunus recover takes one MODEL, not {len(given)} words: {' '.join(given)}")
    place = Path("recovered") if dry_run else new_place(out, overwrite=overwrite)
    methods = recoveries(how)
    options = assign(pairs, *methods, also=own_flags(context))
    trains = any(method.name != "bn_stats" for method in methods)
    opened = inputs.open_model(given[0], like=like, allow_code=allow_code, trains=trains)
    rows = inputs.open_rows(data, size=size, model=opened)
    if plan:
        from prunus.cli.apply import load_plan

        made = load_plan(plan)
        rows = rows.apply(made)
        options = [{"kept": made.share, **own} if "kept" in m.keywords else own for m, own in zip(methods, options)]
    inputs.require_fit(opened, rows)
    taught = inputs.open_model(teacher, like=like, allow_code=allow_code).net if teacher else None
    work = runner(methods, options, masks=opened.plans, teacher=taught)
    batch = max([int(own.get("batch", 128)) for own in options], default=128)

    def job(part: Dataset) -> int:
        work(opened.net, part, 1)
        return 0

    passes = Pass(rows, job, batch, epochs_of(options, len(rows)), cheaper=CHEAPER)
    if foresee(passes, dry_run=dry_run, max_hours=max_hours, as_json=as_json, out=place):
        return
    report: dict[str, dict[str, float]] = {}
    net = work(opened.net, rows, None, report)
    inputs.save_model(opened, net, opened.plans, place)
    _tell(report, methods, rows, place, as_json)


def recoveries(how: str) -> list[Method]:
    """The recoveries named, in order."""
    names = [name.strip() for name in how.split(",") if name.strip() not in ("", "none")]
    if not names:
        raise BadInput("--how names no recovery: bn_stats, finetune or distill, with commas")
    return [registry.find(name, kind="recovery") for name in names]


Work = Callable[..., "nn.Module"]


def runner(
    methods: Sequence[Method],
    options: Sequence[dict[str, Any]],
    *,
    masks: Sequence[Plan] = (),
    teacher: nn.Module | None = None,
) -> Work:
    """A function `(model, rows, epochs or None, report) -> model` that runs the recoveries on a copy.

    Args:
        methods: recoveries in order.
        options: of each.
        masks: plans that were applied; those over weights bring masks that stay.
        teacher: for distill.
    """
    from prunus.flow.recover import recover as recovered

    plan = next((one for one in reversed(masks) if one.unit == "weights"), None)

    def work(
        model: nn.Module, rows: Dataset, epochs: int | None, report: dict[str, dict[str, float]] | None = None
    ) -> nn.Module:

        from prunus.train.copies import copied

        model = copied(model)
        for method, own in zip(methods, options):
            given = dict(own)
            if epochs is not None and method.name != "bn_stats":
                given = {**{name: value for name, value in own.items() if name != "steps"}, "epochs": epochs}
            told: dict[str, float] = {}
            model = recovered(
                model, data=rows, how=method.id, plan=plan, teacher=teacher, inplace=True, report=told, **given
            )
            if report is not None:
                report[method.name] = told
        return model

    return work


def epochs_of(options: Sequence[dict[str, Any]], rows: int) -> float:
    """How often the rows are passed by all recoveries together."""
    total = 0.0
    for own in options:
        if own.get("steps"):
            total += own["steps"] * own.get("batch", 128) / max(rows, 1)
        else:
            total += own.get("epochs") or 1
    return total


def _tell(
    report: dict[str, dict[str, float]], methods: Sequence[Method], rows: Dataset, place: Path, as_json: bool
) -> None:
    result = {"how": [method.id for method in methods], "rows": len(rows), "data": rows.name, "report": report}
    lines = {
        method.name: ", ".join(f"{name} {value:,.4g}" for name, value in report.get(method.name, {}).items())
        or "nothing to do"
        for method in methods
    }
    head = {"data": f"{rows.name}, {len(rows):,} rows", **lines, "written": str(place)}
    show({**result, "out": str(place)}, as_json=as_json, text=facts(head))
