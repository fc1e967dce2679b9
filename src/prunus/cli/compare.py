"""`prunus compare`: dense, pruned and random controls with the same counts, the same compensation and the same recovery."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunus.cli import inputs
from prunus.cli.flags import DATA, HOURS, MODEL, AllowCode, DryRun, Json, Like, MaxHours, Overwrite, Size
from prunus.cli.forecast import Pass, foresee, nothing_to_time
from prunus.cli.measure import MASKED, Measuring, check_gate, measures, refuse_gate, show_first
from prunus.cli.options import EXTRA, arguments, assign, own_flags
from prunus.cli.recover import epochs_of, recoveries, runner
from prunus.cli.show import results_text, show
from prunus.core.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from prunus.core.plan import Plan
    from prunus.core.registry import Method
    from prunus.core.results import Results
    from prunus.prunables.dataset import Dataset

NOT_RECOVERED = (
    "note: the pruned model was recovered and its controls were not: give --how and --fit to recover all alike"
)


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("compare", context_settings=EXTRA)(compare)


def compare(
    context: typer.Context,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="DENSE PLAN DATA | ROWS_PLAN... DATA",
            help=f"{MODEL} {DATA} Beside a model of role test by default.",
        ),
    ],
    controls: Annotated[int, typer.Option(min=0, help="Random models or draws of rows; 0 leaves them out.")] = 3,
    recovered: Annotated[str, typer.Option(help="Folder of the pruned model after recovery.")] = "",
    how: Annotated[str, typer.Option(help="Recover pruned and controls alike: bn_stats,finetune (needs --fit).")] = "",
    scratch: Annotated[
        int, typer.Option(min=0, help="Epochs of the dense training: also train the cut model from scratch, E and B.")
    ] = 0,
    fit: Annotated[str, typer.Option(help="Rows of role fit: to compensate controls and to recover.")] = "",
    metrics: Annotated[
        str, typer.Option(help="With commas: accuracy, perplexity, params, macs, size.")
    ] = "accuracy,params",
    require: Annotated[list[str] | None, typer.Option(help="Gate: 'accuracy >= dense - 0.5'.")] = None,
    signals: Annotated[
        list[str] | None, typer.Option(help="Rows: folder of `prunus signals` with an embedding.")
    ] = None,
    encoder: Annotated[str, typer.Option(help="Rows: a model that embeds them, instead of --signals.")] = "",
    reference: Annotated[
        str, typer.Option(help="Rows of role val: neighbours and a linear probe are asked for their labels.")
    ] = "",
    reference_signals: Annotated[
        list[str] | None, typer.Option(help="Rows: the embedding of the reference, beside --signals.")
    ] = None,
    score: Annotated[
        str, typer.Option(help="Rows: folder of `prunus score`, to tell how hard the kept ones are.")
    ] = "",
    out: Annotated[str, typer.Option(help="Rows: FILE.html (with pictures), .md or .txt.")] = "",
    size: Size = 0,
    like: Like = "",
    allow_code: AllowCode = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    max_hours: MaxHours = HOURS,
    as_json: Json = False,
) -> None:
    """Put a plan beside random ones; or plans over rows beside each other. Flags of measures: `prunus methods NAME`."""
    from prunus.cli.apply import load_plan
    from prunus.cli.curate import Beside, curate, is_rows
    from prunus.core.results import Results

    given, pairs = arguments(context, words)
    limits: dict[str, Any] = {"dry_run": dry_run, "max_hours": max_hours, "as_json": as_json}
    kept = Beside(tuple(signals or ()), encoder, reference, tuple(reference_signals or ()), score, out)
    if len(given) > 1 and all(is_rows(word) for word in given[:-1]):
        _refuse_of_models(recovered=recovered, how=how, fit=fit, require=require)
        pick: dict[str, Any] = {"size": size, "like": like, "allow_code": allow_code, "overwrite": overwrite}
        curate(given, kept, controls, pairs, {**pick, "flags": own_flags(context)}, limits)
        return
    kept.refuse()
    if len(given) != 3:
        raise BadInput(f"prunus compare takes DENSE PLAN DATA, not {len(given)} words: {' '.join(given)}")
    for gate in require or ():
        refuse_gate(gate, given[0])
    plan = load_plan(given[1])
    _refuse_unfit(plan, how, fit, recovered, controls, scratch)
    methods, steps = measures(metrics), recoveries(how) if how else []
    options = assign(pairs, *methods, *steps, also=own_flags(context))
    dense = inputs.open_model(given[0], like=like, allow_code=allow_code)
    test = inputs.open_rows(given[2], role="test", size=size, model=dense)
    rows = inputs.open_rows(fit, size=size, model=dense) if fit else None
    inputs.require_fit(dense, test)
    recover = Recover(steps, options[len(methods) :], rows, dense, plan) if rows is not None and steps else None
    job = Measuring(methods, options[: len(methods)], test)
    if _foreseen(job, dense, recover, rows, controls, **limits):
        return
    done = inputs.open_model(recovered, like=like, allow_code=allow_code).net if recovered else None
    beside = Scratch(rows, dense, plan, scratch).both() if rows is not None and scratch else None
    results = job.compared(dense, plan, done, recover, rows, controls, beside)
    gated = Results(tuple(row for row in results if row.what not in (beside or ())))
    held = [line for gate in require or () for line in check_gate(gate, gated, fails=show_first(results, as_json))]
    notes = [MASKED] if plan.unit == "weights" else []
    notes += [NOT_RECOVERED] if recovered and controls and not how else []
    lines = verdict_lines(results)
    value = {"results": [asdict(row) for row in results], "gates": held, "verdicts": lines, "notes": notes}
    show(value, as_json=as_json, text="\n".join([results_text(results), *lines, *held, *notes]))


def _refuse_of_models(**flags: Any) -> None:
    for name, value in flags.items():
        if value:
            raise BadInput(
                f"--{name} belongs to models, and plans over rows are compared here: prunus sweep trains on them"
            )


def _refuse_unfit(plan: Plan, how: str, fit: str, recovered: str, controls: int, scratch: int) -> None:
    if plan.unit == "rows":
        raise BadInput(
            "what rows are worth shows in training: prunus sweep SCORE BUDGET --fit MODEL --data DATA --val DATA; without "
            "training: prunus compare PLAN_A PLAN_B DATA"
        )
    if how and not fit:
        raise BadInput("--how recovers pruned and controls on rows of role fit: add --fit DATA")
    if scratch and not how:
        raise BadInput("--scratch stands beside a recovery and trains on its rows: add --how and --fit")
    if how and recovered:
        raise BadInput("--recovered gives the recovered model, --how makes one: give one of them")
    if plan.provenance.get("compensate") and controls and not fit:
        raise BadInput(
            "this plan was compensated, and its controls must be too: add --fit DATA (calibration rows), or --controls 0"
        )


class Recover:
    """`(model, seed) -> model`: the same recovery for pruned and controls.

    Args:
        steps: recoveries in order.
        options: of each.
        rows: of role fit.
        dense: the teacher.
        plan: whose masks stay.
    """

    def __init__(
        self, steps: list[Method], options: list[dict[str, Any]], rows: Dataset, dense: inputs.Model, plan: Plan
    ) -> None:
        self.steps, self.options, self.rows, self.dense, self.plan = steps, options, rows, dense, plan
        self.epochs = epochs_of(options, len(rows))
        self.batch = max(int(own.get("batch", 128)) for own in options)

    def __call__(self, model: nn.Module, seed: int) -> nn.Module:
        """Recover a copy."""
        seeded = [
            {**own, **({"seed": seed} if "seed" not in own and step.name != "bn_stats" else {})}
            for step, own in zip(self.steps, self.options)
        ]
        return runner(self.steps, seeded, masks=(self.plan,), teacher=self.dense.net)(model, self.rows, None)

    def once(self, model: nn.Module, rows: Dataset) -> None:
        """One epoch on some rows, for timing."""
        runner(self.steps, self.options, teacher=self.dense.net)(model, rows, 1)


class Scratch:
    """Training from scratch beside a recovery, on the same rows.

    Args:
        rows: of role fit.
        dense: whose FLOPs budget B spends.
        plan: whose masks stay.
        epochs: of the dense training.
    """

    def __init__(self, rows: Dataset, dense: inputs.Model, plan: Plan, epochs: int) -> None:
        self.rows, self.dense, self.plan, self.epochs = rows, dense, plan, epochs

    def both(self) -> dict[str, Callable[[nn.Module, int], nn.Module]]:
        """scratch-E and scratch-B as functions of a cut model and a seed."""
        return {"scratch-E": partial(self._trained, "E"), "scratch-B": partial(self._trained, "B")}

    def _trained(self, budget: str, model: nn.Module, seed: int) -> nn.Module:
        from prunus.flow.recover import recover

        settings: dict[str, Any] = {"budget": budget, "epochs": self.epochs, "seed": seed}
        return recover(model, data=self.rows, how="scratch", plan=self.plan, teacher=self.dense.net, **settings)


def _foreseen(
    job: Measuring, dense: inputs.Model, recover: Recover | None, rows: Dataset | None, controls: int,
    *, dry_run: bool, max_hours: float, as_json: bool,
) -> bool:  # fmt: skip
    """Whether the verb ends with a forecast: of the recoveries where there are some, else of the measuring."""
    limits: dict[str, Any] = {"dry_run": dry_run, "max_hours": max_hours, "as_json": as_json}
    cheaper = "--controls 1, fewer --epochs, or fewer rows ('DATA?limit=5000')"
    if recover is not None and rows is not None:

        def trained(part: Dataset) -> int:
            recover.once(dense.net, part)
            return 0

        return foresee(Pass(rows, trained, recover.batch, recover.epochs * (1 + controls), cheaper=cheaper), **limits)
    assert job.rows is not None

    def measured(part: Dataset) -> int:
        job.some(part).results(dense, "timed", None)
        return 0

    if not job.some(job.rows).methods:
        return nothing_to_time(**limits)
    return foresee(Pass(job.rows, measured, 256, 2 + controls, cheaper=cheaper), **limits)


def verdict_lines(results: Results) -> list[str]:
    """Where the pruned arm stands among its controls, in words that one run allows."""
    from prunus.core.arms import arms, better_is, is_quality, metrics  # fmt: skip
    from prunus.core.arms import show as shown

    found = arms(results)
    lines: list[str] = []
    for arm in (one for one in found if one.role == "pruned"):
        for metric in filter(is_quality, metrics(results)):
            others = [row.value for row in results if row.control and row.metric == metric and row.budget == arm.budget]
            number = arm.numbers.get(metric)
            if not others or number is None:
                continue
            sign = -1 if better_is(metric) == "lower" else 1
            gaps = [sign * (number.value - other) for other in others]
            level = sum(gap == 0 for gap in gaps)
            place = f"better than {sum(gap > 0 for gap in gaps)} of {len(others)} random controls"
            place += f", level with {level}" if level else ""
            span = f"{shown(metric, min(others))} to {shown(metric, max(others))}"
            lines.append(f"{metric}: {shown(metric, number.value)}, {place} ({span})")
    return lines
