"""BiP: masks and weights as two levels, each trained on its own batches, the mask by an implicit gradient (Zhang et al. 2022).

Removes: weights, or whole outputs or inputs of convolutions as zeros. The plan carries the trained weights.
Needs: labelled rows of role fit, a trained model.
Cost: 2 * steps forward and backward passes; one score and two momenta for each weight.
Departures: the implicit term is the paper's, (w - g / gamma) g with g the gradient by the masked weight. The released code uses the
 gradient of the score twice, which makes it (w - w^2 g / gamma) g and next to nothing at its 1 / gamma = 1e-4 (parity="official").
 Scores are cloned: the released ones share the storage of the weights, so that each step moves both. Its unstructured layers do not
 run. Both levels take the loop's batches in turn, so no batch serves twice in an epoch. Every matrix is searched, linear ones too;
 `allocate` splits the budget, evenly as released or by erk, global, ... With outputs or inputs, counts are rounded down to whole
 ones, at least one, and linear layers are cut weight by weight. Weights that are gone keep their value below and may come back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from prunus.core.budget import Budget
from prunus.core.plan import Plan
from prunus.core.registry import search
from prunus.train.copies import copied
from prunus.weights.masked import Of, counts_of, masked_plan, top_mask, write_masked


@dataclass(frozen=True)
class Cut:
    """How the mask of one matrix is made: `gone` weights, outputs or inputs."""

    gone: int
    of: Of = "weight"


class TwoLevels(torch.optim.Optimizer):
    """Steps of weights and of scores in turn; between steps every matrix holds its masked weights.

    Args:
        parameters: all that are trained; those without a cut take part in the lower level as they are.
        cuts: matrix -> Cut.
        lr, momentum, weight_decay: of the lower level (SGD); the loop's schedule scales both levels.
        mask_lr, mask_momentum, mask_decay: of the upper level.
        inverse_gamma: 1 / gamma, the weight of the implicit term; 0 is straight-through training of scores.
        hold: last share of `steps` with a fixed mask: they are lower steps.
        steps: pairs of steps in all, for `hold`.
        official: the released implicit term.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        cuts: Mapping[nn.Parameter, Cut],
        *,
        lr: float,
        mask_lr: float,
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
        mask_momentum: float = 0.9,
        mask_decay: float = 1e-4,
        inverse_gamma: float = 1e-4,
        hold: float = 0.0,
        steps: int = 0,
        official: bool = False,
    ) -> None:
        given = list(parameters)
        super().__init__(given, {"lr": lr})
        self.cuts = {parameter: cut for parameter, cut in cuts.items() if any(parameter is one for one in given)}
        self.weights = {one: nn.Parameter(one.detach().clone()) for one in self.cuts}
        self.scores = {one: nn.Parameter(one.detach().abs().clone()) for one in self.cuts}
        self.masks: dict[nn.Parameter, Tensor] = {}
        rest = [one for one in given if one not in self.cuts]
        self._lower = torch.optim.SGD([*self.weights.values(), *rest], lr, momentum, weight_decay=weight_decay)
        self._upper = torch.optim.SGD([*self.scores.values()], mask_lr, mask_momentum, weight_decay=mask_decay)
        self._rates, self._inverse_gamma, self._official = (lr, mask_lr), inverse_gamma, official
        self._done, self._last = 0, round(2 * steps * (1 - hold)) if hold else -1
        self._choose()

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        """One of the two levels, by the gradients that the parameters hold."""
        factor = self.param_groups[0]["lr"] / self._rates[0] if self._rates[0] else 1.0
        upper = self._done % 2 == 1 and not 0 <= self._last <= self._done
        engine, rate = (self._upper, self._rates[1]) if upper else (self._lower, self._rates[0])
        engine.param_groups[0]["lr"] = rate * factor
        for one in self.cuts:
            if one.grad is not None and upper:
                self.scores[one].grad = self._slope(one, one.grad)
            elif one.grad is not None:
                self.weights[one].grad = self.masks[one] * one.grad
        engine.step()
        self._done += 1
        if upper:
            self._choose()
        write_masked(self.weights, self.masks)

    def _slope(self, one: nn.Parameter, grad: Tensor) -> Tensor:
        """Gradient of the upper loss by the score."""
        if self._official:
            through = self.scores[one].sign() * self.weights[one] * grad
            return through - self._inverse_gamma * through.square()
        return (self.weights[one] - self._inverse_gamma * grad) * grad

    def _choose(self) -> None:
        """Masks of the scores as they are."""
        self.masks = {one: top_mask(self.scores[one], cut.gone, cut.of) for one, cut in self.cuts.items()}
        write_masked(self.weights, self.masks)


@search(unit="weights", card="bip")
def bip(
    prunable: Any,
    budget: Budget,
    *,
    fit: Callable[..., Any],
    steps: int = 200,
    lr: float = 0.01,
    mask_lr: float = 0.1,
    inverse_gamma: float = 1e-4,
    of: Literal["weight", "output", "input"] = "weight",
    allocate: str = "uniform",
    hold: float = 0.0,
    batch: int = 128,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    parity: Literal["paper", "official"] = "paper",
) -> Plan:
    """Masks, and the weights trained under them.

    Args:
        prunable: the model.
        budget: share or number of weights that stay.
        fit: the training loop on fit rows.
        steps: of each level.
        lr: of weights, peak of a cosine.
        mask_lr: of scores, with the same course.
        inverse_gamma: weight of the implicit term; 0 trains scores straight through.
        of: what is masked in convolutions: single weights, outputs or inputs.
        allocate: allocator of weights over matrices; scores are magnitudes.
        hold: last share of the steps in which the mask is fixed.
        batch: rows per step.
        momentum: of both levels.
        weight_decay: of both levels.
        parity: official is the released implicit term.

    Returns:
        A Plan with the trained weights; `changed` in its provenance is the share of mask entries that are not the first mask's.
    """
    model = copied(prunable.model)
    counts = counts_of(model, prunable.groups("weights"), budget, allocate)
    cuts = {model.get_parameter(name): _cut(model.get_parameter(name), count, of) for name, count in counts.items()}
    first: dict[nn.Parameter, Tensor] = {}
    engine: list[TwoLevels] = []

    def make(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        own = {
            "momentum": momentum,
            "weight_decay": weight_decay,
            "mask_momentum": momentum,
            "mask_decay": weight_decay,
        }
        more: dict[str, Any] = {"hold": hold, "steps": steps, "official": parity == "official", **own}
        engine.append(TwoLevels(parameters, cuts, lr=lr, mask_lr=mask_lr, inverse_gamma=inverse_gamma, **more))
        first.update(engine[0].masks)
        return engine[0]

    fit(model, steps=2 * steps, optimizer=make, lr=lr, batch=batch)
    masks = {name: engine[0].masks[model.get_parameter(name)] for name in counts}
    entries = sum(mask.numel() for mask in masks.values())
    moved = sum(int((engine[0].masks[one] != before).sum()) for one, before in first.items())
    return masked_plan(prunable, budget, masks, trained=model, provenance={"changed": moved / max(entries, 1)})


def _cut(weight: Tensor, count: int, of: Of) -> Cut:
    if of == "weight" or weight.dim() < 3:
        return Cut(weight.numel() - count)
    units = weight.shape[0 if of == "output" else 1]
    return Cut(units - max(count * units // weight.numel(), 1), of)
