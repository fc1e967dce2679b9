"""`Signals`: measured quantities of rows, aligned with their ids. Door 1: arrays that anyone can make.

Stored as safetensors shards of 100,000 rows and a JSON manifest, read through memory maps: a field is paged in when
it is used. Nothing here is recomputed, and nothing is pickled.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from prunus.core.errors import BadInput, IdMismatch, NonFinite, UnknownName
from prunus.signals import shards
from prunus.train.step import per_row_loss

Ids = NDArray[np.int64] | NDArray[np.str_]
Array = ArrayLike | Tensor
SHARD = shards.SHARD
CHUNK = 8192


class Signals:
    """Signals of n rows.

    Fields are torch tensors with n rows: `s.probs` `[n, c]`, `s.labels` `[n]`, `s.loss` `[n]`, `s.embedding` `[n, d]`,
    and whatever else was given. `probs` is derived from `logits`, and `loss` from logits and labels, when not given.

    Args:
        ids: int or text `[n]`, unique; 0..n-1 when None.
        fields: name -> array or tensor with n rows.

    Raises:
        BadInput: no field, another number of rows, duplicate ids, object dtype.
        NonFinite: a NaN (or an infinity, except in logits); names the rows by id.
    """

    def __init__(self, ids: ArrayLike | None = None, **fields: Array | None) -> None:
        self._take(ids, fields, finite=True)

    @classmethod
    def with_bad_rows(cls, ids: ArrayLike | None = None, **fields: Array | None) -> Signals:
        """The same, but rows that are not finite are taken as they are: `quarantine=True` of score and plan leaves them out."""
        made = cls.__new__(cls)
        made._take(ids, fields, finite=False)
        return made

    def _take(self, ids: ArrayLike | None, fields: Mapping[str, Array | None], *, finite: bool) -> None:
        tensors = {name: _tensor(name, value) for name, value in fields.items() if value is not None}
        if not tensors:
            raise BadInput("Signals needs at least one field, such as probs=, labels=, loss= or embedding=")
        rows = len(next(iter(tensors.values())))
        self.ids: Ids = _checked_ids(np.arange(rows) if ids is None else ids)
        for name, tensor in tensors.items():
            if len(tensor) != len(self.ids):
                raise BadInput(f"{name} has {len(tensor)} rows, but there are {len(self.ids)} ids")
            if finite:
                _check_finite(name, tensor, self.ids)
        _check_classes(tensors, self.ids)
        self._parts: dict[str, tuple[Tensor, ...]] = {name: (tensor,) for name, tensor in tensors.items()}
        self.provenance: Mapping[str, Any] = {}

    @classmethod
    def _of(cls, ids: Ids, parts: dict[str, tuple[Tensor, ...]], provenance: Mapping[str, Any]) -> Signals:
        made = cls.__new__(cls)
        made.ids, made._parts, made.provenance = ids, parts, provenance
        return made

    @classmethod
    def nothing(cls, ids: ArrayLike) -> Signals:
        """Rows of which nothing was measured: all that a random draw needs."""
        return cls._of(_checked_ids(ids), {}, {})

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {[len(self), *parts[0].shape[1:]]}" for name, parts in self._parts.items())
        return f"Signals({len(self)} rows: {shapes})"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the fields that can be read: those stored, then those derived from them."""
        derived = [name for name in ("probs", "loss") if name not in self._parts and self._derivable(name)]
        return (*self._parts, *derived)

    def _derivable(self, name: str) -> bool:
        logits = self._parts.get("logits")
        return logits is not None and logits[0].dim() == 2 and (name == "probs" or "labels" in self._parts)

    def field(self, name: str) -> Tensor:
        """One field, all rows. A field of one shard is a view; of several, a copy.

        Raises:
            UnknownName: not there; names the nearest.
        """
        if name in self._parts:
            parts = self._parts[name]
            return parts[0] if len(parts) == 1 else torch.cat(parts)
        if name == "probs" and self._derivable(name):
            return self.field("logits").float().softmax(-1)
        if name == "loss" and self._derivable(name):
            return per_row_loss(self.field("logits"), self.field("labels"))
        raise UnknownName("signal", name, self.names)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a field, without reading it."""
        stored = name if name in self._parts else "logits" if name == "probs" else name
        if name == "loss" and name not in self._parts and self._derivable(name):
            return (len(self),)
        if stored not in self._parts:
            raise UnknownName("signal", name, self.names)
        return (len(self), *self._parts[stored][0].shape[1:])

    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("_") or name in ("ids", "provenance"):
            raise AttributeError(name)
        try:
            return self.field(name)
        except UnknownName as error:
            raise AttributeError(str(error)) from error

    def take(self, positions: ArrayLike) -> Signals:
        """The rows at these positions, in this order."""
        at = np.asarray(positions)
        if at.dtype == np.bool_:
            at = np.flatnonzero(at)
        if at.size and (at.min() < -len(self) or at.max() >= len(self)):
            raise BadInput(f"positions must lie in 0..{len(self) - 1}, not {int(at.min())}..{int(at.max())}")
        index = torch.from_numpy(np.ascontiguousarray(at, dtype=np.int64) % max(len(self), 1))
        parts = {name: (self.field(name)[index],) for name in self._parts}
        return Signals._of(self.ids[at], parts, self.provenance)

    def align(self, ids: ArrayLike) -> Signals:
        """The rows with these ids, in this order.

        Raises:
            IdMismatch: some have no signals.
        """
        wanted = _checked_ids(ids)
        order = np.argsort(self.ids, kind="stable")
        at = order[np.minimum(np.searchsorted(self.ids, wanted, sorter=order), len(order) - 1)]
        missing = wanted[self.ids[at] != wanted]
        if missing.size:
            raise IdMismatch(f"{missing.size} of {wanted.size} ids have no signals, such as {missing[:5].tolist()}")
        return self.take(at)

    def chunks(self, size: int = 8192) -> Iterator[Signals]:
        """Consecutive rows, at most `size` at a time, as views; reads a stored set shard by shard."""
        if size < 1:
            raise BadInput(f"size must be 1 or more, not {size}")
        if not self._parts:
            yield self
            return
        starts = np.cumsum([0, *(len(part) for part in next(iter(self._parts.values())))])
        for number, (first, last) in enumerate(zip(starts[:-1].tolist(), starts[1:].tolist())):
            for start in range(first, last, size):
                stop = min(start + size, last)
                views = {
                    name: (parts[number][start - first : stop - first],) for name, parts in self._parts.items()
                }  # fmt: skip
                yield Signals._of(self.ids[start:stop], views, self.provenance)

    def merge(self, other: Signals) -> Signals:
        """Fields of both for the ids of this one; a field in both comes from `other`."""
        aligned = other if np.array_equal(self.ids, other.ids) else other.align(self.ids)
        fields = {name: self.field(name) for name in self._parts} | {n: aligned.field(n) for n in aligned._parts}
        return Signals._of(self.ids, {name: (tensor,) for name, tensor in fields.items()}, self.provenance)

    @classmethod
    def concat(cls, parts: Sequence[Signals], *, repeated: Literal["error", "first"] = "error") -> Signals:
        """Rows one part after the other: new data, or what several ranks measured.

        Args:
            parts: with the same fields.
            repeated: "first" keeps one entry per id, the earlier part's: samplers of several ranks pad with rows that
                another rank has too.

        Raises:
            BadInput: other fields, or an id that occurs twice.
        """
        names = set(parts[0]._parts)
        if any(set(part._parts) != names for part in parts):
            raise BadInput(f"parts have different fields: {sorted({name for p in parts for name in p._parts} ^ names)}")
        every = cast("Ids", np.concatenate([part.ids for part in parts]))  # all numbers, or all text
        columns = {name: tuple(shard for part in parts for shard in part._parts[name]) for name in parts[0]._parts}
        lengths = {name: [len(shard) for shard in column] for name, column in columns.items()}
        if len({tuple(length) for length in lengths.values()}) > 1:
            columns = {name: (torch.cat(column),) for name, column in columns.items()}
        whole = cls._of(every, columns, parts[0].provenance)
        if repeated == "first":
            first = np.sort(np.unique(every, return_index=True)[1])
            whole = whole if len(first) == len(every) else whole.take(first)
        whole.ids = _checked_ids(whole.ids)
        return whole

    def save(self, folder: str | Path, *, shard: int = SHARD) -> Path:
        """Write shards of `shard` rows and `signals.json`; the manifest comes last, so a broken write is not a set."""
        with shards.Writer(folder, shard=shard, provenance=self.provenance) as writer:
            for part in self.chunks(shard):
                writer.add(part.ids, {name: part.field(name) for name in part._parts})
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path, *, verify: bool = False) -> Signals:
        """Open a saved set through memory maps.

        Args:
            folder: what `save` wrote.
            verify: also check the hash of every shard (reads everything).

        Raises:
            CorruptFile: truncated, hostile or inconsistent.
            SchemaTooNew: written by a later prunus.
        """
        ids, parts, provenance = shards.open_folder(folder, verify=verify)
        return cls._of(_checked_ids(ids), parts, provenance)

    @classmethod
    def from_parquet(
        cls,
        path: str | Path,
        *,
        out: str | Path | None = None,
        quarantine: bool = False,
        **columns: str | Sequence[str],
    ) -> Signals:
        """Predictions of any tool; see `prunus.signals.tables.read`.

        Args:
            path: the table.
            out: of parquet: a folder for shards that are written as the table is read, and read back through memory
                maps; the table is never in memory as a whole.
            quarantine: take rows that are not finite as they are.
            columns: signal = column, or columns.
        """
        from prunus.signals import tables

        if out is None:
            return tables.read(path, quarantine=quarantine, **columns)
        return tables.convert(path, out, quarantine=quarantine, **columns)

    @classmethod
    def from_npz(cls, path: str | Path, **columns: str | Sequence[str]) -> Signals:
        """Arrays saved by numpy, without pickles; see `prunus.signals.tables.read`."""
        from prunus.signals import tables

        return tables.read(path, quarantine=False, **columns)

    @classmethod
    def from_jsonl(cls, path: str | Path, **columns: str | Sequence[str]) -> Signals:
        """One JSON object per line; see `prunus.signals.tables.read`."""
        from prunus.signals import tables

        return tables.read(path, quarantine=False, **columns)


def _tensor(name: str, value: Array) -> Tensor:
    if isinstance(value, Tensor):
        tensor = value.detach().cpu()
    else:
        array = np.asarray(value)
        if array.ndim == 0:
            raise BadInput(f"{name} must have one entry per row, not a single number")
        if array.dtype.kind not in "fiub":
            raise BadInput(f"{name} must hold numbers, not {array.dtype}")
        if array.dtype.kind == "u" and array.dtype.itemsize > 1:
            array = array.astype(np.int64)
        with warnings.catch_warnings():  # a read-only memory map stays one: nothing here writes to a field
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            tensor = torch.from_numpy(np.ascontiguousarray(array))
    if tensor.dim() == 0:
        raise BadInput(f"{name} must have one entry per row, not a single number")
    if name == "labels" and not tensor.is_floating_point():
        return tensor.long()
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _checked_ids(ids: ArrayLike) -> Ids:
    array = np.asarray(ids)
    if array.dtype.kind == "O":
        array = array.astype(np.str_)
    if array.dtype.kind in "iu":
        array = array.astype(np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iU":
        raise BadInput(f"ids must be integers or text [n], not {array.dtype} {list(array.shape)}")
    unique, counts = np.unique(array, return_counts=True)
    if len(unique) < len(array):
        repeated = unique[counts > 1]
        raise BadInput(f"{len(repeated)} ids occur more than once, such as {repeated[:5].tolist()}")
    return array


def _check_finite(name: str, tensor: Tensor, ids: Ids) -> None:
    if not tensor.is_floating_point():
        return
    rows = np.zeros(len(tensor), dtype=bool)
    for low in range(0, len(tensor), CHUNK):  # a mapped field is not brought to memory as a whole
        part = tensor[low : low + CHUNK]
        wrong = torch.isnan(part) if name == "logits" else ~torch.isfinite(part)
        rows[low : low + CHUNK] = wrong.flatten(1).any(1).numpy() if part.dim() > 1 else wrong.numpy()
    if rows.any():
        raise NonFinite(f"{name} is not finite in {int(rows.sum())} rows, such as ids {ids[rows][:5].tolist()}")


def _check_classes(tensors: Mapping[str, Tensor], ids: Ids) -> None:
    """Integer labels must be classes of probs or logits, and probs probabilities."""
    probs = tensors.get("probs")
    for name in ("probs", "logits"):
        if name in tensors and tensors[name].dim() < 2:
            raise BadInput(f"{name} must be [n, classes], not {list(tensors[name].shape)}")
    if probs is not None and probs.dim() == 2:
        wrong = ((probs < -1e-4).any(1) | ((probs.sum(1) - 1).abs() > 1e-2)).numpy()  # NaN is judged elsewhere
        if wrong.any():
            raise BadInput(f"probs of ids {ids[wrong][:5].tolist()} do not sum to 1; give logits= instead")
    labels, table = tensors.get("labels"), probs if probs is not None else tensors.get("logits")
    if labels is None or table is None or labels.dim() != 1 or table.dim() != 2 or labels.is_floating_point():
        return
    wrong = ((labels < 0) | (labels >= table.shape[1])).numpy()
    if wrong.any():
        first = labels.numpy()[wrong][:5].tolist()
        raise BadInput(f"labels {first} of ids {ids[wrong][:5].tolist()} are not in 0..{table.shape[1] - 1}")
