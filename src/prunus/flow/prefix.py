"""Hidden states before the first block that a plan changes: kept once, they need not be computed for every plan tried."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from prunus.core.edits import Bypass
from prunus.core.plan import Plan


def gone(plan: Plan) -> frozenset[str]:
    """Branches that a plan leaves out."""
    return frozenset(edit.module for edit in plan.edits if isinstance(edit, Bypass))


class Recall(nn.Module):
    """Stands in for a block: gives `value`, or what it reads where that is None, in the form in which the block gave it.

    Args:
        block: whose attributes the model's code may ask for.
        length: of the tuple that the block returned, 0 for a tensor.
    """

    value: Tensor | None

    def __init__(self, block: nn.Module, length: int) -> None:
        super().__init__()
        self.length, self.value = length, None
        self.__dict__["block"] = block  # no child: its tensors are not this module's

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["block"], name)

    def forward(self, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        """The kept state, or the one that was read."""
        given = hidden if self.value is None else self.value
        return (given, *[None] * (self.length - 1)) if self.length else given


class Prefix:
    """What every block of a chain read under one plan.

    Args:
        blocks: of the chain, in order.
        without: branches that the plan left out.
    """

    def __init__(self, blocks: tuple[str, ...], without: frozenset[str]) -> None:
        self.blocks, self.without = blocks, without
        self._states: dict[str, list[Tensor]] = {name: [] for name in blocks}
        self._lengths: dict[str, int] = {}

    @contextmanager
    def recording(self, model: nn.Module) -> Generator[None]:
        """Inside, every pass of the model adds a batch."""
        handles: list[Any] = []
        for name in self.blocks:
            module = model.get_submodule(name)
            handles.append(module.register_forward_hook(self._hook(name)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            self._lengths[name] = len(output) if isinstance(output, tuple) else 0
            if args and isinstance(args[0], Tensor):
                self._states[name].append(args[0])

        return hook

    def player(self, model: nn.Module, without: frozenset[str]) -> Callable[[int], None] | None:
        """Replace the blocks before the first that differs, in place; `player(batch)` lays out the state to start from.

        None where the plan is no extension of the one that was kept, or differs in the first block.
        """
        new = without - self.without
        places = [at for at, block in enumerate(self.blocks) if any(name.startswith(f"{block}.") for name in new)]
        first = min(places, default=0)
        whole = len({len(states) for states in self._states.values()}) == 1 and all(self._states.values())
        if not self.without <= without or first == 0 or not whole:
            return None
        standing = [Recall(model.get_submodule(name), self._lengths[name]) for name in self.blocks[:first]]
        for name, recall in zip(self.blocks, standing):
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, recall)
        states = self._states[self.blocks[first]]

        def play(batch: int) -> None:
            standing[0].value = states[batch]

        return play
