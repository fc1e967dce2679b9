"""The lock of a run folder, and the facts of the environment."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prunus.core import files
from prunus.core.environment import changes, environment
from prunus.core.errors import ResourceError
from prunus.core.lock import RunLock

HOLD = (
    "import sys, time; from prunus.core.lock import RunLock\n"
    "with RunLock(sys.argv[1]): print('held', flush=True); time.sleep(60)"
)


@pytest.fixture
def holder(tmp_path: Path):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=env)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    yield child
    child.kill()
    child.wait()
    child.stdout.close()


def test_two_processes_at_once(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(ResourceError, match=f"process {holder.pid} on {socket.gethostname()}"), RunLock(tmp_path):
        pass
    holder.kill()
    holder.wait()
    with RunLock(tmp_path) as lock:  # the owner is dead: taken over at once
        assert lock.held()
    assert not (tmp_path / ".lock").exists()


def test_twice_in_one_process(tmp_path: Path) -> None:
    with RunLock(tmp_path), pytest.raises(ResourceError, match=str(os.getpid())), RunLock(tmp_path):
        pass


def _foreign(folder: Path, **changed: object) -> None:
    owner = {"host": "elsewhere", "pid": 1, "started": "0", "token": "x"} | changed
    files.write_json(folder / ".lock", owner)


def test_other_host_counts_by_heartbeat(tmp_path: Path) -> None:
    _foreign(tmp_path)
    with pytest.raises(ResourceError, match="process 1 on elsewhere"), RunLock(tmp_path):
        pass
    os.utime(tmp_path / ".lock", (time.time() - 100,) * 2)
    with RunLock(tmp_path) as lock:
        assert lock.held()


def test_reused_process_number_is_not_the_owner(tmp_path: Path) -> None:
    _foreign(tmp_path, host=socket.gethostname(), pid=os.getpid(), started="1")
    with RunLock(tmp_path) as lock:
        assert lock.held()


def test_heartbeat_and_loss(tmp_path: Path) -> None:
    with RunLock(tmp_path, beat=0.01) as lock:
        os.utime(lock.path, (1, 1))
        deadline = time.time() + 5
        while lock.path.stat().st_mtime < 2 and time.time() < deadline:
            time.sleep(0.01)
        assert lock.path.stat().st_mtime > 2
        lock.check()
        _foreign(tmp_path)
        with pytest.raises(ResourceError, match="taken over by process 1 on elsewhere"):
            lock.check()
    assert json.loads((tmp_path / ".lock").read_text())["host"] == "elsewhere"  # not ours to remove


def test_foreign_lock_file(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("not ours")
    with pytest.raises(ResourceError, match="not a lock of prunus"), RunLock(tmp_path):
        pass


def test_environment_names_nobody() -> None:
    facts = environment(threads=1)
    text = json.dumps(facts)
    assert facts["threads"] == 1
    assert {"python", "machine", "processor", "packages"} <= facts.keys()
    assert "numpy" in facts["packages"]
    assert socket.gethostname() not in text
    assert str(Path.home()) not in text
    assert os.getcwd() not in text


def test_environment_changes() -> None:
    old = environment(threads=1)
    new = {**old, "threads": 2, "packages": {**old["packages"], "torch": "0.1", "pyarrow": "0.1"}}
    told = changes(old, new)
    assert len(told) == 2
    assert told[0] == "threads 1 -> 2"
    assert told[1].endswith("-> 0.1")
    assert changes(old, old) == []
