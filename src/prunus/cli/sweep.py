"""`prunus sweep`: many budgets from one score: asked and planned, and what each is worth beside random, with the knee."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunus.cli import inputs
from prunus.cli.flags import DATA, HOURS, MODEL, AllowCode, Batch, DryRun, Json, Like, MaxHours, Seed, Select, Size
from prunus.cli.forecast import Pass, foresee, nothing_to_time
from prunus.cli.options import EXTRA, arguments, assign, own_flags
from prunus.cli.plan import rows_plan, with_rows
from prunus.cli.show import note, show, table
from prunus.core import registry
from prunus.core.budget import Budget
from prunus.core.errors import BadInput, BudgetUnreachable

if TYPE_CHECKING:
    from torch import nn

    from prunus.core.plan import Plan
    from prunus.core.score import Score
    from prunus.prunables.dataset import Dataset

Settings = dict[str, Any]
NO_KNEE = "no knee is named: choices are made on rows of role val (--val), not on test rows"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("sweep", context_settings=EXTRA)(sweep)


def sweep(
    context: typer.Context,
    words: Annotated[list[str], typer.Argument(metavar="SCORE BUDGET...", help="As '50% rows' '30% rows' '10% rows'.")],
    fit: Annotated[str, typer.Option(help=f"Rows: train this model anew on what each budget keeps. {MODEL}")] = "",
    model: Annotated[str, typer.Option(help="Channels: the model the score was made for.")] = "",
    data: Annotated[str, typer.Option(help=f"Rows of role fit: to train on, or to compensate with. {DATA}")] = "",
    val: Annotated[str, typer.Option(help="Rows of role val: measured, and the knee is chosen on them.")] = "",
    test: Annotated[str, typer.Option(help="Rows of role test: measured only.")] = "",
    signals: Annotated[
        list[str] | None, typer.Option(help="Folder of `prunus signals`: of rows or of modules.")
    ] = None,
    select: Select = "",
    compensate: Annotated[str, typer.Option(help="Channels: joint_ls, sweep, mean_bias or none.")] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings, or random models, for each budget.")] = 1,
    epochs: Annotated[int, typer.Option(min=1, help="Rows: of a training on all rows; subsets get as many steps.")] = 8,
    lr: Annotated[float, typer.Option(help="Rows: of the trainings.")] = 0.05,
    batch: Batch = 64,
    size: Size = 0,
    seed: Seed = 0,
    like: Like = "",
    allow_code: AllowCode = False,
    dry_run: DryRun = False,
    max_hours: MaxHours = HOURS,
    as_json: Json = False,
) -> None:
    """Cut many budgets from one score. Measures them where it is told how: --fit and --data, or --model."""
    from prunus.core.score import Score

    given, pairs = arguments(context, words)
    if len(given) < 2 or not inputs.is_folder_of(given[0], "score.json"):
        raise BadInput(
            f"prunus sweep takes SCORE BUDGET BUDGET ..., where SCORE is a folder of prunus score: {' '.join(given)}"
        )
    score, budgets = Score.load(given[0]), budgets_of(given[1:])
    pick: Settings = {
        "pairs": pairs, "flags": own_flags(context), "data": data, "signals": signals, "size": size, "seed": seed,
        "batch": batch, "like": like, "allow_code": allow_code,
        "limits": {"dry_run": dry_run, "max_hours": max_hours, "as_json": as_json},
    }  # fmt: skip
    if score.unit == "rows":
        settings = {"select": select} if select else {}
        sweeper = RowSweep(score, settings, pick, fit, {"epochs": epochs, "lr": lr, "batch": batch, "seeds": seeds})
    elif score.unit == "channels" and model:
        sweeper = ChannelSweep(score, model, compensate, pick, seeds)
    else:
        raise BadInput(f"{given[0]} scores {score.unit}: add --model SPEC, the model it was made for")
    judged = {
        role: inputs.open_rows(spec, role=role, size=size) for role, spec in (("val", val), ("test", test)) if spec
    }
    if sweeper.foreseen(len(budgets), judged):
        return
    lines = [line for budget in budgets for line in sweeper.lines(budget, judged)]
    lines += sweeper.dense(judged)
    _tell(lines, budgets, judged, as_json)


def budgets_of(words: list[str]) -> list[Budget]:
    """Budgets from words that may have lost their quotes: `50% rows 30% rows`."""
    found: list[Budget] = []
    parts: list[str] = []
    for word in words:
        parts.append(word)
        try:
            found.append(Budget.parse(" ".join(parts)))
        except BadInput:
            if (word == words[-1] and len(parts) == 1) or len(parts) > 3:
                raise
            continue
        parts = []
    if parts:
        Budget.parse(" ".join(parts))
    return found


class RowSweep:
    """Subsets of rows, each trained on with as many steps as all rows get.

    Args:
        score: over rows.
        settings: of plans.
        pick: what every verb is given.
        fit: the model to train, or "".
        training: epochs, lr, batch, seeds.
    """

    def __init__(self, score: Score, settings: Settings, pick: Settings, fit: str, training: Settings) -> None:
        if fit and not pick["data"]:
            raise BadInput("--fit trains on the rows that were scored: add --data")
        self.settings, self.pick, self.training = settings, pick, training
        self.scored = with_rows(score, pick)
        self.rows: Dataset | None = self.scored[1]
        self.model = (
            inputs.open_model(fit, like=pick["like"], allow_code=pick["allow_code"], trains=True) if fit else None
        )

    def foreseen(self, budgets: int, judged: dict[str, Dataset]) -> bool:
        """Whether the verb ends with a forecast."""
        if self.model is None or self.rows is None or not judged:
            if self.model is not None:
                raise BadInput("--fit trains, and nothing would be measured: add --val or --test")
            return nothing_to_time(**self.pick["limits"])
        inputs.require_fit(self.model, self.rows)
        for data in judged.values():
            inputs.require_fit(self.model, data)
        arms = (2 * budgets + 1) * self.training["seeds"]

        def job(part: Dataset) -> int:
            self._train(part, 0, {"epochs": 1})
            return 0

        cheaper = "fewer budgets, --seeds 1, fewer --epochs"
        work = Pass(self.rows, job, self.training["batch"], arms * self.training["epochs"], cheaper=cheaper)
        return foresee(work, **self.pick["limits"])

    def plan(self, budget: Budget) -> Plan:
        """What stays under one budget."""
        return rows_plan(self.scored, budget, self.settings, self.pick)

    def lines(self, budget: Budget, judged: dict[str, Dataset]) -> list[Settings]:
        """The method's line, and where it is measured random's."""
        try:
            plan = self.plan(budget)
        except BudgetUnreachable as error:
            note(f"note: {error}")
            return [{"arm": "unreachable", "budget": budget.short()}]
        method = f"{plan.provenance.get('method')} + {plan.provenance.get('select')}"
        line = _line(method, budget, plan)
        if self.model is None or not judged:
            return [line]
        from prunus.flow.controls import random_like

        seeds = range(self.pick["seed"], self.pick["seed"] + self.training["seeds"])
        own = [self._accuracy(plan, seed, judged) for seed in seeds]
        random = [self._accuracy(random_like(plan, seed), seed, judged) for seed in seeds]
        return [{**line, **_mean(own)}, {**_line("random", budget, plan), "control": True, **_mean(random)}]

    def dense(self, judged: dict[str, Dataset]) -> list[Settings]:
        """All rows."""
        if self.model is None or not judged or self.rows is None:
            return []
        seeds = range(self.pick["seed"], self.pick["seed"] + self.training["seeds"])
        found = [self._accuracy(None, seed, judged) for seed in seeds]
        return [{"arm": "all rows", "budget": "", "planned": len(self.rows), "stays": "100 %", **_mean(found)}]

    def _accuracy(self, plan: Plan | None, seed: int, judged: dict[str, Dataset]) -> dict[str, float]:
        assert self.rows is not None
        steps = self.training["epochs"] * -(-len(self.rows) // self.training["batch"])
        net = self._train(self.rows if plan is None else self.rows.apply(plan), seed, {"steps": steps})
        return {role: accuracy_of(net, data) for role, data in judged.items()}

    def _train(self, rows: Dataset, seed: int, length: dict[str, Any]) -> nn.Module:
        """The model with new weights (or those it was given), trained."""
        from prunus.train.loop import fit

        assert self.model is not None
        net = inputs.fresh(self.model, seed)
        settings: Settings = {"lr": self.training["lr"], "batch": self.training["batch"], **length}
        fit(net, rows, seed=seed, progress=False, **settings)
        return net


class ChannelSweep:
    """Models with fewer channels, as they are after the cut and its compensation.

    Args:
        score: over channels.
        model: what it was made for.
        compensate: compensators with commas, "" for the method's own.
        pick: what every verb is given.
        seeds: random models for each budget.
    """

    def __init__(self, score: Score, model: str, compensate: str, pick: Settings, seeds: int) -> None:
        from prunus.cli.calibrate import calibrate
        from prunus.cli.plan import compensators_of, same_model

        self.score, self.pick, self.seeds = score, pick, seeds
        self.model = inputs.open_model(model, like=pick["like"], allow_code=pick["allow_code"])
        same_model(score, self.model)
        method = registry.find(str(score.provenance["method"]), unit="channels", kind="criterion")
        assign(pick["pairs"], also=pick["flags"])
        chosen = compensators_of(method, {"compensate": compensate.split(",")} if compensate else {})
        self.names = [one.id for one in chosen] or "none"
        quiet = {"dry_run": False, "max_hours": pick["limits"]["max_hours"], "as_json": pick["limits"]["as_json"]}
        self.found = calibrate(
            self.model,
            chosen,
            data=pick["data"],
            folders=pick["signals"],
            size=pick["size"],
            batch=pick["batch"],
            limits=quiet,
        )
        assert self.found is not None

    def foreseen(self, budgets: int, judged: dict[str, Dataset]) -> bool:
        """Whether the verb ends with a forecast."""
        limits = self.pick["limits"]
        if not judged:
            return nothing_to_time(**limits)
        rows = max(judged.values(), key=len)
        inputs.require_fit(self.model, rows)

        def job(part: Dataset) -> int:
            accuracy_of(self.model.net, part)
            return 0

        times = (budgets * (1 + self.seeds) + 1) * len(judged)
        return foresee(Pass(rows, job, 256, times, cheaper="fewer budgets, --seeds 1, 'DATA?limit=5000'"), **limits)

    def lines(self, budget: Budget, judged: dict[str, Dataset]) -> list[Settings]:
        """The method's line, and where it is measured random's."""
        from prunus.flow.channels import plan_channels
        from prunus.flow.controls import random_like

        assert self.found is not None
        prunable, signals = self.found.prunable, self.found.signals
        name = str(self.score.provenance["method"])
        try:
            plan = plan_channels(
                prunable, name, budget, score=self.score, signals=signals, compensate=self.names, seed=self.pick["seed"]
            )
        except BudgetUnreachable as error:
            note(f"note: {error}")
            return [{"arm": "unreachable", "budget": budget.short()}]
        line = _line(name, budget, plan)
        if not judged:
            return [line]
        controls = [random_like(plan, seed, prunable=prunable, signals=signals) for seed in range(self.seeds)]
        own, random = self._accuracy(plan, judged), [self._accuracy(control, judged) for control in controls]
        return [{**line, **own}, {**_line("random", budget, plan), "control": True, **_mean(random)}]

    def dense(self, judged: dict[str, Dataset]) -> list[Settings]:
        """The whole model."""
        if not judged:
            return []
        found = {role: accuracy_of(self.model.net, data) for role, data in judged.items()}
        return [{"arm": "dense", "budget": "", "stays": "100 %", **found}]

    def _accuracy(self, plan: Plan, judged: dict[str, Dataset]) -> dict[str, float]:
        assert self.found is not None
        small = self.found.prunable.apply(plan)
        return {role: accuracy_of(small, data) for role, data in judged.items()}


def accuracy_of(net: nn.Module, data: Dataset) -> float:
    """Share of rows classified rightly."""
    from prunus.measure.predict import predict

    return float(predict(net, data).correct.mean())


def _mean(found: list[dict[str, float]]) -> dict[str, float]:
    return {role: sum(one[role] for one in found) / len(found) for role in found[0]}


def _line(arm: str, budget: Budget, plan: Plan) -> Settings:
    """Asked and planned, in the budget's own quantity."""
    quantity = budget.quantity
    planned, dense = plan.planned.get(quantity), plan.dense.get(quantity)
    stays = f"{100 * planned / dense:.1f} %" if planned is not None and dense else ""
    return {"arm": arm, "budget": budget.short(), "asked": str(budget), "planned": planned, "stays": stays}


def _tell(lines: list[Settings], budgets: list[Budget], judged: dict[str, Dataset], as_json: bool) -> None:
    from prunus.measure.knee import knee

    roles = list(judged)
    point: float | None = None
    if "val" in judged:
        points = [
            (_stays(line), line["val"])
            for line in lines
            if "val" in line and not line.get("control") and line["budget"]
        ]
        point = knee(points)
    marked = [{**line, **{role: f"{100 * line[role]:.1f} %" for role in roles if role in line}} for line in lines]
    columns = ["arm", "budget", "planned", "stays", *(f"{role}" for role in roles)]
    text = [table(marked, columns)]
    text += (
        [f"accuracy on {' and '.join(f'{len(data):,} {role} rows' for role, data in judged.items())}"] if judged else []
    )
    if "val" in judged:
        text.append(f"knee: {point:.3g} % stays" if point is not None else "no knee: it takes three budgets and a bend")
    elif judged:
        text.append(NO_KNEE)
    show({"lines": lines, "knee": point}, as_json=as_json, text="\n".join(text))


def _stays(line: Settings) -> float:
    return float(line["stays"].removesuffix(" %"))
