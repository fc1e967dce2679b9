"""The store: every measured or computed thing lies under a key made of what it was computed from.

`<root>/ab/abcdef.../` holds the files of one entry and `manifest.json` (sizes, checksums), written last. An entry is
made in a folder of its own and appears by one rename: killed at any moment it is there whole or not at all; of two
writers the first wins.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import socket
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prunus.core import files
from prunus.core.errors import BadInput, CorruptFile, SchemaTooNew
from prunus.core.fingerprint import hash_file
from prunus.core.lock import process_started

SCHEMA = 1
MANIFEST = "manifest.json"
DAY = 86400.0
Writer = Callable[[Path], Mapping[str, Any] | None]


@dataclass(frozen=True)
class Entry:
    """One whole entry.

    Attributes:
        key: 32 hex digits.
        path: its folder; read only.
        files: relative name -> size in bytes.
        parts: what the key was made of.
        cost: what making it took (wall_s, cpu_s, peak_bytes), as far as measured.
    """

    key: str
    path: Path
    files: Mapping[str, int]
    parts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    cost: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def bytes(self) -> int:
        """Size of all files together."""
        return sum(self.files.values())


def signal_key(
    signal: str,
    version: int,
    *,
    prunable: str,
    model: str = "",
    parameters: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    preprocessing: str | None = "",
    training: Mapping[str, Any] | None = None,
) -> str | None:
    """The key of a signal.

    Args:
        signal: its name.
        version: the VERSION of its file.
        prunable: fingerprint of the data or the model it is measured on.
        model: fingerprint of the model state that measures it.
        parameters: of the signal.
        dtype: of the computation.
        preprocessing: a name for the transform; None means a transform without a name.
        training: seed, threads and torch version, for signals recorded from training.

    Returns:
        The key, or None when the signal can't be stored; a warning says so.
    """
    if preprocessing is None:
        warnings.warn(f"{signal} is not stored: its transform has no name; name it to reuse the signal", stacklevel=2)
        return None
    parts = {"signal": signal, "version": version, "prunable": prunable, "model": model, "dtype": dtype}
    parts |= {"parameters": dict(parameters or {}), "preprocessing": preprocessing, "training": dict(training or {})}
    return files.digest(parts)


class Store:
    """A content-addressed folder of entries.

    Args:
        root: the folder; default `PRUNUS_CACHE`, else `runs/.store`. Made when first written to.
    """

    def __init__(self, root: str | Path | None = None) -> None:
        self.root = Path(root or os.environ.get("PRUNUS_CACHE") or Path("runs") / ".store")

    def path(self, key: str) -> Path:
        """Where the entry of a key lies or would lie."""
        if len(key) != 32 or set(key) - set("0123456789abcdef"):
            raise BadInput(f"{key!r} is not a key: 32 hex digits")
        return self.root / key[:2] / key

    def get(self, key: str, *, verify: bool = False) -> Entry | None:
        """The entry, or None when there is none.

        Args:
            key: 32 hex digits.
            verify: also compare the checksums of all files, not only their sizes.

        Raises:
            CorruptFile: the entry exists but is not what its manifest says; `discard` it and compute it again.
        """
        path = self.path(key)
        if not path.is_dir():
            return None
        if not (path / MANIFEST).is_file():
            raise CorruptFile(f"{path} has no {MANIFEST}: it was not written by prunus or was damaged; remove it")
        manifest = files.read_json(path / MANIFEST)
        entry = _entry(path, key, manifest)
        for name, facts in manifest["files"].items():
            _check_file(path / name, facts, verify)
        with suppress(OSError):  # the time of last use, for gc; a read-only store has none
            os.utime(path / MANIFEST)
        return entry

    def put(self, key: str, writer: Writer, *, parts: Mapping[str, Any] | None = None) -> Entry:
        """Make the entry of a key, unless it is there.

        Args:
            key: 32 hex digits.
            writer: called with an empty folder to fill; may return its cost (a small table).
            parts: what the key was made of, kept in the manifest for people.

        Raises:
            ResourceError: disk full, folder not writable.
        """
        with suppress(CorruptFile):
            if (found := self.get(key)) is not None:
                return found
        temp = self.root / ".tmp" / f"{key}.{_host()}.{os.getpid()}.{secrets.token_hex(4)}"
        with files.guard(self.path(key), foreign=True):
            try:
                temp.mkdir(parents=True)
                cost = writer(temp)
                _seal(temp, key, parts or {}, cost or {})
                self._publish(temp, key)
            finally:
                shutil.rmtree(temp, ignore_errors=True)
        entry = self.get(key)
        if entry is None:
            raise CorruptFile(f"{self.path(key)} vanished after it was written: who else cleans {self.root}?")
        return entry

    def _publish(self, temp: Path, key: str) -> None:
        target = self.path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(temp, target)
        except OSError:
            if not target.is_dir():
                raise
            try:
                self.get(key)  # another writer was first, and its entry is whole
            except CorruptFile:
                self.discard(key)
                os.rename(temp, target)
        files.sync_folder(target.parent)

    def discard(self, key: str) -> None:
        """Remove an entry, whole or broken; it disappears by one rename."""
        path = self.path(key)
        grave = self.root / ".tmp" / f"{key}.{_host()}.{os.getpid()}.{secrets.token_hex(4)}"
        with files.guard(path):
            grave.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                os.rename(path, grave)
        shutil.rmtree(grave, ignore_errors=True)

    def ls(self) -> Iterator[Entry]:
        """Every entry with a readable manifest, by key; files are not checked."""
        for path in sorted(self.root.glob("[0-9a-f][0-9a-f]/*/")):
            with suppress(BadInput, OSError):
                yield _entry(path, path.name, files.read_json(path / MANIFEST))

    def gc(self, keep: Iterable[str] = (), *, unused_for: float = DAY, dry_run: bool = False) -> list[Entry]:
        """Remove entries that nobody refers to, and what dead writers left.

        Args:
            keep: keys that stay, such as those of all run folders.
            unused_for: seconds since an entry was last used; younger ones stay, a run may be about to use them.
            dry_run: only tell.

        Returns:
            The entries removed.
        """
        kept, now = set(keep), time.time()
        gone = [e for e in self.ls() if e.key not in kept and now - (e.path / MANIFEST).stat().st_mtime >= unused_for]
        if not dry_run:
            for entry in gone:
                self.discard(entry.key)
            self.sweep()
        return gone

    def sweep(self) -> int:
        """Remove half-made entries of processes that are dead on this host, or older than a week. Returns how many."""
        removed = 0
        for temp in (self.root / ".tmp").glob("*.*.*.*"):
            _, host, pid, _ = temp.name.split(".")
            with suppress(OSError, ValueError):
                dead = host == _host() and process_started(int(pid)) is None
                if dead or time.time() - temp.stat().st_mtime > 7 * DAY:
                    shutil.rmtree(temp)
                    removed += 1
        return removed


def _host() -> str:
    return hashlib.blake2b(socket.gethostname().encode(), digest_size=4).hexdigest()


def _entry(path: Path, key: str, manifest: Any) -> Entry:
    try:
        if int(manifest["schema"]) <= SCHEMA:
            sizes = {str(name): int(facts["size"]) for name, facts in manifest["files"].items()}
            entry = Entry(manifest["key"], path, sizes, manifest["parts"], manifest["cost"])
        else:
            entry = None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptFile(f"{path / MANIFEST} is not a manifest: {error!r}") from error
    if entry is None:
        raise SchemaTooNew(path / MANIFEST, manifest["schema"], SCHEMA)
    if entry.key != key:
        raise CorruptFile(f"{path} holds the entry {entry.key}: it was moved by hand; move it back or remove it")
    return entry


def _check_file(path: Path, facts: Mapping[str, Any], verify: bool) -> None:
    if not path.is_file():
        raise CorruptFile(f"{path} is missing")
    size = path.stat().st_size
    if size != facts["size"]:
        raise CorruptFile(f"{path} has {size} bytes, its manifest says {facts['size']}")
    if verify and hash_file(path) != facts["blake2b"]:
        raise CorruptFile(f"{path} has changed since it was written")


def _seal(folder: Path, key: str, parts: Mapping[str, Any], cost: Mapping[str, Any]) -> None:
    """Force every file to disk, then write the manifest."""
    paths = sorted(p for p in folder.rglob("*") if not p.is_dir())
    names = [p.relative_to(folder).as_posix() for p in paths]
    if not names:
        raise BadInput(f"entry {key} would be empty: its writer wrote no file")
    if MANIFEST in names or any(p.is_symlink() for p in paths):
        raise BadInput(f"the writer of {key} made {MANIFEST} or a symbolic link, which an entry can't hold")
    table: dict[str, Any] = {}
    for path, name in zip(paths, names):
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
        table[name] = {"size": path.stat().st_size, "blake2b": hash_file(path)}
    for inner in {p.parent for p in paths}:
        files.sync_folder(inner)
    manifest = {"schema": SCHEMA, "key": key, "parts": dict(parts), "files": table, "cost": dict(cost)}
    files.write_json(folder / MANIFEST, manifest)
