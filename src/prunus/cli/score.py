"""`prunus score`: one number for every row, or for every channel of a model. Many budgets can be cut from the result."""

from __future__ import annotations

from dataclasses import replace
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
    Size,
)  # fmt: skip
from prunus.cli.forecast import Pass, foresee, nothing_to_time
from prunus.cli.options import EXTRA, arguments, assign, find_method, own_flags
from prunus.cli.show import facts, new_place, show, table
from prunus.core import registry
from prunus.core.errors import BadInput, IdMismatch

if TYPE_CHECKING:
    from prunus.core.registry import Method
    from prunus.core.score import Score
    from prunus.prunables.dataset import Dataset
    from prunus.signals.rowset import Signals

READS = {"keep": "large: keep", "hard": "large: a hard row", "easy": "large: an easy row"}
GROUPS_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("score", context_settings=EXTRA)(score)


def score(
    context: typer.Context,
    words: Annotated[list[str], typer.Argument(metavar="DATA|MODEL METHOD", help=f"{DATA} Or a model. {MODEL}")],
    signals: Annotated[
        list[str] | None, typer.Option(help="Folder of `prunus signals`; several runs are averaged.")
    ] = None,
    predictions: Annotated[
        str, typer.Option("--from", help="Table of predictions: id, label, prob_0, prob_1, ...")
    ] = "",
    model: Annotated[str, typer.Option(help="Measure what the method needs with one pass of this model.")] = "",
    data: Annotated[str, typer.Option(help="Calibration rows, when a model is scored.")] = "",
    out: Out = "",
    size: Size = 0,
    batch: Batch = 64,
    seed: Seed = 0,
    like: Like = "",
    quarantine: Quarantine = False,
    max_ram: MaxRam = "",
    allow_code: AllowCode = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    max_hours: MaxHours = HOURS,
    as_json: Json = False,
) -> None:
    """Score rows or channels once. Flags of the method: see `prunus methods METHOD`."""
    given, pairs = arguments(context, words)
    if len(given) != 2:
        raise BadInput(f"prunus score takes DATA METHOD or MODEL METHOD, not {len(given)} words: {' '.join(given)}")
    place = Path("score") if dry_run else new_place(out, overwrite=overwrite)
    on_model = inputs.is_model(given[0])
    if on_model:
        method = registry.find(given[1], kind="criterion") if "/" in given[1] else _of_model_units(given[1])
    else:
        method = find_method(given[1], "rows", "criterion", f"{given[0]} holds rows")
    options = assign(pairs, method, also=own_flags(context))[0]
    pick = {
        "size": size,
        "batch": batch,
        "seed": seed,
        "like": like,
        "allow_code": allow_code,
        "rows": {"quarantine": quarantine, "max_ram": max_ram or None},
    }
    limits = {"dry_run": dry_run, "max_hours": max_hours, "as_json": as_json}
    if on_model:
        if predictions or model:
            raise BadInput("a model is scored with --data or --signals; --from and --model are for rows")
        made = _model(given[0], method, data, signals, options, pick, limits)
    else:
        made = rows_score(given[0], method, (signals, predictions, model), options, pick, limits)
    if made is None:
        return
    made.save(place)
    tell(made, place, as_json=as_json)


def _of_model_units(name: str) -> Method:
    """A criterion by bare name, channels first: only those are kept as scores of a model."""
    found = [one for one in registry.methods(kind="criterion") if one.name == name]
    preferred = [one for one in found if one.unit == "channels"]
    return (preferred or found or [registry.find(name, kind="criterion")])[0]


