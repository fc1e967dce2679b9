"""Which rule, behind which block: token rules compared at one budget, with their controls, before one is recommended.

No rule wins everywhere: attention of the CLS token can do worse than random behind an early block, and feature norm better. So the
comparison always runs random tokens over several seeds, the grid, and input down-sampling, on rows that are not test rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import nn

from prunus.core.errors import BadInput
from prunus.measure.predict import predict
from prunus.measure.stats import Difference, over_rows, verdicts, wilson
from prunus.prunables.downsample import downsampled
from prunus.prunables.roles import require_role
from prunus.prunables.stream import TokenStream
from prunus.train.step import StepFn

RULES = ("fastervlm", "vispruner", "received", "feature_norm", "grid", "lowest")
Also = Callable[[nn.Module], dict[str, float]]


@dataclass(frozen=True)
class RuleLine:
    """One rule at one place.

    Attributes:
        rule: dense, random, downsample, or a token rule.
        place: name of the block tokens leave behind; "" for the dense model, "input" for down-sampling.
        count: tokens that stay.
        accuracy: share of rows that are right; of random tokens the mean over seeds.
        interval: Wilson's, or the range over the seeds of random.
        minus_random: paired difference to random at the same place and count, or None.
        word: better, worse or tie than random, Holm's correction over all lines; "" where there is nothing to compare.
        block_macs: multiplications in the blocks as a share of the dense model's, or None.
        also: whatever `also` measured.
    """

    rule: str
    place: str
    count: int
    accuracy: float
    interval: tuple[float, float]
    minus_random: Difference | None = None
    word: str = ""
    block_macs: float | None = None
    also: dict[str, float] = field(default_factory=dict)


def compare_rules(
    model: nn.Module,
    data: Any,
    budgets: Sequence[str],
    *,
    places: Sequence[int] | None = None,
    rules: Sequence[str] = RULES,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    step: StepFn | None = None,
    batch: int = 256,
    also: Also | None = None,
) -> list[RuleLine]:
    """Apply every rule at every place and budget, without training.

    Args:
        model: a classifier on a vision transformer.
        data: labelled rows of fit or val.
        budgets: such as "16 tokens" or "25% tokens".
        places: block indices; default all but the last, behind which only the pooled token counts.
        rules: token criteria or vispruner; those that need a CLS token are left out where there is none.
        seeds: of random tokens, 2 or more.
        step: adapter of a batch.
        batch: rows at a time.
        also: measured on each model right after its pass, such as which tokens were kept.

    Returns:
        The dense model, down-sampling, and for each place and budget random and every rule.

    Raises:
        SplitError: test rows, because the comparison is a choice.
    """
    require_role(data, {"fit", "val"}, what="choosing a token rule")
    if len(seeds) < 2:
        raise BadInput(f"random tokens need 2 seeds or more, not {len(seeds)}")
    run = _Run(model, data, step, batch, also)
    lines = [run.line("dense", "", run.stream.encoder.tokens, *run.of(model))]
    blocks = range(len(run.stream.encoder.blocks) - 1) if places is None else places
    counts = {budget: run.stream.plan("grid", budget, at=0).planned["tokens"] for budget in budgets}
    for count in dict.fromkeys(counts.values()):
        small, tokens = downsampled(model, int(count))
        lines.append(run.line("downsample", "input", tokens, *run.of(small)))
    for place in blocks:
        for budget in counts:
            lines += run.place(place, budget, rules, seeds)
    return _with_words(lines)


class _Run:
    """One model and its rows."""

    def __init__(self, model: nn.Module, data: Any, step: StepFn | None, batch: int, also: Also | None) -> None:
        self.data, self.step, self.batch, self.also = data, step, batch, also
        self.stream = TokenStream(model)

    def of(self, model: nn.Module) -> tuple[np.ndarray, dict[str, float]]:
        """Right or wrong for each row, and what `also` says."""
        found = predict(model, self.data, step=self.step, batch=self.batch)
        return found.correct.astype(np.float64), {} if self.also is None else self.also(model)

    def line(self, rule: str, place: str, count: int, correct: np.ndarray, also: dict[str, float]) -> RuleLine:
        """A line without comparison."""
        interval = wilson(int(correct.sum()), correct.size)
        return RuleLine(rule, place, count, float(correct.mean()), interval, also=also)

    def place(self, at: int, budget: str, rules: Sequence[str], seeds: Sequence[int]) -> list[RuleLine]:
        """Random and every rule behind one block."""
        name = self.stream.place(at)
        draws = [self.of(self.stream.apply(self.stream.plan("random", budget, at=at, seed=s)))[0] for s in seeds]
        control = np.mean(draws, axis=0)
        means = [float(correct.mean()) for correct in draws]
        count = int(self.stream.plan("random", budget, at=at).planned["tokens"])
        lines = [RuleLine("random", name, count, float(control.mean()), (min(means), max(means)))]
        for rule in rules:
            if rule in ("fastervlm", "lowest", "vispruner") and not self.stream.encoder.has_cls:
                continue
            plan = self.stream.plan(rule, budget, at=at)
            correct, also = self.of(self.stream.apply(plan))
            share = plan.planned["block_macs"] / plan.dense["block_macs"]
            interval = wilson(int(correct.sum()), correct.size)
            gap = over_rows(correct, control)
            lines.append(RuleLine(rule, name, count, float(correct.mean()), interval, gap, "", share, also))
        return lines


def _with_words(lines: list[RuleLine]) -> list[RuleLine]:
    compared = [(index, line.minus_random) for index, line in enumerate(lines) if line.minus_random is not None]
    words = verdicts([gap for _, gap in compared], better="higher")
    out = list(lines)
    for (index, _), word in zip(compared, words):
        out[index] = replace(out[index], word=word)
    return out
