"""Label mapping: drop the source classes that a small classifier of the source sees least in a target (Zhang et al. 2023).

Removes: rows, by whole source classes, before a model is pretrained on the source for use on a target.
Needs: labels of the source; of the target the logits (or probs) of a small classifier of these source classes, its
  inputs prepared as for validation: no labels of the target.
Cost: one forward pass of the small classifier over the target; then O(t k) for t target rows and k classes, and O(n).
  Memory 16 t k bytes.
Departures: a criterion and no selector: every row scores the place of its class, so a budget in rows fills whole classes
  in that order and only the last one in part; `ranking(...).rows(labels, r)` has the rows of exactly r classes. Votes
  are counted as released. Equal votes, of which zero votes are many, go by the summed probabilities and then by the
  lower class, where torch.topk leaves them open (`ties="id"`: by the class alone). The released forward pass runs in
  half precision, which can turn near ties. `covering` finds the number of classes that hold a share of the votes; the
  paper finds it by pretraining and fine-tuning at every number. A class that is kept without a vote is named by
  `unvoted`. Several targets are our own addition.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor

from prunus.core.errors import BadInput
from prunus.core.registry import criterion
from prunus.rows.source_classes import Floats, Ranking, class_numbers, rank
from prunus.signals.target import Target, values

ONE = 1e-3
"""How far rows of probabilities may be from adding up to 1."""


@criterion(unit="rows", needs=("labels",), sense="keep", whole=True, card="dp4tl")
def label_mapping(
    s: Any,
    *,
    target: str | Target | None = None,
    combine: Literal["sum", "max"] = "sum",
    ties: Literal["nearness", "id"] = "nearness",
    reverse: bool = False,
) -> Tensor:
    """The place of each row's class, float64 `[n]`: k for the class with most votes of the target, 1 for the last of k.

    Args:
        s: signals of the source with `labels [n]` in 0..k-1.
        target: what the source classifier says of the target: a folder of signals or a table with logits or probs;
            signals, or logits `[t, k]`; or several of them in a list.
        combine: several targets: sum or max of their shares of votes.
        ties: equal votes: nearness = by summed probabilities, then by class; id = by class.
        reverse: fewest votes first: the paper's control.

    Raises:
        BadInput: no target, or a label that is none of its k classes.
        NonFinite: the target holds NaN.
    """
    labels = class_numbers(s.labels, "label_mapping")
    found = ranking(target, combine=combine, ties=ties, reverse=reverse)
    classes = found.order.size
    if (wrong := labels >= classes).any():
        raise BadInput(
            f"the target has logits of {classes} classes, and source rows have others, such as label "
            f"{int(labels[wrong][0])} of id {np.asarray(s.ids)[wrong][0]}: use a classifier of the source classes"
        )
    return torch.from_numpy(found.values(labels))


def ranking(
    target: str | Target | None,
    *,
    combine: Literal["sum", "max"] = "sum",
    ties: Literal["nearness", "id"] = "nearness",
    reverse: bool = False,
) -> Ranking:
    """The source classes by votes of the target. Arguments as `label_mapping`."""
    every = values(target, ("logits", "probs"), "label_mapping")
    votes = [np.bincount(one.argmax(1), minlength=one.shape[1]).astype(np.float64) for one in every]
    return rank(votes, [_probs(one).mean(0) for one in every], combine=combine, ties=ties, reverse=reverse)


def _probs(x: NDArray[np.floating]) -> Floats:
    """Probabilities `[t, k]` from logits, or as they are."""
    wide = x.astype(np.float64)
    if (wide >= 0).all() and (np.abs(wide.sum(1) - 1) <= ONE).all():
        return wide
    return softmax(wide, axis=1)
