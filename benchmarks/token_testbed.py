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

import torch
from safetensors.torch import save_file
from torch import nn

from prunus.core.rng import torch_rng
from prunus.measure.token_rules import RuleLine, compare_rules
from prunus.tokens.gate import gates
from prunus.tokens.select import keep_mask
from prunus.train.canvas import Canvas, digits, foreground
from prunus.train.loop import fit
from prunus.train.models import TinyViT

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
                return TinyViT(self.canvas.side, PATCH, 1, dim=48, depth=2)
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


def compare(model: nn.Module, bed: Bed, keeps: list[int], seeds: int) -> Iterator[dict[str, Any]]:
    """One line for each place, count and rule, with the share of kept patches that touch the digit."""
    _, _, x, y = digits(bed.canvas.digit)
    canvases, alone = bed.canvas.place(x, torch_rng(0, "test canvas"))
    front = foreground(alone, PATCH)

    def on_digit(net: nn.Module) -> dict[str, float]:
        for gate in gates(net).values():
            assert gate.kept is not None
            kept = keep_mask(gate.kept, gate.incoming)
            return {"on_digit": round(float((kept & front).sum() / kept.sum()), 3)}
        return {"on_digit": round(float(front.float().mean()), 3)}

    budgets = [f"{keep} tokens" for keep in keeps]
    options = {"places": bed.places, "seeds": range(seeds), "batch": len(y), "also": on_digit}
    for line in compare_rules(model, (canvases, y), budgets, **options):
        yield as_json(line)


def as_json(line: RuleLine) -> dict[str, Any]:
    """Rounded, without what is empty."""
    out = {"rule": line.rule, "behind": line.place, "keep": line.count, "accuracy": round(line.accuracy, 4)}
    out["interval"] = [round(v, 4) for v in line.interval]
    if line.minus_random is not None and line.minus_random.interval is not None:
        between = [round(v, 4) for v in line.minus_random.interval]
        out |= {"minus_random": round(line.minus_random.mean, 4), "between": between, "word": line.word}
        out["block_macs"] = round(line.block_macs or 0, 3)
    return {**out, **line.also}


def main() -> None:
    """Train, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bed", choices=sorted(BEDS), default="A")
    parser.add_argument("--epochs", type=int, help="fewer for a quick look")
    parser.add_argument("--keep", type=int, nargs="+", default=[16, 8])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--save", help="write the trained weights here (safetensors; the test of rules reads the demo bed's)"
    )
    options = parser.parse_args()
    bed = BEDS[options.bed]
    epochs = options.epochs or bed.epochs
    model, seconds = train(bed, options.bed, epochs)
    if options.save:
        save_file(model.state_dict(), options.save)
    facts = {"bed": options.bed, "epochs": epochs, "train_cpu_seconds": round(seconds, 1), "torch": torch.__version__}
    print(json.dumps({**facts, "threads": torch.get_num_threads()}))
    for line in compare(model, bed, options.keep, options.seeds):
        print(json.dumps({"bed": options.bed, **line}), flush=True)


if __name__ == "__main__":
    main()
