"""One process at a time in a run folder: a lock file with host, process and heartbeat.

A lock is stale when its process is dead on this host, or when its heartbeat is old (the file's time, compared with the
clock of the same disk). A stale lock is taken over; the former owner, if it ever wakes, notices that it lost the lock.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from prunus.core import files
from prunus.core.errors import CorruptFile, PrunusError, ResourceError

BEAT = 5.0
STALE = 60.0


def process_started(pid: int) -> str | None:
    """When a process of this host began, in the kernel's count ("" if only its life is known); None when it is dead."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    except OSError:
        return None
    with suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] == "Z" else fields[19]
    return ""


class RunLock:
    """Holds a folder for this process.

    Args:
        folder: the run folder; made when missing.
        beat: seconds between heartbeats.
        stale: seconds without one after which the owner counts as gone.

    Raises:
        ResourceError: another live process holds the folder; the message names its host and pid.
    """

    def __init__(self, folder: str | Path, *, beat: float = BEAT, stale: float = STALE) -> None:
        self.path = Path(folder) / ".lock"
        self.beat, self.stale = beat, stale
        self.token = secrets.token_hex(8)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        with files.guard(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with _one_at_a_time(self.path.parent):
                self._refuse_if_held()
                pid = os.getpid()
                owner = {"host": socket.gethostname(), "pid": pid, "started": process_started(pid), "token": self.token}
                files.write_json(self.path, owner)
        self._thread = threading.Thread(target=self._keep_alive, name="run lock", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self.held():
            with suppress(OSError):
                self.path.unlink()

    def held(self) -> bool:
        """Whether the lock is still this process's own."""
        owner = _read(self.path)
        return owner is not None and owner.get("token") == self.token

    def check(self) -> None:
        """Raise ResourceError when another process took the folder over."""
        if self.held():
            return
        owner = _read(self.path) or {}
        raise ResourceError(
            f"{self.path.parent} was taken over by process {owner.get('pid')} on {owner.get('host')} "
            f"because this one was silent for more than {self.stale:g} s; stop one of the two"
        )

    def _refuse_if_held(self) -> None:
        owner = _read(self.path)
        if owner is None:
            return
        age = _age(self.path)
        here = owner.get("host") == socket.gethostname()
        dead = here and process_started(int(owner["pid"])) != owner.get("started")
        if dead or age > self.stale:
            return
        raise ResourceError(
            f"{self.path.parent} is in use by process {owner['pid']} on {owner['host']} "
            f"(last sign of life {max(age, 0):.0f} s ago); "
            f"wait for it, stop it, or give this run another name"
        )

    def _keep_alive(self) -> None:
        while not self._stop.wait(self.beat):
            with suppress(PrunusError, OSError):
                if not self.held():
                    return
                os.utime(self.path)


def _read(path: Path) -> dict[str, Any] | None:
    """The owner; None when there is no lock. Locks are written atomically, so a broken one is not ours: an error."""
    if not path.exists():
        return None
    try:
        owner = files.read_json(path)
    except CorruptFile as error:
        raise ResourceError(f"{path} is not a lock of prunus; remove it if no run uses this folder") from error
    except PrunusError:  # released between the two lines above
        return None
    if not isinstance(owner, dict) or not {"host", "pid", "token"} <= set(owner):  # pyright: ignore[reportUnknownArgumentType]
        raise ResourceError(f"{path} is not a lock of prunus; remove it if no run uses this folder")
    return cast(dict[str, Any], owner)


def _age(path: Path) -> float:
    """Seconds since the last heartbeat by the clock of the disk, which hosts that share it agree on."""
    probe = path.with_name(f".clock.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return time.time()
    finally:
        with suppress(OSError):
            probe.unlink()


@contextmanager
def _one_at_a_time(folder: Path) -> Generator[None]:
    """Serialise look-then-take among the processes of one host, where the system has advisory locks."""
    try:
        import fcntl
    except ImportError:  # Windows: the token check finds the loser of a race
        yield
        return
    with open(folder / ".lock.guard", "a") as guard:
        with suppress(OSError):
            fcntl.flock(guard, fcntl.LOCK_EX)
        yield
