"""Supervised prototypes: cosine distance to the prototype of the own class (Sorscher et al. 2022).

Removes: rows. Large is hard: far from the middle of its class.
Needs: an embedding and a label of each row, all at once.
Cost: one forward pass of an encoder; O(n d). Memory 8 * 4096 d bytes for a block and 8 c d for the prototypes.
Departures: none known; no code was released. A prototype is the direction of the mean of unit vectors; a class whose
  vectors cancel has none and is refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from prunus.core.errors import BadInput
from prunus.core.registry import criterion
from prunus.maths import spherical
from prunus.select.vectors import in_order


@criterion(unit="rows", needs=("embedding", "labels"), sense="hard", whole=True, card="ssp")
def supervised_prototypes(s: Any) -> Tensor:
    """`1 - cos(e, mean direction of the class)`, float64 `[n]` in [0, 2].

    Args:
        s: signals with `ids [n]`, `embedding [n, d]` and `labels [n]`.

    Raises:
        BadInput: a row is zero, named by id; or the vectors of a class cancel.
    """
    ids, x, labels = np.asarray(s.ids), np.asarray(s.embedding), np.asarray(s.labels)
    spherical.check_directions(x, ids)
    if labels.shape != ids.shape:
        raise BadInput(f"supervised_prototypes needs one label for each row, not labels of shape {list(labels.shape)}")
    order = np.argsort(ids, kind="stable")  # sums of floats in one order, whatever order the rows came in
    names, members = np.unique(labels[order], return_inverse=True)
    rows = in_order(x, order)
    means = spherical.mean_directions(rows, members, np.zeros((names.size, x.shape[1])))
    if (none := ~means.any(1)).any():
        raise BadInput(f"the embeddings of labels {names[none][:5].tolist()} cancel: these classes have no direction")
    distances = np.empty(len(ids))
    distances[order] = spherical.distance(rows, means, members)
    return torch.from_numpy(distances)
