"""`prunus compare PLAN_A PLAN_B DATA`: what plans over rows keep, side by side, without training on them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunus.cli import inputs
from prunus.cli.apply import load_plan
from prunus.cli.forecast import Pass, foresee, nothing_to_time
from prunus.cli.options import assign
from prunus.cli.score import read_signals
from prunus.cli.show import show
from prunus.core import registry
from prunus.core.errors import BadInput

if TYPE_CHECKING:
    from prunus.core.plan import Plan
    from prunus.prunables.dataset import Dataset
    from prunus.report.data import ReportData
    from prunus.signals.rowset import Signals

Found = dict[str, Any]
FORMS = {".html": "html", ".md": "markdown", ".txt": "text"}


@dataclass(frozen=True)
class Beside:
    """What selections are measured on: flags of the verb.

    Attributes:
        signals: folders with an embedding of the rows; encoder: a model that gives one, for rows and reference.
        reference: rows of role val that neighbours and the probe are asked for; reference_signals: their embedding.
        score: folder of `prunus score`, by which ranks are told.
        out: FILE.html, .md or .txt.
    """

    signals: tuple[str, ...] = ()
    encoder: str = ""
    reference: str = ""
    reference_signals: tuple[str, ...] = ()
    score: str = ""
    out: str = ""

    def refuse(self) -> None:
        """These flags are for plans over rows.

        Raises:
            BadInput: one of them was given.
        """
        for name, value in asdict(self).items():
            if value:
                raise BadInput(
                    f"--{name.replace('_', '-')} belongs to plans over rows: prunus compare PLAN_A PLAN_B DATA"
                )


def is_rows(word: str) -> bool:
    """Whether the word is the folder of a plan over rows."""
    return inputs.is_folder_of(word, "plan.json") and load_plan(word).unit == "rows"


def curate(words: list[str], beside: Beside, controls: int, pairs: Any, pick: Found, limits: Found) -> None:
    """Measure the plans and print, or write, what they are worth."""
    plans = _plans(words[:-1])
    options = assign(pairs, registry.find("curation", kind="measure"), also=pick["flags"])[0]
    place = _place(beside.out, pick["overwrite"])
    data = inputs.open_rows(words[-1], size=pick["size"])
    reference = inputs.open_rows(beside.reference, role="val", size=pick["size"]) if beside.reference else None
    found = _embeddings(beside, data, reference, pick, limits)
    if found is None:
        return
    from prunus.core.score import Score
    from prunus.flow.curation import compare_rows

    score = Score.load(beside.score) if beside.score else None
    report = compare_rows(
        plans, data, signals=found[0], reference=reference, reference_signals=found[1], score=score, controls=controls,
        command=f"prunus compare {' '.join(words)}", **options,
    )  # fmt: skip
    _tell(report, place, as_json=limits["as_json"])


def _plans(folders: list[str]) -> dict[str, Plan]:
    """Plans by the name of their folder, or by the whole path where two have the same name."""
    names = [Path(folder).name for folder in folders]
    return {
        name if names.count(name) == 1 else folder.rstrip("/"): load_plan(folder)
        for name, folder in zip(names, folders)
    }


def _place(out: str, overwrite: bool) -> Path | None:
    place = Path(out) if out else None
    if place is not None and place.suffix not in FORMS:
        raise BadInput(f"--out {out}: a report is written as {', '.join(FORMS)}")
    if place is not None and place.exists() and not overwrite:
        raise BadInput(f"{out} is there already: choose another name, or add --overwrite")
    return place


def _embeddings(
    beside: Beside, data: Dataset, reference: Dataset | None, pick: Found, limits: Found
) -> tuple[Signals | None, Signals | None] | None:
    """Embeddings of the rows and of the reference; None after a dry run."""
    if not beside.encoder:
        if nothing_to_time(**limits):
            return None
        found = [read_signals(list(folders)) for folders in (beside.signals, beside.reference_signals)]
        if reference is not None and bool(found[0]) != bool(found[1]):
            raise BadInput(
                "rows and reference need embeddings of one encoder: --signals and --reference-signals, or --encoder"
            )
        return (found[0] or [None])[0], (found[1] or [None])[0]
    if beside.signals or beside.reference_signals:
        raise BadInput("embeddings come from --encoder or from --signals: give one of them")
    from prunus.signals.collect import collect

    opened = inputs.open_model(beside.encoder, like=pick["like"], allow_code=pick["allow_code"])
    inputs.require_fit(opened, data)

    def embedded(rows: Dataset) -> Signals | None:
        return collect(opened.net, rows, ("embedding",), progress=False).rows

    def job(part: Dataset) -> int:
        embedded(part)
        return 0

    if foresee(Pass(data, job, cheaper="--signals you have, or a smaller --encoder"), **limits):
        return None
    return embedded(data), None if reference is None else embedded(reference)


def _tell(report: ReportData, place: Path | None, *, as_json: bool) -> None:
    from prunus.core import files
    from prunus.report import markdown, text

    if place is not None and place.suffix == ".html":
        from prunus.report import page

        page.write(report, place)
    elif place is not None:
        write = markdown.render if place.suffix == ".md" else text.render
        files.write_bytes(place, write(report).encode())
    assert report.selections is not None
    shown = report.selections
    numbers = {line.metric: dict(zip(shown.names, line.values)) for _, lines in shown.utilities for line in lines}
    value: Found = {"rows": shown.rows, "of": shown.of, "metrics": numbers, "notes": list(report.notes)}
    value |= {"verdicts": [asdict(one) for one in report.verdicts], "overlaps": [list(one) for one in shown.overlaps]}
    value |= {"out": str(place)} if place is not None else {}
    written = f"\nwritten  {place}" if place is not None else ""
    show(value, as_json=as_json, text=text.render(report).rstrip() + written)
