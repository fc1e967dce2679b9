"""Flags that several verbs share, each described once."""

from __future__ import annotations

from typing import Annotated

import typer

MODEL = (
    "A model: timm:NAME, torchvision:NAME, transformers:FOLDER, gguf:FILE, package:NAME, prunus:NAME, a folder that prunus "
    "saved, or with --allow-code module:function. '?weights=FILE&classes=10' may follow."
)
DATA = (
    "Rows: a parquet, csv, jsonl, npz, txt file or URL, a folder of images, datasets:NAME, sklearn:digits. "
    "'?label=fine&limit=5000&role=val' may follow."
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
AllowCode = Annotated[bool, typer.Option("--allow-code", help="Let a model named module:function run your code.")]
Like = Annotated[str, typer.Option("--like", help="Constructor of a saved model folder that does not name its own.")]
Size = Annotated[int, typer.Option("--size", min=0, help="Height and width of images; default the model's own.")]
Batch = Annotated[int, typer.Option("--batch", min=1, help="Rows at a time.")]
Seed = Annotated[int, typer.Option("--seed", help="Of everything that is drawn.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only time 20 batches: rate, hours, memory, disk.")]
MaxHours = Annotated[float, typer.Option("--max-hours", min=0, help="Refuse what would take longer.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is at --out.")]
Out = Annotated[str, typer.Option("--out", help="Folder to write; must be new.")]
Quarantine = Annotated[
    bool,
    typer.Option("--quarantine", help="Rows: leave out those whose signals are not finite or whose embedding is zero."),
]
MaxRam = Annotated[str, typer.Option(help="Rows: most that the method may take beyond the signals: 2GB.")]
Select = Annotated[
    str,
    typer.Option(
        "--select", help="Rows: selector, or several in turn: semdedup,ccs. Default ccs for hardness, else top."
    ),
]
HOURS = 24.0
