"""Which visual tokens to keep: rules compared on digits in clutter, where the patches that matter are known. JSON lines.

    PYTHONPATH=src python benchmarks/token_testbed.py                  # bed A: about 90 CPU seconds of training
    PYTHONPATH=src python benchmarks/token_testbed.py --bed demo       # about 25 CPU seconds

Bed A is the hard one: a 12 x 12 digit anywhere on a 32 x 32 canvas, patch 4, a timm VisionTransformer of width 64 and depth 4.
The demo bed puts digits on the patch grid and has depth 2, so it is learnt in seconds. Rules are applied to the same trained
model and the same 397 test canvases; `random` is the mean over its seeds. Words (better, worse, tie) are against random: paired
bootstrap over canvases, Holm's correction over all lines of a bed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunus.core.rng import torch_rng
from prunus.measure.predict import predict
from prunus.measure.stats import over_rows, verdicts, wilson
from prunus.prunables.downsample import downsampled
from prunus.prunables.stream import TokenStream
from prunus.tokens.gate import gates
from prunus.tokens.select import keep_mask
from prunus.train.canvas import Canvas, SmallViT, digits, foreground
from prunus.train.loop import fit

RULES = ("fastervlm", "vispruner", "received", "feature_norm", "grid", "lowest")
PATCH = 4


@dataclass(frozen=True)
class Bed:
    """A model, its data and its training."""

    canvas: Canvas
    epochs: int
    lr: float
    places: tuple[int, ...]

    def model(self, name: str) -> nn.Module:
        """Untrained, with weights drawn from seed 0."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            if name == "demo":
                return SmallViT(self.canvas.side, PATCH, dim=48, depth=2)
            from timm.models.vision_transformer import VisionTransformer

            sizes = {"img_size": 32, "patch_size": PATCH, "in_chans": 1, "num_classes": 10}
            return VisionTransformer(**sizes, embed_dim=64, depth=4, num_heads=4, mlp_ratio=2)


BEDS = {
    "A": Bed(Canvas(), 45, 2e-3, (0, 1, 2)),
    "demo": Bed(Canvas(noise=0.1, step=PATCH), 20, 3e-3, (0,)),
}


def train(bed: Bed, name: str, epochs: int) -> tuple[nn.Module, float]:
    """The trained model and its CPU seconds."""
    model = bed.model(name)
    x, y, _, _ = digits(bed.canvas.digit)
    settings = {"optimizer": "adamw", "lr": bed.lr, "schedule": "onecycle", "weight_decay": 0.02, "batch": 100}
    start = time.process_time()
    fit(model, (x, y), epochs=epochs, augment=bed.canvas, seed=0, **settings)
    return model, time.process_time() - start


def rows_of(model: nn.Module, data: tuple[Tensor, Tensor], front: Tensor) -> tuple[np.ndarray, float]:
    """Correct or not for each canvas, and the share of kept patches that touch the digit (of all patches without a gate)."""
    correct = predict(model, data, batch=len(data[0])).correct.astype(np.float64)
    found = gates(model)
    if not found:
        return correct, float(front.float().mean())
    (gate,) = found.values()
    kept = keep_mask(gate.kept, gate.incoming)
    return correct, float((kept & front).sum() / kept.sum())


def compare(model: nn.Module, bed: Bed, keeps: list[int], seeds: int) -> Iterator[dict[str, Any]]:
    """One line for each place, count and rule."""
    _, _, x, y = digits(bed.canvas.digit)
    canvases, alone = bed.canvas.place(x, torch_rng(0, "test canvas"))
    data, front, stream = (canvases, y), foreground(alone, PATCH), TokenStream(model)
    dense, share = rows_of(model, data, front)
    yield {
        "rule": "dense",
        "accuracy": round(dense.mean(), 4),
        "interval": _interval(dense),
        "digit_patches": round(share, 3),
    }
    for keep in keeps:
        small, tokens = downsampled(model, keep)
        correct, _ = rows_of(small, data, front)
        line = {
            "rule": "downsample",
            "keep": tokens,
            "accuracy": round(correct.mean(), 4),
            "interval": _interval(correct),
        }
        yield {**line, "note": "smaller images, no training"}
    lines, gaps = [], []
    for place in bed.places:
        for keep in keeps:
            plans = [stream.plan("random", f"{keep} tokens", at=place, seed=seed) for seed in range(seeds)]
            draws = [rows_of(stream.apply(plan), data, front) for plan in plans]
            control = np.mean([correct for correct, _ in draws], axis=0)
            head = {"behind_block": place, "keep": keep, "of": stream.encoder.tokens}
            accuracies = [round(float(correct.mean()), 4) for correct, _ in draws]
            yield {**head, "rule": "random", "accuracy": round(control.mean(), 4), "seeds": accuracies}
            for rule in RULES:
                plan = stream.plan(rule, f"{keep} tokens", at=place)
                correct, precision = rows_of(stream.apply(plan), data, front)
                ratio = plan.planned["block_macs"] / plan.dense["block_macs"]
                line = {**head, "rule": rule, "accuracy": round(correct.mean(), 4), "interval": _interval(correct)}
                lines.append({**line, "on_digit": round(precision, 3), "block_macs": round(ratio, 3)})
                gaps.append(over_rows(correct, control))
    for line, gap, word in zip(lines, gaps, verdicts(gaps, better="higher")):
        assert gap.interval is not None
        yield {**line, "minus_random": round(gap.mean, 4), "between": [round(v, 4) for v in gap.interval], "word": word}


def _interval(correct: np.ndarray) -> list[float]:
    return [round(value, 4) for value in wilson(int(correct.sum()), correct.size)]


def main() -> None:
    """Train, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bed", choices=sorted(BEDS), default="A")
    parser.add_argument("--epochs", type=int, help="fewer for a quick look")
    parser.add_argument("--keep", type=int, nargs="+", default=[16, 8])
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    bed = BEDS[options.bed]
    epochs = options.epochs or bed.epochs
    model, seconds = train(bed, options.bed, epochs)
    facts = {"bed": options.bed, "epochs": epochs, "train_cpu_seconds": round(seconds, 1), "torch": torch.__version__}
    print(json.dumps({**facts, "threads": torch.get_num_threads()}))
    for line in compare(model, bed, options.keep, options.seeds):
        print(json.dumps({"bed": options.bed, **line}), flush=True)


if __name__ == "__main__":
    main()
