"""Killed at any moment, a run goes on and ends with the same plans and the same numbers."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prunus.core.errors import ResourceError
from run.test_engine import results, run

CHILD = Path(__file__).with_name("child.py")


def start(runs: Path, jobs: int, pause: float = 0.0) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TINY_PAUSE": str(pause)}
    return subprocess.Popen([sys.executable, str(CHILD), str(runs), str(jobs)], env=environment, stderr=subprocess.PIPE)


def children(pid: int) -> list[int]:
    return [int(n) for task in Path(f"/proc/{pid}/task").glob("*/children") for n in task.read_text().split()]


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_for(condition, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def entries(runs: Path) -> int:
    return len(list(runs.glob(".store/??/*")))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return results(run(tmp_path_factory.mktemp("whole")).folder)


@pytest.mark.parametrize("jobs", [0, 2])
def test_sigkill_at_random_moments(tmp_path: Path, whole: dict[str, bytes], jobs: int) -> None:
    """The process is killed again and again, each time after a few more results; then it is let finish."""
    dice, kills = random.Random(jobs), 0
    while entries(tmp_path) < 37:
        before = entries(tmp_path)
        child = start(tmp_path, jobs, pause=0.01)
        wait_for(lambda: entries(tmp_path) > before + 4 or child.poll() is not None)  # noqa: B023
        time.sleep(dice.random() * 0.08)
        kills += child.poll() is None
        child.kill()
        _, errors = child.communicate()
        assert child.returncode in (0, -signal.SIGKILL), errors.decode()
    assert kills >= 2
    child = start(tmp_path, jobs)
    _, errors = child.communicate()
    assert child.returncode == 0, errors.decode()
    folder = next(tmp_path.glob("tiny-*"))
    assert results(folder) == whole
    assert not (folder / ".lock").exists()
    assert list((tmp_path / ".store" / ".tmp").iterdir()) == []


CALLS = ("open", "mkdir", "replace", "rename", "fsync", "symlink", "unlink")


def _run_and_die(runs: Path, step: int) -> bool:
    """A run in a child that kills itself at its `step`-th call to the system. Whether it was killed."""
    pid = os.fork()
    if pid == 0:
        count = 0

        def counted(call):
            def made(*args, **options):
                nonlocal count
                count += 1
                if count == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **options)

            return made

        for name in CALLS:
            setattr(os, name, counted(getattr(os, name) if name != "fsync" else lambda handle: None))
        run(runs)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def test_sigkill_between_any_two_writes(tmp_path: Path, whole: dict[str, bytes]) -> None:
    """Deaths at points spread over the whole run, each time from where the last death left it."""
    for first in (1, 5, 11):
        runs, step, deaths = tmp_path / str(first), first, 0
        while _run_and_die(runs, step):
            step, deaths = step + 13, deaths + 1
        assert deaths >= 5
        assert results(next(runs.glob("tiny-*"))) == whole


def test_children_die_with_their_parent(tmp_path: Path) -> None:
    child = start(tmp_path, 2, pause=30)
    wait_for(lambda: len(children(child.pid)) == 2)
    workers = children(child.pid)
    child.kill()
    child.communicate()
    wait_for(lambda: not any(alive(pid) for pid in workers))


def test_keyboard_interrupt_is_clean(tmp_path: Path, whole: dict[str, bytes]) -> None:
    child = start(tmp_path, 2, pause=30)
    wait_for(lambda: len(children(child.pid)) == 2)
    workers = children(child.pid)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=10)
    assert b"KeyboardInterrupt" in errors
    assert b"run the same command to go on" in errors
    assert not any(alive(pid) for pid in workers)
    folder = next(tmp_path.glob("tiny-*"))
    assert not (folder / ".lock").exists()
    assert results(run(tmp_path).folder) == whole


def test_second_process_is_refused(tmp_path: Path) -> None:
    child = start(tmp_path, 1, pause=30)
    wait_for(lambda: len(children(child.pid)) == 1)
    with pytest.raises(ResourceError, match=f"in use by process {child.pid} on"):
        run(tmp_path)
    child.kill()
    child.communicate()


def test_two_folders_share_one_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, bytes]) -> None:
    """Two runs at once that make the same entries."""
    monkeypatch.setenv("PRUNUS_CACHE", str(tmp_path / "cache"))
    pair = [start(tmp_path / name, 1) for name in ("a", "b")]
    for child in pair:
        _, errors = child.communicate()
        assert child.returncode == 0, errors.decode()
    for name in ("a", "b"):
        assert results(next((tmp_path / name).glob("tiny-*"))) == whole
