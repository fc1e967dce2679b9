"""InfoBatch: part of the rows that are learnt well sit out, the others of these weigh more (Qin et al. 2024).

Removes: rows, other ones in every epoch; all rows train again at the end (annealing).
Needs: the loss of every row from the ordinary forward pass, reported by id; no pass of its own.
Cost: a mean, a comparison and a draw over n numbers for each epoch; 4 bytes a row, 12 with the plan of the epoch.
Departures: rows below the mean loss are learnt well; of these floor(k * count) stay, k = 1 - prune_ratio, and weigh 1 / k,
  so the expected gradient of an epoch is that of all rows, up to its number of steps. Draws are keyed hashes of (seed,
  epoch, id) where the released code seeds numpy's global generator with the epoch. Losses go by id through `seen`,
  nothing is patched, ids stay integers when ranks gather (the released code sends them as float32). Weights are 1 when
  annealing begins; the released code keeps those of the last pruned epoch unless epochs * delta is whole, which
  `parity="official"` reproduces. A prune_ratio above 0.9 is refused there silently (clipped), here with an error. A
  loss that is not finite is reported, keeps its row in every epoch, and stays out of the mean, which it would make NaN
  and stop all pruning. `warmup` (ours, 0 by default): first epochs over all rows. Not done: the paper's percentile
  thresholds, not found in the released code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from prunus.core.errors import BadInput
from prunus.core.registry import dynamic
from prunus.core.rng import Rng
from prunus.rows.by_loss import ByLoss, Choice, Mask
from prunus.rows.dynamic import Ids


@dynamic(unit="rows", needs=("loss",), card="infobatch", name="infobatch")
class InfoBatch(ByLoss):
    """Unbiased dynamic pruning: report losses with `seen`, train on the mean of weight times loss over the batch."""

    name = "InfoBatch"

    def __init__(
        self,
        ids: ArrayLike,
        *,
        seed: int = 0,
        epochs: int | None = None,
        prune_ratio: float = 0.5,
        delta: float = 0.875,
        warmup: int = 0,
        rescale: bool = True,
        parity: Literal["paper", "official"] = "paper",
        draw: Callable[[int, Ids, int], Ids] | None = None,
    ) -> None:
        """Check the options; draws nothing yet.

        Args:
            ids: of the rows, int or text `[n]`, unique; their order does not matter.
            seed: of the draws.
            epochs: of the whole training, for annealing; None = never anneal.
            prune_ratio: share of the rows learnt well that sit out an epoch, in [0, 0.9].
            delta: share of the epochs after which all rows train.
            warmup: first epochs over all rows; useful where a rising rate makes early losses large.
            rescale: False leaves all weights at 1, which biases the gradient towards the harder rows.
            parity: paper, or official for the released weights during annealing.
            draw: `f(t, ids, count)` -> the `count` of these ids that stay, in place of the seed.

        Raises:
            BadInput: ids or options that can't be.
        """
        super().__init__(ids, seed=seed, epochs=epochs, delta=delta)
        if not 0 <= prune_ratio <= 0.9:
            raise BadInput(f"prune_ratio must lie in [0, 0.9], not {prune_ratio}")
        if warmup < 0:
            raise BadInput(f"warmup can't be negative: {warmup}")
        if parity not in ("paper", "official"):
            raise BadInput(f"parity is paper or official, not {parity}")
        self.prune_ratio, self.warmup, self.rescale, self.parity = prune_ratio, warmup, rescale, parity
        self.keep_ratio = 1 - prune_ratio
        self._draw = draw

    def bounds(self, t: int) -> tuple[int, int]:
        """All rows while warming up, annealing, and in the first epoch; else at least all but prune_ratio of n - 1."""
        n = len(self.rows)
        if t < max(self.warmup, 1) or self.annealed(t):
            return n, n
        return 1 + int(self.keep_ratio * (n - 1)), n

    def well_learnt(self) -> Mask:
        """Rows whose last loss is below the mean, in the order of the ids, bool `[n]`."""
        finite = np.isfinite(self.loss)
        if finite.all():
            return self.loss < self.loss.mean(dtype=np.float64)
        return finite & (self.loss < (self.loss[finite].mean(dtype=np.float64) if finite.any() else 0.0))

    def _choose(self, t: int) -> Choice:
        everything = np.ones(len(self.rows), dtype=bool)
        if self.annealed(t):
            return Choice(everything, *self._left_over())
        if t < self.warmup:
            return Choice(everything)
        easy = np.flatnonzero(self.well_learnt())
        kept = easy[self._drawn(t, self.rows.sorted[easy], int(self.keep_ratio * easy.size))]
        if kept.size == easy.size:
            return Choice(everything)
        everything[easy] = False
        raised = np.zeros(len(self.rows), dtype=bool)
        everything[kept] = raised[kept] = True
        return Choice(everything, raised if self.rescale else None, 1 / self.keep_ratio)

    def _drawn(self, t: int, ids: Ids, count: int) -> Any:
        if self._draw is None:
            return Rng(self.seed, f"infobatch/{t}").sample(ids, count)
        chosen = np.asarray(self._draw(t, ids, count))
        at = np.flatnonzero(np.isin(ids, chosen))
        if chosen.shape != (count,) or at.size != count:
            raise BadInput(f"draw({t}, ids, {count}) must return {count} distinct ids of those given")
        return at

    def _left_over(self) -> tuple[Mask | None, float]:
        """Weights of annealing: those of the last epoch where the released code forgets to reset them."""
        stop = (self.epochs or 0) * self.delta
        if self.parity == "paper" or stop == int(stop) or self._settled is None:
            return None, 1.0
        return self._settled[1].raised, self._settled[1].factor

    def _options(self) -> dict[str, Any]:
        names = ("prune_ratio", "warmup", "rescale", "parity")
        return {name: getattr(self, name) for name in names}
