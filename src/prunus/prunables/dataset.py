"""Dataset: rows with ids, labels and a role, over arrays, torch Datasets, Hugging Face datasets, tables and files.

Rows are read when asked for. `take` gives back the kind of object that was wrapped; `subset`, `apply(plan)` a Dataset.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from prunus.core.errors import BadInput, FingerprintMismatch, IdMismatch
from prunus.core.prunable import Group
from prunus.core.rng import uniform
from prunus.prunables import columns, rowids
from prunus.prunables.arrays import Arrays, array_digest
from prunus.prunables.backings import Backing, backing_of, is_array
from prunus.prunables.images import Preprocess
from prunus.prunables.items import Items
from prunus.prunables.labels import encoded
from prunus.prunables.loading import inputs_of, table_values
from prunus.prunables.roles import ROLES, Reads, Role, check_role, require_role

if TYPE_CHECKING:
    import torch

    from prunus.core.plan import Plan

__all__ = ["ROLES", "Dataset", "require_role"]
Batch = tuple[np.ndarray, Any, Any] | dict[str, Any]


class Dataset:
    """Rows that can be pruned.

    Attributes:
        ids: int64 or unicode `[n]`, unique.
        role: fit, val, test or train (a training file before it is split; counts as fit).
        name: for messages and reports.
        preprocess: what happens to images, or None where rows are no images.
        classes: class names by label number, where known.
        reads: how often rows were handed out, shared with everything cut from this dataset.
        backing: where the rows are, for readers of raw columns.
        inputs: columns that become x; label, text, id_column: those that become y, hold text, hold ids.
        uncached: why signals of these rows can't be kept in the store, or None.
        loss_weights: float32 `[n]` that a plan brought (`plan.apply`) or a file holds, or None: training counts rows by them.
        quarantined: ids of unreadable rows that were left out when the data were opened.
    """

    unit = "rows"

    def __init__(
        self,
        data: Any,
        labels: Any = None,
        *,
        ids: Any = None,
        role: Role | str = "fit",
        x: str | Sequence[str] | None = None,
        label: str | None = None,
        text: str | None = None,
        classes: Sequence[str] | None = None,
        preprocess: Preprocess | None = None,
        transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
        transform_id: str | None = None,
        content_id: str | None = None,
        name: str = "",
        by: Literal["all", "class"] = "all",
    ) -> None:
        """Wrap `data`.

        Args:
            data: (x, y) or x as numpy or torch; a dict of arrays; a map-style torch Dataset; a `datasets.Dataset`; a
                pyarrow, polars or pandas table; a list of dicts; or a backing from `prunus.sources`.
            labels: `[n]`, where the data do not hold them.
            ids: a column name, or `[n]` whole numbers or text; default 0..n-1, or file:row for files.
            role: what the rows may be used for.
            x: the column(s) that are the model's input; several numeric columns are joined to `[n, k]`.
            label: the label column; text is numbered in the order of `classes`, by default its sorted names.
            text: the column that holds text, for reports and duplicates.
            classes: class names; give the training set's to its test set.
            preprocess: size and normalisation of images.
            transform: a function of the batch `x`, after `preprocess`.
            transform_id: its name and version; without one, nothing computed through it is cached.
            content_id: name and version of what a torch Dataset holds, which only its owner knows; allows caching.
            name: for messages.
            by: one group of all rows, or one for each class.

        Raises:
            BadInput: lengths differ, ids are not unique, a column is missing.
        """
        self._origin: Dataset | None = None
        self.backing: Backing = backing_of(data if labels is None or not is_array(data) else (data, labels))
        self.role: Role = check_role(role)
        self.name = name or type(data).__name__
        self.preprocess, self.transform, self._transform_id = preprocess, transform, transform_id
        self._content_id, self._splits = content_id, 0
        self.hand_back = False  # `apply` gives the kind of object that was wrapped, not a Dataset
        self.reads = Reads()
        self.text, self.by = text, by
        self.quarantined: tuple[Any, ...] = ()
        self.inputs, self.label = columns.input_columns(self.backing, x, label, text)
        self.id_column = ids if isinstance(ids, str) else None
        self.ids = columns.row_ids(self.backing, ids, self.name)
        self._order: np.ndarray | None = None
        self.loss_weights: np.ndarray | None = None
        self._fingerprint: str | None = None
        declared = columns.declared_classes(self.backing, self.label)
        self.classes: tuple[str, ...] | None = declared if classes is None else tuple(classes)
        self._labels = self._given_labels(labels)

    def _given_labels(self, labels: Any) -> np.ndarray | None:
        if labels is None and self.label:
            labels = self.backing.column(self.label)
        if labels is None:
            return None
        array, self.classes = encoded(labels, self.classes, ids=self.ids, name=self.name)
        if len(array) != len(self.ids):
            raise BadInput(f"{self.name} has {len(self.ids)} rows but {len(array)} labels")
        return array

    def _view(self, backing: Backing, ids: np.ndarray, labels: np.ndarray | None) -> Dataset:
        """A Dataset of the same kind over other rows; counters and options are shared."""
        view = object.__new__(Dataset)
        view.__dict__.update(self.__dict__)
        view.backing, view.ids, view._labels = backing, ids, labels
        view._order, view._fingerprint = None, None
        view._origin = self._origin or self
        return view

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"Dataset({self.name}, {len(self)} rows, role {self.role})"

    @property
    def labels(self) -> np.ndarray | None:
        """`[n]`, int64 class numbers or floats, or None. A torch Dataset that does not carry them is read once."""
        if self._labels is None and isinstance(self.backing, Items):
            self._labels = columns.labels_by_reading(self.backing)
        return self._labels

    @property
    def known_labels(self) -> np.ndarray | None:
        """`labels` as far as they are known without reading rows."""
        return self._labels

    @property
    def uncached(self) -> str | None:
        """Why signals of these rows can't be stored and found again, or None."""
        if self.transform is not None and self._transform_id is None:
            return f"the transform of {self.name} has no name: pass transform_id= (a new one when the function changes)"
        return None if self._content_id else self.backing.uncached

    @property
    def preprocess_id(self) -> str:
        """What was done to the inputs, part of the key of every stored signal."""
        base = self.preprocess.id if self.preprocess is not None else "none"
        return base if self.transform is None else f"{base}+{self._transform_id or 'unnamed'}"

    def __getitem__(self, position: int) -> Any:
        """One row: the item of a torch Dataset as it is, (x, y) where there is an input column, else a dict."""
        place = range(len(self))[position]  # IndexError, and negative positions
        self.reads.rows += 1
        self.reads.passes += 1
        row = getattr(self.backing, "row", None)
        if row is not None:
            return row(place)
        batch = self._read(np.array([place]))
        if isinstance(batch, dict):
            return {name: values[0] for name, values in batch.items()}
        return batch[1][0], None if batch[2] is None else batch[2][0]

    def batches(
        self,
        batch: int = 64,
        *,
        seed: int | None = None,
        epoch: int = 0,
        weights: Any = None,
        ids: Any = None,
        drop_last: bool = False,
    ) -> Iterator[Batch]:
        """Yield (ids, x, y), or where no column is the input a dict of columns and "ids"; y is None without labels.

        Args:
            batch: rows in a batch.
            seed: shuffle; the order depends on ids, seed and epoch only. None keeps the order of the data.
            epoch: varies the order.
            weights: `[n]`, draw rows with replacement in proportion (needs a seed).
            ids: these rows instead of all, in this order or shuffled by `seed`; may repeat (a dynamic method's epoch).
            drop_last: leave out a last batch that is not full.

        Raises:
            BadInput: unreadable rows, which are named.
        """
        places = self._places(seed, epoch, weights, ids)
        if batch < 1:
            raise BadInput(f"batch must be at least 1, not {batch}")
        stop = len(places) - len(places) % batch if drop_last else len(places)
        self.reads.passes += 1
        for start in range(0, stop, batch):
            found = places[start : start + batch]
            self.reads.rows += len(found)
            yield self._read(found)

    def _places(self, seed: int | None, epoch: int, weights: Any, ids: Any) -> np.ndarray:
        if weights is not None:
            if seed is None or ids is not None:
                raise BadInput("weights draw from all rows at random: pass seed= and no ids=")
            return rowids.drawn(self.order, weights, seed=seed, epoch=epoch)
        if ids is None:
            return np.arange(len(self)) if seed is None else rowids.shuffled(self.order, seed=seed, epoch=epoch)
        places = self.positions(ids)
        if seed is None:
            return places
        return rowids.shuffled(places[np.argsort(self.ids[places], kind="stable")], seed=seed, epoch=epoch)

    def _read(self, places: np.ndarray) -> Batch:
        ids = self.ids[places]
        light = self.inputs and (self._labels is not None or not self.label) and bool(self.backing.names())
        rows = self.backing.rows(places, self.inputs if light else None)
        if not self.inputs or any(name not in rows for name in self.inputs):
            return {**table_values(rows, ids, self.preprocess), "ids": ids}
        x = inputs_of([rows[name] for name in self.inputs], ids, self.preprocess, self.name)
        if self.transform is not None:
            x = self.transform(x)
        return ids, x, self._targets(rows, places)

    def _targets(self, rows: dict[str, Any], places: np.ndarray) -> Any:
        if self._labels is not None:
            import torch

            return torch.from_numpy(self._labels[places])
        return rows.get(self.label) if self.label else None

    @property
    def order(self) -> np.ndarray:
        """argsort of the ids, int64 `[n]`."""
        if self._order is None:
            self._order = np.argsort(self.ids, kind="stable")
        return self._order

    def positions(self, ids: Any) -> np.ndarray:
        """Where these ids are, int64, in the order given; IdMismatch names those that are not there."""
        return rowids.positions_of(self.ids, ids, order=self.order, name=self.name)

    def select(self, positions: Any) -> Dataset:
        """A Dataset of the rows at these positions."""
        places = np.asarray(positions, dtype=np.int64)
        rowids.refuse_duplicates(self.ids[places])
        labels = None if self._labels is None else self._labels[places]
        view = self._view(self.backing.select(places), self.ids[places], labels)
        view.loss_weights = None if self.loss_weights is None else self.loss_weights[places]
        return view

    def subset(self, ids: Any) -> Dataset:
        """A Dataset of these rows, in the order given."""
        return self.select(self.positions(ids))

    def take(self, ids: Any) -> Any:
        """These rows as the kind of object that was wrapped: arrays, a torch Dataset, a table; a Dataset for files."""
        return self.subset(ids).unwrapped()

    def unwrapped(self) -> Any:
        """All rows as the kind of object that was wrapped; the Dataset itself for files."""
        native = self.backing.native()
        return self if native is None else native

    def split(self, fraction: float = 0.1, role: Role | str = "val", *, seed: int = 0) -> tuple[Dataset, Dataset]:
        """(the rest, a part with `role`), by a hash of id and number of splits before: rows that are added later move no other row.

        Args:
            fraction: expected share of the part; both sides get at least one row.
        """
        if self.role == "test":
            require_role(self, {"fit", "val"}, what="splitting off rows for choices")
        if not 0 < fraction < 1 or len(self) < 2:
            raise BadInput(
                f"can't split {len(self)} rows by {fraction}: give a share between 0 and 1, and 2 rows or more"
            )
        draws = uniform(seed, f"split/{self._splits}" if self._splits else "split", self.ids)
        chosen = draws < fraction
        chosen[np.argmin(draws)] = True
        chosen[np.argmax(draws)] = False
        rest, part = self.select(np.flatnonzero(~chosen)), self.select(np.flatnonzero(chosen))
        rest._splits = part._splits = self._splits + 1
        rest.role = "fit" if self.role == "train" else self.role
        part.role, part.name = check_role(role), f"{self.name} ({role})"
        return rest, part

    def with_role(self, role: Role | str) -> Dataset:
        """The same rows under another role; what was test stays test."""
        if self.role == "test" and role != "test":
            require_role(self, {role}, what=f"using test rows as {role}")
        view = self._view(self.backing, self.ids, self._labels)
        view._fingerprint, view.role = self._fingerprint, check_role(role)
        return view

    def with_preprocess(self, **options: Any) -> Dataset:
        """The same rows with other image options (size, mean, std, fit, mode)."""
        view = self._view(self.backing, self.ids, self._labels)
        view.preprocess = replace(self.preprocess or Preprocess(), **options)
        return view

    def cache(
        self, size: int | None = None, *, max_ram: int = 4 << 30, progress: Callable[[int, int], None] | None = None
    ) -> Dataset:
        """The same rows with every image decoded once into uint8 memory: decoding dominates small models otherwise.

        Args:
            size: height and width to shrink to (mean over the pixels that fall together).
            max_ram: bytes; refused above.
            progress: called with (rows done, rows).
        """
        from prunus.prunables.loading import decoded

        process = replace(self.preprocess or Preprocess(), **({} if size is None else {"size": size}))
        pixels = decoded(
            self.backing, self.inputs, self.ids, process, max_ram=max_ram, progress=progress, name=self.name
        )
        view = self._view(Arrays({"x": pixels, "y": self._labels}, "tuple"), self.ids, self._labels)
        view.inputs, view.label, view.preprocess = ("x",), "y", process
        return view

    def groups(self, unit: str | None = None, *, by: str | None = None) -> tuple[Group, ...]:
        """One group "rows", or with `by="class"` one for each class, named rows/<class>."""
        if unit not in (None, "rows"):
            raise BadInput(f"{self.name} holds rows, not {unit}")
        if (by or self.by) == "all":
            return (Group("rows", "rows", len(self)),)
        return tuple(
            Group(str(name), "rows", int(size))
            for name, size in zip(*np.unique(self.group_names(), return_counts=True))
        )

    def group_names(self) -> np.ndarray:
        """The class group of every row, unicode `[n]`."""
        if self.labels is None or self.labels.dtype.kind == "f":
            raise BadInput(f"{self.name} has no class labels to group by: pass label= or labels=")
        names = self.classes
        return np.array(
            [f"rows/{names[v] if names and 0 <= v < len(names) else v}" for v in self.labels.tolist()], dtype=np.str_
        )

    def cost(self, plan: Plan | None = None) -> dict[str, float]:
        """rows, all or under `plan`."""
        return {"rows": float(len(self) if plan is None else plan.keep().size)}

    def apply(self, plan: Plan, *, mode: Literal["cut", "mask"] = "cut", inplace: bool = False) -> Any:
        """The rows the plan keeps, in the order of this dataset: a Dataset; what `bare` wrapped comes back unwrapped.

        Raises:
            BadInput: the plan is about another unit, or `mode="mask"` (a row is there or not).
            FingerprintMismatch: the plan was made for other rows.
        """
        if plan.unit != "rows" or mode != "cut":
            raise BadInput(
                f"a dataset takes plans over rows with mode='cut', not unit {plan.unit!r} with mode {mode!r}"
            )
        try:
            places = self.positions(plan.keep())
        except IdMismatch as error:
            if plan.fingerprint and plan.fingerprint != self.fingerprint():
                made_for = plan.provenance.get("score", {}).get("data", plan.fingerprint)
                raise FingerprintMismatch("plan", made_for, f"{self.name}, {len(self)} rows") from error
            raise
        kept = self.select(np.sort(places))
        if plan.weights:
            kept.loss_weights = plan.loss_weights(kept.ids)
        return kept.unwrapped() if self.hand_back else kept

    def fingerprint(self, *, verify: bool = False) -> str:
        """Identity of the rows and labels (32 hex digits), whatever order they lie in with their ids.

        Files: by path, size and mtime, or `verify` contents.
        """
        if self.uncached and self._origin is None:
            warnings.warn(f"nothing computed from {self.name} will be cached: {self.uncached}", stacklevel=2)
        if self._fingerprint is None or verify:
            base = (self._origin or self)._content(verify)
            order = rowids.order_unless_sorted(self.ids)
            labels = "" if self._labels is None else array_digest(self._labels, order)
            parts = f"{base}\0{labels}\0{array_digest(self.ids, order)}"
            parts += "" if self.loss_weights is None else f"\0{array_digest(self.loss_weights, order)}"
            self._fingerprint = hashlib.blake2b(parts.encode(), digest_size=16).hexdigest()
        return self._fingerprint

    def _content(self, verify: bool) -> str:
        if self._content_id:
            return f"{self._content_id}:{len(self)}"
        return self.backing.digest(verify=verify, order=rowids.order_unless_sorted(self.ids))
