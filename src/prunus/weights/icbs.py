"""iCBS: small blocks of weights are chosen anew, one quadratic problem after the other (Rosenberg et al. 2024).

Removes: weights, at a fixed density in each matrix; those that stay keep their values.
Needs: labelled rows for gradients, and rows of role val for the acceptance test. No update, no training.
Cost: in each step one pass forward and back of a batch, B^2 numbers, a swap search of about B^2 operations for each swap, and with the
 acceptance test one pass over the val rows. `steps` buys quality with time.
Departures: written from the formulas; the released code is non-commercial. It sets every entry of Q below 1e-12 to zero, which drops all
 negative ones; here only tiny ones go. It applies every move; here a move stays only where the probe's loss falls (accept="always": as
 released). Blocks are solved by exhaustion or by swaps in place of annealing in a subprocess.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from prunus.core.budget import Budget
from prunus.core.counted import counted
from prunus.core.errors import BadInput, BudgetUnreachable
from prunus.core.plan import Kept, Plan
from prunus.core.registry import search
from prunus.maths.partial import keep_largest
from prunus.maths.surgeon import problem, scaled, solve
from prunus.signals.scan import transposed
from prunus.signals.slopes import Slopes
from prunus.train.copies import copied


class Layer:
    """One matrix: which weights stay now, which are tabu, which are settled.

    Args:
        name: of the parameter.
        original: `[outputs, inputs]`.
        kept: bool, True stays.
    """

    def __init__(self, name: str, original: Tensor, kept: Tensor) -> None:
        self.name, self.original, self.kept = name, original, kept
        self.fixed = torch.zeros(original.numel(), dtype=torch.bool)
        self.tabu: list[int] = []

    @property
    def now(self) -> Tensor:
        """The original weights where they stay."""
        return torch.where(self.kept, self.original, 0.0)

    def settle(self, scores: Tensor, gone: float, stay: float) -> None:
        """Freeze the share `gone` of the pruned weights that score lowest, and `stay` of the kept ones that score highest."""
        for kept, share, largest in ((False, gone, False), (True, stay, True)):
            of = torch.nonzero(self.kept.flatten() == kept).flatten()
            order = scores.flatten()[of].argsort(descending=largest, stable=True)
            self.fixed[of[order[: int(share * len(of))]]] = True

    def candidates(self, grad: Tensor, size: int, count: int) -> tuple[Tensor, int]:
        """Flat positions: first up to `count` pruned weights with the largest |w0 g|, then kept ones with the smallest.

        Returns:
            int64 `[B]` and how many of them are pruned.
        """
        free = ~self.fixed
        free[torch.tensor(self.tabu, dtype=torch.long)] = False
        scores = (self.original * grad).abs().flatten()
        gone, stay = (torch.nonzero(free & (self.kept.flatten() == kept)).flatten() for kept in (False, True))
        gone = gone[scores[gone].argsort(descending=True, stable=True)[:count]]
        stay = stay[scores[stay].argsort(stable=True)[: size - count]]
        return torch.cat([gone, stay]), len(gone)

    def block(self, positions: Any, most: int) -> None:
        """Put a block on the tabu list, which forgets its oldest entries above `most`."""
        self.tabu = [*self.tabu, *torch.as_tensor(positions).tolist()]
        self.tabu = self.tabu[max(len(self.tabu) - most, 0) :]

    def move(self, block: Tensor, x: Tensor) -> None:
        """Prune where x is 1, bring back where it is 0."""
        kept = self.kept.clone().flatten()
        kept[block] = x == 0
        self.kept = kept.reshape(self.kept.shape)


def magnitude_start(weight: Tensor, count: int) -> Tensor:
    """bool in the shape of the weight: its `count` largest."""
    values = weight.detach().abs().float().numpy()
    return torch.from_numpy(keep_largest(values.reshape(1, -1), count)).reshape(weight.shape)


@search(unit="weights", card="icbs")
def icbs(
    prunable: Any,
    budget: Budget,
    *,
    probe: Callable[[Plan], float],
    slopes: Callable[..., Slopes],
    rng: Any,
    steps: int = 60,
    block: int = 256,
    accept: Literal["probe", "always"] = "probe",
    fix_gone: float = 0.42,
    fix_stay: float = 0.35,
    tabu: float = 0.4,
    first: float = 0.75,
    ridge: float = 0.001,
) -> Plan:
    """A mask for every matrix.

    Args:
        prunable: the model.
        budget: a share of the weights, held in every matrix.
        probe: loss of a plan.
        slopes: `slopes(model, module, number)`: gradients of a matrix for each row of a batch.
        rng: the order of the matrices.
        steps: blocks that are solved; more is better and slower.
        block: weights in a block.
        accept: keep a move only where the probe's loss falls, or always.
        fix_gone: share of the pruned weights, those of least magnitude, that stay pruned.
        fix_stay: share of the kept weights, those of largest magnitude, that stay.
        tabu: share of the free weights that may not be chosen again at once.
        first: weight of the linear term.
        ridge: weight of the squared change.

    Raises:
        BudgetUnreachable: a matrix would keep nothing.
        BadInput: N:M, or a number of weights.
    """
    if budget.nm or not budget.term.relative:
        raise BadInput(f"icbs holds a share in every matrix: write '50% weights', not {budget}")
    model = copied(prunable.model).eval()
    layers = [
        _layer(model, group.name, group.size - budget.drop_count(group.size)) for group in prunable.groups("weights")
    ]
    for layer in layers:
        layer.settle(layer.original.abs(), fix_gone, fix_stay)
        _write(model, layer)
    best = probe(_plan(layers, budget))
    for number, place in enumerate(_order(layers, steps, rng)):
        layer = layers[place]
        found = slopes(model, layer.name.rpartition(".")[0], number)
        chosen, count = layer.candidates(found.mean(), block, block // 2)
        if not 0 < count < len(chosen):
            continue
        rows, before = found.at(chosen), layer.kept
        w0, now = layer.original.flatten()[chosen], layer.now.flatten()[chosen]
        quadratic, _ = problem(w0, now, rows.mean(0), rows.T @ rows / len(rows), first=first, ridge=ridge)
        layer.move(chosen, solve(scaled(quadratic), count))
        most = round(tabu * int((~layer.fixed).sum()))
        layer.block(chosen, most)
        if accept == "probe":
            loss = probe(_plan(layers, budget))
            layer.kept = layer.kept if loss < best else before
            best = min(loss, best)
        _write(model, layer)
    return _plan(layers, budget)


def _layer(model: Any, name: str, count: int) -> Layer:
    owner, _, own = name.rpartition(".")
    if own != "weight":
        raise BadInput(f"icbs takes gradients of linear layers and convolutions, {name} is recurrent: use magnitude")
    module = model.get_submodule(owner)
    weight = module.weight.detach()
    lines = (weight.T if transposed(module) else weight.flatten(1)).clone()
    if count == 0:
        raise BudgetUnreachable(
            f"none of {lines.numel()} weights of {name} would stay", nearest=f"1 of {lines.numel()}"
        )
    return Layer(name, lines, magnitude_start(lines, count))


def _write(model: Any, layer: Layer) -> None:
    module = model.get_submodule(layer.name.rpartition(".")[0])
    now = layer.now.T if transposed(module) else layer.now
    with torch.no_grad():
        module.weight.copy_(now.reshape(module.weight.shape))


def _order(layers: list[Layer], steps: int, rng: Any) -> list[int]:
    """Steps in proportion to the logarithm of the size, one after the other in a drawn order of the matrices."""
    shares = np.array([math.log10(max(layer.original.numel(), 10)) for layer in layers])
    ends = np.round(np.cumsum(shares) / shares.sum() * steps).astype(int)
    places = np.repeat(np.arange(len(layers)), np.diff(ends, prepend=0))
    return places[np.argsort(rng.uniform(np.arange(len(places))), kind="stable")].tolist()


def _plan(layers: list[Layer], budget: Budget) -> Plan:
    kept = {layer.name: Kept.of_mask(layer.kept.numpy()) for layer in layers}
    return Plan("weights", kept, budget, *counted("weights", kept), (), {}, (), {}, "")
