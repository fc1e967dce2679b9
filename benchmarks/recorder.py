"""What the recorder costs a training run: ResNet-8 of width 16, 16x16 images, batches of 64, all fields recorded."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from interleaved import line

from prunus.signals.recorder import Recorder
from prunus.train.models import resnet8, seeded


def epoch(rows: int, record: Callable[[], Recorder | None]) -> Callable[[], None]:
    """A user's own loop over one epoch; per-row losses, as any recorded run has them."""
    x, y = torch.randn(rows, 3, 16, 16), torch.randint(0, 10, (rows,))
    x = x.contiguous(memory_format=torch.channels_last)
    model = seeded(resnet8, 0).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)

    def run() -> None:
        recorder = record()
        for ids in torch.arange(rows).split(64):
            logits = model(x[ids])
            loss = F.cross_entropy(logits, y[ids], reduction="none")
            optimizer.zero_grad()
            loss.mean().backward()
            optimizer.step()
            if recorder is not None:
                recorder.batch(ids, logits=logits, labels=y[ids], loss=loss)
        if recorder is not None:
            recorder.end_epoch()

    return run


def calls(rows: int, recorder: Recorder) -> Callable[[], None]:
    """The recorder's share of an epoch, on its own: differences of two long runs are noisier than 3 %."""
    logits, y, loss = torch.randn(rows, 10), torch.randint(0, 10, (rows,)), torch.rand(rows)

    def run() -> None:
        for ids in torch.arange(rows).split(64):
            recorder.batch(ids, logits=logits[ids], labels=y[ids], loss=loss[ids])
        recorder.end_epoch()

    return run


def main() -> None:
    """The whole run with and without, and the recorder's calls alone; files are written at the end of each epoch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    ids = np.arange(options.rows)
    memory = Recorder(ids, ids=ids)
    with tempfile.TemporaryDirectory() as folder:
        disk = Recorder(ids, ids=ids, out=Path(folder) / "rec")
        ways = {
            "without": epoch(options.rows, lambda: None),
            "recorder": epoch(options.rows, lambda: memory),
            "recorder and files": epoch(options.rows, lambda: disk),
        }
        facts = {"rounds": options.rounds, "rows": options.rows, "batch": 64}
        line("recorder / training", ways, over="without", limit=1.03, **facts)
        alone = Recorder(ids, ids=ids, out=Path(folder) / "alone")
        ways = {"without": ways["without"], "recorder calls and files": calls(options.rows, alone)}
        line("recorder alone / training", ways, over="without", limit=0.03, **facts)


if __name__ == "__main__":
    main()
