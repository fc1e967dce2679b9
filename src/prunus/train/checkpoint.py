"""Training state in one safetensors file: weights, optimizer, generator, the running epoch's plan. No pickle."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from prunus.core.errors import CorruptFile, FingerprintMismatch, SchemaTooNew
from prunus.core.files import write_bytes
from prunus.train.masks import Masks

SCHEMA = 1


@dataclass
class State:
    """Where a run stands.

    Attributes:
        step: optimizer steps done.
        epoch: of the next batch.
        offset: batches of that epoch already done.
        plan: `(ids, weights)` of that epoch when a dynamic method chose them.
        rows: history so far.
    """

    step: int = 0
    epoch: int = 0
    offset: int = 0
    plan: tuple[np.ndarray, np.ndarray | None] | None = None
    rows: list[dict[str, float]] = field(default_factory=list)


def save_checkpoint(
    path: str | Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: State,
    *,
    settings: str,
    dynamic: Any = None,
    masks: Masks | None = None,
    on_event: Any = None,
) -> None:
    """Write everything a killed run needs, atomically."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    packed, layout = _packed(optimizer.state_dict()["state"], "optimizer")
    tensors |= packed
    tensors["rng"] = torch.get_rng_state()
    if masks is not None:
        tensors |= {f"mask.{name}": mask for name, mask in masks.named.items()}
    header: dict[str, Any] = {
        "schema": SCHEMA, "settings": settings, "step": state.step, "epoch": state.epoch, "offset": state.offset,
        "rows": state.rows, "optimizer": layout,
    }  # fmt: skip
    if dynamic is not None:
        packed, header["dynamic"] = _packed(dynamic.state_dict(), "dynamic")
        tensors |= packed
    if hasattr(on_event, "state_dict"):
        packed, header["on_event"] = _packed(on_event.state_dict(), "on_event")
        tensors |= packed
    if state.plan is not None:
        packed, header["plan"] = _packed(dict(zip(("ids", "weights"), state.plan)), "plan")
        tensors |= packed
    flat = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    write_bytes(path, save(flat, {"prunus": json.dumps(header)}))


def load_checkpoint(
    path: str | Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    settings: str,
    dynamic: Any = None,
    masks: Masks | None = None,
    on_event: Any = None,
) -> State:
    """Restore what `save_checkpoint` wrote, in place, torch's generator included.

    Raises:
        CorruptFile: truncated or foreign.
        FingerprintMismatch: made with other settings.
    """
    try:
        with safe_open(str(path), "pt") as file:
            header = json.loads((file.metadata() or {}).get("prunus", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise CorruptFile(f"{path} is not a whole training checkpoint: {error}; delete it to start over") from error
    if not isinstance(header, dict) or "rng" not in tensors:
        raise CorruptFile(f"{path} is a safetensors file but not a training checkpoint of prunus")
    if header["schema"] > SCHEMA:
        raise SchemaTooNew(path, header["schema"], SCHEMA)
    if header["settings"] != settings:
        raise FingerprintMismatch(f"checkpoint {path}", header["settings"], settings)
    prefix = "model."
    model.load_state_dict({name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)})
    whole = optimizer.state_dict()
    whole["state"] = _unpacked(header["optimizer"], tensors, "optimizer")
    optimizer.load_state_dict(whole)
    if dynamic is not None:
        dynamic.load_state_dict(_unpacked(header["dynamic"], tensors, "dynamic", arrays=True))
    if hasattr(on_event, "load_state_dict"):
        on_event.load_state_dict(_unpacked(header["on_event"], tensors, "on_event"))
    torch.set_rng_state(tensors["rng"])
    if masks is not None:
        masks.update({name[5:]: mask for name, mask in tensors.items() if name.startswith("mask.")})
    plan = None
    if "plan" in header:
        found = _unpacked(header["plan"], tensors, "plan", arrays=True)
        plan = (found["ids"], found.get("weights"))
    return State(header["step"], header["epoch"], header["offset"], plan, header["rows"])


def _packed(value: Any, prefix: str) -> tuple[dict[str, Tensor], Any]:
    """Nested dicts and lists as tensors plus a JSON layout: ["t" | "a" | "u" | "d" | "l" | "v", ...]."""
    if isinstance(value, Tensor):
        return {prefix: value}, ["t"]
    if isinstance(value, np.ndarray) and value.dtype.kind == "U":
        return {}, ["u", value.tolist()]
    if isinstance(value, np.ndarray):
        return {prefix: torch.from_numpy(np.ascontiguousarray(value))}, ["a"]
    if isinstance(value, (dict, list, tuple)):
        items = list(value.items() if isinstance(value, dict) else enumerate(value))
        parts = [(key, _packed(part, f"{prefix}.{key}")) for key, part in items]
        tensors = {name: t for _, (found, _) in parts for name, t in found.items()}
        return tensors, ["d" if isinstance(value, dict) else "l", [[key, layout] for key, (_, layout) in parts]]
    return {}, ["v", value.item() if isinstance(value, np.generic) else value]


def _unpacked(layout: Any, tensors: dict[str, Tensor], prefix: str, *, arrays: bool = False) -> Any:
    kind = layout[0]
    if kind in "ta":
        return tensors[prefix].numpy() if kind == "a" else tensors[prefix]
    if kind == "u":
        return np.array(layout[1], dtype=np.str_)
    if kind == "v":
        return layout[1]
    items = [(key, _unpacked(part, tensors, f"{prefix}.{key}", arrays=arrays)) for key, part in layout[1]]
    return dict(items) if kind == "d" else [part for _, part in items]
