"""`px.Pruning`: the events of a schedule, turned into masks by any method over weights while a model trains.

It goes beside a loop of one's own, like a learning-rate scheduler; `pruning.fit` runs prunus' own loop.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunus.core import registry
from prunus.core.budget import Budget
from prunus.core.counted import counted
from prunus.core.errors import BadInput, UnknownName
from prunus.core.plan import Kept, Plan
from prunus.core.prunable import Group
from prunus.core.rng import uniform
from prunus.core.score import LazyValues, Score
from prunus.flow.matrices import chosen, score_matrix
from prunus.flow.recover import masks_of
from prunus.flow.signals import module_signals
from prunus.prunables.model import ModelPrunable, as_lines, in_storage, lines_of
from prunus.schedule.event import Event, Schedule, events_of
from prunus.schedule.regrowth import exchanged
from prunus.select.within import keep_masks
from prunus.train.engine import History
from prunus.train.initialise import initialise
from prunus.train.loop import fit
from prunus.train.masks import Masks

KINDS = ("criterion", "solver", "search")


@dataclass(frozen=True, eq=False)
class Layer:
    """One matrix at an event, for schedules that choose themselves.

    Attributes:
        name: of the parameter.
        shape: of the parameter.
        weight, score: `[outputs, inputs * taps]`; of scores large stays.
        alive: bool of that shape; False is masked already.
        start: the weights that the schedule remembered, of that shape; None where it did not.
    """

    name: str
    shape: tuple[int, ...]
    weight: Tensor
    score: Tensor
    alive: Tensor
    start: Tensor | None = None


class Pruning:
    """Masks that follow a schedule. Call `step()` after every optimizer step, before the gradients are zeroed.

    Attributes:
        masks: the `Masks`, which are applied inside the optimizer's step.
        events: step -> Event of the whole training.
        done: optimizer steps since the start, those before a rewind included.
        position: the step at which the training's own schedule (learning rate, order of rows) stands: `done` until an
            event goes back to an earlier step.
    """

    def __init__(
        self,
        model: nn.Module,
        schedule: Schedule,
        method: str = "magnitude",
        *,
        total: int,
        optimizer: torch.optim.Optimizer | None = None,
        within: str | None = None,
        minimum: float = 0.05,
        layers: str = "all",
        dense: tuple[str, ...] = (),
        data: Any = None,
        step: Any = None,
        example: Any = None,
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Ask the schedule for all its events, attach the masks, and do what belongs before the first step.

        Args:
            model: that is trained.
            schedule: any object with `at(step, total)`; those of `prunus.schedule`.
            method: a criterion, solver or search over weights.
            total: optimizer steps of the whole training; gradient accumulation counts once.
            optimizer: whose steps apply the masks; None where `px.fit` runs the loop and attaches them itself.
            within: who competes with whom (all, group, output, `n:m`): the schedule's own by default, or the method's.
            minimum: within="all" only: least weights of a matrix, in percent of all weights.
            layers: `all`, or `blocks`: only matrices inside repeated blocks.
            dense: names of matrices that are not pruned and not counted.
            data: rows of role fit, for methods that measure signals.
            step: adapter of a batch of `data`.
            example: what the model is called with, for methods that need its graph.
            seed: of draws (random criteria, random growth, fresh weights).
            options: the method's own.

        Raises:
            BadInput: the schedule has an event after `total` steps.
        """
        self.method = registry.find(method, unit="weights", kind=KINDS)
        self.method.check_options(dict(options or {}))
        self.schedule, self.events, self.total = schedule, events_of(schedule, total), total
        facts = getattr(schedule, "facts", {})
        self.within = within or str(facts.get("within") or self.method.facts.get("within", "group"))
        self.prunable = ModelPrunable(model, example, step)
        self.groups = _taking_part(self.prunable, layers, dense)
        self._settings: dict[str, Any] = {
            "minimum": minimum,
            "layers": layers,
            "data": data,
            "seed": seed,
            "options": options or {},
        }
        self.masks = Masks(model, {})
        self.done = self.position = 0
        self._fired = 0
        self._state: dict[str, Tensor] | None = None
        if optimizer is not None:
            self.masks.attach(optimizer)
        self._optimizer = optimizer
        if optimizer is not None and 0 in self.events:
            self(self.events[0], model)

    @property
    def model(self) -> nn.Module:
        """That is trained."""
        return self.prunable.model

    def step(self) -> Event | None:
        """Count one optimizer step and do what its event says; returns the event, if there was one.

        Raises:
            BadInput: no optimizer was given, or the training goes on after `total` steps.
        """
        if self._optimizer is None:
            raise BadInput("step() needs the optimizer: Pruning(model, schedule, optimizer=optimizer, total=...)")
        if self.done == self.total:
            raise BadInput(f"the training was to end after total={self.total} steps: give its real length")
        self.done, self.position = self.done + 1, self.position + 1
        event = self.events.get(self.done)
        if event is not None:
            self(event, self.model)
            if event.kind in ("rewind", "reset"):
                self._optimizer.state.clear()
            self.position = self.position if event.to is None else event.to
        return event

    def fit(self, data: Any, *, checkpoint: str | Path | None = None, **training: Any) -> list[History]:
        """Train with `px.fit` for the steps of `total`; where an event goes back, the rest of the training starts again there.

        Args:
            data: as `px.fit` takes it.
            checkpoint: file of `px.fit`; the parts after the first have a number behind its name.
            **training: its settings; its length comes from `total`.

        Returns:
            One History for each part between rewinds.
        """
        if self._optimizer is not None:
            raise BadInput("px.fit makes the optimizer here: leave optimizer= out, or run your own loop with step()")
        found: list[History] = []
        while not found or self.done < self.total:
            back = [step for step, event in self.events.items() if event.to is not None and step > self.done]
            until = min(back, default=self.total)
            events = _Part(self.events, self.done - self.position)
            start, length = self.position, self.position + until - self.done
            path = checkpoint if checkpoint is None or not found else f"{checkpoint}.{len(found)}"
            part = {"start": start, "steps": length, "events": events, "checkpoint": path}
            found.append(fit(self.model, data, on_event=self, **part, **training))
            to = self.events[until].to if back else None
            self.done, self.position = until, length if to is None else to
        return found

    def __call__(self, event: Event, model: nn.Module) -> dict[str, Tensor]:
        """Do what an event says: `px.fit(on_event=pruning)`. Returns the masks, bool in the shape of the parameters."""
        kept = self.masks.named
        if event.kind != "remember" and (event.budget is not None or hasattr(self.schedule, "choose")):
            kept = self._pruned(event)
        if event.kind == "regrow":
            self.masks.update(kept)
            kept = self._regrown(event)
        elif event.kind == "remember":
            self._state = {name: value.detach().clone() for name, value in model.state_dict().items()}
        elif event.kind == "rewind":
            if self._state is None:
                raise BadInput("the schedule rewinds before it has said what to remember")
            model.load_state_dict(self._state)
        elif event.kind == "reset":
            initialise(model, self._settings["seed"] + self._fired)
        self.masks.update(kept)
        self._fired += 1
        return self.masks.named

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint of a loop of one's own must hold, beside those of the model and the optimizer."""
        numbers = {name: getattr(self, name) for name in ("total", "done", "position", "_fired")}
        return {**numbers, "masks": self.masks.named, "remembered": dict(self._state or {})}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Raises:
            BadInput: it was taken of a training of another length.
        """
        if state["total"] != self.total:
            raise BadInput(
                f"this state is of a training of {state['total']} steps, not {self.total}: give total= as then"
            )
        self.done, self.position, self._fired = state["done"], state["position"], state["_fired"]
        self._state = dict(state["remembered"]) or None
        self.masks.update(state["masks"])

    def alive(self, name: str) -> Tensor:
        """bool `[outputs, inputs * taps]` of one matrix: what stays so far."""
        mask = self.masks.named.get(name)
        lines = as_lines(self.model, name)
        return torch.ones_like(lines, dtype=torch.bool) if mask is None else lines_of(self.model, name, mask)

    def density(self) -> dict[str, float]:
        """Matrix -> share of its weights that stays."""
        return {name: float(self.alive(name).float().mean()) for name in self.groups}

    def plan(self) -> Plan:
        """The masks as a plan over the weights as they are now, for `px.recover`, `px.compare` and `px.save`."""
        kept = {name: Kept.of_mask(self.alive(name).numpy(force=True)) for name in self.groups}
        planned, dense = counted("weights", kept)
        stays = int(planned["weights"])
        made = {"method": self.method.id, "schedule": type(self.schedule).__name__, "within": self.within}
        made |= {"seed": self._settings["seed"], "options": dict(self._settings["options"])}
        asked = Budget.parse(f"{stays} weights" if planned != dense else "100% weights")
        return Plan("weights", kept, asked, planned, dense, (), {}, (), made, self.prunable.fingerprint())

    def _pruned(self, event: Event) -> dict[str, Tensor]:
        """The masks under the event's budget. What went before never comes back here."""
        if self.method.kind != "criterion":
            return self._planned(event)
        signals = self._signals()
        scores = {name: self._values(name, signals) for name in self.groups}
        own = getattr(self.schedule, "choose", None)
        found = None if own is None else own(event, self._layers(scores))
        if found is not None:
            masks = {name: mask.numpy(force=True) for name, mask in found.items()}
        elif event.budget is None:
            return self.masks.named
        else:
            masks = self._by_score(scores, event.budget)
        return {
            name: in_storage(self.model, name, mask & self.alive(name).numpy(force=True))
            for name, mask in masks.items()
        }

    def _values(self, name: str, signals: Any) -> np.ndarray:
        """Scores of one matrix, large stays."""
        own = {"seed": self._settings["seed"], "options": self._settings["options"]}
        values = score_matrix(self.prunable, self.method, self.groups[name], signals, **own)
        return -values if self.method.facts.get("sense") == "easy" else values

    def _by_score(self, scores: dict[str, np.ndarray], budget: Budget) -> dict[str, np.ndarray]:
        """Masks by score, dead weights last."""
        alive = {name: self.alive(name).numpy(force=True) for name in scores}
        least = min(min(float(values[alive[name]].min(initial=0)) for name, values in scores.items()), 0.0)

        def ranked(name: str) -> np.ndarray:
            values = scores[name]
            return np.where(alive[name], values, np.nextafter(values.dtype.type(least), values.dtype.type(-np.inf)))

        score = Score("weights", LazyValues(tuple(scores), ranked), "keep")
        taps = {name: int(np.prod(self.model.get_parameter(name).shape[2:])) for name in scores}
        return dict(keep_masks(score, budget, within=self.within, minimum=self._settings["minimum"], taps=taps))

    def _planned(self, event: Event) -> dict[str, Tensor]:
        """The masks of a solver or a search, whose new weights the model takes over."""
        from prunus.flow.units import PLANNERS
        from prunus.prunables.edits import set_weights

        if event.budget is None:
            raise BadInput(f"{self.method.id} needs a budget, and this schedule gives none")
        settings = {name: self._settings[name] for name in ("data", "layers", "seed") if self._settings[name]}
        options = dict(self._settings["options"])
        plan = PLANNERS["weights"](self.prunable, self.method, event.budget, options, settings)
        set_weights(self.model, plan.edits)
        masks = masks_of(self.model, plan) or {}
        before = self.masks.named
        return {name: mask & before.get(name, mask) for name, mask in masks.items() if name in self.groups}

    def _layers(self, scores: dict[str, np.ndarray]) -> dict[str, Layer]:
        return {
            name: Layer(
                name,
                tuple(self.model.get_parameter(name).shape),
                as_lines(self.model, name),
                torch.from_numpy(values).to(self.model.get_parameter(name).device),
                self.alive(name),
                None if self._state is None else lines_of(self.model, name, self._state[name]),
            )
            for name, values in scores.items()
        }

    def _signals(self) -> Any:
        modules = {name.rpartition(".")[0] for name in self.groups}
        data, needs = self._settings["data"], set(self.method.needs)
        return module_signals(self.prunable, needs, data=data, what=self.method.id, modules=modules)

    def _regrown(self, event: Event) -> dict[str, Tensor]:
        """Masks after the exchange. The weights that come were masked, so they and their moments start at zero."""
        signals = self._signals()
        growth = {name: self._growth(name, event) for name in self.groups}
        if not all(bool(torch.isfinite(values).all()) for values in growth.values()):
            warnings.warn("gradients are not finite: nothing is exchanged at this event", stacklevel=3)
            return self.masks.named
        after: dict[str, Tensor] = {}
        for name, values in growth.items():
            score = torch.from_numpy(self._values(name, signals)).to(values.device)
            kept = exchanged(score, self.alive(name), values, event.exchange)
            after[name] = in_storage(self.model, name, kept.numpy(force=True))
        return after

    def _growth(self, name: str, event: Event) -> Tensor:
        """What decides which weights come, `[outputs, inputs * taps]`."""
        weight = self.model.get_parameter(name)
        if event.growth == "random":
            ids = np.arange(weight.numel())
            draw = uniform(self._settings["seed"], f"regrow/{self._fired}/{name}", ids)
            return torch.from_numpy(draw).reshape(as_lines(self.model, name).shape).to(weight.device)
        if weight.grad is None:
            raise BadInput(
                f"{name} has no gradient to grow by: call step() after the optimizer's step and before zero_grad()"
            )
        return lines_of(self.model, name, weight.grad).abs()


@dataclass(frozen=True)
class _Part:
    """The events of one part of a training, whose steps count from `offset` of the whole."""

    events: Mapping[int, Event]
    offset: int

    def at(self, step: int, total: int) -> Event | None:
        if (
            step == 0 and self.offset
        ):  # px.fit asks before the first step, where the event that went back is done already
            return None
        return self.events.get(step + self.offset)


def _taking_part(prunable: ModelPrunable, layers: str, dense: tuple[str, ...]) -> dict[str, Group]:
    """The matrices that are pruned, by name."""
    groups = {group.name: group for group in chosen(prunable, layers)}
    for name in dense:
        if name not in groups:
            raise UnknownName("matrix", name, groups)
    taking = {name: group for name, group in groups.items() if name not in dense}
    if not taking:
        raise BadInput("no matrix is left to prune: every one is in dense=, or the model has none")
    return taking
