"""Where signals come from: arrays (door 1), one pass of a model (door 2), a training run (door 3, `Fit`)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from prunus.core.errors import BadInput, UnknownName
from prunus.core.registry import Method
from prunus.core.rng import Rng, torch_fork
from prunus.flow.labelled import LOSSES, class_labels, needs_labels, without_labels
from prunus.prunables.dataset import Dataset
from prunus.prunables.model import ModelPrunable
from prunus.prunables.roles import require_role
from prunus.signals.catalogue import providers
from prunus.signals.collect import collect
from prunus.signals.dynamics import PROVIDES as RECORDED
from prunus.signals.gradient_variance import PROVIDES as OVER_CHECKPOINTS
from prunus.signals.held_out_probs import PROVIDES as HELD_OUT
from prunus.signals.held_out_probs import folds_of
from prunus.signals.modules import ModuleSignals
from prunus.signals.recorder import Recorder
from prunus.signals.rowset import Signals
from prunus.train.feed import Feed
from prunus.train.loop import fit
from prunus.train.step import StepFn

FROM = ("signals", "model", "fit", "step", "batch")
GIVEN = frozenset({"weight", "bias", "labels", "ids", "filters"})  # held by the model or the data: nothing to measure


@dataclass(frozen=True)
class Fit:
    """Train to get signals: one recorded run for each seed, and one pass of each trained model where a signal needs it.

    Attributes:
        factory: makes a new model; called with no argument after its seed was set.
        epochs, steps: length of each run; give one.
        seeds: one run each; scores are averaged over the runs.
        settings: everything else of `train.loop.fit` (lr, batch, schedule, augment, ...).
        recorder: `el2n_epochs`, `window` and `early` of the Recorder.
        checkpoints: states kept of each run, evenly spaced and the last one among them, where a signal is over checkpoints.
        folds: models trained beside each run, each on the rows that its fold leaves out, where a signal is of held-out rows.
    """

    factory: Callable[[], nn.Module]
    epochs: int | None = None
    steps: int | None = None
    seeds: Sequence[int] = (0,)
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    recorder: Mapping[str, Any] = field(default_factory=dict[str, Any])
    checkpoints: int = 5
    folds: int = 5

    def run(self, data: Dataset, need: Iterable[str], step: StepFn | None = None) -> list[Signals]:
        """Signals of every run, rows in the order of the data."""
        return [rows for rows, _ in self.pairs(data, need, step=step)]

    def pairs(
        self,
        data: Dataset,
        need: Iterable[str],
        val: Dataset | None = None,
        val_need: Iterable[str] = (),
        step: StepFn | None = None,
    ) -> list[tuple[Signals, Signals | None]]:
        """Signals of every run, and what its trained model says of validation rows.

        Args:
            data: rows of role fit, trained on.
            need: names of signals of these rows.
            val: rows of role val, or None.
            val_need: names of signals of rows of role val, from a pass at the end.
            step: adapter of a batch.
        """
        return [self._one(data, set(need), step, seed, val, set(val_need)) for seed in self.seeds]

    def _one(
        self, data: Dataset, need: set[str], step: StepFn | None, seed: int, val: Dataset | None, val_need: set[str]
    ) -> tuple[Signals, Signals | None]:
        require_role(data, {"fit", "train"}, what="training for signals")
        parts = [self._held_out(data, step, seed)] if need & set(HELD_OUT) else []
        model: nn.Module | None = None
        if (rest := need - set(HELD_OUT)) or val is not None:
            model, trained = self._trained(data, rest, step, seed)
            parts += trained
        if not parts and val is not None:  # nothing but the validation rows is looked at
            parts = [Signals(ids=data.ids, labels=data.labels)]
        if not parts:
            raise BadInput("nothing was asked for: name the signals to record")
        made = parts[0]
        for part in parts[1:]:
            made = made.merge(part)
        made.provenance = {**made.provenance, "seed": seed, "threads": torch.get_num_threads()}
        return made, None if val is None or model is None else validation(model, val, val_need, step=step)

    def _model(self, seed: int) -> nn.Module:
        with torch_fork(seed, "weights"):
            return self.factory()

    def _trained(
        self, data: Dataset, need: set[str], step: StepFn | None, seed: int
    ) -> tuple[nn.Module, list[Signals]]:
        """One run over all rows: its model, and what was recorded of it or measured by a pass at the end."""
        model = self._model(seed)
        recorded = tuple(sorted(need & set(RECORDED)))
        recorder = Recorder(data, recorded, **self.recorder) if recorded else None
        passed = need - set(RECORDED) - GIVEN
        kept = self._kept(data) if passed & set(OVER_CHECKPOINTS) else ()
        length = {"epochs": self.epochs, "steps": self.steps}
        history = fit(model, data, step=step, seed=seed, record=recorder, snapshots=kept, **length, **self.settings)
        parts: list[Signals] = [recorder.signals()] if recorder is not None else []
        if passed:
            options: dict[str, Any] = {"checkpoints": [history.snapshots[at] for at in kept]} if kept else {}
            rows = collect(model, data, passed, step=step, **options).rows
            assert rows is not None
            parts.append(rows.align(data.ids))
        return model, parts

    def _held_out(self, data: Dataset, step: StepFn | None, seed: int) -> Signals:
        """Each row's probabilities by a model that was trained on the other folds."""
        if data.labels is None:
            raise BadInput(f"held_out_probs need labels to train on, and {data.name} has none")
        labels = class_labels(data)
        fold = folds_of(data.ids, labels, min(self.folds, len(data)), Rng(seed, "folds"))
        parts: list[Signals] = []
        for number in range(int(fold.max()) + 1):
            model = self._model(seed)
            length = {"epochs": self.epochs, "steps": self.steps}
            fit(model, data.subset(data.ids[fold != number]), step=step, seed=seed, **length, **self.settings)
            rows = collect(model, data.subset(data.ids[fold == number]), "probs", step=step).rows
            assert rows is not None
            parts.append(rows)
        ids = np.concatenate([part.ids for part in parts])
        made = Signals(ids, held_out_probs=torch.cat([part.probs for part in parts])).align(data.ids)
        made.provenance = {"folds": self.folds}
        return made

    def _kept(self, data: Dataset) -> tuple[int, ...]:
        """Steps after which a state is kept, but for the last."""
        if self.checkpoints < 2:
            raise BadInput(f"a variance over checkpoints needs 2 or more, not {self.checkpoints}")
        batch = int(self.settings.get("batch", inspect.signature(fit).parameters["batch"].default))
        total = self.steps or (self.epochs or 0) * len(Feed(data, batch))
        kept = sorted({round(total * part / self.checkpoints) for part in range(1, self.checkpoints)} - {0, total})
        if len(kept) < self.checkpoints - 1:
            raise BadInput(f"{total} steps hold no {self.checkpoints} checkpoints: train longer, or ask for fewer")
        return tuple(kept)


