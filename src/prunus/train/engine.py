"""The parts of one training run: its length, row weights, state on disk, and the steps. `loop.fit` puts them together."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunus.core.errors import BadInput, IdMismatch, NonFinite
from prunus.core.rng import torch_rng
from prunus.train.checkpoint import State, load_checkpoint, save_checkpoint
from prunus.train.distillation import mixed
from prunus.train.feed import Feed
from prunus.train.masks import Masks
from prunus.train.optim import Curve
from prunus.train.progress import Bar
from prunus.train.step import LossFn, Step, StepFn, infer_step, plain, to_device, xy_step

Augment = Callable[[Tensor, torch.Generator], Tensor]


@dataclass
class History:
    """What a training run did.

    Attributes:
        rows: one dict per epoch (two for an epoch in which a run was resumed): epoch, step, loss, lr, samples, seconds, cpu_seconds.
        steps: optimizer steps done, counted from step 0 of the schedule.
        samples: rows presented.
        snapshots: step -> state dict, for the steps asked for.
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    steps: int = 0
    samples: int = 0
    snapshots: dict[int, dict[str, Tensor]] = field(default_factory=dict)

    @property
    def cpu_seconds(self) -> float:
        """Processor time of this process, all threads."""
        return sum(row["cpu_seconds"] for row in self.rows)


@dataclass
class Length:
    """Progress in [0, 1], whatever the length of each epoch."""

    epochs: int | None
    steps: int | None
    start: int

    def done(self, state: State) -> bool:
        return state.step >= self.steps if self.steps is not None else state.epoch >= (self.epochs or 0)

    def progress(self, state: State, length: int) -> float:
        if self.steps is not None:
            return state.step / max(self.steps, 1)
        return (state.epoch + state.offset / max(length, 1)) / max(self.epochs or 1, 1)

    def total(self, length: int) -> int:
        return self.steps if self.steps is not None else (self.epochs or 0) * length


class RowWeights:
    """Loss weights looked up by id, a whole batch at once."""

    def __init__(self, weights: Mapping[Any, float] | np.ndarray | None, ids: np.ndarray | None) -> None:
        self.ids: np.ndarray | None = None
        if weights is None:
            return
        if isinstance(weights, Mapping):
            keys, values = np.array(list(weights)), np.fromiter(weights.values(), np.float64, len(weights))
        elif ids is None or len(weights) != len(ids):
            raise BadInput(f"{len(weights)} weights for {0 if ids is None else len(ids)} rows")
        else:
            keys, values = ids, np.asarray(weights, np.float64)
        if not np.isfinite(values).all() or (values < 0).any():
            raise NonFinite("loss weights must be finite and not negative")
        order = np.argsort(keys)
        self.ids, self.values = keys[order], values[order]

    def of(self, ids: np.ndarray | None) -> np.ndarray | None:
        if self.ids is None:
            return None
        if ids is None:
            raise BadInput("weights go by id, but the batches carry no ids")
        at = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        if (self.ids[at] != ids).any():
            raise IdMismatch(f"rows without a weight: {np.asarray(ids)[self.ids[at] != ids][:3].tolist()}")
        return self.values[at]


@dataclass
class Saver:
    path: str | Path | None
    every: int | None

    def resume(self, run: Run) -> State:
        if self.path is None or not Path(self.path).exists():
            return State()
        return load_checkpoint(
            self.path, run.model, run.engine, settings=run.settings(), dynamic=run.dynamic, masks=run.masks
        )  # fmt: skip

    def maybe(self, run: Run, state: State, *, border: bool) -> None:
        due = border if self.every is None else state.step % self.every == 0
        if self.path is not None and due:
            save_checkpoint(
                self.path, run.model, run.engine, state, settings=run.settings(), dynamic=run.dynamic, masks=run.masks
            )  # fmt: skip


@dataclass
class _Tally:
    """What an epoch did so far."""

    total: Tensor
    samples: int = 0
    rate: float = 0.0
    wall: float = field(default_factory=time.perf_counter)
    cpu: float = field(default_factory=time.process_time)

    def add(self, loss: Tensor) -> None:
        self.total += loss.sum()
        self.samples += len(loss)

    def row(self, state: State) -> dict[str, float]:
        return {
            "epoch": state.epoch, "step": state.step, "loss": float(self.total) / max(self.samples, 1), "lr": self.rate,
            "samples": self.samples, "seconds": time.perf_counter() - self.wall,
            "cpu_seconds": time.process_time() - self.cpu,
        }  # fmt: skip


