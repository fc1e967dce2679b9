"""`prunus` as a shell runs it, in this process: exit code, standard output, standard error."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from typing import Any

from prunus.cli import main


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def prunus(*words: object) -> Done:
    """Run a command."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(word) for word in words])
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Done(code, out.getvalue(), err.getvalue())


def done(*words: object) -> Done:
    """Run a command that must succeed."""
    found = prunus(*words)
    assert found.code == 0, found.err
    return found


def refused(code: int, *words: object) -> str:
    """Run a command that must be refused in one line; returns the line."""
    found = prunus(*words)
    lines = [line for line in found.err.splitlines() if not line.startswith(("note: ", "warning: "))]
    assert found.code == code, found.err or found.out
    assert len(lines) == 1 and lines[0].startswith("error: "), found.err
    return lines[0]
