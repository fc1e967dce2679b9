"""Attention of a vision encoder as a row signal: the CLS row, or what each token receives, at one attention module.

The weights are recomputed from the module's input (see `cls_attention`), so fused kernels stay on. Options:
`attention_layer` (which attention module, in the order they run; -1 is the last, LLaVA's features use -2) and `prefix`
(leading tokens that are no patches; 1 for a CLS token).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from prunus.core.errors import BadInput
from prunus.signals.cls_attention import cls_attention, projections, received_attention
from prunus.signals.scan import Accumulator
from prunus.train.step import Step

PROVIDES = ("cls_attention", "received_attention")
LEVEL = "rows"
VERSION = 1
MEMORY = "4 * rows * heads * tokens"


class Accumulate(Accumulator):
    """float32 `[B, heads, T]`."""

    def start(self) -> None:
        """Find the attention modules and hook the one asked for."""
        found = attention_modules(self.scan.model)
        layer = int(self.scan.options.get("attention_layer", -1))
        if not -len(found) <= layer < len(found):
            raise BadInput(f"attention_layer={layer}, but {len(found)} attention modules can be read in this model")
        self._module = found[layer]
        self._prefix = int(self.scan.options.get("prefix", 1))
        self._hidden: Tensor | None = None
        self.scan.before(self._module, self._saw)

    def _saw(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs.get("hidden_states", kwargs.get("query"))
        if isinstance(hidden, Tensor):
            first = isinstance(module, nn.MultiheadAttention) and not module.batch_first
            self._hidden = hidden.detach().transpose(0, 1) if first else hidden.detach()

    def batch(self, step: Step, grads: tuple[Tensor | None, ...]) -> dict[str, Tensor]:
        """From the input that was seen."""
        hidden, self._hidden = self._hidden, None
        if hidden is None:
            raise BadInput(f"attention module {type(self._module).__name__} was not called in this pass")
        found: dict[str, Tensor] = {}
        if "cls_attention" in self.wanted:
            found["cls_attention"] = cls_attention(self._module, hidden, prefix=self._prefix).detach().float()
        if "received_attention" in self.wanted:
            found["received_attention"] = received_attention(self._module, hidden, prefix=self._prefix).detach().float()
        return found


def attention_modules(model: nn.Module) -> list[nn.Module]:
    """Modules whose queries and keys can be read, in the order of the model's definition."""
    found: list[nn.Module] = []
    for module in model.modules():
        try:
            projections(module)
        except BadInput:
            continue
        found.append(module)
    return found
