"""`prunus check`: what can be pruned of a model and what can't, or what is wrong with rows. Changes nothing."""

from __future__ import annotations

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
    Overwrite,
    Seed,
    Size,
)  # fmt: skip
from prunus.cli.forecast import Pass, foresee
from prunus.cli.labels import Asked, check_labels
from prunus.cli.show import facts, show, table
from prunus.core.errors import BadInput

if TYPE_CHECKING:
    from prunus.prunables.dataset import Dataset

AXES_SHOWN = 3


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("check")(check)


def check(
    target: Annotated[str, typer.Argument(metavar="MODEL|DATA", help=f"{MODEL} Or rows. {DATA}")],
    against: Annotated[str, typer.Option(help="Rows that should share none with DATA: its test set.")] = "",
    near: Annotated[bool, typer.Option(help="Also look for near duplicates among the rows.")] = False,
    labels: Annotated[
        bool, typer.Option("--labels", help="Look for wrong labels instead, by signals of the rows.")
    ] = False,
    by: Annotated[
        str, typer.Option(help="With --labels: criterion that says which labels do not fit.")
    ] = "label_quality",
    rule: Annotated[
        str, typer.Option(help="With --labels: noise_rate finds more wrong labels, confident calls fewer right ones.")
    ] = "noise_rate",
    share: Annotated[
        float, typer.Option(help="With --labels: share of rows that is called; 0 = the rule of --by.")
    ] = 0.0,
    signals: Annotated[list[str] | None, typer.Option(help="With --labels: folder of `prunus signals`.")] = None,
    predictions: Annotated[
        str, typer.Option("--from", help="With --labels: table of held_out_probs or embeddings, with an id column.")
    ] = "",
    model: Annotated[str, typer.Option(help="With --labels: model whose embedding is probed.")] = "",
    out: Annotated[str, typer.Option(help="With --labels: .csv or .jsonl to write the rows and reasons to.")] = "",
    plan: Annotated[str, typer.Option(help="With --labels: folder for a plan that drops these rows.")] = "",
    size: Size = 0,
    batch: Batch = 64,
    seed: Seed = 0,
    shape: Annotated[str, typer.Option(help="Shape of the model's input, such as 1,3,224,224.")] = "",
    seq: Annotated[int, typer.Option(min=0, help="Tokens in the input of a text model.")] = 0,
    like: Like = "",
    allow_code: AllowCode = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    max_hours: MaxHours = HOURS,
    as_json: Json = False,
) -> None:
    """Say what can be pruned of a model, or what is wrong with rows: duplicates, leaks, broken files, wrong labels."""
    limits: dict[str, Any] = {"dry_run": dry_run, "max_hours": max_hours, "as_json": as_json}
    if labels:
        pick = (like, allow_code, size, batch, seed)
        check_labels(target, Asked(by, rule, share, signals, predictions, model, *pick, out, plan, overwrite), limits)
        return
    if signals or predictions or model or out or plan:
        raise BadInput("--signals, --from, --model, --out and --plan of `prunus check` go with --labels")
    if inputs.is_model(target):
        _model(inputs.open_model(target, like=like, allow_code=allow_code), size, shape, seq, as_json)
        return
    data = inputs.open_rows(target, size=size)
    other = inputs.open_rows(against, role="test", size=size) if against else None
    work = Pass(data, _read, cheaper="'DATA?limit=5000'" + (", or leave --near out" if near else ""))
    if not foresee(work, **limits):
        _data(data, other, near, as_json)


def _read(data: Dataset) -> int:
    from prunus.sources.check import check_data

    check_data(data)
    return 0


def _data(data: Dataset, other: Dataset | None, near: bool, as_json: bool) -> None:
    from prunus.sources.check import check_data
    from prunus.train.progress import Bar

    with Bar(None, "check") as bar:
        report = check_data(data, other, near=near, progress=bar.update)
    show(report.to_json(), as_json=as_json, text=str(report))


def _model(model: inputs.Model, size: int, shape: str, seq: int, as_json: bool) -> None:
    from prunus.cli.example import example_for
    from prunus.prunables.model import ModelPrunable

    prunable = ModelPrunable(model.net, example_for(model, size=size, shape=shape, seq=seq))
    found = prunable.check()
    weights = prunable.groups("weights")
    found |= {
        "model": model.spec,
        "example": prunable.describe(),
        "weights": {"matrices": len(weights), "elements": sum(group.size for group in weights)},
        "tokens": _tokens(model),
        "removed": [str(plan.asked) for plan in model.plans],
    }
    show(found, as_json=as_json, text=_text(found))


def _tokens(model: inputs.Model) -> dict[str, int] | None:
    """Blocks behind which tokens can go, for vision transformers."""
    from prunus.core.errors import PrunusError
    from prunus.prunables.stream import TokenStream

    try:
        encoder = TokenStream(model.net).encoder
    except PrunusError:
        return None
    return {"blocks": len(encoder.blocks), "tokens": encoder.tokens}


def _text(found: dict[str, Any]) -> str:
    weights, tokens = found["weights"], found["tokens"]
    head = {
        "model": found["model"],
        "already removed": "; ".join(found["removed"]),
        "called with": _example(found["example"]),
        "parameters": found["params"],
        "MACs": found["macs"],
        "prunable share": f"{100 * found['prunable_share']:.1f} % of the parameters have an axis that can be cut",
        "channels": f"{sum(g['size'] for g in found['groups']):,} in {len(found['groups'])} groups",
        "weights": f"{weights['elements']:,} in {weights['matrices']} matrices",
        "layers": "; ".join(f"{c['chain']} ({c['blocks']} blocks)" for c in found["layers"]),
        "tokens": f"{tokens['tokens']} behind each of {tokens['blocks']} blocks" if tokens else "",
        "recorded": found["recorded"],
    }
    parts = [facts(head)]
    if found["groups"]:
        rows = [{**g, "parameters a unit": g["cost"]} for g in found["groups"]]
        parts += ["", table(rows, ("group", "size", "members", "parameters a unit"))]
    if found["frozen"]:
        parts += ["", table([{"frozen by": reason, "axes": _few(axes)} for reason, axes in _alike(found["frozen"])])]
    if found["unseen"]:
        parts += ["", f"not reached by the forward pass, so left alone: {_few(found['unseen'])}"]
    return "\n".join([*parts, *(f"note: {line}" for line in found["notes"])])


def _alike(frozen: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """Reasons that differ only in the module they name, as one; --json keeps them apart."""
    joined: dict[str, list[str]] = {}
    for entry in frozen:
        operator, _, rest = entry["reason"].partition(" in ")
        _, colon, why = rest.partition(": ")
        joined.setdefault(f"{operator}: {why}" if colon else entry["reason"], []).extend(entry["axes"])
    return list(joined.items())


def _few(names: list[str]) -> str:
    more = len(names) - AXES_SHOWN
    return ", ".join(names[:AXES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _example(described: Any) -> str:
    """`[2, 3, 96, 96]`, or each named or nested part of the input."""
    if "tensor" in described:
        return str(described["tensor"])
    if "dict" in described:
        return ", ".join(f"{name} {_example(part)}" for name, part in described["dict"].items())
    if "value" in described:
        return str(described["value"])
    return ", ".join(_example(part) for part in described.get("tuple") or described.get("list") or [])
