"""`prunus signals`: one pass of a model over rows, or one training run, that measures everything asked for."""

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
    Out,
    Overwrite,
    Seed,
    Size,
)  # fmt: skip
from prunus.cli.forecast import Pass, foresee
from prunus.cli.show import facts, new_place, show
from prunus.core.errors import BadInput

if TYPE_CHECKING:
    from prunus.prunables.dataset import Dataset
    from prunus.signals.modules import ModuleSignals
    from prunus.signals.rowset import Signals

CHEAPER = "a smaller --model or --size, or fewer rows ('DATA?limit=5000')"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("signals")(signals)


def signals(
    data: Annotated[str, typer.Argument(metavar="DATA", help=DATA)],
    model: Annotated[str, typer.Option(help=MODEL)],
    need: Annotated[str, typer.Option(help="Signals, with commas: embedding,probs or hessian,input_var, ...")],
    out: Out = "",
    epochs: Annotated[
        int, typer.Option(min=0, help="Train so long and record: for el2n_sum, forgetting, aum, ...")
    ] = 0,
    lr: Annotated[float, typer.Option(help="Of that training.")] = 0.1,
    window: Annotated[int, typer.Option(min=2, help="Epochs of a window, for window_std and window_dual.")] = 10,
    early: Annotated[int, typer.Option(min=2, help="Epochs that window_dual looks at.")] = 30,
    folds: Annotated[int, typer.Option(min=2, help="Trainings for held_out_probs.")] = 5,
    checkpoints: Annotated[
        str, typer.Option(help="For gradient_variance: files of earlier states, or how many to keep of that training.")
    ] = "5",
    size: Size = 0,
    batch: Batch = 64,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    seed: Seed = 0,
    like: Like = "",
    allow_code: AllowCode = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    max_hours: MaxHours = HOURS,
    as_json: Json = False,
) -> None:
    """Measure signals of rows (probs, embedding, ...) and of modules (grad, hessian, ...), all in one pass."""
    place = Path("signals") if dry_run else new_place(out, overwrite=overwrite)
    opened = inputs.open_model(model, like=like, allow_code=allow_code, trains=epochs > 0)
    rows = inputs.open_rows(data, size=size, model=opened)
    inputs.require_fit(opened, rows)
    names = [name.strip() for name in need.split(",") if name.strip()]
    trained = _trained(names, epochs)
    settings: dict[str, Any] = {"batch": batch, "device": device}
    own: dict[str, Any] = {"folds": folds, "recorder": {"window": window, "early": early}}
    if trained and checkpoints.isdigit():
        own["checkpoints"] = int(checkpoints)

    def job(part: Dataset, to: Path | None = None, length: int = 1) -> tuple[Signals | None, ModuleSignals | None]:
        if trained:
            return _record(opened, part, names, length, {**settings, "lr": lr}, own, seed), None
        from prunus.signals.collect import collect

        states: dict[str, Any] = {"checkpoints": _files(checkpoints)} if _over_checkpoints(names) else {}
        found = collect(opened.net, part, names, out=to, **settings, **states)
        return found.rows, found.modules

    work = Pass(
        rows, lambda part: _bytes(job(part)[0]), batch, epochs or 1, keeps=trained, writes=True, cheaper=CHEAPER
    )
    if foresee(work, dry_run=dry_run, max_hours=max_hours, as_json=as_json, out=place):
        return
    found, modules = job(rows, place, epochs)
    if found is not None and trained:
        found.save(place)
    if modules is not None:
        modules.save(place)
    _tell(rows, found, modules, place, as_json)


def _over_checkpoints(names: list[str]) -> bool:
    """Whether one of these signals is measured over earlier states of the model."""
    from prunus.signals.catalogue import provider

    return bool(set(names) & set(provider("gradient_variance").provides))


def _trained(names: list[str], epochs: int) -> bool:
    """Whether these signals come from a training run; refuses a length without one, and one without a length."""
    from prunus.signals.catalogue import provider

    recorded = [name for name in names if provider(name).level in ("training", "folds")]
    if epochs and _over_checkpoints(names):
        return True
    if recorded and not epochs:
        raise BadInput(
            f"{', '.join(recorded)} are recorded while training: add --epochs (and --lr), or record them in your own "
            "loop with px.Recorder"
        )
    if epochs and not recorded:
        raise BadInput(f"{', '.join(names)} need one pass and no training: leave --epochs out")
    return bool(recorded)


def _record(
    model: inputs.Model,
    data: Dataset,
    names: list[str],
    epochs: int,
    settings: dict[str, Any],
    own: dict[str, Any],
    seed: int,
) -> Signals:
    from prunus.flow.signals import Fit

    fit = Fit(lambda: inputs.fresh(model, seed), epochs=epochs, seeds=(seed,), settings=settings, **own)
    return fit.run(data, names)[0]


def _files(checkpoints: str) -> list[str]:
    """Names of files, with commas between them."""
    named = [name.strip() for name in checkpoints.split(",") if name.strip()]
    missing = [name for name in named if not Path(name).is_file()]
    if missing or not named:
        raise BadInput(
            f"gradient_variance compares states of one training run: add --epochs to train and keep them, or name files of "
            f"earlier states in --checkpoints ({', '.join(missing) or 'none'} is no file)"
        )
    return named


def _bytes(found: Signals | None) -> int:
    if found is None:
        return 0
    return sum(field.numel() * field.element_size() for field in (found.field(name) for name in found.names))


def _tell(data: Dataset, found: Signals | None, modules: ModuleSignals | None, place: Path, as_json: bool) -> None:
    rows = {name: [len(found), *found.field(name).shape[1:]] for name in found.names} if found is not None else {}
    of_modules: dict[str, int] = {}
    for stats in (modules or {}).values():
        for name in stats.fields:
            of_modules[name] = of_modules.get(name, 0) + 1
    result = {"data": data.name, "rows": len(data), "signals": rows, "modules": of_modules, "out": str(place)}
    lines = {
        "data": f"{data.name}, {len(data):,} rows",
        "of rows": ", ".join(f"{name} {shape}" for name, shape in rows.items()),
        "of modules": ", ".join(f"{name} ({count})" for name, count in of_modules.items()),
        "written": str(place),
    }
    show(result, as_json=as_json, text=facts(lines))
