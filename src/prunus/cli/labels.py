"""`prunus check DATA --labels`: rows whose label is probably wrong, as a table on the terminal, a file, or a plan."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunus.cli import inputs
from prunus.cli.forecast import Pass, foresee, nothing_to_time
from prunus.cli.options import find_method
from prunus.cli.show import facts, new_place, show, table
from prunus.core import files
from prunus.core.errors import BadInput

if TYPE_CHECKING:
    from prunus.flow.label_issues import LabelIssues
    from prunus.prunables.dataset import Dataset

SHOWN = 20
FORMATS = (".csv", ".jsonl")


@dataclass(frozen=True)
class Asked:
    """The flags of `prunus check --labels`.

    Attributes:
        by: the criterion.
        rule: of label_quality, where it is that.
        share: of the rows that are called; 0 = its own rule.
        signals, predictions, model: the doors, of which one is open.
        like, allow_code, size, batch, seed: as for other verbs.
        out: .csv or .jsonl to write, or "".
        plan: folder of a plan that drops the rows, or "".
        overwrite: replace both.
    """

    by: str
    rule: str
    share: float
    signals: list[str] | None
    predictions: str
    model: str
    like: str
    allow_code: bool
    size: int
    batch: int
    seed: int
    out: str
    plan: str
    overwrite: bool


def check_labels(spec: str, asked: Asked, limits: dict[str, Any]) -> None:
    """Find them, write what was asked for, print the worst."""
    places = _places(asked)
    found = _find(spec, asked, limits)
    if found is None:
        return
    if place := places.get("out"):
        write(found, place)
    if place := places.get("plan"):
        found.plan().save(place)
    tell(found, asked, as_json=limits["as_json"])


def _places(asked: Asked) -> dict[str, Path]:
    """What will be written, refused before anything is computed."""
    given = {name: str(getattr(asked, name)) for name in ("out", "plan") if getattr(asked, name)}
    if (out := given.get("out")) and Path(out).suffix not in FORMATS:
        raise BadInput(f"--out writes label issues as {' or '.join(FORMATS)}, not as {Path(out).name!r}")
    return {
        name: new_place(place, overwrite=asked.overwrite, what=f"--{name} {place}") for name, place in given.items()
    }


def _find(spec: str, asked: Asked, limits: dict[str, Any]) -> LabelIssues | None:
    from prunus.cli.score import read_signals
    from prunus.flow.label_issues import label_issues

    doors = [bool(asked.signals), bool(asked.predictions), bool(asked.model)]
    if sum(doors) != 1:
        raise BadInput(
            "label issues are found with signals of the rows: give one of --signals FOLDER, --from TABLE (held_out_probs, or "
            "embedding) and --model SPEC (an embedding that was not trained on these labels)"
        )
    method = find_method(asked.by, "rows", "criterion", f"{spec} holds rows")
    opened = inputs.open_model(asked.model, like=asked.like, allow_code=asked.allow_code) if asked.model else None
    data = inputs.open_rows(spec, size=asked.size, model=opened)
    settings: dict[str, Any] = {
        "share": asked.share or None,
        "rule": asked.rule,
        "seed": asked.seed,
        "batch": asked.batch,
    }
    if opened is None:
        if nothing_to_time(**limits):
            return None
        return label_issues(data, method.id, signals=read_signals(asked.signals, asked.predictions), **settings)
    inputs.require_fit(opened, data)

    def job(part: Dataset) -> int:
        from prunus.flow.signals import row_signals

        row_signals(part, method, model=opened.net, batch=asked.batch)
        return 0

    if foresee(Pass(data, job, asked.batch, cheaper="a smaller --model, or --from embeddings you have"), **limits):
        return None
    return label_issues(data, method.id, model=opened.net, **settings)


def write(found: LabelIssues, place: Path) -> Path:
    """One line for each issue, whole or not at all; `prunus_id` lets the file serve as a list of ids (--ban)."""
    return write_lines(found.table(), ("prunus_id", "given", "suggested", "score", "reason"), place)


def write_lines(lines: Sequence[Mapping[str, Any]], columns: Sequence[str], place: Path) -> Path:
    """Dicts as .jsonl, or as .csv with these columns."""
    if place.suffix == ".jsonl":
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    else:
        import csv
        import io

        sink = io.StringIO()
        writer = csv.DictWriter(sink, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        text = sink.getvalue()
    return files.write_bytes(place, text.encode())


def tell(found: LabelIssues, asked: Asked, *, as_json: bool) -> None:
    """How many there are, and the worst."""
    lines = found.table()
    written = {name: getattr(asked, name) for name in ("out", "plan") if getattr(asked, name)}
    head = {
        "data": str(found.scored.provenance.get("data", "")),
        "method": str(found.scored.provenance["method"]),
        "label issues": f"{len(found):,} of {found.rows:,} rows ({100 * len(found) / found.rows:.1f} %)",
        "written": ", ".join(written.values()),
    }
    result = {"data": head["data"], "method": head["method"], "rows": found.rows, "issues": lines, **written}
    more = f"... and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    show(result, as_json=as_json, text="\n".join(filter(None, [facts(head), "", table(lines[:SHOWN]), more])))
