"""Searches: methods that try plans, or train, before they decide. The flow hands them a probe, a way to fit, and a draw."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from prunus.core.budget import Budget
from prunus.core.edits import Bypass
from prunus.core.errors import BadInput, NonFinite
from prunus.core.plan import Plan
from prunus.core.registry import Method
from prunus.core.rng import Rng, torch_fork
from prunus.flow.calls import asks_for, does_without
from prunus.flow.prefix import Prefix, gone
from prunus.flow.signals import module_signals
from prunus.prunables.model import ModelPrunable
from prunus.prunables.roles import require_role
from prunus.signals.modules import ModuleSignals
from prunus.signals.slopes import Slopes, slopes
from prunus.train.copies import copied
from prunus.train.loop import fit as train
from prunus.train.ordered import ordered
from prunus.train.step import Step, StepFn, infer_step, plain


def plan_search(
    prunable: ModelPrunable,
    found: Method,
    budget: Budget,
    *,
    data: Any = None,
    val: Any = None,
    step: StepFn | None = None,
    signals: ModuleSignals | None = None,
    batch: int = 64,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Plan:
    """What a search decides.

    Args:
        prunable: the model; it is left as it was.
        found: a search.
        budget: over the unit it removes.
        data: rows of role fit, for searches that train; for those that probe where `val` is not given.
        val: rows of role val: what a probe measures the loss on.
        step: adapter of a batch.
        signals: what its `needs` name, measured before; by default one pass of `data`.
        batch: rows at a time while probing.
        seed: for searches that draw or train.
        options: the search's own.

    Raises:
        BadInput: it probes or trains, and there are no rows for that.
    """
    found.check_options(dict(options or {}))
    function, given = found.load(), dict(options or {})
    step = step or prunable.step
    if asks_for(function, "rng"):
        given["rng"] = Rng(seed, found.id)
    rows = val if val is not None else data
    if asks_for(function, "probe") and (rows is not None or not does_without(function, "probe")):
        given["probe"] = Probe(prunable, _rows(rows, found, "probes"), step, batch)
    if asks_for(function, "fit"):
        given["fit"] = fit_of(_rows(data, found, "trains"), step, seed)
    if asks_for(function, "slopes"):
        given["slopes"] = slopes_of(_rows(data, found, "takes gradients"), step, batch)
    if asks_for(function, "signals"):
        given["signals"] = signals or module_signals(prunable, set(found.needs), data=data, step=step, what=found.id)
    if asks_for(function, "measure"):
        given["measure"] = partial(
            module_signals, prunable, data=_rows(data, found, "measures"), step=step, what=found.id
        )
    plan = function(prunable, budget, **given)
    made = {"method": found.id, "options": dict(options or {}), "seed": seed, **plan.provenance}
    if prunable.example is not None:
        made["example"] = prunable.describe()
    return replace(plan, provenance=made, fingerprint=prunable.fingerprint())


def _rows(rows: Any, found: Method, does: str) -> Any:
    if rows is None:
        raise BadInput(f"{found.id} {does}: pass data= (rows of role fit), or val= (rows of role val) for probes")
    return rows


class Probe:
    """`probe(plan)`: mean loss over the rows of the model under a plan; small is good. Its exponential is a language
    model's perplexity, every row counting alike. `probe.tasks(plan)`: mean losses of each task, where the step tells them apart.
    `probe.remember(plan)`: plans that leave out more branches start at the first block that is new to them.

    Plans that only leave things out are tried on copies that share the model's tensors.

    Args:
        prunable: the model.
        rows: of role fit or val.
        step: adapter of a batch; inferred by default.
        batch: rows at a time.
    """

    def __init__(self, prunable: ModelPrunable, rows: Any, step: StepFn | None = None, batch: int = 64) -> None:
        require_role(rows, {"fit", "val"}, what="a search")
        self._prunable = prunable
        self._batches = [plain(one) for one in ordered(rows, batch)]
        if not self._batches:
            raise BadInput("there are no rows to probe on")
        self._step = step or infer_step(self._batches[0])
        self._prefix: Prefix | None = None

    def __call__(self, plan: Plan) -> float:
        return _mean([step.loss for step in self._steps(plan)])

    def tasks(self, plan: Plan) -> dict[str, float]:
        """Task -> mean loss; one task called loss where the step does not tell them apart."""
        steps = self._steps(plan)
        if any(step.losses is None for step in steps):
            return {"loss": _mean([step.loss for step in steps])}
        found = [step.losses for step in steps if step.losses is not None]
        return {name: _mean([losses.get(name) for losses in found]) for name in found[0]}

    def remember(self, plan: Plan) -> None:
        """Keep what every block reads under a plan over branches of one chain: batches * blocks hidden states."""
        chains = self._prunable.chains
        if len(chains) == 1 and all(":" in name for name in plan.groups):
            model = _tried(self._prunable, plan).eval()
            self._prefix = Prefix(chains[0].children, gone(plan))
            with self._prefix.recording(model):
                for _ in self._run(model):
                    pass

    def _steps(self, plan: Plan) -> list[Step]:
        model = _tried(self._prunable, plan).eval()
        if self._prefix is not None and all(":" in name for name in plan.groups):
            return list(self._run(model, self._prefix.player(model, gone(plan))))
        return list(self._run(model))

    def _run(self, model: nn.Module, player: Callable[[int], None] | None = None) -> Iterator[Step]:
        """Batch by batch; `player` is told which one comes."""
        for number, one in enumerate(self._batches):
            if player is not None:
                player(number)
            with torch.inference_mode(), torch_fork(0, "probe"):  # detectors draw anchors: the same ones for every plan
                yield self._step(model, one)


def _mean(losses: list[torch.Tensor | None]) -> float:
    found = [loss.double() for loss in losses if loss is not None]
    if len(found) < len(losses):
        raise BadInput("a probe needs a loss for each row: give labels, or a step that returns loss")
    mean = float(torch.cat(found).mean())
    if not math.isfinite(mean):
        raise NonFinite(f"the loss of a plan is {mean}: look at the model's weights and at the rows")
    return mean


def _tried(prunable: ModelPrunable, plan: Plan) -> nn.Module:
    if plan.unit == "weights" or not all(
        isinstance(edit, Bypass) for edit in plan.edits
    ):  # masks change tensors in place
        return prunable.apply(replace(plan, fingerprint=""))
    prunable.graph_for(plan)
    if any(":" in name for name in plan.groups):
        prunable.record_branch_outputs()  # once, on the whole model, not on every twin
    twin = copy.copy(prunable)  # with what was recorded
    twin.model = sharing(prunable.model)
    return twin.apply(replace(plan, fingerprint=""), inplace=True)


def sharing(model: nn.Module) -> nn.Module:
    """A copy of the modules around the same parameters and buffers."""
    tensors = [*model.parameters(), *model.buffers()]
    return copied(model, {id(tensor): tensor for tensor in tensors})


def slopes_of(rows: Any, step: StepFn | None, batch: int) -> Callable[..., Slopes]:
    """`slopes(model, module, number)`: gradients of a matrix on the batch of this number; after the last comes the first."""
    require_role(rows, {"fit", "val"}, what="gradients in a search")
    batches = [plain(one) for one in ordered(rows, batch)]
    return lambda model, module, number: slopes(model, module, batches[number % len(batches)], step)


def fit_of(rows: Any, step: StepFn | None, seed: int) -> Callable[..., Any]:
    """`fit(model, steps=..., **settings)`: the training loop on fit rows; settings are those of `train.loop.fit`."""
    require_role(rows, {"fit"}, what="training in a search")

    def fit(model: nn.Module, **settings: Any) -> Any:
        given: dict[str, Any] = {"step": step, "seed": seed, **settings}
        return train(model, rows, **given)

    return fit
