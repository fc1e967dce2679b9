"""PruneNet: a policy, trained on weights alone, keeps the neurons whose matrix keeps its singular values (Sengupta et al. 2025).

Removes: feed-forward neurons: channels that one matrix reads (heads and the residual stream stay whole).
Needs: the weights only. With rows of role val the loss of the plan, and that of random plans of the same sizes, are in its provenance
 too, and `guard` refuses a plan that is worse than they are.
Cost: episodes + 2 eigendecompositions of a Gram matrix for each layer (width^3), nothing with rows x rows.
Departures: a better spectrum is not a better model, so the mean distance of spectra (Kolmogorov-Smirnov) stands in the provenance
 beside that of random rows, and is no measure of quality. Rows are the likeliest ones; the released code draws them
 (mode="sample"), so two runs differ. The policy that earned the largest reward is kept, not that after another update. Everything is
 computed from logits: the released terms of saturated probabilities have NaN gradients. W A^T v is a matrix times a vector, so the
 policy ranks rows by one linear function of their weights. features="norm_leverage" is ours: two numbers for each row
 instead of its weights. One policy for each shape of matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from prunus.core.budget import Budget
from prunus.core.errors import BadInput, BudgetUnreachable, NonFinite, UnknownName
from prunus.core.plan import Kept, Plan
from prunus.core.registry import search
from prunus.core.rng import Rng
from prunus.graph.members import bind
from prunus.maths.row_policy import (
    RowPolicy,
    discounted,
    distance,
    leverage,
    noisy,
    reward,
    spectrum,
    towards_half,
)  # fmt: skip

Rows = dict[str, Tensor]


@search(unit="channels", card="prunenet")
def prunenet(
    prunable: Any,
    budget: Budget,
    *,
    rng: Rng,
    probe: Callable[[Plan], float] | None = None,
    mode: Literal["top", "sample", "best"] = "top",
    features: Literal["weights", "norm_leverage"] = "weights",
    episodes: int = 20,
    lr: float = 1e-3,
    kl: float = 0.0,
    draws: int = 3,
    guard: float | None = None,
) -> Plan:
    """The same share of neurons in every layer, chosen by the policy.

    Args:
        prunable: the model with its graph.
        budget: over channels (the neurons), params or macs.
        rng: first weights, noise and draws.
        probe: loss of the model under a plan, where there are rows.
        mode: the likeliest rows, rows drawn by their probabilities, or of these and `draws` draws those with the nearest spectrum.
        features: what the policy reads of a row: its weights, or its norm and leverage.
        episodes: trainings of the policy on all layers.
        lr: of AdamW.
        kl: weight of the divergence of the policy from 1/2.
        draws: random plans to compare with, and draws of mode="best".
        guard: with rows: largest loss above the mean of the random plans, in nats, that is not refused.

    Raises:
        BadInput: no such group, or a plan that the guard refuses.
        BudgetUnreachable: even one neuron for each layer costs more.
    """
    matrices = neurons(prunable)
    counts = widths(prunable, budget, {name: len(matrix) for name, matrix in matrices.items()})
    inputs = {name: _features(matrix, features) for name, matrix in matrices.items()}
    full = {name: spectrum(matrix) for name, matrix in matrices.items()}
    game = Game(matrices, inputs, full, counts, rng)
    policies = game.trained(episodes, lr, kl)
    rows = game.chosen(policies, mode, draws)
    random = [game.drawn(None, number) for number in range(draws)]
    made: dict[str, Any] = {"ks": game.mean(rows), "ks_random": [game.mean(other) for other in random]}
    plan = _plan(prunable, budget, rows, counts, made)
    if probe is None:
        return plan
    losses = [probe(_plan(prunable, budget, other, counts, {})) for other in random]
    made |= {"loss": probe(plan), "loss_random": losses}
    if guard is not None and made["loss"] > np.mean(losses) + guard:
        raise BadInput(
            f"the policy's plan has loss {made['loss']:.3f}, random neurons {np.mean(losses):.3f} on average: use a criterion that sees "
            "data, as flap, or raise guard"
        )
    return _plan(prunable, budget, rows, counts, made)


def neurons(prunable: Any) -> Rows:
    """Group -> the first matrix that makes its neurons `[neurons, inputs]`, float32: the gate of a gated layer.

    Raises:
        BadInput: there is no group that one matrix reads.
        NonFinite: weights that are not finite.
    """
    found: Rows = {}
    for group in prunable.groups("channels"):
        roles = [slot.role for slot in group.slots]
        if roles.count("reader") != 1 or not 1 <= roles.count("writer") <= 2 or group.name.endswith((":head", ":dim")):
            continue
        first = bind(group, prunable.model).writers[0].weight[:, 0].detach().float().cpu()
        if not torch.isfinite(first).all():
            raise NonFinite(f"weights of {group.name} are not finite")
        found[group.name] = first
    if not found:
        raise BadInput("this model has no neurons that one matrix reads: use a criterion over channels")
    return found


def widths(prunable: Any, budget: Budget, sizes: dict[str, int]) -> dict[str, int]:
    """The largest equal share of every group that meets the budget."""
    most = max(sizes.values())

    def at(part: int) -> dict[str, int]:
        steps = {name: budget.step(size) for name, size in sizes.items()}
        shares = {name: part * size // most // steps[name] * steps[name] for name, size in sizes.items()}
        return {
            name: size if part == most else min(max(shares[name], budget.floor, 1), size)
            for name, size in sizes.items()
        }

    limits = budget.limits(prunable.priced(sizes))
    low, high = 0, most + 1
    if not limits.met(prunable.priced(at(low))):
        raise BudgetUnreachable(
            f"{budget} can't be met by neurons alone", nearest=limits.shown(prunable.priced(at(low)))
        )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if limits.met(prunable.priced(at(middle))) else (low, middle)
    return at(low)


def _features(matrix: Tensor, features: str) -> Tensor:
    if features == "weights":
        return matrix
    if features != "norm_leverage":
        raise UnknownName("features", features, ("weights", "norm_leverage"))
    both = torch.stack([matrix.norm(dim=1).double(), leverage(matrix)], 1)
    return ((both - both.mean(0)) / both.std(0).clamp_min(1e-12)).float()


def _plan(prunable: Any, budget: Budget, rows: Rows, counts: dict[str, int], made: dict[str, Any]) -> Plan:
    sizes = {group.name: group.size for group in prunable.groups("channels") if group.name in rows}
    kept = {name: Kept.of_ids(chosen.numpy(), sizes[name]) for name, chosen in rows.items()}
    return Plan("channels", kept, budget, prunable.priced(counts), prunable.priced(sizes), provenance=made)


class Game:
    """Layers, what is kept of them, and the spectra they had."""

    def __init__(self, matrices: Rows, inputs: Rows, full: Rows, counts: dict[str, int], rng: Rng) -> None:
        self.matrices, self.inputs, self.full, self.counts, self.rng = matrices, inputs, full, counts, rng

    def difference(self, name: str, rows: Tensor) -> float:
        """Distance of a layer's spectrum with these rows from the full one."""
        return distance(self.full[name], spectrum(self.matrices[name][rows]))

    def mean(self, rows: Rows) -> float:
        """Over layers."""
        return float(np.mean([self.difference(name, chosen) for name, chosen in rows.items()]))

    def drawn(self, policies: dict[str, RowPolicy] | None, number: int) -> Rows:
        """Rows of every layer, drawn by the noisy policy, or uniformly where there is none."""
        found: Rows = {}
        for name, inputs in self.inputs.items():
            generator = self.rng.child(f"draw/{number}/{name}").torch()
            noise = torch.rand(len(inputs), generator=generator)
            logits = policies[name](inputs).detach() if policies else torch.zeros(len(inputs))
            share = torch.sigmoid(noisy(logits, noise)) if policies else torch.ones(len(inputs))
            picked = torch.multinomial(share.clamp_min(1e-30), self.counts[name], generator=generator)
            found[name] = picked.sort().values
        return found

    def chosen(self, policies: dict[str, RowPolicy], mode: str, draws: int) -> Rows:
        """Rows that stay."""
        with torch.no_grad():
            logits = {name: policies[name](inputs) for name, inputs in self.inputs.items()}
        top = {
            name: values.argsort(descending=True, stable=True)[: self.counts[name]].sort().values
            for name, values in logits.items()
        }
        if mode == "top":
            return top
        if mode not in ("sample", "best"):
            raise UnknownName("mode", mode, ("top", "sample", "best"))
        samples = [self.drawn(policies, -1 - number) for number in range(draws if mode == "best" else 1)]
        return samples[0] if mode == "sample" else min([top, *samples], key=self.mean)

    def trained(self, episodes: int, lr: float, kl: float) -> dict[str, RowPolicy]:
        """Layer -> its policy, shared by layers of one shape, as it was in the episode with the largest reward."""
        shapes = {name: tuple(inputs.shape) for name, inputs in self.inputs.items()}
        shared = {
            shape: RowPolicy(shape[0], shape[1], self.rng.child(f"policy/{shape}")) for shape in set(shapes.values())
        }
        policies = {name: shared[shape] for name, shape in shapes.items()}
        optimizers = {shape: torch.optim.AdamW(policy.parameters(), lr=lr) for shape, policy in shared.items()}
        most, best = -np.inf, {}
        for episode in range(episodes):
            before = {shape: {k: v.clone() for k, v in policy.state_dict().items()} for shape, policy in shared.items()}
            actions = self.drawn(policies, 1000 + episode)
            rewards = [reward(self.difference(name, rows)) for name, rows in actions.items()]
            if sum(rewards) > most:
                most, best = sum(rewards), before
            for (name, rows), value in zip(actions.items(), discounted(rewards)):
                noise = torch.rand(shapes[name][0], generator=self.rng.child(f"noise/{episode}/{name}").torch())
                loss = policies[name].loss(self.inputs[name], noise, rows, value)
                loss = loss + kl * towards_half(policies[name](self.inputs[name])) if kl else loss
                optimizers[shapes[name]].zero_grad()
                loss.backward()
                optimizers[shapes[name]].step()
        for shape, state in best.items():
            shared[shape].load_state_dict(state)
        return policies
