"""The store: whole entries only, safe among processes, repaired after any death, thrifty when rows are appended."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from prunus.core import files, fingerprint
from prunus.core.errors import BadInput, CorruptFile, ResourceError, SchemaTooNew
from prunus.core.fingerprint import Digests, fingerprint_array, fingerprint_file, fingerprint_model, hash_file
from prunus.core.shards import fill, shards
from prunus.core.store import MANIFEST, Store, signal_key

KEY = files.digest("one")
OTHER = files.digest("two")


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """fsync guards against power cuts, which no test makes; it is most of the time of these tests."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def _write(out: Path, value: float = 1.0) -> dict[str, float]:
    files.write_arrays(out / "a.safetensors", {"a": np.full(3, value)})
    files.write_json(out / "inner" / "b.json", {"value": value})
    return {"wall_s": 0.5}


def test_an_entry_comes_back(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.get(KEY) is None
    entry = store.put(KEY, _write, parts={"signal": "el2n"})
    assert set(entry.files) == {"a.safetensors", "inner/b.json"}
    assert (entry.parts, entry.cost) == ({"signal": "el2n"}, {"wall_s": 0.5})
    assert store.get(KEY, verify=True) == entry
    assert store.put(KEY, pytest.fail) == entry  # not computed again
    assert [e.key for e in store.ls()] == [KEY]
    assert entry.bytes == sum(p.stat().st_size for p in entry.path.rglob("*") if p.is_file() and p.name != MANIFEST)


def test_root_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNUS_CACHE", "/elsewhere")
    assert Store().root == Path("/elsewhere")
    monkeypatch.delenv("PRUNUS_CACHE")
    assert Store().root == Path("runs/.store")


@pytest.mark.parametrize("damage", ["truncate", "remove", "manifest", "no manifest", "key"])
def test_damage_is_found_and_repaired(tmp_path: Path, damage: str) -> None:
    store = Store(tmp_path)
    path = store.put(KEY, _write).path
    if damage == "truncate":
        (path / "a.safetensors").write_bytes((path / "a.safetensors").read_bytes()[:-1])
    elif damage == "remove":
        (path / "inner/b.json").unlink()
    elif damage == "manifest":
        (path / MANIFEST).write_text('{"schema": 1, "fi')
    elif damage == "no manifest":
        (path / MANIFEST).unlink()
    else:
        manifest = files.read_json(path / MANIFEST)
        files.write_json(path / MANIFEST, {**manifest, "key": OTHER})
    with pytest.raises(CorruptFile):
        store.get(KEY)
    assert store.put(KEY, _write).files
    assert store.get(KEY, verify=True) is not None


def test_changed_content_needs_verify(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.put(KEY, _write).path / "inner/b.json"
    path.write_bytes(path.read_bytes().replace(b"1", b"2"))
    assert store.get(KEY) is not None
    with pytest.raises(CorruptFile, match="changed since"):
        store.get(KEY, verify=True)


def test_newer_schema_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.put(KEY, _write).path / MANIFEST
    files.write_json(path, {**files.read_json(path), "schema": 9})
    with pytest.raises(SchemaTooNew, match="9"):
        store.get(KEY)


@pytest.mark.parametrize("key", ["", "../../etc", "A" * 32, "0" * 31])
def test_keys_are_checked(tmp_path: Path, key: str) -> None:
    with pytest.raises(BadInput, match="32 hex"):
        Store(tmp_path).get(key)


def test_failing_writer_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def full(out: Path) -> None:
        (out / "half").write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def missing(out: Path) -> None:
        (out / "no such").read_text()

    for writer, error in ((full, ResourceError), (missing, FileNotFoundError), (lambda out: None, BadInput)):
        with pytest.raises(error):
            store.put(KEY, writer)
    assert store.get(KEY) is None
    assert list((tmp_path / ".tmp").iterdir()) == []


def test_racing_writers_agree(tmp_path: Path) -> None:
    store, barrier, found = Store(tmp_path), threading.Barrier(8), []

    def work(value: float) -> None:
        def writer(out: Path) -> None:
            _write(out, value)
            barrier.wait()

        found.append(store.put(KEY, writer))

    threads = [threading.Thread(target=work, args=(float(i),)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len({(entry.path / "inner/b.json").read_bytes() for entry in found}) == 1
    assert store.get(KEY, verify=True) is not None


CALLS = ("open", "mkdir", "replace", "rename", "fsync", "rmdir", "unlink")


def _killed_at(step: int, work: object) -> bool:
    """Run `work` in a child that kills itself at its `step`-th call to the system. Whether it was killed."""
    pid = os.fork()
    if pid == 0:
        count = 0

        def counted(call: object) -> object:
            def run(*args: object, **options: object) -> object:
                nonlocal count
                count += 1
                if count == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **options)  # type: ignore[operator]

            return run

        for name in CALLS:
            setattr(os, name, counted(getattr(os, name)))
        work()  # type: ignore[operator]
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def test_killed_at_every_system_call(tmp_path: Path) -> None:
    """After a death at any point the entry is whole or absent, and the next writer succeeds."""
    step, deaths = 1, 0
    while True:
        store = Store(tmp_path / str(step))
        killed = _killed_at(step, lambda store=store: store.put(KEY, _write))
        before = store.get(KEY, verify=True)
        entry = store.put(KEY, _write)
        assert before in (None, entry)
        store.sweep()
        assert list((store.root / ".tmp").iterdir()) == []
        if not killed:
            break
        step, deaths = step + 1, deaths + 1
    assert deaths > 10


def test_killed_while_replacing_a_broken_entry(tmp_path: Path) -> None:
    for step in range(1, 60):
        store = Store(tmp_path / str(step))
        path = store.put(KEY, _write).path
        (path / "inner/b.json").write_text("")
        killed = _killed_at(step, lambda store=store: store.put(KEY, _write))
        assert store.put(KEY, _write).files
        assert store.get(KEY, verify=True)
        if not killed:
            return
    pytest.fail("never finished")


def test_gc_keeps_what_is_named_or_young(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for key in (KEY, OTHER):
        store.put(key, _write)
    assert store.gc() == []  # just used
    assert [e.key for e in store.gc([KEY], unused_for=0, dry_run=True)] == [OTHER]
    assert store.get(OTHER)
    assert [e.key for e in store.gc([KEY], unused_for=0)] == [OTHER]
    assert store.get(OTHER) is None
    assert store.get(KEY)


def test_read_only_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    entry = store.put(KEY, _write)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for name in ("utime", "mkdir", "rename"):
        monkeypatch.setattr(os, name, refuse)
    assert store.get(KEY) == entry
    with pytest.raises(ResourceError, match="make the folder writable"):
        store.put(OTHER, _write)


def test_appended_rows_cost_only_their_pass(tmp_path: Path) -> None:
    store, done = Store(tmp_path), []
    rows = np.arange(25)

    def measure(count: int) -> list[tuple[int, int]]:
        done.clear()

        def compute(start: int, stop: int, out: Path) -> None:
            done.append((start, stop))
            files.write_arrays(out / "x.safetensors", {"x": rows[start:stop]})

        cuts = shards(store, "data", {"signal": "x"}, count, lambda a, b: fingerprint_array(rows[a:b]), size=10)
        entries = fill(store, cuts, compute)
        got = np.concatenate([files.read_arrays(e.path / "x.safetensors")["x"] for e in entries])
        np.testing.assert_array_equal(got, rows[:count])
        return list(done)

    assert measure(25) == [(0, 10), (10, 20), (20, 25)]
    assert measure(25) == []
    rows = np.arange(47)
    assert measure(47) == [(25, 35), (35, 45), (45, 47)]
    assert measure(25) == []
    rows[12] = -1
    assert measure(47) == [(10, 20)]
    assert measure(3) == [(0, 3)]
    assert measure(47) == [(3, 10)]


def test_signal_keys() -> None:
    base = {"prunable": "p", "model": "m"}
    key = signal_key("el2n", 1, **base)
    assert key == signal_key("el2n", 1, **base)
    changed = [
        signal_key("el2n", 2, **base),
        signal_key("el2n", 1, prunable="q", model="m"),
        signal_key("el2n", 1, **base, dtype="float64"),
        signal_key("el2n", 1, **base, training={"seed": 0, "threads": 1, "torch": "2"}),
        signal_key("el2n", 1, **base, preprocessing="flip"),
    ]
    assert len({key, *changed}) == 6
    with pytest.warns(UserWarning, match="no name"):
        assert signal_key("el2n", 1, **base, preprocessing=None) is None


def test_file_fingerprints(tmp_path: Path) -> None:
    path = tmp_path / "d" / "a.txt"
    path.parent.mkdir()
    path.write_text("one")
    first = fingerprint_file(path)
    os.utime(path, (1, 1))
    (tmp_path / "copy.txt").write_text("one")
    assert fingerprint_file(path) == first == fingerprint_file(tmp_path / "copy.txt")
    folder = fingerprint_file(path.parent)
    (path.parent / "b.txt").write_text("two")
    assert fingerprint_file(path.parent) != folder
    path.write_text("two")
    assert fingerprint_file(path) != first
    with pytest.raises(BadInput, match="PRUNUS_DATA"):
        fingerprint_file(tmp_path / "no")


def test_files_are_read_once_until_they_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, table, read = tmp_path / "a.txt", tmp_path / "digests.json", []
    monkeypatch.setattr(fingerprint, "hash_file", lambda file: read.append(file) or hash_file(file))

    def digest(time: int | None = None) -> str:
        if time is not None:
            os.utime(path, (time, time))
        digests = Digests(table)
        found = digests(path)
        digests.save()
        return found

    path.write_text("one")
    assert digest() == digest() == hash_file(path) and len(read) == 2  # changed just now: not believed yet
    assert digest(1) == digest() == hash_file(path) and len(read) == 3
    path.write_text("two")
    assert digest(2) == hash_file(path) and len(read) == 4
    table.write_text("{")
    assert digest() == hash_file(path) and len(read) == 5
    closed = Digests(path / "no" / "place")
    assert closed(path) == hash_file(path)
    closed.save()  # nowhere to keep it: read again next time


def test_array_fingerprints() -> None:
    a = np.arange(12.0).reshape(3, 4)
    assert fingerprint_array(a) == fingerprint_array(np.asfortranarray(a)) == fingerprint_array(a.astype(">f8"))
    assert fingerprint_array(a) != fingerprint_array(a.reshape(4, 3))
    assert fingerprint_array(np.array(["a", "bc"])) == fingerprint_array(np.array(["a", "bc"], dtype="<U9"))
    assert fingerprint_array(np.array(["ab", "c"])) != fingerprint_array(np.array(["a", "bc"]))
    assert fingerprint_array(np.array([], dtype="<U1")) != fingerprint_array(np.array(1))
    with pytest.raises(BadInput):
        fingerprint_array(np.array([None]))


def test_model_fingerprints() -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    before = fingerprint_model(model)
    assert before == fingerprint_model(dict(reversed(model.state_dict().items())))
    model[1].running_mean[0] = 1
    assert fingerprint_model(model) != before
    assert fingerprint_model(model.half()) != before
    with pytest.raises(BadInput, match="meta"):
        fingerprint_model(torch.nn.Linear(2, 2, device="meta"))


def test_unused_time_is_the_last_use(tmp_path: Path) -> None:
    store = Store(tmp_path)
    manifest = store.put(KEY, _write).path / MANIFEST
    os.utime(manifest, (1, 1))
    assert store.gc(dry_run=True)
    store.get(KEY)
    assert time.time() - manifest.stat().st_mtime < 60
    assert store.gc(dry_run=True) == []
