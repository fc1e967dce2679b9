"""TRP: training that returns to low rank every few steps, then real low-rank factors (Xu et al. 2018).

Removes: ranks of convolutions and linear layers; each that loses some becomes two thin layers.
Needs: labelled rows of role fit, a trained model. The plan carries what training left.
Cost: steps * batch forward and backward passes, and one singular value decomposition of each weight every `period` steps.
Departures: the released code chooses layers by a table (no 1x1 convolutions, not the first one, not the last linear layer) and
 replaces stride-1 convolutions only; here every weight takes part that factors can make cheaper, of any stride, and the pin of the budget
 names those that stay dense. The budget decides the final ranks, by one threshold on the energy of all layers, where the code cuts
 singular values below a fixed number: ask for what training reached (`ranks` of the plan's provenance). A layer that would
 cost more as two stays whole (released: is replaced). Under `decouple` every filter has its own rank while training, as released, and the
 factors have one rank for all filters. Momentum keeps full-rank directions, as released. Norms should be re-estimated after the cut
 (recovery bn_stats).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from prunus.allocate.by_cost import Level, by_cost
from prunus.core.budget import Budget
from prunus.core.edits import Factor
from prunus.core.errors import BadInput
from prunus.core.plan import Kept, Plan
from prunus.core.registry import search
from prunus.graph.changes import changes
from prunus.maths.rank_parts import by_energy
from prunus.train.copies import copied
from prunus.train.rank_projection import RankProjection


@search(unit="ranks", card="trp")
def trp(
    prunable: Any,
    budget: Budget,
    *,
    fit: Callable[..., Any],
    steps: int = 200,
    period: int = 5,
    energy: float = 0.9,
    strength: float = 3e-4,
    lr: float = 0.01,
    batch: int = 128,
    weight_decay: float = 1e-4,
    scheme: Literal["channel", "spatial", "decouple"] = "channel",
) -> Plan:
    """Ranks that training made needless go.

    Args:
        prunable: the model.
        budget: what may stay, in parameters, MACs or ranks; its pin names weights that stay dense.
        fit: the training loop on fit rows.
        steps: of training.
        period: steps between two projections.
        energy: share of the squared singular values that each projection keeps.
        strength: weight of the nuclear norm.
        lr: peak learning rate, falling by a cosine.
        batch: rows per step.
        weight_decay: of all parameters.
        scheme: how kernels are read: channel, spatial or decouple.

    Returns:
        A Plan with the factors, and everything else that training changed.

    Raises:
        BadInput: no weight can be factored.
        BudgetUnreachable: rank 1 everywhere costs more.
    """
    matrices = [one for one in prunable.rank_matrices(scheme) if one.name not in budget.pin]
    if not matrices:
        raise BadInput("this model has no weight that two thinner layers could replace")
    prices = prunable.rank_prices(scheme, [one.name for one in matrices])
    model = copied(prunable.model)
    reached: dict[str, int] = {}
    if steps:
        chosen = {one.name: (one.groups, one.scheme) for one in matrices}
        projection = RankProjection(model, chosen, energy=energy, strength=strength, period=period)
        fit(model, steps=steps, batch=batch, optimizer=projection.sgd(lr, weight_decay=weight_decay))
        projection.project()
        reached = {name: int(rank.max()) for name, rank in projection.ranks.items()}
    parts = {one.name: by_energy(one.read(model), one.name) for one in matrices}
    levels = [Level(one.name, parts[one.name].scores.numpy(), one.name) for one in matrices]
    counts = prices.stays(by_cost(levels, budget, prices, floor_share=0.0))
    kept = {one.name: Kept.of_ids(np.arange(counts[one.name]), one.size) for one in matrices}
    thin = [one for one in matrices if counts[one.name] < one.size]
    edits: list[Factor] = [one.edit(parts[one.name], np.arange(counts[one.name])) for one in thin]
    replaced = {one.name for one in thin}
    others = [edit for edit in changes(prunable.model, model) if edit.parameter not in replaced]
    made = {"scheme": scheme, "ranks": reached}
    return Plan("ranks", kept, budget, prices(counts), prices({}), (*others, *edits), {}, (), made, "")
