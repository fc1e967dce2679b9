"""Reading and writing the two kinds of file prunus knows: JSON and safetensors.

Every write is atomic: a temporary file in the same folder, fsync, rename, fsync of the folder. Killed at any moment,
the old file or the new one is there, whole. A full disk or a closed folder raises ResourceError; what existed stays.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import secrets
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from prunus.core.errors import BadInput, CorruptFile, ResourceError, SchemaTooNew
from prunus.core.tensor_file import Header, make_header, read_header

if TYPE_CHECKING:
    import numpy as np
    import torch

_FULL = (errno.ENOSPC, errno.EDQUOT)
_CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)


def _table(text: str) -> dict[str, str]:
    return dict(pair.split("=") for pair in text.split())


_NUMPY = _table("F64=<f8 F32=<f4 F16=<f2 C64=<c8 I64=<i8 I32=<i4 I16=<i2 I8=i1 U64=<u8 U32=<u4 U16=<u2 U8=u1 BOOL=?")
_SIGNED = _table(
    "F64=float64 F32=float32 F16=float16 BF16=bfloat16 C64=complex64 BOOL=bool I64=int64 I32=int32 I16=int16"
)
_TORCH = _SIGNED | _table("I8=int8 U64=uint64 U32=uint32 U16=uint16 U8=uint8 F8_E4M3=float8_e4m3fn F8_E5M2=float8_e5m2")


@contextmanager
def guard(path: str | Path, need: int = 0, *, foreign: bool = False) -> Generator[None]:
    """Turn the operating system's refusals while writing `path` into ResourceError.

    Args:
        path: what is being written.
        need: its bytes, as far as known.
        foreign: the block also runs code of others: only a full disk and a closed folder are turned.
    """
    try:
        yield
    except OSError as error:
        if foreign and error.errno not in (*_FULL, *_CLOSED):
            raise
        raise ResourceError(_refusal(Path(path), need, error)) from error


def _refusal(path: Path, need: int, error: OSError) -> str:
    wants = f" ({size_text(need)} needed)" if need else ""
    if error.errno in _FULL:
        have = free_bytes(path.parent)
        free = f", {size_text(have)} free" if have >= 0 else ""
        what_to_do = "what existed is untouched: free space, or set PRUNUS_CACHE to another disk"
        return f"disk full while writing {path}{wants}{free}; {what_to_do}"
    if error.errno in _CLOSED:
        what_to_do = "make the folder writable, or choose another with --out or PRUNUS_CACHE"
        return f"can't write {path}{wants}: {error.strerror}; {what_to_do}"
    return f"can't write {path}{wants}: {error.strerror or error}"


def safe_name(text: str) -> str:
    """A label as a file name: `el2n + ccs` -> `el2n+ccs`, `30% rows` -> `30pct-rows`."""
    text = text.replace(" + ", "+").replace("%", "pct")
    return "".join(c if c.isalnum() or c in "+-_.=" else "-" for c in text).strip("-.") or "dense"


def size_text(size: float) -> str:
    """Bytes for people: 1.5 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def free_bytes(folder: str | Path) -> int:
    """Free bytes on the disk of a folder or of its nearest parent that exists; -1 if the system does not say."""
    folder = Path(folder).absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    with suppress(OSError):
        return shutil.disk_usage(folder).free
    return -1


