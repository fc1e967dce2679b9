"""From plans, scores and results to the parts of a ReportData."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING

from prunus.core.arms import Arm, arms, metrics
from prunus.core.budget import Budget
from prunus.core.errors import BadInput, require
from prunus.core.plan import Plan
from prunus.core.results import Results
from prunus.core.score import Score
from prunus.report.data import Curve, Gallery, Histogram, KeptBars, PlanRow, Point, Series, Thumbnail

if TYPE_CHECKING:
    import numpy as np

BINS = 40


def plan_row(name: str, plan: Plan, got: Mapping[str, float] | None = None) -> PlanRow:
    """The asked / planned / got line of a plan; `got` is what applied.json holds."""
    kept = [group.count for group in plan.groups.values()]
    sizes = [group.size for group in plan.groups.values()]
    method = str(plan.provenance.get("method", ""))
    counts = (len(sizes), sum(kept), sum(sizes))
    return PlanRow(name, plan.unit, str(plan.asked), plan.planned, plan.dense, got or {}, *counts, method)


def kept_bars(plan: Plan, title: str = "") -> KeptBars:
    """Kept and total of every group of a plan."""
    rows = plan.table()
    names = tuple(str(row["group"]) for row in rows)
    sizes = tuple(int(row["size"]) for row in rows)
    return KeptBars(
        title or f"{plan.unit} kept in each group", plan.unit, names, tuple(int(row["kept"]) for row in rows), sizes
    )


def kept_by_label(ids: np.ndarray, labels: np.ndarray, plan: Plan, names: tuple[str, ...] = ()) -> KeptBars:
    """Kept and total of every class.

    Args:
        ids: `[n]`, of the whole dataset. labels: `[n]`, small integers or names, aligned with ids.
        plan: over rows.
        names: what integer labels are called.
    """
    import numpy as np

    if len(ids) != len(labels):
        raise BadInput(f"{len(ids)} ids but {len(labels)} labels")
    stays = np.isin(ids, plan.keep())
    values, where = np.unique(labels, return_inverse=True)
    sizes, kept = np.bincount(where), np.bincount(where, weights=stays).astype(int)
    shown = tuple(names[int(v)] if names and v < len(names) else str(v) for v in values.tolist())
    return KeptBars("rows kept in each class", "rows", shown, tuple(kept.tolist()), tuple(sizes.tolist()))


def histogram(score: Score, plan: Plan, title: str = "") -> Histogram:
    """Scores of what stays and of what goes, over common bins."""
    import numpy as np

    stays, goes = [], []
    for name in plan.groups:
        group = score.group(name)
        mask = np.isin(group.ids, plan.keep(name)) if group.values.ndim == 1 else plan.groups[name].mask()
        values = np.asarray(group.values, dtype=np.float64).reshape(-1)
        stays.append(values[mask])
        goes.append(values[~mask])
    kept, dropped = np.concatenate(stays), np.concatenate(goes)
    edges = np.histogram_bin_edges(np.concatenate([kept, dropped]), bins=BINS)
    counts = tuple(tuple(np.histogram(values, edges)[0].tolist()) for values in (kept, dropped))
    method = str(score.provenance.get("method", "score"))
    large = {"keep": "large stays", "hard": "large is hard", "easy": "large is easy"}[score.sense]
    return Histogram(title or f"Scores of {score.unit}", f"{method} ({large})", tuple(edges.tolist()), *counts)


def curves(results: Results) -> tuple[Curve, ...]:
    """One curve for each metric that was measured at two budgets or more; x is the share kept of the budget's quantity."""
    found = arms(results)
    drawn = []
    beside = dict.fromkeys(arm.against for arm in found if not arm.dense)
    for metric, name in itertools.product(metrics(results), beside):
        lines, quantity = _series(tuple(arm for arm in found if arm.against == name and not arm.dense), metric)
        if any(len(line.points) > 1 for line in lines):
            dense = next((arm for arm in found if arm.dense and metric in arm.numbers and name in ("", arm.what)), None)
            drawn.append(Curve(metric, lines, quantity, None if dense is None else dense.numbers[metric].value))
    return tuple(drawn)


def _series(found: tuple[Arm, ...], metric: str) -> tuple[tuple[Series, ...], str]:
    points: dict[tuple[str, bool], list[Point]] = {}
    quantity = ""
    for arm in found:
        share = kept_share(arm.budget)
        if share is None or metric not in arm.numbers:
            continue
        number = arm.numbers[metric]
        points.setdefault((arm.what, arm.control), []).append(Point(share, number.value, number.interval))
        quantity = quantity or Budget.parse(arm.budget).quantity
    lines = (Series(name, tuple(sorted(p, key=lambda x: x.kept)), control) for (name, control), p in points.items())
    return tuple(lines), quantity


def kept_share(budget: str) -> float | None:
    """Percent kept under a budget that is one share; None for counts, N:M and conjunctions."""
    if not budget:
        return None
    parsed = Budget.parse(budget)
    if parsed.nm or len(parsed.terms) != 1 or not parsed.term.relative:
        return None
    return 100 * parsed.term.amount


def thumbnail(image: np.ndarray, caption: str, side: int = 96) -> Thumbnail:
    """A picture as a PNG data URI.

    Args:
        image: `[h, w]`, `[h, w, 3]` or `[3, h, w]`; uint8, or floats that are stretched to their own range.
        caption: one line.
        side: the longer side in pixels; smaller pictures are not enlarged.
    """
    import numpy as np

    picture = require("PIL.Image", "report")
    array = np.asarray(image)
    if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[-1] not in (1, 3):
        array = np.moveaxis(array, 0, -1)
    array = array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] != 3):
        raise BadInput(f"a thumbnail needs [h, w], [h, w, 3] or [3, h, w], got {list(np.shape(image))}")
    if array.dtype != np.uint8:
        low, high = float(array.min()), float(array.max())
        array = ((array - low) * (255 / max(high - low, 1e-12))).round().astype(np.uint8)
    small = picture.fromarray(array)
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, "PNG", optimize=True)
    return Thumbnail("data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode(), caption)


def gallery(
    images: Mapping[object, np.ndarray], plan: Plan, captions: Mapping[object, str], title: str, most: int = 12
) -> Gallery:
    """Up to `most` kept and `most` dropped pictures, in the order given: id -> image."""
    import numpy as np

    ids = list(images)
    stays = np.isin(np.asarray(ids), plan.keep())
    made = [[], []]
    for key, kept in zip(ids, stays.tolist()):
        if len(made[kept]) < most:
            made[kept].append(thumbnail(images[key], captions.get(key, str(key))))
    return Gallery(title, tuple(made[1]), tuple(made[0]))
