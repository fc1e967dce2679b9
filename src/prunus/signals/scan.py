"""One pass over data: hooks that come and go together, inputs shared by several modules, and a model left as it was."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from prunus.core.errors import NonFinite
from prunus.train.modes import evaluating
from prunus.train.step import Step, StepFn

CHUNK = 64  # rows accumulated in float32 before they are added up in float64
MatrixModule = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class SharingBroken(Exception):
    """Modules that saw the same tensors so far saw different ones now; the pass is run again without sharing."""


@dataclass
class Scan:
    """What accumulators are given: the model, the running batch, and places to hook.

    Attributes:
        model: in evaluation mode.
        modules: qualified name -> module, each module once; restricted to what was asked for.
        mask: bool `[B, T]` of the running batch, True at real tokens, or None.
        rows: B of the running batch.
        batch: the running batch.
        step: the adapter in use.
        share: let modules that see the same input tensor share one accumulator.
        hooks: handles to remove at the end.
        options: user options of the signals, such as `attention_layer`.
    """

    model: nn.Module
    modules: dict[str, nn.Module]
    share: bool = True
    mask: Tensor | None = None
    rows: int = 0
    batch: Any = None
    step: StepFn | None = None
    hooks: list[Any] = field(default_factory=list[Any])
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    _inputs: Inputs | None = None
    _alone: object = None

    @property
    def inputs(self) -> Inputs:
        """The service that hands out matrix inputs, each distinct tensor once."""
        if self._inputs is None:
            self._inputs = Inputs(self)
        return self._inputs

    def before(self, module: nn.Module, hook: Callable[[nn.Module, Any, Any], None]) -> None:
        """Call `hook(module, args, kwargs)` before the module runs, until `close`."""
        owner = getattr(hook, "__self__", None)

        def unless_paused(called: nn.Module, args: Any, kwargs: Any) -> None:
            if self._alone is None or self._alone is owner:
                hook(called, args, kwargs)

        self.hooks.append(module.register_forward_pre_hook(unless_paused, with_kwargs=True))

    def after(self, module: nn.Module, hook: Callable[[nn.Module, Any, Any, Any], Any]) -> None:
        """Call `hook(module, args, kwargs, output)` after the module ran; what it returns replaces the output."""
        owner = getattr(hook, "__self__", None)

        def unless_paused(called: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
            return hook(called, args, kwargs, output) if self._alone is None or self._alone is owner else None

        self.hooks.append(module.register_forward_hook(unless_paused, with_kwargs=True))

    @contextmanager
    def pause(self, *, but: Accumulator | None = None) -> Generator[None, None, None]:
        """Hooks do nothing inside, except the bound methods of `but`."""
        earlier, self._alone = self._alone, but or self
        try:
            yield
        finally:
            self._alone = earlier

    def start(self, batch: Any, rows: int, mask: Tensor | None) -> None:
        """Before the forward pass of a batch."""
        self.batch, self.rows, self.mask = batch, rows, mask

    def stop(self) -> None:
        """After the forward pass of a batch."""
        if self._inputs is not None:
            self._inputs.end_batch()

    def close(self) -> None:
        """Remove every hook."""
        for handle in self.hooks:
            handle.remove()
        self.hooks.clear()


class Accumulator:
    """Base of the signals' accumulators. One object per pass.

    Attributes:
        BACKWARD: "" (none), "parameters" (wants their gradients) or "activations" (wants a backward pass).
    """

    BACKWARD: ClassVar[str] = ""

    def __init__(self, scan: Scan, wanted: frozenset[str]) -> None:
        self.scan, self.wanted = scan, wanted

    def start(self) -> None:
        """Place hooks on `scan`."""

    def prepare(self) -> None:
        """Before the forward pass of each batch: `scan.batch` is there."""

    def targets(self) -> list[Tensor]:
        """Tensors whose gradient of the summed loss is wanted, asked after each forward pass."""
        return []

    def batch(self, step: Step, grads: tuple[Tensor | None, ...]) -> dict[str, Tensor]:
        """After each batch: row fields `[B, ...]`, on any device."""
        return {}

    def finish(self) -> dict[str, dict[str, Tensor]]:
        """After the pass: module name -> field -> CPU tensor."""
        return {}


@dataclass(eq=False)
class Source:
    """One distinct stream of input tensors and the modules that see it."""

    module: nn.Module
    names: list[str] = field(default_factory=list[str])
    calls: int = 0


class Inputs:
    """Calls `subscriber(source, x)` once for each distinct input tensor of matrix modules.

    q, k and v see the same tensor, so do gate and up: they are one Source. The tie is found by object identity in the
    first batch and verified at every later call.
    """

    def __init__(self, scan: Scan) -> None:
        self.scan = scan
        self.subscribers: list[Callable[[Source, Tensor], None]] = []
        self.sources: dict[str, Source] = {}
        self._calls: dict[str, int] = {}
        self._seen: list[tuple[weakref.ref[Tensor], int, tuple[Any, ...], Source, int]] = []
        for name, module in scan.modules.items():
            if is_matrix(module):
                scan.before(module, self._hook(name))

    def _hook(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x = args[0] if args else next(iter(kwargs.values()))
            self._arrived(name, module, x)

        return before

    def _arrived(self, name: str, module: nn.Module, x: Tensor) -> None:
        shape = geometry(module)
        known = self._find(x, shape) if self.scan.share else None
        source, done = self.sources.get(name), self._calls.get(name, 0)
        if source is None:
            joins = known is not None and known[1] == 1
            source = self.sources[name] = known[0] if known is not None and joins else Source(module)
            source.names.append(name)
            known = known if joins else None
        if known is None or known[0] is not source:
            if source.calls != done:
                raise SharingBroken(name)
            source.calls += 1
            self._seen.append((weakref.ref(x), x._version, shape, source, source.calls))
            for subscriber in self.subscribers:
                subscriber(source, x.detach())
        elif known[1] != done + 1:
            raise SharingBroken(name)
        self._calls[name] = done + 1

    def _find(self, x: Tensor, shape: tuple[Any, ...]) -> tuple[Source, int] | None:
        for reference, version, other, source, call in reversed(self._seen):
            if reference() is x and version == x._version and other == shape:
                return source, call
        return None

    def end_batch(self) -> None:
        """Every member of a source must have seen all of its tensors."""
        self._seen.clear()
        for name, source in self.sources.items():
            if self._calls[name] != source.calls:
                raise SharingBroken(name)


def is_matrix(module: nn.Module) -> bool:
    """Linear, convolution, or a transposed linear layer as GPT-2 stores it (`nf` outputs, weight `[in, out]`)."""
    return isinstance(module, MatrixModule) or transposed(module)


def transposed(module: nn.Module) -> bool:
    """Does this linear layer store its weight as `[in, out]`?"""
    weight = getattr(module, "weight", None)
    return isinstance(getattr(module, "nf", None), int) and isinstance(weight, Tensor) and weight.dim() == 2


def geometry(module: nn.Module) -> tuple[Any, ...]:
    """What, beside the input, decides the statistics of a module's inputs."""
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return (
            module.kernel_size, module.stride, module.padding, module.dilation, module.groups, module.padding_mode,
        )  # fmt: skip
    return ()


