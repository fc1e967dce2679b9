"""`prunus measure`: accuracy, perplexity, parameters, MACs, latency, size; and gates that end with exit code 4."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunus.cli import inputs
from prunus.cli.example import example_for
from prunus.cli.flags import DATA, HOURS, MODEL, AllowCode, DryRun, Json, Like, MaxHours, Size
from prunus.cli.forecast import Pass, foresee, nothing_to_time
from prunus.cli.options import EXTRA, arguments, assign, own_flags
from prunus.cli.show import results_text, show
from prunus.core import registry
from prunus.core.errors import BadInput

if TYPE_CHECKING:
    from prunus.core.plan import Plan
    from prunus.core.registry import Method
    from prunus.core.results import Results
    from prunus.prunables.dataset import Dataset

READS_ROWS = ("accuracy", "perplexity", "geometry", "similarity", "connectivity", "reliance")
MASKED = "masked: its size and its time are unchanged"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("measure", context_settings=EXTRA)(measure)


def measure(
    context: typer.Context,
    words: Annotated[list[str], typer.Argument(metavar="MODEL [DATA]", help=f"{MODEL} {DATA} Role test by default.")],
    metrics: Annotated[str, typer.Option(help="With commas: accuracy, perplexity, params, macs, latency, size.")] = "",
    geometry: Annotated[
        bool, typer.Option(help="Angle, length and margin of features too; --corruptions fog,blur --severities 1,3,5.")
    ] = False,
    dense: Annotated[
        str, typer.Option(help="The model before pruning: measured beside it, and what gates compare with.")
    ] = "",
    require: Annotated[
        list[str] | None, typer.Option(help="Gate: 'accuracy >= dense - 0.5', 'macs <= 0.5 * dense'.")
    ] = None,
    size: Size = 0,
    like: Like = "",
    allow_code: AllowCode = False,
    dry_run: DryRun = False,
    max_hours: MaxHours = HOURS,
    as_json: Json = False,
) -> None:
    """Measure a model on test rows. Flags of the measures (--batch, --repeats, --window): `prunus methods accuracy`."""
    from prunus.core.results import Results

    given, pairs = arguments(context, words)
    if len(given) not in (1, 2):
        raise BadInput(f"prunus measure takes MODEL DATA, or MODEL for what needs no rows, not {' '.join(given)!r}")
    for gate in require or ():
        refuse_gate(gate, dense)
    names = metrics or ("accuracy,params" if len(given) == 2 else "params")
    methods = measures(f"{names},geometry" if geometry else names)
    options = assign(pairs, *methods, also=own_flags(context))
    if not dense and (alone := [method.name for method in methods if method.facts.get("pair")]):
        raise BadInput(f"{', '.join(alone)} is of two models: name the other with --dense SPEC")
    opened = inputs.open_model(given[0], like=like, allow_code=allow_code)
    before = inputs.open_model(dense, like=like, allow_code=allow_code) if dense else None
    rows = inputs.open_rows(given[1], role="test", size=size, model=opened) if len(given) == 2 else None
    if rows is None and (needy := [method.name for method in methods if method.name in READS_ROWS]):
        raise BadInput(f"{', '.join(needy)} is measured on rows: prunus measure {given[0]} DATA")
    job = Measuring(methods, options, rows)
    if _foreseen(job, opened, before, dry_run=dry_run, max_hours=max_hours, as_json=as_json):
        return
    results = Results()
    if before is not None:
        results += job.results(before, "dense", None)
    results += job.results(opened, given[0].partition("?")[0], before, **_made_by(opened))
    held = [line for gate in require or () for line in check_gate(gate, results, fails=show_first(results, as_json))]
    value = {"results": [asdict(row) for row in results], "gates": held}
    masked = [MASKED] if any(plan.unit == "weights" for plan in opened.plans) else []
    show(value, as_json=as_json, text="\n".join([results_text(results, controls=bool(opened.plans)), *held, *masked]))


def measures(names: str) -> list[Method]:
    """The measures named."""
    found = [registry.find(name.strip(), kind="measure") for name in names.split(",") if name.strip()]
    for method in found:
        if method.facts.get("of") == "selection":
            raise BadInput(f"{method.id} measures a plan over rows: prunus compare PLAN_A PLAN_B DATA")
    return found


def _made_by(model: inputs.Model) -> dict[str, str]:
    """Method and budget of a model that was pruned."""
    methods = [str(plan.provenance.get("method", plan.unit)) for plan in model.plans]
    return {"method": " then ".join(methods), "budget": " then ".join(plan.asked.short() for plan in model.plans)}


def refuse_gate(gate: str, dense: str) -> None:
    """A gate that can't be read, or compares with a dense model that was not given."""
    from prunus.measure.gate import parse

    if any(condition.factor for condition in parse(gate)) and not dense:
        raise BadInput(f"--require {gate!r} compares with the dense model: add --dense SPEC")


