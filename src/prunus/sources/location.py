"""Files by fsspec URL or path: found, listed, read, identified by path, size and time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from prunus.core.errors import BadInput, CorruptFile, require


@dataclass(frozen=True)
class Location:
    """One file or folder on some file system.

    Attributes:
        fs: the fsspec file system.
        path: on that file system, absolute.
        relative: what ids start with: relative to the folder opened, or the file's name.
    """

    fs: Any
    path: str
    relative: str

    @property
    def suffix(self) -> str:
        """Lower case, with the dot."""
        return PurePosixPath(self.path).suffix.lower()

    def protocols(self) -> tuple[str, ...]:
        """Names of the file system; "file" is among them for a local disk."""
        protocol = self.fs.protocol
        return (protocol,) if isinstance(protocol, str) else tuple(protocol)

    def is_folder(self) -> bool:
        return bool(self.fs.isdir(self.path))

    def files(self, *suffixes: str) -> list[Location]:
        """Files below this folder, sorted by relative path; hidden ones are left out."""
        found: list[Location] = []
        base = self.path.rstrip("/")
        for path in self.fs.find(base):
            relative = path[len(base) :].lstrip("/")
            hidden = any(part.startswith(".") for part in relative.split("/"))
            if not hidden and (not suffixes or PurePosixPath(path).suffix.lower() in suffixes):
                found.append(Location(self.fs, path, relative))
        return sorted(found, key=lambda file: file.relative)

    def stat(self) -> str:
        """path, size and the time of the last change, as the file system knows them."""
        info = self.fs.info(self.path)
        changed = next(
            (info[key] for key in ("mtime", "LastModified", "last_modified", "created", "ETag") if info.get(key)), ""
        )
        return f"{self.path}|{info.get('size')}|{changed}"

    def content(self) -> str:
        """blake2b of the bytes (32 hex digits)."""
        digest = hashlib.blake2b(digest_size=16)
        with self.fs.open(self.path, "rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
        return digest.hexdigest()

    def identity(self, *, verify: bool) -> str:
        """`content` with the relative path when `verify`, else `stat`."""
        return f"{self.relative}|{self.content()}" if verify else self.stat()

    def read(self) -> bytes:
        with self.fs.open(self.path, "rb") as file:
            return file.read()


def locate(spec: str) -> Location:
    """The file or folder a path or fsspec URL names.

    Raises:
        BadInput: it is not there, or its protocol is unknown or not installed.
    """
    core = require("fsspec.core", "data")
    try:
        fs, path = core.url_to_fs(spec)
    except (ValueError, ImportError) as error:
        raise BadInput(f"{spec!r} can't be opened: {error}") from error
    if not fs.exists(path):
        raise BadInput(f"there is no file or folder {spec!r}")
    return Location(fs, path, PurePosixPath(path.rstrip("/")).name)


@contextmanager
def readable(file: Location, what: str) -> Iterator[None]:
    """Turn a decoder's errors into CorruptFile naming the file; a missing file stays a plain BadInput."""
    try:
        yield
    except FileNotFoundError as error:
        raise BadInput(f"{file.path} is gone: {error}") from error
    except (OSError, ValueError, KeyError, EOFError) as error:  # pyarrow raises OSError and kinds of ValueError
        if isinstance(error, BadInput):
            raise
        raise CorruptFile(f"{file.path} is not a whole {what}: {type(error).__name__}: {error}") from error
