"""A child process that runs stages one after the other: one thread each, plain JSON lines in and out.

It ends when its parent ends, however that ended: a thread waits for the end of standard input and leaves at once.
What a stage prints goes to the log, never into the replies.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from prunus.core import errors
from prunus.core.environment import peak_bytes
from prunus.core.errors import PrunusError, ResourceError, StageFailed
from prunus.core.store import Entry, Store
from prunus.run.stage import stage_named, stage_table

THREAD_VARIABLES = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"),
    *("VECLIB_MAXIMUM_THREADS", "RAYON_NUM_THREADS", "POLARS_MAX_THREADS"),
)


def run_job(job: Mapping[str, Any]) -> Entry:
    """Make one entry in this process.

    Args:
        job: stages (table reference), stage, params, inputs (name -> folder), key, parts, store (root).
    """
    stage = stage_named(stage_table(job["stages"]), job["stage"])

    if stage.warm is not None:
        stage.warm()

    def write(out: Path) -> dict[str, Any]:
        wall, cpu = time.perf_counter(), time.process_time()
        stage.body({name: Path(path) for name, path in job["inputs"].items()}, dict(job["params"]), out)
        cost = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
        return cost | {"peak_bytes": peak_bytes()}

    return Store(job["store"]).put(job["key"], write, parts=job["parts"])


def main() -> None:
    """Read jobs from standard input until it ends."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what stages print belongs in the log
    jobs: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(jobs,), daemon=True).start()
    while True:
        reply = _answer(jobs.get())
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def _listen(jobs: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        jobs.put(line)
    os._exit(0)  # the parent is gone or done; a stage in mid-air leaves only a temporary folder


def _answer(line: str) -> dict[str, Any]:
    try:
        run_job(json.loads(line))
    except BaseException as error:
        with suppress(OSError):  # the disk that holds the log may be the one that is full
            traceback.print_exc()
            sys.stderr.flush()
        kind, message = told(error)
        return {"error": kind, "message": message}
    return {"error": ""}


def told(error: BaseException) -> tuple[str, str]:
    """(class name in core/errors.py, message) of whatever a stage raised."""
    if isinstance(error, PrunusError):
        return type(error).__name__, str(error)
    if isinstance(error, MemoryError):
        return "ResourceError", f"out of memory: {error or 'nothing more to be had'}; use fewer rows or --jobs 1"
    return "StageFailed", f"{type(error).__name__}: {error}"


class Worker:
    """The parent's end of a child process.

    Args:
        log: file that takes what the child prints.
        threads: computing threads of the child, set in its environment before anything is imported.
    """

    def __init__(self, log: Path, threads: int = 1) -> None:
        environment = dict(os.environ) | dict.fromkeys(THREAD_VARIABLES, str(threads))
        environment["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            command = [sys.executable, "-P", "-m", "prunus.run.worker"]
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=file, env=environment, text=True, start_new_session=True
            )

    def run(self, job: Mapping[str, Any]) -> None:
        """Make one entry in the child; waits for it.

        Raises:
            PrunusError: what the stage raised, of the same class; StageFailed for errors not raised on purpose.
            ResourceError: the child died.
        """
        requests, replies = self._pipes()
        try:
            requests.write(json.dumps(dict(job)) + "\n")
            requests.flush()
            line = replies.readline()
        except (BrokenPipeError, ValueError):
            line = ""
        if not line:
            code = self._process.wait()
            why = f"killed by signal {-code} (out of memory?)" if code < 0 else f"it exited with code {code}"
            raise ResourceError(f"its process died: {why}; see {self.log}")
        reply = json.loads(line)
        if reply["error"]:
            raise rebuilt(reply["error"], reply["message"])

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return self._process.stdin, self._process.stdout

    def stop(self) -> None:
        """End the child now; what it was making is not there yet and will be made again."""
        self._process.kill()
        self._process.wait()
        for pipe in self._pipes():
            with suppress(OSError):
                pipe.close()


def rebuilt(kind: str, message: str) -> PrunusError:
    """An error of another process as one of this process, with its class and exit code."""
    found = getattr(errors, kind, None)
    if not (isinstance(found, type) and issubclass(found, PrunusError)):
        found = StageFailed
    error = found.__new__(found)
    error.args = (message,)
    return error


if __name__ == "__main__":
    main()
