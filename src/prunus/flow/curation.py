"""`px.compare_rows`: plans over the same rows side by side, without training on them, with random rows beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from prunus.core.environment import environment
from prunus.core.errors import BadInput
from prunus.core.plan import Plan
from prunus.core.rng import Rng
from prunus.core.score import Score
from prunus.flow.rows import plan_rows, score_rows
from prunus.measure.ground import Ground, ground
from prunus.measure.measured import Measured
from prunus.measure.stats import Difference, over_rows, verdicts
from prunus.prunables.dataset import Dataset
from prunus.report import build, runfolder, selections
from prunus.report.data import ReportData, Selections, Verdict
from prunus.signals.rowset import Signals

JUDGED = "knn_accuracy"


def compare_rows(
    plans: Mapping[str, Plan],
    data: Dataset,
    *,
    signals: Signals | None = None,
    reference: Dataset | None = None,
    reference_signals: Signals | None = None,
    score: Score | None = None,
    controls: int = 3,
    title: str = "",
    command: str = "",
    **settings: Any,
) -> ReportData:
    """What the rows that plans keep are worth in a frozen embedding: balance, coverage, quality, use, shift.

    Args:
        plans: name -> plan over rows of `data`. Where their counts differ, the larger ones are drawn down to the smallest
            by their ids, and the notes say so.
        data: the rows the plans were made for.
        signals: with `embedding` of the rows; without, the rows' own numbers are compared.
        reference: labelled rows of role val or test that neighbours and the probe are asked for.
        reference_signals: with `embedding` of the reference, of the same encoder.
        score: by which the mean rank of the kept rows is told.
        controls: draws of random rows (their mean and range are shown); 0 leaves random and balanced random rows out.
        title, command: of the report.
        **settings: of the measure `curation`: k, temperature, clusters, eps, fewer_than, most.

    Returns:
        A report with `selections`; verdicts pair the votes of neighbours over the rows of the reference.

    Raises:
        BadInput: no plan, or one that is not over rows. IdMismatch: rows of a plan are not in the data.
    """
    if not plans or any(plan.unit != "rows" for plan in plans.values()):
        units = sorted({plan.unit for plan in plans.values()})
        raise BadInput(f"compare_rows takes plans over rows, not {', '.join(units) or 'none'}")
    if controls < 0:
        raise BadInput(f"controls counts draws of random rows: 0 or more, not {controls}")
    beside = {"reference": reference, "reference_signals": reference_signals, "score": score}
    base = ground(data, signals=signals, **beside, **settings)
    size = min(plan.keep().size for plan in plans.values())
    kept = {name: _drawn(plan.keep(), size) for name, plan in plans.items()}
    measured = {name: [base.measure(ids)] for name, ids in kept.items()}
    measured |= {name: [base.measure(ids) for ids in draws] for name, draws in _controls(data, size, controls).items()}
    uneven = {name: plan.keep().size for name, plan in plans.items() if plan.keep().size > size}
    return ReportData(
        title=title or " and ".join(plans),
        command=command,
        selections=_selections(base, data, kept, measured),
        verdicts=_verdicts(measured, list(plans), next(iter(plans.values())).asked.short()),
        plans=tuple(build.plan_row(name, plan) for name, plan in plans.items()),
        notes=(*(_uneven(name, count, size) for name, count in uneven.items()), _said(base)),
        environment=runfolder.told(environment()),
    )


def _drawn(ids: np.ndarray, size: int) -> np.ndarray:
    return ids if ids.size == size else ids[Rng(0, "curation").sample(ids, size)]


def _uneven(name: str, count: int, size: int) -> str:
    return f"{name} keeps {count} rows; {size} of them, drawn by their ids, were measured, so that all are of one size."


def _said(base: Ground) -> str:
    told = "; ".join(f"{name}={value}" for name, value in base.rows.facts.items())
    return f"Measured under: {told}; k={base.k}; clusters={base.cluster.max(initial=-1) + 1}."


def _controls(data: Dataset, size: int, draws: int) -> dict[str, list[np.ndarray]]:
    """Random rows, and the same number of random rows of every class."""
    if not draws:
        return {}
    found = {"random": [data.ids[Rng(seed, "control/rows").sample(data.ids, size)] for seed in range(draws)]}
    if data.labels is not None and data.labels.dtype.kind in "iu":
        scores = [score_rows(data, "random_balanced", seed=seed) for seed in range(draws)]
        found["random_balanced"] = [plan_rows(score, f"{size} rows", select="top").keep() for score in scores]
    return found


def _selections(
    base: Ground, data: Dataset, kept: Mapping[str, np.ndarray], measured: Mapping[str, Sequence[Measured]]
) -> Selections:
    draw = selections.Draw(data)
    return Selections(
        names=tuple(measured),
        plans=len(kept),
        rows=next(iter(kept.values())).size,
        of=len(data),
        utilities=selections.utilities(measured),
        overlaps=selections.overlaps(kept),
        bars=selections.bars(base, kept, data.classes),
        witnesses=tuple((name, selections.witnesses(base, ids, draw)) for name, ids in kept.items()),
        pictures=selections.pictures(kept, draw),
    )


def _verdicts(measured: Mapping[str, Sequence[Measured]], plans: list[str], budget: str) -> tuple[Verdict, ...]:
    """Every plan against every other selection, by what the neighbours say of the same reference rows."""
    pairs = [(a, b) for a, b in combinations(measured, 2) if a in plans]
    right = {name: _right(draws) for name, draws in measured.items()}
    gaps = [(a, b, _gap(right[a], right[b])) for a, b in pairs]
    found = [(a, b, gap) for a, b, gap in gaps if gap is not None]
    made: list[Verdict] = []
    for (a, b, gap), word in zip(found, verdicts([gap for _, _, gap in found], better="higher")):
        word = "below random" if word == "worse" and b == "random" else word
        made.append(Verdict(a, budget, JUDGED, b, word, gap.mean, gap.interval, gap.pairs))
    return tuple(made)


def _right(draws: Sequence[Measured]) -> np.ndarray | None:
    """Share of the draws that call each reference row right, `[q]`."""
    found = [one.predictions.correct for one in draws if one.predictions is not None]
    return np.mean(found, axis=0) if found else None


def _gap(a: np.ndarray | None, b: np.ndarray | None) -> Difference | None:
    return None if a is None or b is None else over_rows(a, b)
