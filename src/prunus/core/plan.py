"""Plan: which units stay, in every group, and why the others go. Immutable, and two files on disk.

`plan.json` holds what was asked, what is planned and where it came from; `plan.safetensors` the kept ids, masks, edits.
Neither holds a time, a path or a host: equal plans are equal bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from prunus.core import edits as edits_
from prunus.core import files
from prunus.core.budget import Budget
from prunus.core.edits import Edit
from prunus.core.errors import BadInput, CorruptFile, IdMismatch, UnknownName
from prunus.core.prunable import as_prunable

if TYPE_CHECKING:
    import numpy as np

SCHEMA = 1


def _no_arrays() -> dict[str, np.ndarray]:
    return {}


@dataclass(frozen=True, eq=False)
class Kept:
    """What stays of one group: sorted ids, or a packed bitmask for weights.

    Attributes:
        size: units before.
        ids: sorted int64 or unicode `[count]`, or None.
        bits: `packbits` of a bool `[size]`, uint8, or None.
        all_ids: rows only: sorted ids of the whole group, so that the dropped ones can be named.
    """

    size: int
    ids: np.ndarray | None = None
    bits: np.ndarray | None = None
    all_ids: np.ndarray | None = None

    @classmethod
    def of_ids(cls, ids: np.ndarray, size: int, all_ids: np.ndarray | None = None) -> Kept:
        """From kept ids in any order."""
        import numpy as np

        ids = np.sort(np.asarray(ids))
        if ids.size > size or (ids.size > 1 and (ids[1:] == ids[:-1]).any()):
            raise BadInput(f"kept ids must be unique and at most {size}, got {ids.size}")
        if all_ids is None and ids.size and ids.dtype.kind in "iu" and not 0 <= ids[0] <= ids[-1] < size:
            raise BadInput(f"kept ids {ids[0]}..{ids[-1]} lie outside 0..{size - 1}")
        return cls(
            size,
            ids.astype(np.int64) if ids.dtype.kind in "iu" else ids,
            None,
            None if all_ids is None else np.sort(all_ids),
        )

    @classmethod
    def of_mask(cls, mask: np.ndarray) -> Kept:
        """From a bool mask of any shape (True stays), stored flat."""
        import numpy as np

        flat = np.asarray(mask, dtype=bool).reshape(-1)
        return cls(flat.size, None, np.packbits(flat))

    @property
    def count(self) -> int:
        """How many stay."""
        if self.ids is not None:
            return int(self.ids.size)
        return int(self.mask().sum())

    def mask(self) -> np.ndarray:
        """bool `[size]`, True stays, in id order."""
        import numpy as np

        if self.bits is not None:
            return np.unpackbits(self.bits, count=self.size).astype(bool)
        mask = np.zeros(self.size, dtype=bool)
        kept = self.index()
        mask[kept if self.all_ids is None else np.searchsorted(self.all_ids, kept)] = True
        return mask

    def index(self) -> np.ndarray:
        """Sorted kept ids."""
        import numpy as np

        return np.flatnonzero(self.mask()) if self.ids is None else self.ids

    def dropped(self) -> np.ndarray:
        """Sorted ids that go."""
        import numpy as np

        gone = np.flatnonzero(~self.mask())
        return gone if self.all_ids is None else self.all_ids[gone]


@dataclass(frozen=True, eq=False)
class Plan:
    """One unit's removal from one prunable.

    Attributes:
        unit: rows, channels, weights, ...
        groups: group name -> Kept.
        asked: the budget.
        planned: quantity -> number under this plan, as far as it can be known before applying.
        dense: quantity -> number before.
        edits: weight updates, biases, bypasses (core/edits.py).
        reasons: group -> uint8, one code for each dropped unit in id order.
        reason_names: what the codes mean.
        provenance: method, options, seed, signal keys.
        fingerprint: of the prunable.
        parent: hash of the plan that was applied before this one.
        weights: rows only: loss weight for each kept id, float32, or None for all ones.
    """

    unit: str
    groups: Mapping[str, Kept]
    asked: Budget
    planned: Mapping[str, float] = field(default_factory=dict[str, float])
    dense: Mapping[str, float] = field(default_factory=dict[str, float])
    edits: tuple[Edit, ...] = ()
    reasons: Mapping[str, np.ndarray] = field(default_factory=_no_arrays)
    reason_names: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any])
    fingerprint: str = ""
    parent: str | None = None
    weights: Mapping[str, np.ndarray] = field(default_factory=_no_arrays)

    def __post_init__(self) -> None:
        if not self.groups:
            raise BadInput("a plan needs at least one group")
        if self.removes_nothing and not self.edits and not self.asked.keeps_all:
            raise BadInput(
                f"the plan removes nothing although the budget {self.asked}; ask for less, or for 100 % on purpose"
            )
        for name, weights in self.weights.items():
            if weights.shape != (self._group(name).count,):
                raise BadInput(f"{self._group(name).count} rows stay in {name}, and {list(weights.shape)} have weights")

    @property
    def removes_nothing(self) -> bool:
        """True when every unit of every group stays."""
        return all(kept.count == kept.size for kept in self.groups.values())

    @property
    def share(self) -> float:
        """Share of the units of all groups that stays, in [0, 1]."""
        return sum(kept.count for kept in self.groups.values()) / max(sum(k.size for k in self.groups.values()), 1)

    def keep(self, group: str | None = None) -> np.ndarray:
        """Sorted kept ids of a group; without a name, of all groups together (rows)."""
        import numpy as np

        if group is None:
            return np.sort(np.concatenate([self.keep(name) for name in self.groups]))
        return self._group(group).index()

    def dropped(self, group: str | None = None) -> np.ndarray:
        """Sorted dropped ids of a group, or of all groups together."""
        import numpy as np

        if group is None:
            return np.sort(np.concatenate([kept.dropped() for kept in self.groups.values()]))
        return self._group(group).dropped()

    def loss_weights(self, ids: np.ndarray | None = None) -> np.ndarray:
        """Loss weights of kept rows, float32: of `ids`, in their order, else of `keep()`; ones where the plan has none.

        Raises:
            IdMismatch: ids that the plan does not keep.
        """
        import numpy as np

        kept = self.keep()
        parts = [self.weights.get(name, np.ones(one.count, np.float32)) for name, one in self.groups.items()]
        order = np.argsort(np.concatenate([self.keep(name) for name in self.groups]))
        weights = np.concatenate(parts).astype(np.float32)[order]
        if ids is None or not kept.size:
            return weights
        at = np.minimum(np.searchsorted(kept, ids), kept.size - 1)
        if (kept[at] != ids).any():
            raise IdMismatch(f"rows that the plan does not keep have no weight: {ids[kept[at] != ids][:5].tolist()}")
        return weights[at]

    def _group(self, name: str) -> Kept:
        if name not in self.groups:
            raise UnknownName("group in this plan", name, self.groups)
        return self.groups[name]

    def apply(self, target: Any, *, mode: Literal["cut", "mask"] = "cut", inplace: bool = False) -> Any:
        """The same kind of thing as `target`, with only what stays.

        Args:
            target: the dataset or model the plan was made for (or a Prunable around it).
            mode: `cut` removes; `mask` puts zeros, for research: size and time stay as they were.
            inplace: consume the model instead of copying it.
        """
        return as_prunable(target, self.unit).apply(self, mode=mode, inplace=inplace)

    def table(self) -> list[dict[str, Any]]:
        """One dict for each group: group, size, kept, dropped, share kept."""
        rows: list[dict[str, Any]] = []
        for name, kept in self.groups.items():
            count = kept.count
            rows.append(
                {
                    "group": name,
                    "size": kept.size,
                    "kept": count,
                    "dropped": kept.size - count,
                    "share": count / max(kept.size, 1),
                }
            )
        return rows

    def reason_counts(self) -> dict[str, int]:
        """How many units go for each reason."""
        import numpy as np

        counts = np.zeros(len(self.reason_names), dtype=np.int64)
        for codes in self.reasons.values():
            counts += np.bincount(codes, minlength=len(self.reason_names))
        return dict(zip(self.reason_names, counts.tolist()))

    def diff(self, other: Plan) -> dict[str, dict[str, Any]]:
        """What the two keep differently.

        Returns:
            group -> {only_here: ids, only_there: ids, both: count, jaccard}; groups that agree are left out.
        """
        import numpy as np

        if self.unit != other.unit:
            raise BadInput(f"can't compare a plan over {self.unit} with one over {other.unit}")
        out: dict[str, dict[str, Any]] = {}
        for name in sorted(set(self.groups) | set(other.groups)):
            here = self.keep(name) if name in self.groups else np.array([], dtype=np.int64)
            there = other.keep(name) if name in other.groups else here[:0]
            both = np.intersect1d(here, there).size
            if both == here.size == there.size:
                continue
            jaccard = both / max(here.size + there.size - both, 1)
            only = {"only_here": np.setdiff1d(here, there), "only_there": np.setdiff1d(there, here)}
            out[name] = {**only, "both": int(both), "jaccard": jaccard}
        return out

    def after(self, parent: Plan) -> Plan:
        """This plan, made on the dense original, rewritten for what `parent` left of it.

        Rows keep their ids, so the plan is narrowed to the rows that are still there. Units of a model are counted
        anew: groups the parent cut are renumbered, and blocks it took out (unit layers) shift the names behind them.
        """
        import numpy as np

        groups: dict[str, Kept] = {}
        weights = dict(self.weights)
        for name, kept in self.groups.items():
            moved = _moved_name(name, parent)
            if moved is not None:
                groups[moved] = _narrowed(kept, parent.groups.get(name))
            if name in weights:
                weights[name] = weights[name][np.isin(kept.index(), groups[name].index())]
        if not groups:
            raise BadInput("nothing of this plan is left after its parent")
        edits = tuple(e for e in (_moved_edit(edit, parent) for edit in self.edits) if e is not None)
        asked = replace(self.asked, terms=()) if self.removes_nothing else self.asked
        return replace(
            self,
            groups=groups,
            edits=edits,
            asked=asked,
            parent=parent.hash(),
            fingerprint="",
            reasons={},
            reason_names=(),
            weights=weights,
        )

    def hash(self) -> str:
        """Content hash of what is kept and edited (32 hex digits)."""
        head, arrays = self._to_files()
        digest = hashlib.blake2b(files.dump_json(head), digest_size=16)
        for name in sorted(arrays):
            digest.update(name.encode() + str(arrays[name].dtype).encode() + arrays[name].tobytes())
        return digest.hexdigest()

    def _to_files(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        entries, arrays = edits_.to_json(self.edits)
        groups: list[dict[str, Any]] = []
        for number, (name, kept) in enumerate(self.groups.items()):
            groups.append({"name": name, "size": kept.size, "count": kept.count})
            parts = {
                "ids": kept.ids,
                "bits": kept.bits,
                "all": kept.all_ids,
                "reasons": self.reasons.get(name),
                "weights": self.weights.get(name),
            }
            arrays |= {f"groups/{number}/{part}": array for part, array in parts.items() if array is not None}
        head = {"schema": SCHEMA, "unit": self.unit, "groups": groups, "asked": self.asked.to_json(), "edits": entries}
        head |= {"planned": dict(self.planned), "dense": dict(self.dense), "reason_names": list(self.reason_names)}
        head |= {"provenance": dict(self.provenance), "fingerprint": self.fingerprint, "parent": self.parent}
        return head, arrays

    def save(self, folder: str | Path) -> Path:
        """Write `plan.safetensors` and then `plan.json` into `folder`; equal plans are equal bytes."""
        folder = Path(folder)
        head, arrays = self._to_files()
        files.write_arrays(folder / "plan.safetensors", arrays)
        files.write_json(folder / "plan.json", head)
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Plan:
        """Read what `save` wrote.

        Raises:
            CorruptFile: one of the two files is missing, truncated or does not fit the other.
            SchemaTooNew: written by a later prunus.
        """
        folder = Path(folder)
        folder = folder.parent if folder.name == "plan.json" else folder
        head = files.read_head(folder / "plan.json", SCHEMA)
        arrays = files.read_arrays(folder / "plan.safetensors")
        try:
            return _from_files(head, arrays)
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise CorruptFile(f"{folder} does not hold a whole plan: {error!r}") from error


def _from_files(head: dict[str, Any], arrays: dict[str, np.ndarray]) -> Plan:
    groups: dict[str, Kept] = {}
    parts: dict[str, dict[str, np.ndarray]] = {"reasons": {}, "weights": {}}
    for number, entry in enumerate(head["groups"]):
        part = {name: arrays.get(f"groups/{number}/{name}") for name in ("ids", "bits", "all")}
        if part["ids"] is None and part["bits"] is None:
            raise CorruptFile(f"group {entry['name']!r} has neither ids nor a mask")
        kept = Kept(entry["size"], part["ids"], part["bits"], part["all"])
        if kept.count != entry["count"]:
            raise CorruptFile(f"group {entry['name']!r} holds {kept.count} units, plan.json says {entry['count']}")
        groups[entry["name"]] = kept
        for name, found in parts.items():
            if (array := arrays.get(f"groups/{number}/{name}")) is not None:
                found[entry["name"]] = array
    edits = edits_.from_json(head["edits"], arrays)
    rest = {name: head[name] for name in ("unit", "planned", "dense", "provenance", "fingerprint", "parent")}
    names = tuple(head["reason_names"])
    return Plan(groups=groups, asked=Budget.from_json(head["asked"]), edits=edits, reason_names=names, **parts, **rest)


def _moved_name(name: str, parent: Plan) -> str | None:
    """The group's (or parameter's) name once the parent's dropped blocks are gone; None when it went with them."""
    if parent.unit != "layers":
        return name
    for chain in parent.groups:
        if not name.startswith(chain + "."):
            continue
        number, _, rest = name[len(chain) + 1 :].partition(".")
        position = {old: new for new, old in enumerate(parent.keep(chain).tolist())}
        if not number.isdigit() or int(number) not in position:
            return None
        return f"{chain}.{position[int(number)]}.{rest}" if rest else f"{chain}.{position[int(number)]}"
    return name


def _moved_edit(edit: Edit, parent: Plan) -> Edit | None:
    field_name = "parameter" if hasattr(edit, "parameter") else "module"
    moved = _moved_name(getattr(edit, field_name), parent)
    return None if moved is None else replace(edit, **{field_name: moved})


def _narrowed(kept: Kept, before: Kept | None) -> Kept:
    import numpy as np

    if before is None:
        return kept
    if kept.size != before.size:
        raise BadInput(
            f"a plan on {kept.size} units can't be rewritten for what another left of {before.size}: "
            "make both on the dense original"
        )
    if kept.all_ids is not None and before.ids is not None:
        return Kept.of_ids(np.intersect1d(kept.index(), before.index()), before.count, before.index())
    if kept.bits is not None or before.bits is not None:
        return Kept.of_mask(kept.mask()[before.mask()])
    return Kept.of_ids(np.flatnonzero(np.isin(before.index(), kept.index())), before.count)