@dataclass
class Run:
    """The parts of one call of `fit`."""

    model: nn.Module
    engine: torch.optim.Optimizer
    feed: Feed
    step: StepFn | None
    loss_fn: LossFn | None
    teacher: nn.Module | None
    distill: float
    temperature: float
    augment: Augment | None
    clip: float | None
    dynamic: Any
    events: Any
    on_event: Callable[[Any, nn.Module], Mapping[str, Tensor] | None] | None
    record: Any
    masks: Masks | None
    device: torch.device
    channels_last: bool
    seed: int
    order: int
    length: Length
    curve: Curve
    warmup: int
    weights: RowWeights
    snapshots: frozenset[int]
    base: list[float] = field(default_factory=list)

    def settings(self) -> str:
        """Digest of what a checkpoint must have been made with."""
        kept = [self.seed, self.order, self.warmup, self.feed.batch, self.distill, self.temperature, self.clip]
        length = [self.length.epochs, self.length.steps, self.length.start]
        optimizer = [type(self.engine).__name__, *(self.curve(at / 8) for at in range(9)), self.base[0]]
        rows = None if self.feed.ids is None else len(self.feed.ids)
        text = json.dumps([kept, length, optimizer, rows])
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def loop(self, saver: Saver, bar: Bar) -> History:
        """Epochs until the length is reached."""
        self.base = base = [float(group["lr"]) for group in self.engine.param_groups]
        state = saver.resume(self)
        history = History(list(state.rows), state.step)
        if state.step == 0 and self.length.start:
            self._jump(state)
        elif state.step == 0:
            self._fire(0)
        while not self.length.done(state):
            self.model.train()
            self._epoch(state, history, saver, bar)
        for group, rate in zip(self.engine.param_groups, base):
            group["lr"] = rate
        history.steps = state.step
        history.samples = int(sum(row["samples"] for row in history.rows))
        if state.step in self.snapshots:
            history.snapshots[state.step] = _copied(self.model)
        return history

    def _jump(self, state: State) -> None:
        """Stand where a run that began at step 0 would stand at `start`."""
        state.step = self.length.start
        state.epoch, state.offset = divmod(state.step, len(self.feed))

    def _epoch(self, state: State, history: History, saver: Saver, bar: Bar) -> None:
        if state.plan is None and self.dynamic is not None:
            plan = self.dynamic.epoch(state.epoch)
            state.plan = (np.asarray(plan.ids), None if plan.weights is None else np.asarray(plan.weights))
        ids = None if state.plan is None else state.plan[0]
        of_epoch = None if state.plan is None else state.plan[1]
        row_weights = self.weights if of_epoch is None else RowWeights(of_epoch, ids)
        length = self.feed.length(ids)
        tally = _Tally(torch.zeros((), dtype=torch.float64, device=self.device))
        for batch in self.feed.epoch(self.order, state.epoch, ids, state.offset):
            if self.length.done(state):
                break
            if state.step in self.snapshots:
                history.snapshots[state.step] = _copied(self.model)
            tally.rate = self._rate(state, length)
            tally.add(self._step(batch, state, row_weights))
            state.step, state.offset = state.step + 1, state.offset + 1
            bar.update(state.step, self.length.total(length), tally.rate)
            if saver.every is not None and state.offset < length:
                state.rows = [*history.rows, tally.row(state)]
                saver.maybe(self, state, border=False)
        history.rows.append(tally.row(state))
        number = state.epoch
        if state.offset >= length:
            state.epoch, state.offset, state.plan = state.epoch + 1, 0, None
        if self.record is not None:
            self.record.end_epoch(number)
        state.rows = history.rows
        saver.maybe(self, state, border=True)

    def _rate(self, state: State, length: int) -> float:
        factor = self.curve(self.length.progress(state, length))
        if state.step < self.warmup:
            factor *= (state.step + 1) / self.warmup
        for group, rate in zip(self.engine.param_groups, self.base):
            group["lr"] = rate * factor
        return self.base[0] * factor

    def _step(self, batch: Any, state: State, row_weights: RowWeights) -> Tensor:
        """Forward, backward, optimizer step, events. Returns the detached loss of each row."""
        batch = self._prepared(to_device(plain(batch), self.device), state.step)
        result = self._forward(self.model, batch)
        loss = result.loss if self.teacher is None else self._distilled(result, batch)
        if loss is None:
            raise BadInput("the step has no loss: give labels, loss_fn, step or teacher")
        seen = loss.detach()
        if not bool(torch.isfinite(seen).all()):
            bad = (~torch.isfinite(seen)).nonzero().flatten().cpu().numpy()
            rows = (bad if result.ids is None else result.ids[bad])[:5].tolist()
            raise NonFinite(f"the loss is not finite at step {state.step}, rows {rows}; lower lr or set clip")
        factors = row_weights.of(result.ids)
        if factors is not None:
            loss = loss * torch.as_tensor(factors, dtype=loss.dtype, device=loss.device)
        self.engine.zero_grad(set_to_none=True)
        loss.mean().backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.engine.step()
        self._fire(state.step + 1)
        if self.dynamic is not None:
            self.dynamic.seen(result.ids, seen.cpu().numpy())
        if self.record is not None:
            self.record.batch(result.ids, logits=result.logits, labels=result.labels, loss=seen)
        return seen

    def _fire(self, done: int) -> None:
        """Ask the schedule once `done` steps are done; the gradients are those of the last batch."""
        if self.events is None or self.on_event is None:
            return
        event = self.events.at(done, self.length.total(len(self.feed)))
        found = None if event is None else self.on_event(event, self.model)
        if found is not None and self.masks is not None:
            self.masks.update(found)
        if event is not None and event.kind in ("rewind", "reset"):
            self.engine.state.clear()  # moments belong to the weights that are gone

    def _prepared(self, batch: Any, step: int) -> Any:
        if isinstance(batch, Mapping) or not isinstance(batch[-2], Tensor):
            return batch
        x = batch[-2]
        if self.augment is not None:
            x = self.augment(x, torch_rng(self.seed, f"augment/{step}"))
        if self.channels_last and x.dim() == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        return (*batch[:-2], x, batch[-1])

    def _forward(self, model: nn.Module, batch: Any) -> Step:
        if self.step is None:
            self.step = infer_step(batch)
        if self.loss_fn is not None:
            return xy_step(model, batch, loss_fn=self.loss_fn)
        return self.step(model, batch)

    def _distilled(self, result: Step, batch: Any) -> Tensor:
        assert self.teacher is not None
        if result.logits is None:
            raise BadInput("distillation needs logits, which this step does not give")
        self.teacher.eval()
        with torch.no_grad():
            target = self._forward(self.teacher, batch).logits
        if target is None or target.shape != result.logits.shape:
            given = None if target is None else list(target.shape)
            raise BadInput(
                f"the teacher gives logits {given}, the student {list(result.logits.shape)}: they must agree"
            )
        return mixed(result.loss, result.logits, target, alpha=self.distill, temperature=self.temperature)


def _copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
