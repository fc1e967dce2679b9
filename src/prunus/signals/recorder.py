"""`Recorder`: signals from the user's own training run. Door 3.

    rec = Recorder(train, need=("aum", "forgetting"), out="runs/rec")
    for epoch in range(epochs):
        for ids, x, y in DataLoader(rec.dataset, 128, shuffle=True):
            logits = model(x)
            loss = cross_entropy(logits, y, reduction="none")
            rec.batch(ids, logits=logits, labels=y, loss=loss)
            ...
        rec.end_epoch()
    signals = rec.signals()

A batch costs two small copies; softmax and margins are computed for thousands of rows at a time, and nothing waits for
a device. State is written, atomically, at the end of each epoch: a killed run loses the running epoch at most.
Several ranks: each writes its part of an epoch, rank 0 folds complete epochs; an id that two ranks saw in one epoch
(padding of a distributed sampler) counts once, the lower rank's entry.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prunus.core.errors import BadInput, CorruptFile, IdMismatch, SplitError
from prunus.core.files import read_arrays, read_json, write_arrays, write_json
from prunus.signals.dynamics import PROVIDES as FIELDS
from prunus.signals.dynamics import VERSION, Dynamics, EpochRows
from prunus.signals.rowset import Signals
from prunus.train.step import IGNORED, as_ids

FLUSH_ROWS, FLUSH_NUMBERS = 4096, 2_000_000
Ids = NDArray[np.int64] | NDArray[np.str_]


class Recorder:
    """Records what `need` asks for, in O(n) memory.

    Args:
        dataset: has `len` and `[i]`, or `ids`; its `ids` and `labels` are used when there.
        need: fields of `prunus.signals.dynamics`; all by default.
        out: folder for state and rank parts; None keeps everything in memory (one rank only).
        ids: when the dataset has none; else 0..n-1.
        rank, world: of this process; from torch.distributed, or RANK and WORLD_SIZE, when None.
        el2n_epochs, window, early: see `Dynamics`.

    Raises:
        SplitError: the dataset is a test split.
        BadInput: several ranks without `out`.
    """

    def __init__(
        self,
        dataset: Any,
        need: tuple[str, ...] | list[str] | str = FIELDS,
        out: str | Path | None = None,
        *,
        ids: Any = None,
        rank: int | None = None,
        world: int | None = None,
        el2n_epochs: int = 10,
        window: int = 10,
        early: int = 30,
    ) -> None:
        if getattr(dataset, "role", None) == "test":
            raise SplitError("the dataset has the role 'test': nothing may be recorded on it")
        need = (need,) if isinstance(need, str) else tuple(need)
        found = ids if ids is not None else getattr(dataset, "ids", None)
        self.ids: Ids = as_ids(np.arange(len(dataset)) if found is None else found)  # type: ignore[assignment]
        self.rank, self.world = _place(rank, world)
        self._out = None if out is None else Path(out)
        if self.world > 1 and self._out is None:
            raise BadInput(f"{self.world} ranks meet in files: give out=, a folder that all of them see")
        self._lookup = _Lookup(self.ids)
        self._dynamics = Dynamics(len(self.ids), need, el2n_epochs=el2n_epochs, window=window, early=early)
        self._labels = getattr(dataset, "labels", None)
        self.dataset = WithIds(dataset, self.ids)
        self._open = self._buffers()
        self._waiting: list[tuple[Any, Tensor | None, Any, Tensor | None]] = []
        self._rows = self._numbers = 0
        self.epoch = 0
        if self._out is not None:
            self._resume()

    # ---- while training ---------------------------------------------------------------------------------------------

    def batch(
        self, ids: Any, logits: Tensor | None = None, labels: Tensor | None = None, loss: Tensor | None = None
    ) -> None:
        """Record one batch. Nothing is computed now, and no device is waited for.

        Args:
            ids: `[B]`, as `rec.dataset` gave them.
            logits: `[B, c]`, or `[B, T, c]` (averaged over labelled tokens).
            labels: `[B]` or `[B, T]`; the dataset's own when None.
            loss: `[B]`, before any weighting.
        """
        kept = None if logits is None else logits.detach().clone()
        self._waiting.append((ids, kept, labels, None if loss is None else loss.detach().clone()))
        self._rows += len(ids)
        self._numbers += 0 if kept is None else kept.numel()
        if self._rows >= FLUSH_ROWS or self._numbers >= FLUSH_NUMBERS:
            self._flush()

    def end_epoch(self, epoch: int | None = None) -> None:
        """Close the epoch: accumulate it, and write the state (or this rank's part) to disk.

        Args:
            epoch: its number when a resumed run repeats epochs; one that is already recorded is dropped.
        """
        self._flush()
        number = self.epoch if epoch is None else epoch
        part = self._close()
        if self.world > 1:
            self._write_part(number, part)
            if self.rank == 0:
                self._fold()
        elif number >= self._dynamics.epochs:
            self._dynamics.update(part)
            self._save()
        self.epoch = number + 1

    def signals(self) -> Signals:
        """What was recorded, rows in the order of the dataset.

        Raises:
            BadInput: no epoch has ended yet, or ranks are missing.
        """
        if self.world > 1:
            self._fold()
            self._check_ranks()
        if not self._dynamics.epochs:
            raise BadInput("no epoch is complete: call rec.end_epoch() (on every rank) first")
        fields: dict[str, Any] = self._dynamics.fields()
        if self._labels is not None:
            fields = {"labels": np.asarray(self._labels), **fields}
        made = Signals(self.ids, **fields)
        made.provenance = {"recorded epochs": self._dynamics.epochs, "mode": "training", "version": VERSION}
        return made

    # ---- batches to values ------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Compute the waiting batches at once: one softmax for thousands of rows."""
        waiting, self._waiting = self._waiting, []
        self._rows = self._numbers = 0
        if not waiting:
            return
        ids = np.concatenate([as_ids(part) for part, _, _, _ in waiting])  # type: ignore[misc]
        at = self._lookup.positions(ids)
        values: dict[str, NDArray[Any]] = {}
        if waiting[0][3] is not None:
            values["loss"] = torch.cat([part for _, _, _, part in waiting if part is not None]).float().cpu().numpy()
        if waiting[0][1] is not None and set(self._dynamics.quantities) - {"loss"}:
            values |= self._from_logits([(part, labels) for _, part, labels, _ in waiting], at)
        finite = np.ones(len(at), np.bool_)
        for name, value in values.items():
            if len(value) != len(at):
                raise BadInput(f"{name} has {len(value)} rows for {len(at)} ids")
            finite &= np.isfinite(value)
        self._store(at, values, finite)

    def _from_logits(self, parts: list[tuple[Any, Any]], at: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        if parts[0][1] is None:
            if self._labels is None:
                raise BadInput("the recorder needs labels=, or a dataset with .labels")
            labels: Any = np.asarray(self._labels)[at]
        else:
            labels = [part for _, part in parts]
        if parts[0][0].dim() == 2:
            logits = torch.cat([part for part, _ in parts])
            targets = torch.from_numpy(labels) if isinstance(labels, np.ndarray) else torch.cat(labels)
            self._check_labels(logits, targets, at)
            return row_values(logits, targets.to(logits.device))
        found = [_token_means(part, target) for part, target in parts]
        return {name: np.concatenate([part[name] for part in found]) for name in found[0]}

    def _check_labels(self, logits: Tensor, labels: Tensor, at: NDArray[np.int64]) -> None:
        """Refuse class numbers that the logits do not have, naming the rows."""
        wrong = ((labels < 0) | (labels >= logits.shape[1])).nonzero()[:5, 0].cpu()
        if labels.dim() == 1 and len(wrong):
            raise BadInput(
                f"labels {labels.cpu()[wrong].tolist()} of ids {self.ids[at[wrong.numpy()]].tolist()} are not in "
                f"0..{logits.shape[1] - 1}, the classes of the logits"
            )

    def _store(self, at: NDArray[np.int64], values: Mapping[str, NDArray[Any]], finite: NDArray[np.bool_]) -> None:
        if not finite.all():
            named = self.ids[at[~finite]][:5].tolist()
            warnings.warn(f"epoch {self.epoch}: outputs of rows {named} are not finite; not recorded", stacklevel=4)
            at, values = at[finite], {name: value[finite] for name, value in values.items()}
        self._open["seen"][at] = True
        for name in self._dynamics.quantities:
            if name not in values:
                what = "loss=" if name == "loss" else "logits="
                raise BadInput(f"{name} was asked for, so rec.batch needs {what}")
            self._open[name][at] = values[name]

    def _buffers(self) -> dict[str, NDArray[Any]]:
        rows = len(self.ids)
        kinds = {name: np.bool_ if name == "correct" else np.float32 for name in self._dynamics.quantities}
        return {"seen": np.zeros(rows, np.bool_), **{name: np.zeros(rows, kind) for name, kind in kinds.items()}}

    def _close(self) -> EpochRows:
        at = np.flatnonzero(self._open["seen"])
        part = EpochRows(at, {name: self._open[name][at] for name in self._dynamics.quantities})
        self._open["seen"][:] = False
        return part

    # ---- files ------------------------------------------------------------------------------------------------------

    def _options(self) -> dict[str, Any]:
        dynamics = self._dynamics
        return {
            "schema": VERSION, "rows": dynamics.rows, "need": list(dynamics.need), "el2n_epochs": dynamics.el2n_epochs,
            "window": dynamics.window, "early": dynamics.early,
        }  # fmt: skip

    def _resume(self) -> None:
        assert self._out is not None
        manifest, state = self._out / "recorder.json", self._out / "state.safetensors"
        if manifest.exists() and read_json(manifest) != self._options():
            raise BadInput(f"{self._out} holds a recording with other options {read_json(manifest)}; use another out=")
        if state.exists():
            self._load(state)
        elif self.rank == 0:
            write_json(manifest, self._options())
        self.epoch = self._dynamics.epochs

    def _load(self, path: Path) -> None:
        state = read_arrays(path)
        ids = state.pop("ids", None)
        if ids is None:
            raise CorruptFile(f"{path} is not the state of a recorder")
        if not np.array_equal(ids, self.ids):
            raise IdMismatch(f"{path} was recorded on {len(ids)} other ids; use another out=")
        self._dynamics.load_state_dict(state)

    def _save(self) -> None:
        if self._out is not None:
            write_arrays(self._out / "state.safetensors", {"ids": self.ids, **self._dynamics.state_dict()})

    def _write_part(self, epoch: int, part: EpochRows) -> None:
        assert self._out is not None
        path = self._out / f"epoch-{epoch:05d}.rank-{self.rank:04d}-of-{self.world:04d}.safetensors"
        write_arrays(path, {"positions": part.positions, **part.values})

    def _check_ranks(self) -> None:
        """A part that others lack means that a rank is still at it."""
        assert self._out is not None
        epoch = self._dynamics.epochs
        there = {int(path.name[17:21]) for path in self._out.glob(f"epoch-{epoch:05d}.rank-*-of-{self.world:04d}.*")}
        if there:
            missing = sorted(set(range(self.world)) - there)
            raise BadInput(f"ranks {missing} have not ended epoch {epoch} yet: let all ranks meet (barrier), then ask")

    def _fold(self) -> None:
        """Add complete epochs in order, then delete their parts. State first: a crash between the two is harmless."""
        assert self._out is not None
        if self.rank != 0:
            raise BadInput(f"rank {self.rank} has its own part only: read the signals on rank 0")
        while True:
            epoch = self._dynamics.epochs
            parts = [
                self._out / f"epoch-{epoch:05d}.rank-{r:04d}-of-{self.world:04d}.safetensors" for r in range(self.world)
            ]
            if not all(path.exists() for path in parts):
                break
            self._dynamics.update(merged([read_arrays(path) for path in parts]))
            self._save()
        for path in self._out.glob("epoch-*.safetensors"):
            if int(path.name[6:11]) < self._dynamics.epochs:
                path.unlink(missing_ok=True)


class WithIds:
    """A dataset whose items carry their id: `(id, x, y)` for tuples, a dict with `ids` for dicts."""

    def __init__(self, dataset: Any, ids: Ids) -> None:
        self.wrapped, self.ids = dataset, ids
        self._list: list[Any] = ids.tolist()
        self.labels = getattr(dataset, "labels", None)

    def __len__(self) -> int:
        return len(self._list)

    def __getitem__(self, position: int) -> Any:
        item = self.wrapped[position]
        if isinstance(item, Mapping):
            return {**item, "ids": self._list[position]}
        if not isinstance(item, tuple):
            return self._list[position], item
        return item if len(item) == 3 and item[0] == self._list[position] else (self._list[position], *item)

    def batches(self, *args: Any, **options: Any) -> Any:
        """The wrapped dataset's own batches, which carry ids already."""
        return self.wrapped.batches(*args, **options)


def row_values(logits: Tensor, labels: Tensor) -> dict[str, NDArray[Any]]:
    """margin, entropy, el2n, correct and p_true of each row. logits `[N, c]`, labels int `[N]` or one-hot `[N, c]`."""
    if logits.shape[:1] != labels.shape[:1] or logits.shape[1] < 2:
        raise BadInput(
            f"logits {list(logits.shape)} and labels {list(labels.shape)} do not fit: [B, classes >= 2] and [B]"
        )
    labels = (labels.argmax(1) if labels.dim() == 2 else labels).long().unsqueeze(1)
    log_p = logits.float().log_softmax(1)
    p = log_p.exp()
    p_true = p.gather(1, labels)
    largest = p.scatter(1, labels, -1.0).amax(1, keepdim=True)
    square = p.square().sum(1, keepdim=True) - p_true.square() + (1 - p_true).square()
    entropy = -(p * log_p.clamp_min(-1e4)).sum(1)
    columns = (
        torch.stack([(p_true - largest)[:, 0], entropy, square[:, 0].clamp_min(0).sqrt(), p_true[:, 0]]).cpu().numpy()
    )
    correct = (logits.argmax(1) == labels[:, 0]).cpu().numpy()
    return {"margin": columns[0], "entropy": columns[1], "el2n": columns[2], "p_true": columns[3], "correct": correct}


def _token_means(logits: Tensor, labels: Tensor) -> dict[str, NDArray[Any]]:
    """Means over the labelled tokens of each row; a row is correct when all of its labelled tokens are."""
    used = labels != IGNORED
    flat = row_values(logits[used], labels[used])
    row = np.repeat(np.arange(len(labels)), used.sum(1).cpu().numpy())
    count = np.maximum(np.bincount(row, minlength=len(labels)), 1)
    means: dict[str, NDArray[Any]] = {
        name: np.bincount(row, value, minlength=len(labels)) / count for name, value in flat.items()
    }
    means["correct"] = means["correct"] >= 1 - 1e-9
    return means


def merged(parts: list[dict[str, NDArray[Any]]]) -> EpochRows:
    """One entry per row of one epoch's parts, the earlier part's where two hold it."""
    at = np.concatenate([part["positions"] for part in parts])
    positions, first = np.unique(at, return_index=True)
    names = [name for name in parts[0] if name != "positions"]
    return EpochRows(positions, {name: np.concatenate([part[name] for part in parts])[first] for name in names})


class _Lookup:
    """Positions of ids, a whole batch at once."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._direct = ids.dtype.kind == "i" and bool(np.array_equal(ids, np.arange(len(ids))))
        self._order = np.argsort(ids, kind="stable")
        self._sorted = ids[self._order]
        if len(ids) and bool((self._sorted[1:] == self._sorted[:-1]).any()):
            raise BadInput("the dataset's ids are not unique")

    def positions(self, ids: NDArray[Any]) -> NDArray[np.int64]:
        if self._direct and ids.dtype.kind == "i":
            wrong = (ids < 0) | (ids >= len(self._ids))
            at = ids
        else:
            found = np.minimum(np.searchsorted(self._sorted, ids), len(self._sorted) - 1)
            wrong, at = self._sorted[found] != ids, self._order[found]
        if wrong.any():
            raise IdMismatch(f"ids {ids[wrong][:5].tolist()} are not in the recorded dataset")
        return at


def _place(rank: int | None, world: int | None) -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        found = torch.distributed.get_rank(), torch.distributed.get_world_size()
    else:
        found = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    return (found[0] if rank is None else rank), (found[1] if world is None else world)
