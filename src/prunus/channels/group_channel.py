"""Group channel: one threshold on norm scales for each scale and part of a detector (group channel pruning, 2022).

Removes: channels that a norm with scale and shift follows; groups without one stay whole.
Needs: a trained model for pictures, labelled rows of role fit (sparse training), labelled rows to measure the loss on. The
 plan carries the weights that sparse training left. Recovery spatial_attention is the method's third stage.
Cost: steps * batch forward and backward passes, then sections * 8 passes over the rows of the probe.
Departures: no code was released; the card's proposals are used. A section is a stride and a part (backbone, neck, head) of
 the model, by the names of modules. The strength of the penalty on all scales falls to a tenth at half of the steps and to
 a hundredth at three quarters. Ratios of sections are not set by hand: each is cut alone at 10 % to 80 %, and the budget is
 met by the smallest rise of the loss that all sections may have alike. A residual stream counts by the mean of its scales,
 or by the largest (reduce). What a removed channel's shift gave is not folded into the next layer: re-estimate norms after
 the cut (recovery bn_stats, which runs by default). Strength * lr * steps must move the scales, so short runs need more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor

from prunus.channels.bn_scale import bn_scale
from prunus.channels.masksparsity import penalised, scales_of
from prunus.channels.scale_threshold import share_threshold
from prunus.core.budget import Budget
from prunus.core.edits import SetWeight
from prunus.core.errors import BadInput, BudgetUnreachable, NonFinite
from prunus.core.plan import Kept, Plan
from prunus.core.registry import search
from prunus.graph.changes import changes
from prunus.graph.members import bind
from prunus.graph.scales import heights, part
from prunus.graph.trace import run
from prunus.train.copies import copied
from prunus.train.penalty import Penalty

LEVELS = np.arange(1, 9) / 10
WHOLE = Budget.parse("100% macs")
BISECTIONS = 20
Counts = dict[str, int]


@search(unit="channels", card="group-channel-sad")
def group_channel(
    prunable: Any,
    budget: Budget,
    *,
    fit: Callable[..., Any],
    probe: Callable[[Plan], float],
    steps: int = 200,
    lr: float = 0.02,
    strength: float = 5e-3,
    batch: int = 128,
    weight_decay: float = 5e-4,
    reduce: Literal["mean", "max"] = "mean",
    floor_share: float = 0.1,
    sections: Mapping[str, str] | None = None,
) -> Plan:
    """Which channels go, and the weights after sparse training.

    Args:
        prunable: the model with its graph.
        budget: what may stay, in MACs, parameters or channels.
        fit: the training loop on fit rows.
        probe: loss of the model under a plan.
        steps: of training with a penalty on all scales; 0 takes the scales as they are.
        lr: peak learning rate, falling by a cosine.
        strength: of the penalty in the first half.
        batch: rows per step.
        weight_decay: of everything but scales.
        reduce: mean or max over the norms of a group.
        floor_share: least share of each group that stays.
        sections: group name -> section, instead of stride and part.

    Returns:
        A Plan; its provenance holds the ratio of each section and the rise of the loss at each level.

    Raises:
        BadInput: no group has a norm, or its scales are frozen.
        BudgetUnreachable: norms, floors and ratios of 80 % keep more than the budget.
    """
    groups = {group.name: group for group in prunable.groups("channels") if scales_of(group, prunable.model)}
    if not groups:
        raise BadInput("no group of this model has a norm with scale and shift: there is nothing to compare")
    model = copied(prunable.model)
    if steps > 0:
        everything = {name: np.ones(group.size, dtype=bool) for name, group in groups.items()}
        chosen: dict[str, Tensor] = penalised(groups, model, everything, shifts=False)
        penalty = Penalty(model, chosen, strength, course=lambda step: sparse_rate(step / steps))
        fit(model, steps=steps, optimizer=penalty.sgd(lr, weight_decay=weight_decay), batch=batch)
    scales = {name: bn_scale(bind(group, model), reduce=reduce).numpy() for name, group in groups.items()}
    if bad := [name for name, values in scales.items() if not np.isfinite(values).all()]:
        raise NonFinite(f"scales of group {bad[0]} are NaN or infinite")
    named = sections or sections_of(prunable, groups)
    if missing := sorted(set(groups) - set(named)):
        raise BadInput(f"group {missing[0]} has no section: name one for each of {', '.join(sorted(groups))}")
    edits = changes(prunable.model, model) if steps > 0 else ()
    cut = _Cut(prunable, budget, scales, {name: named[name] for name in groups}, floor_share, edits)
    ratios, rises = cut.fitted(probe)
    made = {"method": "channels/group_channel", "ratios": ratios, "rises": rises}
    return cut.plan(cut.counts(ratios), made)


def sparse_rate(progress: float) -> float:
    """Multiple of the strength at a share of the training: 1, then 0.1 from a half, then 0.01 from three quarters."""
    return 1.0 if progress < 0.5 else 0.1 if progress < 0.75 else 0.01


def kept_by_section(scales: Mapping[str, np.ndarray], ratio: float) -> dict[str, np.ndarray]:
    """Name -> bool: what is at or above the one threshold of a section.

    Args:
        scales: of every group of the section.
        ratio: share of all of them that goes.
    """
    threshold = share_threshold(np.concatenate([*scales.values()]), ratio)
    return {name: np.abs(values) >= threshold for name, values in scales.items()}


def sections_of(prunable: Any, groups: Mapping[str, Any]) -> dict[str, str]:
    """Group name -> stride and part of the model, of its first norm: `8 backbone`. Norms called twice share a section."""
    found = heights(prunable.model, lambda: run(prunable.model, prunable.example))
    picture = max(found.values(), default=1)
    named: dict[str, str] = {}
    for name, group in groups.items():
        module = scales_of(group, prunable.model)[0].module
        stride = round(picture / found[module]) if module in found else "shared"
        named[name] = f"{stride} {part(module)}"
    return named


@dataclass
class _Cut:
    """Counts, prices and plans of ratios of sections."""

    prunable: Any
    budget: Budget
    scales: dict[str, np.ndarray]
    sections: dict[str, str]
    floor_share: float
    edits: tuple[SetWeight, ...]

    def __post_init__(self) -> None:
        self.sizes: Counts = {name: values.size for name, values in self.scales.items()}
        self.dense = self.prunable.priced(self.sizes)
        self.limits = self.budget.limits(self.dense)

    def counts(self, ratios: Mapping[str, float]) -> Counts:
        """Kept counts, with floors and rounding."""
        counts: Counts = {}
        for section, ratio in ratios.items():
            own = {name: values for name, values in self.scales.items() if self.sections[name] == section}
            for name, mask in kept_by_section(own, ratio).items():
                floor = max(int(np.ceil(self.floor_share * mask.size - 1e-9)), self.budget.floor, 1)
                counts[name] = self.budget.rounded(max(int(mask.sum()), floor), mask.size)
        return counts

    def met(self, counts: Counts) -> bool:
        return self.limits.met(self.prunable.priced(counts))

    def plan(self, counts: Counts, made: dict[str, Any] | None = None) -> Plan:
        kept = {
            name: Kept.of_ids(np.argsort(-np.abs(values), kind="stable")[: counts[name]], values.size)
            for name, values in self.scales.items()
        }
        asked = WHOLE if counts == self.sizes else self.budget
        planned = self.prunable.priced(counts)
        return Plan("channels", kept, asked, planned, self.dense, self.edits, {}, (), made or {})

    def fitted(self, probe: Callable[[Plan], float]) -> tuple[dict[str, float], dict[str, list[float]]]:
        """Ratios of the smallest common rise that meets the budget, and the rises of each section alone."""
        ratios = dict.fromkeys(sorted(set(self.sections.values())), 0.0)
        if self.met(self.counts(ratios)):
            return ratios, {}
        if not self.met(least := self.counts(dict.fromkeys(ratios, float(LEVELS[-1])))):
            nearest = self.limits.shown(self.prunable.priced(least))
            raise BudgetUnreachable(f"{self.budget} can't be met at {LEVELS[-1]:.0%} of each section", nearest=nearest)
        base = probe(self.plan(self.sizes))
        rises = {section: self.alone(ratios, section, base, probe) for section in ratios}
        order = sorted((rise, at, section) for section, found in rises.items() for at, rise in enumerate(found))
        for _, at, section in order:
            before, ratios[section] = ratios[section], float(LEVELS[at])
            if self.met(self.counts(ratios)):
                return self.last_step(ratios, section, before), rises
        return ratios, rises

    def alone(
        self, none: Mapping[str, float], section: str, base: float, probe: Callable[[Plan], float]
    ) -> list[float]:
        """How much the loss rises at each level of one section, never less than at the level before."""
        found: list[float] = []
        for level in LEVELS:
            try:
                found.append(probe(self.plan(self.counts({**none, section: float(level)}))) - base)
            except NonFinite:
                found.append(float("inf"))
        return np.maximum.accumulate(found).tolist()

    def last_step(self, ratios: dict[str, float], section: str, low: float) -> dict[str, float]:
        """The smallest ratio of the last section that still meets the budget."""
        high = ratios[section]
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            low, high = (low, middle) if self.met(self.counts({**ratios, section: middle})) else (middle, high)
        return {**ratios, section: high}
