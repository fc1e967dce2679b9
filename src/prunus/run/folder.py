"""The run folder: recipe.json, env.json, stages.json, arms/ (links into the store), metrics/, logs/, report."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prunus.core import files
from prunus.core.environment import changes
from prunus.core.errors import BadInput, PrunusError

TRAINING = "training.json"  # what a stage that trains tells: samples, steps, cpu_seconds


class RunFolder:
    """Writing into one run folder; the caller holds its lock."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.metrics = self.path / "metrics"

    def begin(self, recipe: Mapping[str, Any], environment: Mapping[str, Any], *, accept_env: bool) -> list[str]:
        """Write recipe.json and env.json.

        Returns:
            What changed in the environment since the run began, when that was accepted.

        Raises:
            BadInput: the environment changed and `accept_env` is off.
        """
        changed = self._environment(environment, accept_env)
        files.write_json(self.path / "recipe.json", recipe)
        return changed

    def _environment(self, new: Mapping[str, Any], accept: bool) -> list[str]:
        path = self.path / "env.json"
        if not path.exists():
            files.write_json(path, {**new, "earlier": []})
            return []
        old = files.read_json(path)
        changed = changes(old, new)
        if changed and not accept:
            raise BadInput(
                f"{self.path} was begun in another environment ({'; '.join(changed)}), so its numbers would mix two; "
                f"go back to the first one, or give the run another name, or add --accept-env to mix them knowingly"
            )
        if changed:
            earlier = [*old.get("earlier", []), {k: v for k, v in old.items() if k != "earlier"}]
            files.write_json(path, {**new, "earlier": earlier})
        return changed

    def keys(self, keys: Mapping[str, Mapping[str, str]]) -> None:
        """Write stages.json, before anything is computed, so that `gc` spares what this run uses."""
        files.write_json(self.path / "stages.json", keys)

    def link(self, place: str, entry: Path) -> None:
        """Point arms/<place> to an entry; where links can't be made, a small file names it."""
        link = self.path / "arms" / place
        target = os.path.relpath(entry, link.parent)
        if link.is_symlink() and os.readlink(link) == target:
            return
        with files.guard(link):
            link.parent.mkdir(parents=True, exist_ok=True)
            temp = link.with_name(f".{link.name}.{os.getpid()}.tmp")
            try:
                temp.unlink(missing_ok=True)
                os.symlink(target, temp, target_is_directory=True)
                os.replace(temp, link)
            except (NotImplementedError, PermissionError):
                files.write_json(link.with_suffix(".json"), {"entry": target})

    def append(self, arm: str, rows: list[dict[str, Any]]) -> None:
        """Add rows to metrics/<arm>.jsonl, so that a run can be watched."""
        files.append_json(self.metrics / f"{files.safe_name(arm)}.jsonl", rows)

    def rewrite(self, rows: Mapping[str, list[dict[str, Any]]]) -> None:
        """At the end: every metrics file once more, complete, in the recipe's order, without doubles."""
        for arm, lines in rows.items():
            data = b"".join(files.dump_line(line) for line in lines)
            files.write_bytes(self.metrics / f"{files.safe_name(arm)}.jsonl", data)

    def publish(self, made: Path) -> list[Path]:
        """Copy the report's files into the folder, each whole or not at all."""
        copied: list[Path] = []
        for source in sorted(p for p in made.rglob("*") if p.is_file()):
            target = self.path / source.relative_to(made)
            with files.atomic(target, source.stat().st_size) as file, source.open("rb") as data:
                shutil.copyfileobj(data, file)
            copied.append(target)
        return copied


def used_keys(runs: str | Path) -> set[str]:
    """Keys that any run folder below `runs` refers to: what `Store.gc` must keep."""
    found: set[str] = set()
    for path in Path(runs).glob("*/stages.json"):
        try:
            found.update(entry["key"] for entry in files.read_json(path).values())
        except (PrunusError, KeyError, TypeError, AttributeError) as error:
            raise BadInput(
                f"{path} can't be read, so what it uses is not known: {error}; repair or remove it"
            ) from error
    return found


def rows_of(entry: Path) -> Iterable[dict[str, Any]]:
    """The lines of an entry's metrics.jsonl; none when it has none."""
    return files.read_json_lines(entry / "metrics.jsonl")


def samples_of(entry: Path) -> float | None:
    """Rows presented while an entry was trained; None where nothing was."""
    told = entry / TRAINING
    return float(files.read_json(told)["samples"]) if told.exists() else None
