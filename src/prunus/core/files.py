"""Reading and writing the two kinds of file prunus knows, JSON and safetensors. Writes are atomic."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunus.core.errors import CorruptFile, ResourceError

if TYPE_CHECKING:
    import numpy as np


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Write whole or not at all."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except OSError as error:
        raise ResourceError(f"can't write {path} ({len(data)} bytes): {error.strerror}") from error
    return path


def dump_json(value: Any) -> bytes:
    """Canonical JSON: sorted keys, no NaN, one trailing newline."""
    return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def write_json(path: str | Path, value: Any) -> Path:
    """Write canonical JSON."""
    return write_bytes(path, dump_json(value))


def read_json(path: str | Path) -> Any:
    """Read JSON, or say which file is broken."""
    try:
        return json.loads(Path(path).read_text("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CorruptFile(f"{path} is not valid JSON: {error}") from error


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray]) -> Path:
    """Write numpy arrays as safetensors. Unicode arrays are stored as UTF-8 bytes and offsets."""
    import numpy as np
    from safetensors.numpy import save

    flat: dict[str, np.ndarray] = {}
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        if array.dtype.kind == "U":
            encoded = [text.encode() for text in array.tolist()]
            flat[f"{name}#text"] = np.frombuffer(b"".join(encoded) or b"\0", dtype=np.uint8)
            flat[f"{name}#ends"] = np.cumsum([len(text) for text in encoded], dtype=np.int64)
        else:
            flat[name] = array
    return write_bytes(path, save(flat))


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Read what `write_arrays` wrote; a truncated or foreign file raises CorruptFile."""
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        flat = load_file(str(path))
    except (SafetensorError, ValueError) as error:
        raise CorruptFile(f"{path} is not a whole safetensors file: {error}") from error
    arrays: dict[str, np.ndarray] = {}
    for name, array in flat.items():
        base, _, kind = name.rpartition("#")
        if kind == "ends":
            data, start = flat[f"{base}#text"].tobytes(), 0
            texts: list[str] = []
            for end in array.tolist():
                texts.append(data[start:end].decode())
                start = end
            arrays[base] = np.array(texts, dtype=np.str_)
        elif kind != "text":
            arrays[name] = array
    return arrays
