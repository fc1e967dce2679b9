"""`prunus advise`: which methods over rows suit these, by what was measured; with --verify, by trying them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunus.cli import inputs
from prunus.cli.flags import DATA, HOURS, MODEL, Json, MaxHours, Size
from prunus.cli.options import EXTRA, arguments, assign, own_flags
from prunus.cli.show import show
from prunus.core.chain import find_selector
from prunus.core.errors import BadInput

if TYPE_CHECKING:
    from prunus.advise.advice import Advice
    from prunus.advise.asked import Asked

EQUAL = ("epochs", "steps")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("advise", context_settings=EXTRA)(advise)


def advise(
    context: typer.Context,
    words: Annotated[list[str], typer.Argument(metavar="DATA BUDGET", help=f"{DATA} And what stays: '30% rows'.")],
    method: Annotated[str, typer.Option(help="A method you have in mind: say whether it loses here.")] = "",
    select: Annotated[
        str,
        typer.Option(help="Its selector; default the method's own. Flags of the selector may follow: --keep easiest."),
    ] = "",
    signals: Annotated[str, typer.Option(help="Folder of `prunus signals` for these rows: what is at hand.")] = "",
    have: Annotated[str, typer.Option(help="Names of further signals at hand, with commas: aum,embedding.")] = "",
    noise: Annotated[float | None, typer.Option(help="Share of wrong labels, in 0..1; default estimated.")] = None,
    equal: Annotated[
        str, typer.Option(help="What fewer rows get as much of as all: epochs (saves time) or steps.")
    ] = "epochs",
    trainings: Annotated[float, typer.Option(help="Trainings on what is kept that you plan: whether signals pay.")] = 1,
    verify: Annotated[bool, typer.Option("--verify", help="Try the shortlist on a sample; needs --model.")] = False,
    model: Annotated[str, typer.Option(help=f"With --verify: what is trained. {MODEL}")] = "",
    sample: Annotated[int, typer.Option(min=1, help="With --verify: rows at most.")] = 2000,
    seeds: Annotated[int, typer.Option(min=2, help="With --verify: trainings of each arm.")] = 5,
    epochs: Annotated[int, typer.Option(min=1, help="With --verify: of a training on all rows.")] = 10,
    batch: Annotated[int, typer.Option(min=1, help="With --verify: rows at a time.")] = 64,
    lr: Annotated[float, typer.Option(help="With --verify: of the trainings.")] = 0.05,
    runs: Annotated[str, typer.Option(help="With --verify: folder of run folders.")] = "runs",
    jobs: Annotated[int, typer.Option(min=0, help="With --verify: processes at once.")] = 2,
    size: Size = 0,
    max_hours: MaxHours = HOURS,
    as_json: Json = False,
) -> None:
    """Say which methods suit these rows, with which settings, what to expect, and what to beware of. Changes nothing."""
    from prunus.advise import text
    from prunus.advise.advice import advise as look_up
    from prunus.advise.probe import look

    given, pairs = arguments(context, words)
    if len(given) < 2:
        raise BadInput(
            f"prunus advise takes DATA BUDGET, such as train.parquet '30% rows', not only {' '.join(given)!r}"
        )
    if equal not in EQUAL:
        raise BadInput(f"--equal is epochs or steps, not {equal!r}")
    if verify and not model:
        raise BadInput("--verify trains on what each method keeps: add --model SPEC, such as prunus:resnet8")
    asked = _asked(method, select, pairs, own_flags(context))
    data = inputs.open_rows(given[0], size=size)
    found = look(data, " ".join(given[1:]), signals=_signals(signals), have=_names(have), noise=noise)
    advice = look_up(found, asked=asked, equal=equal, trainings=trainings)
    if not verify:
        show(advice.to_json(), as_json=as_json, text=text.render(advice))
        return
    trial = {"sample": sample, "seeds": seeds, "epochs": epochs, "batch": batch, "lr": lr}
    _verify(
        advice, asked, (given[0], model, size), trial, {"runs": runs, "jobs": jobs, "max_hours": max_hours}, as_json
    )


def _asked(method: str, select: str, pairs: list[tuple[str, str]], flags: list[str]) -> Asked | None:
    from prunus.advise.asked import Asked, chosen

    if not method:
        if select:
            raise BadInput("--select belongs to --method: name the method too")
        assign(pairs, also=flags)
        return None
    _, selector = chosen(Asked(method, select))
    found = assign(pairs, *([find_selector(selector)] if selector else []), also=flags)
    return Asked(method, select, tuple(item for options in found for item in options.items()))


def _signals(folder: str) -> Any:
    from prunus.cli.score import read_signals

    found = read_signals([folder] if folder else None)
    return found[0] if found else None


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _verify(
    advice: Advice, asked: Asked | None, specs: tuple[str, str, int], trial: dict[str, Any], limits: Any, as_json: bool
) -> None:
    from prunus.advise import text
    from prunus.advise.verify import Trial, data_table, recipe_of, run_trial

    data, model, size = specs
    source, options = inputs.spec_parts(data)
    table = data_table(source, {**options, **({"size": size} if size else {})})
    base, given = inputs.spec_parts(model)
    known = {name: given.pop(name) for name in ("classes", "weights", "dtype") if name in given}
    recipe = recipe_of(advice, Trial(table, {"source": base, **known, "options": given}, **trial), asked)
    done = run_trial(recipe, advice.control, **limits)
    result = {**advice.to_json(), "verified": [vars(line) for line in done.lines], "run": str(done.folder)}
    tried = f"verified: trained on {trial['sample']:,} rows at most, judged on held-out rows of role val:"
    shown = f"{text.render(advice)}\n\n{tried}\n{done}\n\nrun  {done.folder}"
    show(result, as_json=as_json, text=shown)
