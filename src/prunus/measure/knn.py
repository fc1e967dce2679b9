"""Nearest neighbours in a frozen embedding: what rows of the reference would be called by the rows that are kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prunus.core.errors import BadInput, NonFinite

BYTES = 64 << 20
"""Bytes of one block of similarities."""
Parity = Literal["paper", "official"]


def vote(
    kept: NDArray[np.floating],
    labels: NDArray[np.integer],
    queries: NDArray[np.floating],
    *,
    k: int = 20,
    temperature: float = 0.07,
    classes: int | None = None,
    parity: Parity = "paper",
) -> NDArray[np.int64]:
    """Classes of every query, best first, int64 `[q, classes]`: each of the k most similar kept rows votes with exp(cosine / T).

    Args:
        kept: `[n, d]`; a zero row is similar to nothing.
        labels: `[n]`, class numbers.
        queries: `[q, d]`.
        k: neighbours, at most n.
        temperature: T; a large one makes it a plain majority.
        classes: of the votes; by default up to the largest label.
        parity: paper = in float64, and -1 behind the last class that has a vote; official = in float32, classes without a
            vote in whatever order sorting leaves them, as the released evaluation counts them in its top 5.

    Raises:
        BadInput: no kept rows, other widths, k or T not above 0.
        NonFinite: a number is NaN or infinite.
    """
    _check(kept, labels, queries, k, temperature)
    wide = torch.float64 if parity == "paper" else torch.float32
    rows, asked = (
        torch.nn.functional.normalize(torch.from_numpy(np.asarray(x)).to(wide), dim=1) for x in (kept, queries)
    )
    owner = torch.from_numpy(np.asarray(labels, dtype=np.int64))
    number = int(owner.max()) + 1 if classes is None else classes
    found: list[Tensor] = []
    for block in _blocks(asked, len(rows)):
        near, at = (block @ rows.T).topk(min(k, len(rows)), dim=1)
        votes = torch.zeros(len(block), number, dtype=wide).scatter_add_(1, owner[at], (near / temperature).exp())
        found.append(_ranked(votes, parity))
    return torch.cat(found).numpy()


def _ranked(votes: Tensor, parity: Parity) -> Tensor:
    if parity == "official":
        return votes.sort(dim=1, descending=True)[1]
    sizes, order = votes.sort(dim=1, descending=True, stable=True)
    return torch.where(sizes > 0, order, -1)


def hits(ranked: NDArray[np.int64], truth: NDArray[np.integer], top: int = 1) -> NDArray[np.bool_]:
    """Whether the true class is among the first `top`, bool `[q]`."""
    return (ranked[:, :top] == np.asarray(truth)[:, None]).any(1)


def _blocks(x: Tensor, others: int) -> Iterator[Tensor]:
    yield from x.split(max(1, BYTES // (8 * max(others, 1))))


def _check(kept: np.ndarray, labels: np.ndarray, queries: np.ndarray, k: int, temperature: float) -> None:
    if kept.ndim != 2 or queries.ndim != 2 or kept.shape[1] != queries.shape[1] or not kept.size:
        raise BadInput(
            f"kept rows and queries must be [n, d] and [q, d], not {list(kept.shape)}, {list(queries.shape)}"
        )
    if labels.shape != kept.shape[:1] or k < 1 or not temperature > 0:
        raise BadInput(f"{labels.size} labels for {len(kept)} rows, k = {k}, temperature = {temperature}: both above 0")
    for name, x in (("kept rows", kept), ("queries", queries)):
        if not np.isfinite(x).all():
            raise NonFinite(f"{int((~np.isfinite(x)).any(1).sum())} {name} hold NaN or infinity")
