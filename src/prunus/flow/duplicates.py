"""Near duplicates among rows: which kept row stands for each that goes, and how many stay at every eps, from one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from prunus.core import registry
from prunus.core.errors import BadInput
from prunus.core.rng import Rng
from prunus.core.score import GroupScore
from prunus.maths.spherical import unit
from prunus.select.semdedup import Duplicates, duplicates
from prunus.signals.rowset import Signals

METHOD = "select/semdedup"
CURVE = (0.0001, 0.001, 0.003, 0.01, 0.03, 0.05, 0.1, 0.2, 0.3)
"""Values of eps that a curve is told at unless others are asked for."""


@dataclass(frozen=True, eq=False)
class NearDuplicates:
    """Near duplicates of rows that have an embedding.

    Attributes:
        signals: of the rows, with ids and embedding.
        found: similarity and witness of each row.
    """

    signals: Signals
    found: Duplicates

    def curve(self, eps: Sequence[float] = CURVE) -> list[dict[str, Any]]:
        """eps, kept (rows) and share at each eps, from the one pass; not under the greedy rule."""
        kept = self.found.curve(np.asarray(eps))
        return [{"eps": e, "kept": int(k), "share": int(k) / len(self.signals)} for e, k in zip(eps, kept)]

    def pairs(self, eps: float) -> list[dict[str, Any]]:
        """prunus_id of each row that goes, the id of the kept row that stands for it (kept), and their cosine.

        Under the official rule a row goes for an earlier one that may go as well, so a kept row at the end of such a chain can
        be farther away than eps; under rule="greedy" it never is.
        """
        pairs, x = self.found.pairs(eps), self.signals.embedding
        gone, kept = (unit(x[side].flatten(1).numpy()) for side in pairs.T)
        ids, cosines = self.signals.ids[pairs], np.einsum("nd,nd->n", gone, kept)
        return [
            {"prunus_id": one, "kept": other, "cosine": cosine}
            for (one, other), cosine in zip(ids.tolist(), cosines.round(12).tolist())
        ]


def near_duplicates(
    signals: Signals,
    *,
    eps: float | None = None,
    rule: Literal["official", "greedy", "components"] = "official",
    keep: Literal["hard", "easy", "random"] = "hard",
    clusters: int | None = None,
    iterations: int = 20,
    seed: int = 0,
) -> NearDuplicates:
    """What `select="semdedup"` knows of the rows, before anything is dropped: the same clusters for the same seed.

    Args:
        signals: with ids and embedding `[n, d]`.
        eps: under rule="greedy", whose answer is another one at each eps, and only there.
        rule, keep, clusters, iterations: as semdedup has them.
        seed: of the clusters.

    Raises:
        BadInput: no embedding, or a row of it is zero; names its id.
        NonFinite: an embedding is not finite.
    """
    registry.find(METHOD).load()  # says which extra is missing
    if str(keep) == "score":
        raise BadInput(
            "there is no score here: keep is hard, easy or random; with a score use px.plan(select='semdedup')"
        )
    plain = GroupScore(np.zeros(len(signals)), signals.ids, "hard", signals, "rows")
    options: dict[str, Any] = {"rule": rule, "keep": keep, "clusters": clusters, "iterations": iterations}
    return NearDuplicates(signals, duplicates(plain, eps=eps, rng=Rng(seed, METHOD), **options))
