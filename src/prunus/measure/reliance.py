"""Reliance: which columns does a classifier use? Their values are exchanged between rows (Shah et al. 2020, simplicity bias).

Removes: nothing.
Needs: a classifier on vectors [n, d] and labelled rows.
Cost: 1 + 2 * blocks forward passes over the rows.
Departures: none. One permutation is common to all columns of a block, so that their joint distribution stays. With more than two
 classes the AUC is the mean over classes of one against the rest; reliance is 1 where exchanging a block leaves chance, 0 where
 it changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prunus.core.errors import BadInput
from prunus.core.registry import measure
from prunus.core.rng import shuffled
from prunus.measure.measured import Measured, role_facts
from prunus.measure.similarity import outputs
from prunus.train.ordered import ordered

MOST_COLUMNS = 32


@measure(needs=("logits", "labels"), card="simplicity-bias-probe")
def reliance(
    model: nn.Module,
    data: Any,
    *,
    step: Any = None,
    batch: int = 256,
    device: str = "cpu",
    blocks: tuple[str, ...] = (),
    rotation: Any = None,
    seed: int = 0,
) -> Measured:
    """`auc`, `accuracy`, and for each block `reliance@block`, `auc_without@block` (it exchanged), `auc_only@block` (all others
    exchanged), `logit_change@block` (mean change of logits when it is exchanged, in their standard deviations).

    Args:
        step: adapter of a batch; inferred from the first one.
        batch: rows at a time.
        device: where the model runs.
        blocks: columns of the flattened input: "0", "1-9", "simple=0", "rest=1-9+12"; by default each of up to 32 alone.
        rotation: float [d, d] that the features were turned by, as `maths.slabs.Slabs.rotation`; undone before exchanging.
        seed: of the permutation.
    """
    x, y, shape = _rows(data, batch)
    turn = np.eye(x.shape[1]) if rotation is None else np.asarray(rotation, dtype=np.float64)
    named = _blocks(blocks, x.shape[1])
    order = shuffled(seed, "reliance", np.arange(len(x)))

    def logits(values: NDArray[np.float64]) -> NDArray[np.float64]:
        turned = torch.from_numpy((values @ turn).astype(np.float32)).reshape(-1, *shape)
        return outputs(model, (turned, torch.from_numpy(y)), step=step, batch=batch, device=device).numpy()

    plain, features = logits(x @ turn.T), x @ turn.T
    whole = auc(plain, y)
    found = {"auc": whole, "accuracy": float((plain.argmax(1) == y).mean())}
    for name, columns in named.items():
        without, only = features.copy(), features[order]
        without[:, columns] = features[order][:, columns]
        only[:, columns] = features[:, columns]
        changed = logits(without)
        left = auc(changed, y)
        found[f"reliance@{name}"] = float(np.clip((whole - left) / (whole - 0.5), 0, 1)) if whole > 0.5 else 0.0
        found[f"auc_without@{name}"], found[f"auc_only@{name}"] = left, auc(logits(only), y)
        found[f"logit_change@{name}"] = float(np.abs(changed - plain).mean() / max(float(plain.std()), 1e-12))
    return Measured({name: (value, None) for name, value in found.items()}, **role_facts(data, len(x)))


def auc(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Area under the ROC curve; the mean over classes of one against the rest where there are more than two.

    Args:
        logits: `[n, c]`.
        labels: `[n]`, of at least two classes.
    """
    from scipy.stats import rankdata

    shares: list[float] = []
    for label in np.unique(labels):
        own = labels == label
        ones, others = int(own.sum()), int((~own).sum())
        if not others:
            raise BadInput("an AUC needs rows of two classes or more")
        score = logits[:, label] - np.delete(logits, label, 1).mean(1)
        shares.append((rankdata(score)[own].sum() - ones * (ones + 1) / 2) / (ones * others))
    return float(np.mean(shares))


def _rows(data: Any, batch: int) -> tuple[NDArray[np.float64], NDArray[np.int64], tuple[int, ...]]:
    """All rows, flattened, their labels, and the shape of one row."""
    parts: list[tuple[Tensor, Tensor]] = []
    for rows in ordered(data, batch):
        if not isinstance(rows, (tuple, list)) or not isinstance(rows[-2], Tensor) or rows[-1] is None:
            raise BadInput("reliance exchanges columns of labelled arrays: batches of (x, y) or (ids, x, y)")
        parts.append((rows[-2], torch.as_tensor(rows[-1])))
    if not parts:
        raise BadInput("there are no rows to measure on")
    x, y = (torch.cat(side) for side in zip(*parts))
    return x.flatten(1).double().numpy(), y.numpy().astype(np.int64), tuple(x.shape[1:])


def _blocks(blocks: Sequence[str], columns: int) -> Mapping[str, NDArray[np.int64]]:
    """Name -> columns."""
    if not blocks and columns > MOST_COLUMNS:
        raise BadInput(
            f"rows have {columns} columns: say which belong together, as blocks=('left=0-31', 'right=32-63')"
        )
    found: dict[str, NDArray[np.int64]] = {}
    for text in blocks or [str(at) for at in range(columns)]:
        name, equals, listed = text.partition("=")
        try:
            ends = [[int(end) for end in part.split("-")] for part in (listed if equals else name).split("+")]
        except ValueError as error:
            raise BadInput(f"{text!r} is no block of columns: write 3, 0-9 or name=0-4+7") from error
        own = np.unique(np.concatenate([np.arange(end[0], end[-1] + 1) for end in ends]))
        if not own.size or own[-1] >= columns:
            raise BadInput(f"{text!r} names columns beyond 0-{columns - 1}")
        found[name] = own
    return found
