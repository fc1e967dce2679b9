"""Signals of modules: one read-only record per module, on CPU, saved as one safetensors file per module."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from prunus.core.errors import BadInput, CorruptFile, SchemaTooNew, UnknownName
from prunus.core.files import read_json, write_arrays, write_json
from prunus.signals import shards

SCHEMA = 1
MANIFEST = "modules.json"


def own_parameters(modules: Mapping[str, nn.Module]) -> list[tuple[str, str, Tensor]]:
    """(module, name in it, parameter) of every floating parameter of these modules, tied ones once."""
    seen: dict[int, tuple[str, str, Tensor]] = {}
    for name, module in modules.items():
        for own, parameter in module.named_parameters(recurse=False):
            if parameter.is_floating_point():
                seen.setdefault(id(parameter), (name, own, parameter))
    return list(seen.values())


def field_of(signal: str, own: str) -> str:
    """The field that holds a signal of a module's parameter: `grad` of its weight, `grad.bias`, ..."""
    return signal if own == "weight" else f"{signal}.{own}"


class ModuleStats:
    """What was measured of one module: `stats.input_var`, `stats.hessian`, `stats.grad`, ...

    Inputs are indexed as the module's weight is: `input_*` `[in_channels, taps]` (taps = 1 for linear layers; a
    convolution's taps are its kernel positions, row by row), `hessian` `[in * taps, in * taps]`. With groups > 1,
    in_channels counts all channels, and `hessian` is `[groups, d, d]`; `per_output` gives what each output sees.
    """

    def __init__(self, name: str, fields: Mapping[str, Tensor], groups: int = 1) -> None:
        self.name, self.groups, self._fields = name, groups, dict(fields)

    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._fields:
            return self._fields[name]
        raise AttributeError(str(UnknownName(f"signal of {self.name}", name, self._fields)))

    def __contains__(self, name: object) -> bool:
        return name in self._fields

    def __repr__(self) -> str:
        return f"ModuleStats({self.name}: {', '.join(f'{k} {list(v.shape)}' for k, v in self._fields.items())})"

    @property
    def fields(self) -> Mapping[str, Tensor]:
        """All fields."""
        return dict(self._fields)

    def per_output(self, name: str, outputs: int) -> Tensor:
        """An `input_*` field as each output sees it, in the order of a flattened weight row.

        Args:
            name: such as "input_norm".
            outputs: rows of the weight.

        Returns:
            `[1, in * taps]`, or `[outputs, in / groups * taps]` for a grouped convolution.
        """
        value = self._fields[name]
        if self.groups == 1:
            return value.reshape(1, -1)
        return value.reshape(self.groups, -1).repeat_interleave(outputs // self.groups, 0)


class ModuleSignals(Mapping[str, ModuleStats]):
    """Qualified module name -> ModuleStats."""

    def __init__(self, stats: Mapping[str, ModuleStats], provenance: Mapping[str, Any] | None = None) -> None:
        self._stats = dict(stats)
        self.provenance: Mapping[str, Any] = dict(provenance or {})

    def __getitem__(self, name: str) -> ModuleStats:
        if name not in self._stats:
            raise UnknownName("measured module", name, self._stats)
        return self._stats[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._stats)

    def __len__(self) -> int:
        return len(self._stats)

    def __contains__(self, name: object) -> bool:
        return name in self._stats

    def parameter(self, name: str, field: str) -> Tensor:
        """A field that belongs to a parameter by its qualified name: `parameter("fc.bias", "grad")`."""
        module, _, own = name.rpartition(".")
        return getattr(self[module], field_of(field, own))

    def merge(self, other: ModuleSignals) -> ModuleSignals:
        """Both sets of fields, measured on different rows of one model.

        Raises:
            BadInput: a field that both hold.
        """
        joined: dict[str, ModuleStats] = {}
        for name in dict.fromkeys((*self, *other)):
            parts = [one[name] for one in (self, other) if name in one]
            fields = {key: value for part in parts for key, value in part.fields.items()}
            if len(fields) < sum(len(part.fields) for part in parts):
                twice = sorted(set(parts[0].fields) & set(parts[1].fields))
                raise BadInput(f"both sets of signals hold {twice} of {name}: measure each on one set of rows")
            joined[name] = ModuleStats(name, fields, parts[0].groups)
        return ModuleSignals(joined, {"merged": [dict(self.provenance), dict(other.provenance)]})

    def unreached(self, model: nn.Module, field: str) -> tuple[str, ...]:
        """Matrices of the model that have no `field`: parameters that were never called as a layer of their own.

        Fused experts and functional uses are such: a method that needs `field` would pass over them without a word.
        """
        missed: list[str] = []
        for name, parameter in model.named_parameters():
            owner, _, own = name.rpartition(".")
            reached = own == "weight" and owner in self._stats and field in self._stats[owner]
            if parameter.dim() > 1 and not reached:
                missed.append(name)
        return tuple(missed)

    def save(self, folder: str | Path) -> Path:
        """One file per module, then the manifest. Fields that share memory are written once for each module."""
        folder = Path(folder)
        entries: dict[str, Any] = {}
        for number, (name, stats) in enumerate(sorted(self._stats.items())):
            file = f"module-{number:05d}.safetensors"
            arrays = {key: value.detach().float().numpy() if value.dtype.itemsize < 4 else value.detach().numpy()
                      for key, value in stats.fields.items()}  # fmt: skip
            path = write_arrays(folder / file, arrays)
            entries[name] = {"file": file, "bytes": path.stat().st_size, "groups": stats.groups}
        write_json(folder / MANIFEST, {"schema": SCHEMA, "modules": entries, "provenance": dict(self.provenance)})
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> ModuleSignals:
        """Open a saved set through memory maps.

        Raises:
            CorruptFile: truncated, hostile or incomplete.
        """
        folder = Path(folder)
        if not (folder / MANIFEST).exists():
            raise CorruptFile(
                f"{folder} has no {MANIFEST}: not a set of module signals, or its writing was interrupted"
            )
        manifest = read_json(folder / MANIFEST)
        if not isinstance(manifest, dict) or not isinstance(manifest.get("modules"), dict):
            raise CorruptFile(f"{folder / MANIFEST} is not a manifest of module signals")
        if manifest.get("schema", 0) > SCHEMA:
            raise SchemaTooNew(folder / MANIFEST, manifest["schema"], SCHEMA)
        stats: dict[str, ModuleStats] = {}
        for name, entry in manifest["modules"].items():
            file = str(entry.get("file"))
            path = folder / Path(file).name
            if Path(file).name != file or not path.exists() or path.stat().st_size != entry.get("bytes"):
                raise CorruptFile(f"{path} is missing or not {entry.get('bytes')} bytes long")
            found = {key: value for key, value in shards.open_arrays(path).items() if isinstance(value, Tensor)}
            stats[name] = ModuleStats(name, found, int(entry.get("groups", 1)))
        return cls(stats, manifest.get("provenance", {}))
