"""`prunus export`: the rows a plan keeps or drops, as files that other programs read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from prunus.cli import inputs
from prunus.cli.flags import DATA, HOURS, DryRun, Json, MaxHours, Overwrite
from prunus.cli.forecast import Pass, foresee, nothing_to_time
from prunus.cli.show import facts, new_place, show
from prunus.core.errors import BadInput

if TYPE_CHECKING:
    from prunus.core.plan import Plan
    from prunus.prunables.dataset import Dataset


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("export")(export)


def export(
    plan: Annotated[str, typer.Argument(metavar="PLAN", help="Folder of `prunus plan` over rows.")],
    form: Annotated[
        str, typer.Option("--as", help="txt or npy: ids. csv, parquet, jsonl, npz: rows, with --data. symlinks.")
    ] = "txt",
    data: Annotated[str, typer.Option(help=f"The rows the plan was made for. {DATA}")] = "",
    out: Annotated[
        str, typer.Option(help="File, or folder for symlinks; txt goes to standard output without it.")
    ] = "",
    which: Annotated[str, typer.Option(help="kept or dropped rows.")] = "kept",
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    max_hours: MaxHours = HOURS,
    as_json: Json = False,
) -> None:
    """Write what a plan keeps. symlinks rebuild an image folder, so that a training script runs unchanged."""
    from prunus.cli.apply import load_plan

    made = load_plan(plan)
    limits: dict[str, Any] = {"dry_run": dry_run, "max_hours": max_hours, "as_json": as_json}
    if which not in ("kept", "dropped") or made.unit != "rows":
        raise BadInput(f"export writes the kept or dropped rows of a plan over rows, not {which} {made.unit}")
    ids = made.keep() if which == "kept" else made.dropped()
    if not out and not dry_run and form == "txt":
        if as_json:
            show({"which": which, "ids": ids.tolist()}, as_json=True)
        else:
            typer.echo("\n".join(str(one) for one in ids.tolist()))
        return
    place = Path("out") if dry_run else new_place(out, overwrite=overwrite, what="--out FILE")
    rows = inputs.open_rows(data) if data else None
    if rows is None:
        if nothing_to_time(**limits):
            return
    elif foresee_export(rows.subset(ids), limits, place):
        return
    write(made, rows, place, form, which=which, overwrite=overwrite)
    result = {"rows": int(ids.size), "which": which, "format": form, "out": str(place)}
    show(result, as_json=as_json, text=facts({"rows": f"{ids.size:,} {which}", "written": f"{place} ({form})"}))


def write(plan: Plan, data: Dataset | None, place: Path, form: str, *, which: str, overwrite: bool) -> None:
    """One of the formats of sources.export."""
    from prunus.sources.export import export as exported

    exported(plan, data, place, form, which=cast("Literal['kept', 'dropped']", which), overwrite=overwrite)


def foresee_export(kept: Dataset, limits: dict[str, Any], place: Path) -> bool:
    """Time reading the rows that will be written; True ends the verb."""

    def job(part: Dataset) -> int:
        sizes = [_size(batch) for batch in part.batches(64)]
        return sum(sizes)

    if not len(kept):
        return False
    return foresee(
        Pass(kept, job, keeps=False, writes=True, cheaper="export ids (--as txt)"), **limits, out=place.parent
    )


def _size(value: Any) -> int:
    """Bytes of a batch, about."""
    if isinstance(value, dict):
        return sum(_size(item) for item in value.values())
    if isinstance(value, list | tuple):
        return sum(_size(item) for item in value)
    if hasattr(value, "nbytes"):
        return int(value.nbytes)
    return len(value) if isinstance(value, str | bytes) else 8
