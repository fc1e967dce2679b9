"""Rows whose label is probably wrong, with the label they look like and the reason.

`label_quality` has rules of its own (confident learning, Northcutt et al. 2021). Held-out models are confident of a class
where its probability reaches the class's threshold, the mean over the rows that carry it. `noise_rate`: the counts of
confident rows tell how many rows of each class are of each other one; so many are called, those that lead most towards
it. `confident`: the rows that are confidently of another class. Any other hard or easy criterion calls the hardest `share`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from prunus.core import registry
from prunus.core.budget import Budget
from prunus.core.errors import BadInput, UnknownName
from prunus.core.plan import Kept, Plan
from prunus.core.rng import Rng
from prunus.core.score import Score
from prunus.flow.labelled import class_labels
from prunus.flow.rows import GROUP, score_rows
from prunus.flow.signals import Fit, row_signals
from prunus.maths.confident import UNKNOWN, best_other, by_confidence, by_noise_rate, thresholds
from prunus.prunables.dataset import Dataset
from prunus.rows.label_quality import held_out
from prunus.rows.targets import classes
from prunus.signals.rowset import Signals

RULE = "rows/label_quality"
RULES = {
    "noise_rate": by_noise_rate,
    "confident": lambda probs, labels, limits, ids: by_confidence(probs, labels, limits),
}
Floats = NDArray[np.float64]
Classes = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LabelIssues:
    """Rows with a doubtful label, the most doubtful first.

    Attributes:
        ids: `[k]`.
        given: class numbers they carry, int64 `[k]`.
        suggested: what they look like, int64 `[k]`; -1 where no probabilities are there to tell.
        score: the criterion's, `[k]`.
        reasons: one sentence each.
        scored: the score of every row.
        classes: names of the classes, or None.
    """

    ids: np.ndarray
    given: Classes
    suggested: Classes
    score: Floats
    reasons: tuple[str, ...]
    scored: Score
    classes: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return int(self.ids.size)

    @property
    def rows(self) -> int:
        """Rows looked at."""
        return int(self.scored.group(GROUP).ids.size)

    def table(self) -> list[dict[str, Any]]:
        """One dict for each issue: prunus_id, given, suggested, score, reason; classes by name where they have one."""
        return [
            {
                "prunus_id": id_,
                "given": self._name(given),
                "suggested": self._name(suggested),
                "score": score,
                "reason": why,
            }
            for id_, given, suggested, score, why in zip(
                self.ids.tolist(), self.given.tolist(), self.suggested.tolist(), self.score.tolist(), self.reasons
            )
        ]

    def _name(self, label: int) -> int | str | None:
        return None if label == UNKNOWN else named(label, self.classes)

    def plan(self) -> Plan:
        """A plan that drops these rows; the reason of each says which class it looks like.

        Raises:
            BadInput: there is no issue, or nothing else.
        """
        group = self.scored.group(GROUP)
        if not 0 < len(self) < group.ids.size:
            raise BadInput(
                f"{len(self)} of {group.ids.size} rows are label issues: there is nothing to drop, or to keep"
            )
        keep = Kept.of_ids(np.setdiff1d(group.ids, self.ids), group.ids.size, group.ids)
        found, codes = np.unique(self.suggested[np.argsort(self.ids)], return_inverse=True)
        names = tuple(self._reason(label) for label in found.tolist())
        if len(names) > np.iinfo(np.uint8).max:
            codes, names = np.zeros(len(self), np.int64), (self._reason(UNKNOWN),)
        made = {"label issues": dict(self.scored.provenance), "method": self._method}
        count = float(keep.count)
        return Plan(
            "rows", {GROUP: keep}, Budget.parse(f"{keep.count} rows"), {"rows": count}, {"rows": float(group.ids.size)},
            (), {GROUP: codes.astype(np.uint8)}, names, made, self.scored.fingerprint,
        )  # fmt: skip

    @property
    def _method(self) -> str:
        return str(self.scored.provenance.get("method", ""))

    def _reason(self, label: int) -> str:
        like = "" if label == UNKNOWN else f": looks like {named(label, self.classes)}"
        return f"doubtful label by {self._method}{like}"


def label_issues(
    data: Dataset,
    by: str = "label_quality",
    *,
    share: float | None = None,
    rule: Literal["noise_rate", "confident"] = "noise_rate",
    signals: Signals | Sequence[Signals] | None = None,
    model: Any = None,
    fit: Fit | None = None,
    step: Any = None,
    batch: int = 64,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> LabelIssues:
    """Rows of `data` whose label is probably wrong.

    Args:
        data: labelled rows, of role fit or val.
        by: a hard or easy criterion over rows: label_quality, aum, el2n, forgetting, ...
        share: of all rows that are called, the hardest; None = the rule of label_quality.
        rule: of label_quality: noise_rate finds more of the wrong labels, confident calls fewer right ones.
        signals, model, fit, step, batch: where the criterion's signals come from, as for `px.score`.
        seed: of folds.
        options: the criterion's own.

    Raises:
        BadInput: no labels; a criterion without a rule and no share; a criterion that does not say what is hard.
        SplitError: the test set.
    """
    method, options = registry.find(by, unit="rows", kind="criterion"), dict(options or {})
    if method.facts.get("sense", "keep") == "keep":
        raise BadInput(
            f"{method.id} says what to keep, not which labels fit: use label_quality, aum, el2n or forgetting"
        )
    if share is None and method.id != RULE:
        raise BadInput(f"{method.id} has no rule for wrong labels: say how many rows it calls, as share=0.1 for 10 %")
    if rule not in RULES:
        raise UnknownName("rule of label_quality", rule, RULES)
    if share is not None and not 0 < share < 1:
        raise BadInput(f"share is a part of the rows between 0 and 1, not {share}")
    labels = class_labels(data)
    runs = row_signals(data, method, signals=signals, model=model, fit=fit, step=step, batch=batch)
    if method.id == RULE:
        own = {name: options[name] for name in ("folds", "ridge") if name in options}
        runs = [_held_out(run, data, own, seed) for run in runs]
    score = score_rows(data, method.id, signals=runs or None, seed=seed, options=options)
    probs = _probs(runs, data, labels)
    limits = thresholds(probs, labels, data.ids) if probs is not None and method.id == RULE else None
    group = score.group(GROUP)
    if share is not None:
        at = group.keep_order("hard")[: max(1, round(share * len(data)))]
    else:
        assert probs is not None and limits is not None
        called, order = RULES[rule](probs, labels, limits, data.ids), group.keep_order("hard")
        at = order[called[order]]
    suggested = np.full(at.size, UNKNOWN) if probs is None else best_other(probs[at], labels[at]).argmax(1)
    values = np.asarray(group.values, np.float64)[at]
    reasons = [f"{method.id} {value:.3g}" for value in values.tolist()]
    if probs is not None:
        reasons = [
            f"{reason}; {_told(probs[row], limits, int(labels[row]), like, data.classes)}"
            for reason, row, like in zip(reasons, at.tolist(), suggested.tolist())
        ]
    return LabelIssues(data.ids[at], labels[at], suggested, values, tuple(reasons), score, data.classes)


def named(label: int, names: tuple[str, ...] | None) -> int | str:
    """The class by its name, where it has one."""
    return label if names is None or label >= len(names) else names[label]


def _held_out(run: Signals, data: Dataset, options: dict[str, Any], seed: int) -> Signals:
    """The run with held-out probabilities, so that its probes are trained once."""
    aligned = run.align(data.ids).merge(Signals(data.ids, labels=data.labels))
    if "held_out_probs" in aligned.names:
        return aligned
    if "embedding" not in aligned.names:
        return run  # scoring says what is missing
    return aligned.merge(Signals(data.ids, held_out_probs=held_out(aligned, **options, rng=Rng(seed, RULE))[0]))


def _probs(runs: Sequence[Signals], data: Dataset, labels: Classes) -> Floats | None:
    """Probabilities that came with the signals, the held-out ones first, averaged over the runs; `[n, c]` or None."""
    for name in ("held_out_probs", "probs"):
        if runs and all(name in run.names for run in runs):
            found = np.mean([np.asarray(run.align(data.ids).field(name), np.float64) for run in runs], axis=0)
            classes(torch.from_numpy(labels), torch.from_numpy(found))  # refuses labels that have no probability
            return found
    return None


def _told(probs: Floats, limits: Floats | None, own: int, like: int, names: tuple[str, ...] | None) -> str:
    """The probabilities of one row, in words."""
    usual = f" (rows of that class: {limits[like]:.2f})" if limits is not None else ""
    return f"probability of {named(like, names)} {probs[like]:.2f}{usual}, of {named(own, names)} {probs[own]:.2f}"
