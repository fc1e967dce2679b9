"""Synthetic reports for the tests of report/: a data run along three budgets, and a model run with one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from prunus.core.budget import Budget
from prunus.core.plan import Kept, Plan
from prunus.core.results import Results, Row
from prunus.core.rng import uniform
from prunus.core.score import Score
from prunus.flow.curation import compare_rows
from prunus.flow.rows import plan_rows
from prunus.prunables.dataset import Dataset
from prunus.report import build, heat, theory
from prunus.report.data import Heat, Panels, ReportData, Verdict

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def noise(purpose: str, count: int) -> np.ndarray:
    """Uniform in [0, 1), the same in every run."""
    return uniform(0, purpose, np.arange(count))


def data_results() -> Results:
    """Dense, two methods and two controls at three budgets, five seeds."""
    jitter = iter(0.012 * (noise("jitter", 200) - 0.5))
    rows = [
        Row("dense", "", "", seed, "accuracy", 0.917 + next(jitter), cost={"training_cpu_s": 640, "samples": 50_000})
        for seed in range(5)
    ]
    drops = {
        "el2n + ccs": (0.004, 0.012, 0.041),
        "forgetting": (0.006, 0.035, 0.21),
        "random-balanced": (0.012, 0.034, 0.09),
    }
    drops["rs2"] = (0.008, 0.021, 0.055)
    for what, lost in drops.items():
        control = what in ("random-balanced", "rs2")
        for share, drop in zip((50, 30, 10), lost):
            cost = {
                "training_cpu_s": 6.4 * share,
                "samples": 500 * share,
                "signals_cpu_s": 0 if control else 95,
                "selection_cpu_s": 0.4,
            }
            for seed in range(5):
                value = 0.917 - drop + next(jitter)
                rows.append(
                    Row(what, f"rows/{what.split()[0]}", f"{share}% rows", seed, "accuracy", value, None, control, cost)
                )
    return Results(tuple(rows), {"python": "3.11.7", "torch": "2.14.1", "processor": "2 cores", "threads": 1})


def rows_plan() -> tuple[Plan, Score, np.ndarray]:
    """3 of 10 rows of 2000, the score they were chosen by, and labels."""
    values = (noise("score", 2000) ** 2 + 0.4 * noise("more", 2000)).astype(np.float32)
    labels = (10 * noise("labels", 2000)).astype(np.int64)
    chosen = np.argsort(-values, kind="stable")[60:660]
    provenance = {"method": "rows/el2n, select ccs"}
    plan = Plan(
        "rows",
        {"all": Kept.of_ids(chosen, 2000)},
        Budget.parse("30% rows"),
        {"rows": 600},
        {"rows": 2000},
        provenance=provenance,
    )
    return plan, Score("rows", {"all": values}, "hard", provenance={"method": "rows/el2n"}), labels


def pictures(plan: Plan) -> dict[int, np.ndarray]:
    """Small colour pictures, some kept and some dropped."""
    ids = [*plan.keep()[:10].tolist(), *plan.dropped()[:10].tolist()]
    ramp = np.linspace(0, 1, 32)
    made = {}
    for number, key in enumerate(ids):
        hue = np.array([0.3 + 0.05 * (number % 10), 0.5, 0.8 - 0.05 * (number % 7)])
        disc = (np.hypot(ramp[:, None] - 0.5, ramp[None] - 0.4 - 0.02 * (number % 5)) < 0.3).astype(float)
        made[key] = (255 * np.clip((0.25 + 0.6 * disc)[..., None] * hue + 0.1 * ramp[:, None, None], 0, 1)).astype(
            np.uint8
        )
    return made


def data_report() -> ReportData:
    """A report on pruned rows, with every section."""
    plan, score, labels = rows_plan()
    results = data_results()
    shown = pictures(plan)
    verdicts = (
        Verdict("el2n + ccs", "30% rows", "accuracy", "random-balanced", "better", 0.0221, (0.0112, 0.033)),
        Verdict("el2n + ccs", "30% rows", "accuracy", "rs2", "tie", 0.0089, (-0.0021, 0.0196)),
        Verdict("forgetting", "10% rows", "accuracy", "random-balanced", "below random", -0.12, (-0.139, -0.101)),
    )
    return ReportData(
        title="30 % of the rows: EL2N with coverage selection on cifar10-jpeg300",
        summary="Training on 30 % of the rows keeps 90.5 % accuracy, 1.2 points below all rows and better than balanced random rows.",
        results=results,
        command="prunus run recipes/ccs-cifar10.toml --jobs 2",
        verdicts=verdicts,
        plans=(build.plan_row("el2n + ccs", plan, {"rows": 600}),),
        curves=build.curves(results),
        kept=(build.kept_by_label(np.arange(2000), labels, plan, CLASSES),),
        histograms=(build.histogram(score, plan),),
        galleries=(
            build.gallery(shown, plan, {k: f"{k} · {CLASSES[labels[k]]}" for k in shown}, "Ten rows of each, by id."),
        ),
        notes=("Signals recorded from training are a function of seed, threads and torch version.",),
        environment={"data": "cifar10-jpeg300 (not comparable with papers on CIFAR-10)"},
    )


def model_report(*, masked: bool = False, controls: bool = True) -> ReportData:
    """A report on a cut CNN: accuracy, size and time, one budget."""
    arms = {"dense": (0.811, 40.8e6, 272e3, 3.91), "taylor + joint_ls": (0.714, 20.3e6, 141e3, 2.42)}
    arms |= {"taylor + joint_ls, recovered": (0.792, 20.3e6, 141e3, 2.42)}
    arms |= (
        {"random + joint_ls": (0.602, 20.4e6, 139e3, 2.45), "l1 + joint_ls": (0.689, 20.2e6, 140e3, 2.4)}
        if controls
        else {}
    )
    rows = []
    for what, (accuracy, macs, params, ms) in arms.items():
        method, budget = ("", "") if what == "dense" else ("channels/" + what.split()[0], "50% macs")
        control = what.startswith(("random", "l1"))
        for metric, value, half in (
            ("accuracy", accuracy, 0.009),
            ("macs", macs, 0),
            ("params", params, 0),
            ("latency_ms", ms, 0.07),
        ):
            interval = (value - half, value + half) if half else None
            rows.append(Row(what, method, budget, None if half == 0 else 0, metric, value, interval, control))
    sizes = {f"layer{stage}.{block}.conv1.weight:0": 16 * 2 ** (stage - 1) for stage in (1, 2, 3) for block in range(3)}
    share = noise("widths", 9)
    groups = {
        n: Kept.of_ids(np.arange(max(2, int(s * (0.35 + 0.5 * u)))), s) for (n, s), u in zip(sizes.items(), share)
    }
    planned, dense = {"macs": 20.3e6, "params": 141_322}, {"macs": 40.8e6, "params": 272_474}
    plan = Plan(
        "channels", groups, Budget.parse("50% macs"), planned, dense, provenance={"method": "channels/taylor, joint_ls"}
    )
    return ReportData(
        title="ResNet-20 at half the MACs",
        results=Results(
            tuple(rows), {"python": "3.11.7", "torch": "2.14.1", "threads": 1, "batch": 64, "dtype": "float32"}
        ),
        command='prunus plan resnet20.safetensors taylor "50% macs" --compensate joint_ls --out runs/half',
        plans=(build.plan_row("taylor + joint_ls", plan, {"macs": 20.3e6, "params": 141_322}),),
        kept=(build.kept_bars(plan),),
        masked=masked,
        notes=(
            "Latency: dense and pruned interleaved in fresh processes, 20 repeats, one thread. Not tested on CUDA.",
        ),
    )


PICTURE = {  # gain over random_balanced, in points, at 50, 30 and 10 % of clean rows, then of noisy ones
    "ccs: aum": ((0.6, 1.9, 2.4), (1.1, 2.2, 3.0)),
    "el2n_sum + top(keep=hardest)": ((1.2, -3.0, -21.0), (-9.0, -18.0, -30.0)),
    "prototypes + balanced(keep=easiest)": ((-1.0, -0.6, 1.2), (0.2, 0.1, 0.9)),
    "k_center": ((0.1, -0.9, -4.0), (-0.5, -2.0, -5.0)),
}


def picture_results() -> Results:
    """Four methods and two controls at three budgets, clean and noisy, at equal steps and equal epochs, five seeds."""
    rows: list[Row] = []
    for place, (data, level) in enumerate((("clean", 0.72), ("noisy", 0.61))):
        for equal, lost in (("equal_steps", 0.0), ("equal_epochs", 0.06)):
            rows += _setting(f"{data}, {equal}", level, lost, place)
    return Results(tuple(rows), {"python": "3.11.7", "torch": "2.14.1", "threads": 1})


def _setting(setting: str, level: float, lost: float, noisy: int) -> list[Row]:
    seeds, dense = range(5), f"dense ({setting})"
    jitter = 0.006 * (noise(setting, 5 * 40) - 0.5).reshape(40, 5)
    rows = [
        Row(
            dense,
            "",
            "",
            s,
            "accuracy",
            level + jitter[0, s],
            cost={"training_cpu_s": 22, "samples": 1000},
            dense=dense,
        )
        for s in seeds
    ]
    arms = {name: [by / 100 for by in gains[noisy]] for name, gains in PICTURE.items()}
    arms |= {"random_balanced": [0.0] * 3, "random": [-0.001, -0.002, -0.004]}
    for number, (name, gains) in enumerate(arms.items()):
        control = name.startswith("random")
        for place, share in enumerate((50, 30, 10)):
            cost = {"signals_cpu_s": 0.0 if control else 23.0, "selection_cpu_s": 0.2}
            cost |= (
                {"training_cpu_s": 22.0, "samples": 1000}
                if "steps" in setting
                else {
                    "training_cpu_s": 0.22 * share,
                    "samples": 10 * share,
                }
            )
            method = f"rows/{name}" if control else "rows/x"
            base = level - (0.04, 0.09, 0.2)[place] - lost
            values = [base + gains[place] + jitter[1 + 3 * number + place, s] for s in seeds]
            rows += [
                Row(f"{name} ({setting})", method, f"{share}% rows", s, "accuracy", v, None, control, cost, "", dense)
                for s, v in zip(seeds, values)
            ]
    return rows


def heats(results: Results) -> tuple[Heat, ...]:
    """The tables of results."""
    return heat.heats(results, heat.pictures(results))


def panels(results: Results) -> tuple[Panels, ...]:
    """The curves of results."""
    return heat.panels(heat.pictures(results), heats(results))


def rest(results: Results) -> Results:
    """What no table shows."""
    return heat.rest(results, heat.pictures(results))


def picture_report() -> ReportData:
    """Which methods beat random, drawn."""
    results = picture_results()
    title, drawn = "Which data-pruning methods beat random rows?", panels(results)
    made = {"heats": heats(results), "panels": drawn, "curves": theory.theory_curves(drawn)}
    return ReportData(title, results, command="prunus run picture.toml", **made)


def selections_report() -> ReportData:
    """Two plans over 120 small images side by side, with a score; made as `px.compare_rows` makes it."""
    x = noise("images", 120 * 64).reshape(120, 1, 8, 8).astype(np.float32)
    labels = (6 * noise("classes", 120)).astype(np.int64)
    x += labels[:, None, None, None] / 3
    names = ("ant <b>", "bee", "cow", "dog", "eel", "fox")
    rows = Dataset((x[:90], labels[:90]), ids=np.array([f"img/{n:03}.png" for n in range(90)]), classes=names)
    reference = Dataset((x[90:], labels[90:]), role="val", classes=names)
    score = Score("rows", {"rows": noise("hard", 90)}, "hard", {"rows": rows.ids}, provenance={"method": "rows/el2n"})
    plans = {end: plan_rows(score, "30 rows", select="top", options={"keep": end}) for end in ("hardest", "easiest")}
    settings = {"reference": reference, "score": score, "clusters": 5}
    report = compare_rows(plans, rows, controls=2, title="Hardest or easiest?", command="prunus compare", **settings)
    return replace(report, histograms=(build.histogram(score, plans["hardest"]),))
