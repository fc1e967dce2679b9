"""`prunus export`: the rows a plan keeps or drops, or a model, as files that other programs read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from prunus.cli import inputs
from prunus.cli.flags import DATA, HOURS, MODEL, AllowCode, DryRun, Json, Like, MaxHours, Overwrite, Size
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
    plan: Annotated[
        str, typer.Argument(metavar="PLAN|MODEL", help=f"Folder of `prunus plan` over rows, or for onnx: {MODEL}")
    ],
    form: Annotated[
        str, typer.Option("--as", help="txt or npy: ids. csv, parquet, jsonl, npz: rows, with --data. symlinks. onnx.")
    ] = "txt",
    data: Annotated[str, typer.Option(help=f"The rows the plan was made for. {DATA}")] = "",
    out: Annotated[
        str, typer.Option(help="File, or folder for symlinks; txt goes to standard output without it.")
    ] = "",
    which: Annotated[str, typer.Option(help="kept or dropped rows.")] = "kept",
    size: Size = 0,
    shape: Annotated[str, typer.Option(help="Shape of the model's input, such as 1,3,224,224.")] = "",
    seq: Annotated[int, typer.Option(min=0, help="Tokens in the input of a text model.")] = 0,
    like: Like = "",
    allow_code: AllowCode = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    max_hours: MaxHours = HOURS,
    as_json: Json = False,
) -> None:
    """Write what a plan keeps, or a model as ONNX. symlinks rebuild an image folder, so a training script runs unchanged."""
    from prunus.cli.apply import load_plan

    limits: dict[str, Any] = {"dry_run": dry_run, "max_hours": max_hours, "as_json": as_json}
    if form == "onnx":
        if not nothing_to_time(**limits):
            place = new_place(out, overwrite=overwrite, what="--out FILE.onnx")
            _onnx(inputs.open_model(plan, like=like, allow_code=allow_code), place, size, shape, seq, as_json)
        return
    made = load_plan(plan)
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


def _onnx(model: inputs.Model, place: Path, size: int, shape: str, seq: int, as_json: bool) -> None:
    """The model as an ONNX file that onnxruntime has run beside it."""
    from prunus.cli.example import example_for
    from prunus.flow.onnx_file import to_onnx

    worst = to_onnx(model.net, example_for(model, size=size, shape=shape, seq=seq), place)
    result = {"format": "onnx", "out": str(place), "bytes": place.stat().st_size, "difference": worst}
    shown = {"written": f"{place} (onnx, {place.stat().st_size / 2**20:.2f} MiB)"}
    shown |= {"checked": f"onnxruntime and torch differ by {worst:.2g} of the largest output"}
    show(result, as_json=as_json, text=facts(shown))


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
