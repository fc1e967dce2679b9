"""Record one forward pass of any model as a list of operators, without changing the model.

The pass runs on a fake deepcopy (shapes only, no data) under `torch.inference_mode()`, where composite operators
stay whole. Models that need data in their forward run for real, between a snapshot and a restore of every module.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensor, FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from prunus.core.errors import BadInput
from prunus.graph.attention import free, freed
from prunus.graph.trace import Call, Node, Ref, Trace, Value, map_tensors, named_tensors, run, taken_apart, tensors_in
from prunus.train.copies import copied
from prunus.train.modes import forget

REAL_TWIN_BYTES = 2 << 30  # models beyond this are not copied just to try sizes
Watch = Callable[[Trace], None]


class Recorder(TorchDispatchMode):
    """Appends every operator to a `Trace`; keeps weak references to tensors only."""

    def __init__(self, model: nn.Module, composites: Callable[[str], bool], watch: Watch | None = None) -> None:
        super().__init__()
        self._watch = watch
        self.fake = any(isinstance(tensor, FakeTensor) for tensor in model.parameters())
        self.trace = Trace()
        self.stack: list[str] = [""]
        self._known = composites
        self._ids = WeakTensorKeyDictionary()
        self._storages: dict[int, list[tuple[StorageWeakRef, int, tuple[int, ...], tuple[int, ...], int]]] = {}
        parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
        for name, tensor in named_tensors(model).items():
            known = self._ids.get(tensor)
            if known is None:
                known = self._add(tensor, "parameter" if name in parameters else "buffer", name)
            self.trace.tensors[name] = known

    def _add(self, tensor: Tensor, kind: str, name: str = "") -> int:
        self.trace.values.append(Value(tuple(tensor.shape), tensor.dtype, kind, name))
        value = len(self.trace.values) - 1
        self._ids[tensor] = value
        if tensor.layout == torch.strided:
            storage = StorageWeakRef(tensor.untyped_storage())
            entry = (storage, value, tuple(tensor.shape), tuple(tensor.stride()), int(tensor.storage_offset()))
            self._storages.setdefault(storage.cdata, []).append(entry)
        return value

    def value(self, tensor: Tensor, kind: str = "constant") -> int:
        """Id of a tensor; one made outside the operators is looked up by its memory, else it is a constant."""
        known = self._ids.get(tensor)
        if known is not None:
            return known
        if tensor.layout == torch.strided:
            place = (tuple(tensor.shape), tuple(tensor.stride()), tensor.storage_offset())
            for storage, value, *rest in self._storages.get(tensor.untyped_storage()._cdata, []):  # pyright: ignore[reportPrivateUsage]
                if tuple(rest) == place and not storage.expired():
                    self._ids[tensor] = value
                    return value
        return self._add(tensor, kind)

    def _freeze(self, item: Any) -> Any:
        if isinstance(item, Tensor):
            return Ref(self.value(item))
        if isinstance(item, (list, tuple)):
            return tuple(self._freeze(part) for part in cast("list[Any]", item))
        return item

    def _shape_only(self, op: str, args: tuple[Any, ...]) -> Tensor | None:
        """Result of an evaluation-mode batch norm of fake tensors: deriving it operator by operator is slow."""
        if op != "batch_norm" or len(args) < 6 or args[5] or args[3] is None:
            return None
        fits = all(one is None or one.shape[0] == args[0].shape[1] for one in args[1:5])
        return torch.empty_like(args[0]) if fits else None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        op = func._schema.name.split("::")[1]
        if func.namespace == "prim":
            return func(*args, **kwargs)
        if not self._known(op):
            with self:
                result = taken_apart(func, args, kwargs)
            if result is not NotImplemented:
                return result
        frozen = tuple(self._freeze(item) for item in args)
        named = {key: self._freeze(item) for key, item in kwargs.items()}
        node = Node(op, func, frozen, named, (), self.stack[-1])
        self.trace.failure = (op, self.stack[-1])
        result = self._shape_only(op, args) if self.fake else None
        result = func(*args, **kwargs) if result is None else result
        self.trace.failure = None
        outs = cast("list[Any]", list(result) if isinstance(result, (list, tuple)) else [result])
        node.outputs = tuple(self.value(out, "computed") if isinstance(out, Tensor) else None for out in outs)
        self.trace.nodes.append(node)
        if self._watch is not None:
            self._watch(self.trace)
        return result


@contextmanager
def _watched(model: nn.Module, recorder: Recorder) -> Iterator[None]:
    """Hooks that tell the recorder which module is running; removed afterwards."""
    handles: list[Any] = []
    open_calls: list[Call] = []

    def enter(path: str) -> Callable[..., None]:
        def hook(_module: nn.Module, args: Any, kwargs: Any) -> None:
            recorder.stack.append(path)
            inputs = tuple(recorder.value(tensor) for tensor in tensors_in((args, kwargs)))
            open_calls.append(Call(path, inputs, first=len(recorder.trace.nodes)))

        return hook

    def leave(_module: nn.Module, _args: Any, output: Any) -> None:
        recorder.stack.pop()
        call = open_calls.pop()
        call.outputs = tuple(recorder.value(tensor) for tensor in tensors_in(output))
        call.last = len(recorder.trace.nodes)
        recorder.trace.calls.append(call)

    for path, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(enter(path), with_kwargs=True))
        handles.append(module.register_forward_hook(leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def plain_attention() -> Iterator[None]:
    """Multi-head attention without its fused fast path, which would hide the operators."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def trace_forward(
    model: nn.Module, example: Any, composites: Callable[[str], bool], watch: Watch | None = None
) -> Trace:
    """Record `run(model, example)` on this very model (fake or real); raises what the model or `watch` raises."""
    recorder = Recorder(model, composites, watch)
    for tensor in tensors_in(example):
        recorder.value(tensor, "input")
    recorder.trace.training = model.training
    with torch.inference_mode(), plain_attention(), _watched(model, recorder), recorder:
        try:
            result = run(model, example)
        except Exception as error:
            place = recorder.trace.failure or ("python code", recorder.stack[-1])
            error.add_note(f"operator {place[0]} in module {place[1] or '(top)'}")
            error.__dict__["prunus_trace"] = recorder.trace
            raise
    recorder.trace.outputs = [recorder.value(tensor, "constant") for tensor in tensors_in(result)]
    return recorder.trace