def tokens(x: Tensor, scan: Scan) -> Tensor:
    """Inputs of a linear layer as `[N, d]`, padding left out when the batch's mask fits the tensor."""
    mask = scan.mask
    if mask is not None and not bool(mask.all()):
        if x.shape[:2] == mask.shape and x.dim() == 3:
            return x[mask.to(x.device)]
        if x.dim() == 2 and len(x) == mask.numel():
            return x[mask.to(x.device).flatten()]
    return x.reshape(-1, x.shape[-1])


def row_chunks(x: Tensor, rows: int) -> Iterator[tuple[Tensor, int]]:
    """`x` in pieces of at most 64 rows of the batch, with the first row of each. x has B entries, or a multiple of B."""
    per_row = max(len(x) // max(rows, 1), 1)
    for start in range(0, len(x), CHUNK * per_row):
        yield x[start : start + CHUNK * per_row], start // per_row


def check_finite(value: Tensor, name: str, what: str) -> None:
    """Raise NonFinite that names the module."""
    if not bool(torch.isfinite(value).all()):
        raise NonFinite(f"the {what} of module {name!r} is not finite: look at its weights, or at this batch")


@contextmanager
def undisturbed(model: nn.Module, *, gradients: str) -> Generator[None, None, None]:
    """Evaluation mode inside; mode, requires_grad, grads and torch's generator as they were outside.

    Args:
        model: to be scored.
        gradients: "parameters" (all want one inside) or anything else (none does).
    """
    wants = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    try:
        for parameter, _, _ in wants:
            if parameter.is_floating_point():
                parameter.requires_grad_(gradients == "parameters")
        with evaluating(model):
            yield
    finally:
        for parameter, wanted, grad in wants:
            parameter.requires_grad_(wanted)
            parameter.grad = grad
