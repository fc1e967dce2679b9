"""Fingerprints: short texts that change when content changes, of files, arrays and models."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunus.core import files
from prunus.core.errors import BadInput, ResourceError

if TYPE_CHECKING:
    import numpy as np
    import torch

Digest = Callable[[Path], str]
"""Of the content of one file: `hash_file`, or `Digests`, which does not read it again."""
_CHUNK = 1 << 20
SETTLED = 2_000_000_000
"""Nanoseconds after which the time of a file can be trusted: some file systems count in steps of 2 seconds."""


def hash_file(path: str | Path) -> str:
    """blake2b of the content: 32 hex digits."""
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


class Digests:
    """Digests of files, each read once: believed again while path, size, time and inode are what they were.

    Args:
        path: the table, a JSON file; made when first saved.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._known: dict[str, Any] = {}
        self._changed = False
        with suppress(BadInput):  # what can't be read is made again
            self._known = files.read_json(self._path)

    def __call__(self, file: str | Path) -> str:
        """blake2b of the content: 32 hex digits."""
        name, state = os.path.abspath(file), _state(file)
        if self._known.get(name, [])[:-1] == state:
            return self._known[name][-1]
        digest = hash_file(file)
        # A file that was changed just now may change again without its time showing it.
        if _state(file) == state and time.time_ns() - state[1] > SETTLED:
            self._known[name] = [*state, digest]
            self._changed = True
        return digest

    def save(self) -> None:
        """Write the table where it has changed; a store that can't be written to has none."""
        if self._changed:
            with suppress(ResourceError):
                files.write_json(self._path, self._known)
                self._changed = False


def _state(file: str | Path) -> list[int]:
    stat = os.stat(file)
    return [stat.st_size, stat.st_mtime_ns, stat.st_ino]


def fingerprint_file(path: str | Path, digest: Digest = hash_file) -> str:
    """Identity of the content of a file, or of all files below a folder with their names in it, wherever it lies.

    Args:
        path: file or folder.
        digest: of one file.

    Raises:
        BadInput: there is no such file.
    """
    path = Path(path)
    made = hashlib.blake2b(digest_size=16)
    found = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    try:
        for file in found:
            made.update(f"{file.relative_to(path).as_posix()}\0{digest(file)}\n".encode())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadInput(f"there is no file {error.filename or path}: check the path, or set PRUNUS_DATA") from error
    return made.hexdigest()


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
