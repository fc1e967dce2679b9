"""Size: bytes of the saved file.

Removes: nothing.
Needs: the model, or the folder it was saved in.
Cost: none; the length of a safetensors file follows from names and shapes.
Departures: none. A masked model is as large as the dense one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from prunus.core.errors import BadInput
from prunus.core.registry import measure
from prunus.measure.measured import Measured

_DTYPES = {"float": "F", "bfloat": "BF", "int": "I", "uint": "U", "bool": "BOOL"}


@measure(needs=())
def size(model: nn.Module | None, data: Any = None, *, step: Any = None, path: str | None = None) -> Measured:
    """`bytes`.

    Args:
        data: not read.
        step: not read.
        path: a saved file or folder; without one, the bytes a safetensors file of the state dict would have, ties once.
    """
    if path is not None:
        return Measured({"bytes": (float(_on_disk(Path(path))), None)}, of="files")
    if model is None:
        raise BadInput("size needs a model or path=")
    return Measured({"bytes": (float(safetensors_bytes(model.state_dict())), None)}, of="state dict as safetensors")


def safetensors_bytes(state: dict[str, Tensor]) -> int:
    """Length of the safetensors file of a state dict; tensors that share memory are stored once, under the first name."""
    header: dict[str, Any] = {}
    seen: set[tuple[object, ...]] = set()
    offset = 0
    # Wider dtypes first, then by name: the order of the format's reference writer.
    for name, tensor in sorted(state.items(), key=lambda item: (-item[1].element_size(), item[0])):
        key = (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tuple(tensor.shape), tensor.stride())
        if tensor.numel() and key in seen:
            continue
        seen.add(key)
        length = tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _dtype(tensor), "shape": list(tensor.shape), "data_offsets": [offset, offset + length]}
        offset += length
    text = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + -(-text // 8) * 8 + offset


def _dtype(tensor: Tensor) -> str:
    name = str(tensor.dtype).removeprefix("torch.")
    letters = name.rstrip("0123456789")
    return _DTYPES.get(letters, letters.upper()) + name[len(letters) :]


def _on_disk(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    if not path.is_dir():
        raise BadInput(f"{path} does not exist")
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
