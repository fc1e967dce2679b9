"""The page of the coverage run, made from its results alone."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Iterable
from typing import Any

Row = dict[str, Any]
HEAD = """# Which models can be pruned

What `python benchmarks/coverage.py` found, one model after the other, with no settings for any of them: record one forward
pass, group what must go together, cut each group at random to 30 to 90 % of its units, and compare the cut model with the
dense model in which the dropped units are zeroed where they are read. A model passes if the two agree (1e-4 of the largest
output in float32, else 1e-9 in float64), if the cut model runs forward and backward, can be copied, saved and loaded, and if
**more than half of its parameters are prunable**, that is, have an axis of which something can go. Weights are random (nothing
left at zero), inputs the smallest that each model takes. Transformers types are tiny models built from configurations. CPU only.

Of timm, one model per family: of the models that share a file of timm and the first word of their name, the one whose name
says it is the smallest. The table is of timm {timm}, torchvision {torchvision}, transformers {transformers}, torch {torch}.
"""


def page(rows: list[Row], names: Iterable[tuple[str, str]]) -> str:
    """Markdown: a short table per library, the reasons for failures, and every model.

    Args:
        rows: results.
        names: (library, model) of the whole run, in order; those without a result are counted as not run.
    """
    order = list(names)
    by_name = {(row["library"], row["model"]): row for row in rows}
    libraries = list(dict.fromkeys(library for library, _ in order))
    parts = [HEAD.format(**_versions()), _summary(order, by_name, libraries), _failures(rows), "## Every model"]
    for library in libraries:
        found = [by_name[job] for job in order if job[0] == library and job in by_name]
        if found:
            parts.append(f"### {library}\n\n{_table([_line(row) for row in found], COLUMNS)}")
    return "\n\n".join(parts) + "\n"


COLUMNS = ("model", "parameters", "prunable", "groups", "recorded in", "result", "what stays, or what failed")


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name).partition("+")[0] for name in ("timm", "torchvision", "transformers", "torch")}


def _table(rows: list[tuple[str, ...]], head: tuple[str, ...]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _summary(order: list[tuple[str, str]], found: dict[tuple[str, str], Row], libraries: list[str]) -> str:
    lines: list[tuple[str, ...]] = []
    for library in libraries:
        jobs = [job for job in order if job[0] == library]
        rows = [found[job] for job in jobs if job in found]
        tried = [row for row in rows if row["status"] != "skipped"]
        passed = sum(row["status"] == "pass" for row in tried)
        proved = sum(_proved(row) for row in tried)
        shares = [row["share"] for row in tried if "share" in row]
        lines.append(
            (
                library,
                f"{passed} of {len(tried)}" + (f" ({100 * passed / len(tried):.0f} %)" if tried else ""),
                str(proved),
                f"{100 * statistics.median(shares):.0f} %" if shares else "",
                str(len(rows) - len(tried)),
                str(len(jobs) - len(rows)),
            )
        )
    head = ("library", "pass", "cut proved", "prunable (median)", "skipped as giants", "not run")
    return f"## In short\n\n{_table(lines, head)}"


def _proved(row: Row) -> bool:
    """Whether the cut computed what it should, whatever else failed."""
    return "difference" in row and row.get("step") != "prove"


def _failures(rows: list[Row]) -> str:
    counts = Counter((row["step"], _kind(row)) for row in rows if row["status"] == "fail")
    if not counts:
        return "## What failed\n\nNothing."
    lines: list[tuple[str, ...]] = []
    for (step, kind), count in counts.most_common():
        which = [row["model"] for row in rows if row["status"] == "fail" and (row["step"], _kind(row)) == (step, kind)]
        lines.append((str(count), step, _cell(kind), ", ".join(which[:4]) + (", ..." if len(which) > 4 else "")))
    steps = (
        "`build`: the model or its forward failed; `group`: nothing can be cut; `prove`: the cut computes something else; "
        "`use`: forward, backward or copy; `save`; `share`: at most half of the parameters are prunable; `time`, `crash`."
    )
    return f"## What failed\n\n{_table(lines, ('models', 'step', 'reason', 'which'))}\n\n{steps}"


def _kind(row: Row) -> str:
    """The reason without the place in the model."""
    text = re.sub(r" in [\w.]+( \(\w+\))?", "", row["reason"] or "")
    return re.sub(r"\d+(\.\d+)?(e-?\d+)?", "N", text)[:110]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[")


def _line(row: Row) -> tuple[str, ...]:
    share = f"{100 * row['share']:.1f} %" if "share" in row else ""
    count = row.get("params", 0)
    size = f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.0f} k" if count else ""
    result = row["status"] if row["status"] != "fail" else f"**{row['step']}**"
    held = row.get("frozen_by", "") if row.get("frozen_by_share", 0) >= 0.005 else ""
    text = row["reason"] or (f"{100 * row['frozen_by_share']:.1f} %: {held}" if held else "")
    seconds = f"{row['seconds']:.1f} s" if "seconds" in row else ""
    return (row["model"], size, share, str(row.get("groups", "")), seconds, result, _cell(text[:160]))
