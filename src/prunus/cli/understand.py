"""`prunus audit` and `prunus regimes`: what cuts of a model are worth before and after retraining, and how to train for them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunus.cli.flags import AllowCode, Json
from prunus.cli.run import AcceptEnv, Hours, Jobs, Overrides, Runs
from prunus.cli.show import show, table

if TYPE_CHECKING:
    from prunus.maths.regimes import RegimeMap
    from prunus.run.audit import Audited

Recipe = Annotated[str, typer.Argument(metavar="RECIPE.toml", help="A recipe whose arms cut a model and recover it.")]
MOVES = {"raise": "train hotter", "lower": "train colder", "keep": "keep"}


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command("audit")(audit)
    app.command("regimes")(regimes)


def audit(
    recipe: Recipe,
    overrides: Overrides = None,
    candidates: Annotated[int, typer.Option(min=1, help="Random cuts beside the arms' own, for each budget.")] = 40,
    jobs: Jobs = None,
    max_hours: Hours = None,
    accept_env: AcceptEnv = False,
    allow_code: AllowCode = False,
    runs: Runs = "runs",
    as_json: Json = False,
) -> None:
    """Ask whether the loss right after a cut predicts the model after retraining; run again to go on."""
    from prunus.recipe import load
    from prunus.run.audit import audit as audited

    loaded = load(recipe, overrides or [], allow_code=allow_code)
    settings: dict[str, Any] = {"jobs": jobs, "max_hours": max_hours, "accept_env": accept_env, "runs": runs}
    report, found = audited(loaded, candidates=candidates, **settings)
    value = {"run": str(report.folder), "made": dict(report.made), "reused": report.reused}
    pools = [{**asdict(one), "verdict": {m: a.verdict for m, a in one.agreement.items()}} for one in found]
    show({**value, "pools": pools}, as_json=as_json, text="\n\n".join(_pool(one) for one in found))


def _pool(found: Audited) -> str:
    lines = [
        {
            "after retraining": metric,
            "candidates": told.candidates,
            "tau": f"{told.tau:+.2f}",
            "95 %": "" if told.interval is None else f"{told.interval[0]:+.2f} to {told.interval[1]:+.2f}",
            "p": f"{told.p:.2g}",
            "better than the oracle": f"{100 * told.anomalies:.0f} %",
            "pairs reversed": f"{100 * told.counterexamples:.0f} %",
            "oracle": told.verdict,
        }
        for metric, told in found.agreement.items()
    ]
    ranks = ", ".join(f"{name} {rank} of {len(found.before)}" for name, rank in found.criteria.items())
    return f"{found.pool}\n{table(lines)}\nrank after retraining: {ranks}"


def regimes(
    recipe: Recipe,
    overrides: Overrides = None,
    points: Annotated[int, typer.Option(min=3, help="On the line between two retrained copies.")] = 11,
    barrier: Annotated[float, typer.Option(min=0, help="Error (a share) that still counts as well connected.")] = 0.01,
    alike: Annotated[
        float | None, typer.Option(help="CKA from which outputs count as alike; default the median of the map.")
    ] = None,
    jobs: Jobs = None,
    max_hours: Hours = None,
    accept_env: AcceptEnv = False,
    allow_code: AllowCode = False,
    runs: Runs = "runs",
    as_json: Json = False,
) -> None:
    """Map settings of dense training by density: train hotter or colder before pruning? Run again to go on."""
    from prunus.recipe import load
    from prunus.run.regimes import regimes as mapped

    loaded = load(recipe, overrides or [], allow_code=allow_code)
    settings: dict[str, Any] = {"jobs": jobs, "max_hours": max_hours, "accept_env": accept_env, "runs": runs}
    report, found = mapped(loaded, points=points, barrier=barrier, alike=alike, **settings)
    lines, chosen = _map(found), {density: found.best(density).name for density in _densities(found)}
    value = {"run": str(report.folder), "made": dict(report.made), "reused": report.reused}
    value |= {"barrier": found.barrier, "alike": found.alike, "points": lines, "prune_from": chosen}
    told = [f"alike from CKA {found.alike:.4f}, barrier above {100 * found.barrier:g} % error"]
    told += [f"{density}: prune from {name}" for density, name in chosen.items()]
    show(value, as_json=as_json, text="\n".join([table(lines), *told]))


def _densities(found: RegimeMap) -> list[str]:
    return list(dict.fromkeys(str(point.density) for point in found.points))


def _map(found: RegimeMap) -> list[dict[str, Any]]:
    return [
        {
            "budget": point.density,
            "training, coldest first": point.name,
            "connectivity": f"{100 * point.connectivity:+.1f} %",
            "CKA": f"{point.similarity:.4f}",
            "error": "" if point.error is None else f"{100 * point.error:.1f} %",
            "regime": found.regime(point),
            "before pruning": MOVES[found.move(point)],
        }
        for density in _densities(found)
        for point in found.at(density)
    ]