class Measuring:
    """Measures with their options and their rows.

    Args:
        methods: measures in order.
        options: of each.
        rows: or None, where no measure reads any.
    """

    def __init__(self, methods: list[Method], options: list[dict[str, Any]], rows: Dataset | None) -> None:
        self.methods, self.rows = methods, rows
        self.names = [method.id for method in methods]
        self.settings: dict[str, Any] = {name: value for own in options for name, value in own.items()}
        record: dict[str, Any] = getattr(getattr(rows, "backing", None), "record", None) or {}
        if "length" in record:
            self.settings.setdefault("window", int(record["length"]))

    def results(self, model: inputs.Model, what: str, dense: inputs.Model | None, **made: Any) -> Results:
        """Every metric of one model, as rows of Results."""
        from prunus.flow.compare import measure as measured

        data = self.rows if self.rows is not None else self._made_up(model)
        against = dense.net if dense is not None else None
        return measured(model.net, data, self.names, dense=against, **self.settings).rows(what, **made)

    def compared(
        self,
        dense: inputs.Model,
        plan: Plan,
        recovered: Any,
        recover: Any,
        calibration: Dataset | None,
        controls: int,
        beside: Any = None,
    ) -> Results:
        """Dense, pruned and controls."""
        from prunus.flow.compare import compare

        if recovered is None and recover is not None:
            recovered = recover(plan.apply(dense.net), 0)
        return compare(
            dense.net, plan, data=self.rows, recovered=recovered, recover=recover, beside=beside, controls=controls,
            metrics=self.names, calibration=calibration, **self.settings,
        )  # fmt: skip

    def some(self, rows: Dataset) -> Measuring:
        """What passes over rows, on some of them."""
        return Measuring([method for method in self.methods if method.name in READS_ROWS], [self.settings], rows)

    def _made_up(self, model: inputs.Model) -> Any:
        """Rows of zeros, for what only needs their shape."""
        import torch

        if all(method.name in ("params", "size") for method in self.methods):
            return None
        example = example_for(model)
        if not isinstance(example, torch.Tensor):
            return [example]
        rows = int(self.settings.get("batch", 1))
        return example[:1].expand(rows, *example.shape[1:]).clone(), torch.zeros(rows, dtype=torch.int64)


def _foreseen(
    job: Measuring, model: inputs.Model, dense: inputs.Model | None, *, dry_run: bool, max_hours: float, as_json: bool
) -> bool:
    """Whether the verb ends with a forecast; also refuses rows the model can't take."""
    limits: dict[str, Any] = {"dry_run": dry_run, "max_hours": max_hours, "as_json": as_json}
    if job.rows is None or not job.some(job.rows).methods:
        return nothing_to_time(**limits)
    inputs.require_fit(model, job.rows)

    def timed(part: Dataset) -> int:
        job.some(part).results(model, "timed", None)
        return 0

    batch = int(job.settings.get("batch", 256))
    return foresee(Pass(job.rows, timed, batch, 1 + (dense is not None), cheaper="'DATA?limit=5000'"), **limits)


def show_first(results: Results, as_json: bool) -> Callable[[str], None]:
    """What a failing gate prints before it fails: the numbers are worth having."""

    def tell(failure: str) -> None:
        show(
            {"results": [asdict(row) for row in results], "gates": failure.split("; ")},
            as_json=as_json,
            text=results_text(results),
        )

    return tell


def check_gate(gate: str, results: Results, *, fails: Callable[[str], None]) -> list[str]:
    """Lines of the conditions, all of which hold.

    Raises:
        GateFailed: after `fails` was told.
    """
    from prunus.core.errors import GateFailed
    from prunus.measure.gate import check

    dense = {row.metric: row.value for row in results.where(what="dense")}
    pruned = {row.metric: row.value for row in results if row.what != "dense" and not row.control}
    try:
        return check(gate, pruned, dense)
    except GateFailed as error:
        fails(str(error))
        raise