@contextmanager
def _quiet() -> Iterator[None]:
    """Shapes that do not fit are findings here, not errors to be logged."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


@dataclass(slots=True)
class Twin:
    """A deepcopy of a model to try things on, fake (shapes, no data) where that works, with its example inputs."""

    mode: FakeTensorMode | None
    model: nn.Module
    example: Any

    def trace(self, composites: Callable[[str], bool], watch: Watch | None = None) -> Trace:
        """Record a pass of the copy, which is left without what its modules cached."""
        saved = [(module, _snapshot(module)) for module in self.model.modules()]
        try:
            with self.inside(), _quiet():
                return trace_forward(self.model, self.example, composites, watch)
        finally:
            for module, before in saved:
                _restore(module, before)

    def inside(self) -> AbstractContextManager[Any]:
        """New tensors are of the copy's kind inside."""
        return nullcontext() if self.mode is None else self.mode


def fake_copy(model: nn.Module, example: Any) -> Twin:
    """Deepcopy a model to fake tensors: no data is copied."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with FakeCopyMode(mode):
        twin = copied(model)
    for module in twin.modules():
        free(module)
    inputs = map_tensors(example, lambda tensor: mode.from_tensor(tensor.detach()))
    return Twin(mode, twin, inputs)


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Restore every module's attributes, buffers and mode after the block, whatever the forward did to them."""
    saved = [(module, _snapshot(module)) for module in model.modules()]
    buffers = [(tensor, tensor.detach().clone()) for tensor in model.buffers()]
    try:
        yield
    finally:
        for module, before in saved:
            _restore(module, before)
        with torch.no_grad():
            for tensor, data in buffers:
                if not torch.equal(tensor, data):
                    tensor.copy_(data)


def _snapshot(module: nn.Module) -> dict[str, tuple[Any, Any]]:
    return {
        key: (item, copy.copy(item) if isinstance(item, (dict, list, set)) else item)
        for key, item in vars(module).items()
    }


def _restore(module: nn.Module, before: dict[str, tuple[Any, Any]]) -> None:
    vars(module).clear()
    for key, (item, content) in before.items():
        if item is not content:
            item.clear()
            item.extend(content) if isinstance(item, list) else item.update(content)
        vars(module)[key] = item


def record(
    model: nn.Module, example: Any, composites: Callable[[str], bool], fake: bool = True
) -> tuple[Trace, Twin | None]:
    """The evaluation pass of a model, and a copy to try sizes on: fake if that works, real for small models.

    Raises `BadInput` with the model's own error and its place when the forward fails on these inputs.
    """
    if fake:
        try:
            twin = fake_copy(model, example)
            forget(twin.model)
            twin.model.eval()
            return twin.trace(composites), twin
        except Exception:  # any failure here only means that this model needs real data
            pass
    with untouched(model), freed(model):
        forget(model)
        model.eval()
        try:
            trace = trace_forward(model, example, composites)
        except Exception as error:
            notes = "; ".join(getattr(error, "__notes__", []))
            raise BadInput(
                f"the model's forward failed on the example inputs: {type(error).__name__}: {error} ({notes}). "
                "Give the inputs the model is called with: a tensor, a tuple of arguments or a dict of keywords."
            ) from error
    trace.fake = False
    return trace, real_twin(model, example)


def real_twin(model: nn.Module, example: Any) -> Twin | None:
    """A real copy, unless the model is large or cannot be copied."""
    if sum(tensor.numel() * tensor.element_size() for tensor in model.parameters()) > REAL_TWIN_BYTES:
        return None
    try:
        twin = copied(model)
        forget(twin)
        twin.eval()
    except Exception:  # a model that cannot be copied is not tried
        return None
    for module in twin.modules():
        free(module)
    return Twin(None, twin, example)
