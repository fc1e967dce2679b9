"""`collect`: ONE pass over the data for every signal asked for. Door 2: a model and data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from prunus.core.errors import BadInput, SplitError
from prunus.core.rng import torch_fork
from prunus.signals import shards
from prunus.signals.catalogue import Provider, provider, split
from prunus.signals.modules import ModuleSignals, ModuleStats
from prunus.signals.rowset import Signals
from prunus.signals.scan import Accumulator, Scan, SharingBroken, undisturbed
from prunus.train.ordered import ordered
from prunus.train.progress import Bar
from prunus.train.step import Step, StepFn, infer_step, plain, to_device, token_mask

Keep = Callable[[str, nn.Module], bool]
OPTIONS = (
    *("attention_layer", "prefix", "layers", "deepfool_iterations", "deepfool_classes", "checkpoints"),
    *("fisher_block", "temperature", "lag", "runs"),
)


@dataclass(frozen=True)
class Collected:
    """What a pass measured.

    Attributes:
        rows: signals of rows, in the order of the data; None when none were asked for.
        modules: signals of modules; None when none were asked for.
    """

    rows: Signals | None
    modules: ModuleSignals | None


def collect(
    model: nn.Module,
    data: Any,
    need: str | Iterable[str],
    *,
    step: StepFn | None = None,
    device: str | torch.device = "cpu",
    batch: int = 64,
    role: str = "fit",
    modules: Keep | Iterable[str] | None = None,
    mask: Callable[[Any], Tensor | None] = token_mask,
    out: str | Path | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Collected:
    """Measure signals in evaluation mode; mode, hooks, requires_grad, grads and generators stay as they were.

    Args:
        model: moved to `device`.
        data: an object with `batches(batch)`, a tuple `(x, y)` or `(ids, x, y)` of arrays, or an iterable of batches.
        need: names of signals, such as "probs", "embedding", "grad_norm", "input_var", "hessian", "block_influence".
        step: adapter of a batch; inferred from the first one.
        batch: rows per batch. Results agree to 1e-5 whatever it is.
        role: what the data are used for; "test" is refused, and so are data whose own role is test.
        modules: names, or `(name, module) -> bool`; restricts module signals. All by default.
        mask: `batch -> bool [B, T]`, True at real tokens; by default a dict's `attention_mask`.
        out: folder for row signals; shards are written as they are made, and read back through memory maps.
        progress: a bar on the terminal; by default only when there is one.
        options: of the signals, such as `attention_layer=-2`, `checkpoints=[...]` (see their files).

    Raises:
        SplitError: test data.
        UnknownName: no such signal.
        NonFinite: an activation, gradient or output that is NaN or infinite; names the module or rows.
    """
    names = (need,) if isinstance(need, str) else tuple(need)
    wanted = split(names)
    _check(names, data, role, options)
    chosen = _chosen(model, modules)
    device = torch.device(device)
    model.to(device)
    job = _Job(model, wanted, chosen, options, step, device, mask, out)
    with torch_fork(0, "signals"), Bar(progress, "signals") as bar:
        try:
            return job.run(_batches(data, batch), bar, share=True)
        except SharingBroken as broken:
            if isinstance(data, Iterator):
                raise BadInput(
                    f"module {broken} stopped sharing its input with others, so the pass must start again, but the data "
                    "can be read once only: give a list, a loader or a Dataset"
                ) from broken
            return job.run(_batches(data, batch), bar, share=False)


@dataclass
class _Job:
    model: nn.Module
    wanted: Mapping[str, frozenset[str]]
    chosen: dict[str, nn.Module]
    options: Mapping[str, Any]
    step: StepFn | None
    device: torch.device
    mask: Callable[[Any], Tensor | None]
    out: str | Path | None

    def run(self, batches: Iterator[Any], bar: Bar, *, share: bool) -> Collected:
        scan = Scan(self.model, self.chosen, share, options=self.options)
        kinds = [_provider(module).load() for module in self.wanted]
        backward = [kind.BACKWARD for kind in kinds if kind.BACKWARD]
        gradients = "parameters" if "parameters" in backward else ""
        sink = _Rows(self.out, self._provenance())
        with undisturbed(self.model, gradients=gradients), torch.set_grad_enabled(bool(backward)):
            parts: list[Accumulator] = [kind(scan, names) for kind, names in zip(kinds, self.wanted.values())]
            try:
                for part in parts:
                    part.start()
                for number, raw in enumerate(batches):
                    self._one(scan, parts, sink, raw)
                    bar.update(number + 1)
                if not sink.count:
                    raise BadInput("there are no rows to measure")
                measured = [part.finish() for part in parts]
            finally:
                scan.close()
        return Collected(sink.signals(), _joined(measured, self.chosen, self._provenance()))

    def _one(self, scan: Scan, parts: list[Accumulator], sink: _Rows, raw: Any) -> None:
        batch = to_device(plain(raw), self.device)
        if self.step is None:
            self.step = infer_step(batch)
        rows = _rows(batch)
        scan.start(batch, rows, self.mask(batch))
        scan.step = self.step
        for part in parts:
            part.prepare()
        result = self.step(self.model, batch)
        scan.stop()
        targets = [part.targets() for part in parts]
        grads = _gradients(result, [tensor for group in targets for tensor in group])
        fields: dict[str, Tensor] = {}
        position = 0
        for part, group in zip(parts, targets):
            fields |= part.batch(result, grads[position : position + len(group)])
            position += len(group)
        sink.add(result, fields, rows)

    def _provenance(self) -> dict[str, Any]:
        return {
            "signals": {name: provider(name).version for names in self.wanted.values() for name in sorted(names)},
            "options": {name: value for name, value in self.options.items() if isinstance(value, (int, float, str))},
        }


class _Rows:
    """Row fields as they come: in memory, or into shards."""

    def __init__(self, out: str | Path | None, provenance: Mapping[str, Any]) -> None:
        self.count = 0
        self._out, self._provenance = out, provenance
        self._ids: list[np.ndarray] = []
        self._fields: list[dict[str, Tensor]] = []
        self._writer: shards.Writer | None = None

    def add(self, result: Step, fields: dict[str, Tensor], rows: int) -> None:
        ids = result.ids if result.ids is not None else np.arange(self.count, self.count + rows)
        self.count += rows
        if not fields:
            return
        if result.labels is not None and result.labels.dim() == 1 and len(result.labels) == rows:
            fields = {"labels": result.labels, **fields}
        kept = {name: _storable(value) for name, value in fields.items()}
        if self._out is None:
            self._ids.append(ids)
            self._fields.append(kept)
            return
        if self._writer is None:
            self._writer = shards.Writer(self._out, provenance=self._provenance)
        Signals(ids, **kept)  # checks; nothing that is wrong gets to disk
        self._writer.add(ids, kept)

    def signals(self) -> Signals | None:
        if self._writer is not None:
            return Signals.load(self._writer.close())
        if not self._fields:
            return None
        fields = {name: torch.cat([part[name] for part in self._fields]) for name in self._fields[0]}
        made = Signals(np.concatenate(self._ids), **fields)
        made.provenance = self._provenance
        return made


def _storable(value: Tensor) -> Tensor:
    value = value.detach()
    return (value.float() if value.dtype in (torch.float16, torch.bfloat16) else value).cpu()


def _gradients(result: Step, targets: list[Tensor]) -> tuple[Tensor | None, ...]:
    if not targets:
        return ()
    if result.loss is None or not result.loss.requires_grad:
        raise BadInput("gradient signals need a loss for each row: give labels, or a step that returns loss")
    return torch.autograd.grad(result.loss.sum(), targets, allow_unused=True)


def _check(names: tuple[str, ...], data: Any, role: str, options: Mapping[str, Any]) -> None:
    if "test" in (role, getattr(data, "role", None)):
        raise SplitError("signals may not be measured on rows with the role 'test'; use fit or val rows")
    if not names:
        raise BadInput("need= is empty: name the signals to measure, such as 'probs'")
    recorded = [name for name in names if provider(name).level in ("training", "folds")]
    if recorded:
        raise BadInput(f"{recorded} come from a training run, not from a pass: use px.Recorder or px.Fit (door 3)")
    unknown = set(options) - set(OPTIONS)
    if unknown:
        raise BadInput(f"collect has no options {sorted(unknown)}; it knows {', '.join(OPTIONS)}")


def _chosen(model: nn.Module, keep: Keep | Iterable[str] | None) -> dict[str, nn.Module]:
    named = dict(model.named_modules())
    if keep is None:
        return named
    if callable(keep):
        return {name: module for name, module in named.items() if keep(name, module)}
    wanted = set(keep)
    missing = wanted - set(named)
    if missing:
        raise BadInput(f"the model has no modules {sorted(missing)[:5]}")
    return {name: module for name, module in named.items() if name in wanted}


def _batches(data: Any, batch: int) -> Iterator[Any]:
    if isinstance(data, (str, bytes)) or not (
        hasattr(data, "batches") or hasattr(data, "__getitem__") or hasattr(data, "__iter__")
    ):
        raise BadInput(
            f"data must have batches(), be (x, y) arrays or an iterable of batches, not {type(data).__name__}"
        )
    return ordered(data, batch)


def _rows(batch: Any) -> int:
    """B: of a dict's first sized entry, of x in a tuple, of the batch itself."""
    if isinstance(batch, Mapping):
        values: list[Any] = list(cast("Mapping[str, Any]", batch).values())
        return next((len(value) for value in values if hasattr(value, "__len__") and len(value)), 0)
    pair = isinstance(batch, (tuple, list)) and len(cast("list[Any]", batch)) > 1
    x: Any = batch[-2] if pair else batch
    return len(x[0]) if isinstance(x, tuple) else len(x)


def _provider(module: str) -> Provider:
    from prunus.signals.catalogue import providers

    return next(found for found in providers().values() if found.module == module)


def _joined(
    measured: list[dict[str, dict[str, Tensor]]], modules: dict[str, nn.Module], provenance: dict[str, Any]
) -> ModuleSignals | None:
    fields: dict[str, dict[str, Tensor]] = {}
    for part in measured:
        for name, values in part.items():
            fields.setdefault(name, {}).update(values)
    if not fields:
        return None
    stats = {n: ModuleStats(n, v, int(getattr(modules.get(n), "groups", 1) or 1)) for n, v in fields.items()}
    return ModuleSignals(stats, provenance)