def check_space(path: str | Path, need: int) -> None:
    """Refuse before the first byte when `need` bytes do not fit on the disk of `path`."""
    free = free_bytes(Path(path).parent)
    if 0 <= free < need:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def atomic(path: str | Path, need: int = 0) -> Generator[BinaryIO]:
    """A file to write into, that becomes `path` only if the block ends without an error.

    Args:
        path: the file to make or replace.
        need: its bytes, as far as known: refused at once when they do not fit.

    Raises:
        ResourceError: disk full, folder not writable.
    """
    path = Path(path)
    with guard(path, need):
        path.parent.mkdir(parents=True, exist_ok=True)
        check_space(path, need)
        temp = path.parent / f".{path.name[:80]}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
        try:
            with open(temp, "xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temp, path)
        except BaseException:
            with suppress(OSError):
                temp.unlink()
            raise
        sync_folder(path.parent)


def sync_folder(folder: str | Path) -> None:
    """Make renames in a folder survive a power cut, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Write whole or not at all."""
    with atomic(path, len(data)) as file:
        file.write(data)
    return Path(path)


def dump_json(value: Any) -> bytes:
    """Canonical JSON: sorted keys, no NaN, one trailing newline.

    Raises:
        BadInput: NaN, infinity, or a value JSON does not have.
    """
    try:
        return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
    except (TypeError, ValueError) as error:
        raise BadInput(f"can't be written as JSON: {error}") from error


def digest(value: Any) -> str:
    """blake2b of the canonical JSON of `value`: 32 hex digits."""
    return hashlib.blake2b(dump_json(value), digest_size=16).hexdigest()


def write_json(path: str | Path, value: Any) -> Path:
    """Write canonical JSON."""
    return write_bytes(path, dump_json(value))


def read_json(path: str | Path) -> Any:
    """Read JSON, or say which file is missing or broken."""
    try:
        return json.loads(Path(path).read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadInput(f"there is no file {path}") from error
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"{path} is not valid JSON: {error}") from error


def read_head(path: str | Path, schema: int) -> dict[str, Any]:
    """The JSON table at the head of a saved object.

    Args:
        path: the file.
        schema: the newest version this prunus reads.

    Raises:
        CorruptFile: not a table with a whole number as its schema.
        SchemaTooNew: written by a later prunus.
    """
    head = read_json(path)
    if not isinstance(head, dict) or not isinstance(head.get("schema"), int):
        raise CorruptFile(f"{path} is not what prunus writes: it needs a table with a schema number")
    if head["schema"] > schema:
        raise SchemaTooNew(path, head["schema"], schema)
    return head


def dump_line(value: Any) -> bytes:
    """JSON on one line."""
    try:
        return (json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()
    except (TypeError, ValueError) as error:
        raise BadInput(f"can't be written as JSON: {error}") from error


def append_json(path: str | Path, values: list[Any]) -> None:
    """Append one line of JSON for each value, in one write; a line torn by an earlier crash is removed first."""
    path = Path(path)
    data = b"".join(dump_line(value) for value in values)
    with guard(path, len(data)):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab+") as file:
            file.truncate(_whole_length(file))
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def _whole_length(file: BinaryIO) -> int:
    file.seek(0)
    data = file.read()
    return data.rfind(b"\n") + 1


def read_json_lines(path: str | Path) -> list[Any]:
    """Every whole line; an unfinished last line is not read, a broken line before it raises CorruptFile."""
    path = Path(path)
    if not path.exists():
        return []
    values: list[Any] = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            values.append(json.loads(line))
        except ValueError as error:
            raise CorruptFile(f"{path}, line {number} is not valid JSON: {error}") from error
    return values


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> Path:
    """Write numpy arrays as safetensors, always the same bytes. Unicode arrays become UTF-8 bytes and offsets."""
    import numpy as np

    flat: dict[str, np.ndarray] = {}
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        if array.dtype.kind == "U":
            encoded = [text.encode() for text in array.tolist()]
            flat[f"{name}#text"] = np.frombuffer(b"".join(encoded) or b"\0", dtype=np.uint8)
            flat[f"{name}#ends"] = np.cumsum([len(text) for text in encoded], dtype=np.int64)
        else:
            flat[name] = array
    codes = {np.dtype(text): code for code, text in _NUMPY.items()}
    for name, array in flat.items():
        if array.dtype.newbyteorder("<") not in codes:
            raise BadInput(f"{name!r} has type {array.dtype}, which safetensors can't hold: make it numbers or text")
    little = {name: array.astype(array.dtype.newbyteorder("<"), order="C", copy=False) for name, array in flat.items()}
    header, order = make_header(((n, codes[a.dtype], a.shape) for n, a in little.items()), metadata)
    with atomic(path, len(header) + sum(a.nbytes for a in little.values())) as file:
        file.write(header)
        for name in order:
            file.write(little[name].reshape(-1).view(np.uint8).data)
    return Path(path)


def checked_header(path: str | Path) -> Header:
    """The header of a safetensors file, or an error that names the file."""
    try:
        return read_header(path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise BadInput(f"there is no file {path}") from error


def read_arrays(path: str | Path, names: tuple[str, ...] | None = None) -> dict[str, np.ndarray]:
    """Read what `write_arrays` wrote, memory-mapped; a truncated or foreign file raises CorruptFile.

    Arrays may be changed; the file is not (copy on write).

    Args:
        path: the file.
        names: only these arrays; default all.
    """
    import numpy as np

    header, arrays = checked_header(path), dict[str, np.ndarray]()
    raw = np.memmap(path, dtype=np.uint8, mode="c")
    for name, tensor in header.tensors.items():
        base, _, kind = name.rpartition("#")
        wanted = base if kind in ("text", "ends") else name
        if names is not None and wanted not in names:
            continue
        if tensor.dtype not in _NUMPY:
            raise BadInput(f"{path}: {name!r} has type {tensor.dtype}, which numpy lacks: use read_tensors")
        arrays[name] = raw[tensor.start : tensor.stop].view(np.ndarray).view(_NUMPY[tensor.dtype]).reshape(tensor.shape)
    return _join_text(path, arrays)


def _join_text(path: str | Path, flat: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    import numpy as np

    arrays: dict[str, np.ndarray] = {}
    for name, array in flat.items():
        base, _, kind = name.rpartition("#")
        if kind == "ends":
            if f"{base}#text" not in flat:
                raise CorruptFile(f"{path} lacks the text of {base!r}")
            data, starts = flat[f"{base}#text"].tobytes(), [0, *array.tolist()]
            arrays[base] = np.array([data[a:b].decode() for a, b in itertools.pairwise(starts)], dtype=np.str_)
        elif kind != "text":
            arrays[name] = array
    return arrays


def write_tensors(
    path: str | Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
) -> Path:
    """Write torch tensors as safetensors, one at a time: the peak is the largest tensor, not the model."""
    import torch

    codes = {getattr(torch, text): code for code, text in _TORCH.items()}
    for name, tensor in tensors.items():
        if tensor.dtype not in codes:
            raise BadInput(f"{name!r} has type {tensor.dtype}, which safetensors can't hold")
    header, order = make_header(((n, codes[t.dtype], tuple(t.shape)) for n, t in tensors.items()), metadata)
    with atomic(path, len(header) + sum(t.numel() * t.element_size() for t in tensors.values())) as file:
        file.write(header)
        for name in order:
            flat = tensors[name].detach().to("cpu").contiguous().reshape(-1)
            file.write(flat.view(torch.uint8).numpy().data)
    return Path(path)


def read_tensors(path: str | Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file as torch tensors of their own, after checking its header."""
    from safetensors import SafetensorError
    from safetensors import torch as library

    checked_header(path)
    try:
        return dict(library.load_file(str(path)))  # pyright: ignore[reportUnknownMemberType]
    except SafetensorError as error:
        raise CorruptFile(f"{path} is not a whole safetensors file: {error}") from error
