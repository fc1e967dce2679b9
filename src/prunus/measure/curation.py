"""Curation: what a selection of rows is worth before anything is trained on it (SELECT, Feuer et al. 2024).

Removes: nothing; its first argument is a plan over rows, not a model (`prunus compare PLAN_A PLAN_B DATA`).
Needs: the rows, and an embedding of them (`signals`; without one, their own numbers); labels for what counts classes;
  labelled reference rows of role val or test for nearest neighbours, the probe and the shift. scikit-learn and faiss.
Cost: m (n + q) d multiplications for m kept of n rows and q of the reference, and a logistic regression; once for all
  selections n² d for label agreement, and k-means of all rows. 64 MB a block, 128 MB for nearest rows.
Departures: top 5 counts classes that have a vote; the released code also counts those without, in whatever order a sort
  leaves them (parity="official"), and adds noise to equal features first, which changes no vote. Measures that need
  CLIP or training are left to `prunus measure` and `prunus sweep`. Copies, coverage, clusters, label agreement, evenness
  and shift are additions of our own. An encoder that was trained on the reference flatters the first two of its figures:
  which one was used is in the facts.
"""

from __future__ import annotations

from typing import Literal

from prunus.core.plan import Plan
from prunus.core.registry import measure
from prunus.core.score import Score
from prunus.measure.ground import ground
from prunus.measure.measured import Measured
from prunus.prunables.dataset import Dataset
from prunus.signals.rowset import Signals


@measure(needs=("embedding",), of="selection", card="select", extras=("data",))
def curation(
    plan: Plan,
    data: Dataset,
    *,
    signals: Signals | None = None,
    reference: Dataset | None = None,
    reference_signals: Signals | None = None,
    score: Score | None = None,
    k: int = 20,
    temperature: float = 0.07,
    clusters: int = 20,
    eps: float = 0.05,
    fewer_than: int | None = None,
    most: int | None = None,
    parity: Literal["paper", "official"] = "paper",
) -> Measured:
    """Utility of the rows that a plan keeps: balance, coverage, quality, use, shift; see AIMS for the names.

    Args:
        plan: over rows of `data`.
        data: all rows, of role fit.
        signals: with `embedding` for the rows; without them, the rows' own numbers.
        reference: rows of role val or test: nearest neighbours and the probe are asked for their labels, coverage is of
            them, and the shift is away from them.
        reference_signals: with `embedding` for the reference.
        score: by which the mean rank of the kept rows is told: 0 easiest, 1 hardest.
        k: neighbours that vote.
        temperature: of their votes.
        clusters: of all rows.
        eps: rows within cosine 1 - eps are copies.
        fewer_than: a class with fewer rows is rare; by default half of an equal share.
        most: neighbours and probe are given at most `most // classes` rows of a class.
        parity: of the votes; see `measure.knn.vote`.
    """
    made = ground(
        data, signals=signals, reference=reference, reference_signals=reference_signals, score=score, clusters=clusters,
        k=k, temperature=temperature, eps=eps, fewer_than=fewer_than, most=most, parity=parity,
    )  # fmt: skip
    return made.measure(plan.keep())