def rows_score(
    spec: str, method: Method, doors: tuple[list[str] | None, str, str], options: dict[str, Any], pick: Any, limits: Any
) -> Score | None:
    """The score of rows, by whichever door is open; None after a dry run."""
    from prunus.flow.rows import score_rows
    from prunus.flow.signals import GIVEN

    if method.unit != "rows":
        raise BadInput(f"{method.id} scores {method.unit} of a model, and {spec} holds rows: name a model first")
    folders, table_file, model_spec = doors
    if sum(map(bool, doors)) > 1:
        raise BadInput("signals come by one door: --signals, --from or --model")
    opened = None
    if model_spec:
        opened = inputs.open_model(model_spec, like=pick["like"], allow_code=pick["allow_code"])
    data = inputs.open_rows(spec, size=pick["size"], model=opened)
    own = pick.get("rows", {})
    found = read_signals(folders, table_file, quarantine=own.get("quarantine", False))
    if opened is not None:
        found = _pass(opened, data, method, pick["batch"], limits)
        if found is None:
            return None
    elif nothing_to_time(**limits):
        return None
    elif not found and (need := sorted(set(method.needs) - GIVEN)):
        raise BadInput(f"{method.id} needs {', '.join(need)}: give --signals FOLDER, --from TABLE or --model SPEC")
    try:
        return score_rows(data, method.id, signals=found or None, seed=pick["seed"], options=options, **own)
    except IdMismatch as error:
        source = table_file or ", ".join(folders or [])
        raise IdMismatch(f"{source} is not about the rows of {data.name}: {error}") from error


def read_signals(folders: list[str] | None, table_file: str = "", *, quarantine: bool = False) -> list[Signals]:
    """Signals of rows from folders of `prunus signals`, or from a table of predictions."""
    from prunus.signals import tables
    from prunus.signals.rowset import Signals

    if table_file:
        return [tables.read(table_file, quarantine=quarantine)]
    found: list[Signals] = []
    for folder in folders or ():
        if Path(folder).is_file():
            found.append(tables.read(folder, quarantine=quarantine))
            continue
        if not Path(folder).is_dir():
            raise BadInput(f"there is no folder of signals {folder!r}; for a table of predictions write --from")
        found.append(Signals.load(folder))
    return found


def _pass(opened: inputs.Model, data: Dataset, method: Method, batch: int, limits: Any) -> list[Signals] | None:
    from prunus.flow.signals import row_signals

    inputs.require_fit(opened, data)

    def job(part: Dataset) -> int:
        row_signals(part, method, model=opened.net, batch=batch)
        return 0

    if foresee(Pass(data, job, batch, cheaper="a smaller --model, or --from predictions you have"), **limits):
        return None
    return row_signals(data, method, model=opened.net, batch=batch)


def _model(
    spec: str, method: Method, data: str, folders: list[str] | None, options: dict[str, Any], pick: Any, limits: Any
) -> Score | None:
    """The score of a model's channels; None after a dry run."""
    from prunus.cli.calibrate import calibrate
    from prunus.flow.channels import score_channels

    if method.unit != "channels":
        verb = (
            "give DATA"
            if method.unit == "rows"
            else f"they are made and used at once: prunus plan {spec} {method.id} BUDGET"
        )
        raise BadInput(f"{method.id} scores {method.unit}, which are not kept as scores of a model; {verb}")
    opened = inputs.open_model(spec, like=pick["like"], allow_code=pick["allow_code"])
    found = calibrate(
        opened, [method], data=data, folders=folders, size=pick["size"], batch=pick["batch"], limits=limits
    )
    if found is None:
        return None
    made = score_channels(found.prunable, method.id, signals=found.signals, seed=pick["seed"], options=options)
    return replace(made, provenance={**made.provenance, "model": opened.spec.rstrip("/").rpartition("/")[2]})


def tell(made: Score, place: Path, *, as_json: bool) -> None:
    """What was scored, and how the values are spread."""
    import numpy as np

    groups: list[dict[str, Any]] = []
    for name in made.values:
        low, first, middle, third, high = np.quantile(
            np.asarray(made.values[name], dtype=np.float64), [0, 0.25, 0.5, 0.75, 1]
        )
        spread = {"lowest": low, "25 %": first, "median": middle, "75 %": third, "highest": high}
        groups.append({"group": name, "units": len(made.values[name]), **{k: float(v) for k, v in spread.items()}})
    method = str(made.provenance.get("method", ""))
    result = {"method": method, "unit": made.unit, "sense": made.sense, "groups": groups, "out": str(place)}
    count = sum(group["units"] for group in groups)
    head = {
        "method": f"{method} ({READS[made.sense]})",
        "scored": f"{count:,} {made.unit}",
        "data": made.provenance.get("data", ""),
    }
    more = [f"and {len(groups) - GROUPS_SHOWN} more groups"] if len(groups) > GROUPS_SHOWN else []
    show(
        result,
        as_json=as_json,
        text="\n".join([facts(head), "", table(groups[:GROUPS_SHOWN]), *more, "", f"written  {place}"]),
    )
