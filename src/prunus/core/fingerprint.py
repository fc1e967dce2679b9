"""Fingerprints: short texts that change when content changes, of files, arrays and models."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunus.core.errors import BadInput

if TYPE_CHECKING:
    import numpy as np
    import torch

_CHUNK = 1 << 20


def hash_file(path: str | Path) -> str:
    """blake2b of the content: 32 hex digits."""
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def fingerprint_file(path: str | Path, verify: bool = False, *, name: str | None = None) -> str:
    """Identity of a file or of all files below a folder.

    Args:
        path: file or folder.
        verify: hash the contents; else name, size and modification time are believed.
        name: what to call it instead of its absolute path, so that a moved copy keeps its identity.

    Raises:
        BadInput: there is no such file.
    """
    path = Path(path)
    digest = hashlib.blake2b(digest_size=16)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    try:
        for file in files:
            inside = file.relative_to(path).as_posix()
            label = "content" if verify else (name or os.path.abspath(path))
            digest.update(f"{label}\0{inside}\0{_state(file, verify)}\n".encode())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadInput(f"there is no file {error.filename or path}: check the path, or set PRUNUS_DATA") from error
    return digest.hexdigest()


def _state(file: Path, verify: bool) -> str:
    if verify:
        return hash_file(file)
    stat = file.stat()
    return f"{stat.st_size}\0{stat.st_mtime_ns}"


def fingerprint_array(array: np.ndarray, order: np.ndarray | None = None) -> str:
    """Identity of an array: type, shape and numbers; text does not depend on the width of the array.

    Args:
        array: numbers or text.
        order: positions `[n]` in which the rows are read, in place of their own order; no copy is made.
    """
    import numpy as np

    array = np.asarray(array)
    if array.dtype.kind == "O":
        raise BadInput("an array of Python objects has no fingerprint: make it numbers or text")
    if array.dtype.kind == "U":
        array = array if order is None else array[order]
        array = np.char.encode(array.reshape(-1), "utf-8") if array.size else array
        digest = hashlib.blake2b(f"text{array.shape}".encode(), digest_size=16)
        for text in array.tolist():
            digest.update(len(text).to_bytes(8, "little") + text)
        return digest.hexdigest()
    digest = hashlib.blake2b(f"{array.dtype.newbyteorder('<').str}{array.shape}".encode(), digest_size=16)
    rows = max(1, _CHUNK // max(1, array[:1].nbytes)) if array.ndim else 1
    for start in range(0, len(array) if array.ndim else 1, rows):
        stop = start + rows
        part = array if not array.ndim else array[start:stop] if order is None else array[order[start:stop]]
        digest.update(part.astype(part.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()


def fingerprint_model(model: torch.nn.Module | Mapping[str, torch.Tensor]) -> str:
    """Identity of a model's state: every name, type, shape and number, whatever the order and the device.

    Args:
        model: a module or its state dict.

    Raises:
        BadInput: a tensor has no numbers (meta device).
    """
    import torch

    state: Mapping[str, Any] = model if isinstance(model, Mapping) else model.state_dict()
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(state):
        value = state[name]
        if not isinstance(value, torch.Tensor):
            digest.update(f"{name}\0{value!r}\n".encode())
            continue
        if value.is_meta:
            raise BadInput(f"{name!r} is on the meta device and has no numbers: load the weights first")
        digest.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\n".encode())
        flat = value.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8)
        digest.update(flat.numpy().data)
    return digest.hexdigest()