def validation(
    model: nn.Module, val: Dataset, need: Iterable[str], *, step: StepFn | None = None, batch: int = 64
) -> Signals:
    """Signals of validation rows, with their labels, by one pass.

    Raises:
        SplitError: the rows have another role than val (or fit, which a user may vouch for).
    """
    require_role(val, {"val", "fit", "train"}, what="judging classes on validation rows")
    found = collect(model, val, set(need) - GIVEN, step=step, batch=batch, role="val", progress=False).rows
    assert found is not None
    return found if val.labels is None else found.merge(Signals(ids=val.ids, labels=val.labels))


def row_signals(
    data: Dataset,
    method: Method,
    *,
    signals: Signals | Sequence[Signals] | None = None,
    model: nn.Module | None = None,
    fit: Fit | None = None,
    step: StepFn | None = None,
    batch: int = 64,
) -> list[Signals]:
    """What a criterion over rows reads, by whichever door is open; several runs give several.

    Raises:
        BadInput: no door, or more than one, although the method needs signals.
    """
    need = set(method.needs) - GIVEN
    if fit is not None and (instead := method.facts.get("instead")):
        need = set(instead)  # a training gives what the method would make out of less
    if signals is None and data.labels is None and needs_labels(method, but=LOSSES):
        raise BadInput(without_labels(method, data.name))
    doors = [name for name, given in (("signals", signals), ("model", model), ("fit", fit)) if given is not None]
    if len(doors) > 1:
        raise BadInput(f"signals come by one door; {' and '.join(doors)} were given")
    if signals is not None:
        return [signals] if isinstance(signals, Signals) else list(signals)
    if not need:
        return []
    if fit is not None:
        return fit.run(data, need, step)
    if model is not None:
        if recorded := sorted(need & set(RECORDED)):
            raise BadInput(
                f"{method.id} needs {', '.join(recorded)}, which only a training run shows: pass fit=px.Fit(...), "
                "or record them in your own loop with px.Recorder"
            )
        rows = collect(model, data, need, step=step, batch=batch).rows
        assert rows is not None
        return [rows]
    raise BadInput(
        f"{method.id} needs {', '.join(sorted(need))}: pass signals= (px.Signals of arrays you have), "
        "model= (one pass), or fit=px.Fit(...) (a training run)"
    )


def module_signals(
    prunable: ModelPrunable,
    need: set[str],
    *,
    data: Any = None,
    step: StepFn | None = None,
    what: str = "",
    modules: Iterable[str] | None = None,
    **options: Any,
) -> ModuleSignals | None:
    """One calibration pass for everything that criteria and compensators read; None when they read weights only.

    Args:
        prunable: the model.
        need: names of signals.
        data: rows of role fit or val.
        step: adapter of a batch; the prunable's own by default.
        what: who asks, for messages.
        modules: names of those that are measured; all by default.
        options: of the signals.
    """
    wanted = need - GIVEN
    if not wanted:
        return None
    known = providers()
    if unknown := [name for name in wanted if name not in known]:
        raise UnknownName("signal", unknown[0], known)
    if data is None:
        raise BadInput(f"{what} needs {', '.join(sorted(wanted))}: pass data= (calibration rows of role fit)")
    found = collect(
        prunable.model, data, sorted(wanted), step=step or prunable.step, modules=modules, **options
    ).modules
    if found is None:
        raise BadInput(f"{what} needs {', '.join(sorted(wanted))}, and no module of this model has that")
    return found
