"""What recoveries give back to a small byte-level language model, each beside the dense model with the same recovery: JSON lines.

A llama of three blocks (width 48, 8 heads over 4 key-value heads) learns Tiny Shakespeare for a few hundred steps; then it is pruned and
recovered on other windows of the same training part, and its loss is measured on the last tenth of the text. Means over seeds (of the
network, its training, and the recovery). Every line is written when it is done; lines that are there already are not made again.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import prunus as px

SIZES = {"hidden_size": 48, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 8}
LENGTH, BATCH = 32, 16
HALF, WIDTH = "magnitude 50%", "80% params"
Rows = list[dict[str, torch.Tensor]]
Arm = Callable[["Subject"], nn.Module]


class Subject:
    """One trained network, its rows, and what is asked of an arm.

    Args:
        seed: of weights, windows and recovery.
        text: bytes, int64.
        steps, base_steps: of recovery and of the first training.
    """

    def __init__(self, seed: int, text: torch.Tensor, steps: int, base_steps: int) -> None:
        cut = len(text) * 9 // 10
        self.seed, self.steps = seed, steps
        self.fit = windows(text[:cut], base_steps, seed)
        self.more = windows(text[:cut], steps, 1000 + seed)
        self.calib = windows(text[:cut], 8, 2000 + seed)
        whole = text[cut : cut + 384 * LENGTH].view(-1, BATCH, LENGTH)
        self.test: Rows = [{"input_ids": part} for part in whole]
        self.dense = trained(seed, self.fit, base_steps)
        self.prunable = px.ModelPrunable(self.dense, {"input_ids": self.test[0]["input_ids"][:1]})
        self.report: dict[str, float] = {}

    def plan(self, method: str, budget: str, **settings: Any) -> px.Plan:
        """A plan over the matrices of the blocks."""
        given = {"layers": "blocks", "data": self.calib, **settings}
        return px.plan(self.prunable, method, budget, **given)

    def recover(self, model: nn.Module, how: str, plan: px.Plan | None = None, **settings: Any) -> nn.Module:
        """`steps` steps on other windows."""
        self.report = {}
        given = {"steps": self.steps, "seed": self.seed, "plan": plan, "report": self.report, **settings}
        return px.recover(model, data=self.more, how=how, **given)

    def loss(self, model: nn.Module) -> float:
        """Mean loss of a byte of the test part."""
        with torch.no_grad():
            found = [float(model(**rows, labels=rows["input_ids"]).loss) for rows in self.test]
        return float(np.mean(found))


def windows(text: torch.Tensor, count: int, seed: int) -> Rows:
    """So many batches of windows from random places."""
    made = torch.Generator().manual_seed(seed)
    starts = torch.randint(0, len(text) - LENGTH, (count, BATCH), generator=made)
    return [{"input_ids": torch.stack([text[at : at + LENGTH] for at in row])} for row in starts.tolist()]


def trained(seed: int, rows: Rows, steps: int) -> nn.Module:
    """The dense network."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {**SIZES, "vocab_size": 256, "num_key_value_heads": 4, "bos_token_id": 1, "eos_token_id": 2}
    config = LlamaConfig(**sizes, tie_word_embeddings=True)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = LlamaForCausalLM(config)
    px.fit(net, rows, steps=steps, optimizer="adamw", lr=3e-3, warmup=steps // 10, weight_decay=0.01, seed=seed)
    return net.eval()


def zeroed(method: str, budget: str = "50% weights", **settings: Any) -> Arm:
    """Zeros, no training."""
    return lambda on: on.plan(method, budget, **settings).apply(on.dense)


def after_zeros(how: str, method: str = "magnitude", budget: str = "50% weights", **settings: Any) -> Arm:
    """Zeros, then a recovery that keeps them."""

    def arm(on: Subject) -> nn.Module:
        plan = on.plan(method, budget)
        own = {"teacher": on.dense} if settings.get("mode") == "reconstruct" else {}
        return on.recover(plan.apply(on.dense), how, plan, **own, **settings)

    return arm


def taught_zeros(method: str, budget: str) -> Arm:
    """A fixed mask, and the dense model as teacher with the weights that ast gives it."""

    def arm(on: Subject) -> nn.Module:
        plan = on.plan(method, budget, within="output") if "%" in budget else on.plan(method, budget)
        return on.recover(plan.apply(on.dense), "distill", plan, teacher=on.dense, alpha=0.67, temperature=2.0, **FULL)

    return arm


def on_dense(how: str, **settings: Any) -> Arm:
    """The control: the dense network with the same recovery of the same matrices."""

    def arm(on: Subject) -> nn.Module:
        masks = {g.name: torch.ones_like(on.dense.get_parameter(g.name), dtype=torch.bool)
                 for g in on.prunable.groups("weights") if ".layers." in g.name}  # fmt: skip
        return on.recover(on.dense, how, masks=masks, **settings)

    return arm


def searched(method: str, budget: str, **options: Any) -> Arm:
    """Masks and weights from a search that trains for as many steps as the recoveries do."""

    def arm(on: Subject) -> nn.Module:
        plan = px.plan(on.prunable, method, budget, data=on.more, steps=on.steps, seed=on.seed, **options)
        return plan.apply(on.dense)

    return arm


def narrow(method: str, budget: str = WIDTH) -> Arm:
    """Heads and neurons gone, then adapters on every matrix for as many steps as the one-stage searches take."""

    def arm(on: Subject) -> nn.Module:
        plan = px.plan(on.prunable, method, budget, groups="inner", data=on.calib, seed=on.seed, compensate="none")
        return on.recover(plan.apply(on.dense), "perp", **PERP["adapters"])

    return arm


PERP: dict[str, dict[str, Any]] = {
    "perp, norms": {"parts": ("norms",), "lr": 5e-3},
    "adapters": {"rank": 8, "lr": 3e-3, "parts": ("adapters",)},
    "perp, mask_lora": {"rank": 8, "lr": 3e-3},
    "perp, lora_prune": {"rank": 8, "lr": 3e-3, "adapter": "lora_prune"},
    "perp, scale_lora": {"rank": 8, "lr": 3e-3, "adapter": "scale_lora"},
}
FULL = {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.0}
AST: dict[str, Any] = {"layers": "blocks", "lr": 1e-3, "every": 5, "decay": 1e-4}
ARMS: dict[str, Arm] = {
    "dense": lambda on: copy.deepcopy(on.dense),
    "random 50%": zeroed("random"),
    HALF: zeroed("magnitude"),
    "wanda 50%": zeroed("wanda"),
    "random 50% + eora": zeroed("random", compensate="eora", rank=8),
    f"{HALF} + plain low rank": zeroed("magnitude", compensate="eora", rank=8, space="plain"),
    f"{HALF} + eora": zeroed("magnitude", compensate="eora", rank=8),
    "wanda 50% + eora": zeroed("wanda", compensate="eora", rank=8),
    "sparsegpt 50%": zeroed("sparsegpt"),
    "sparsegpt 50% + eora": zeroed("sparsegpt", compensate="eora", rank=8),
    "dense + finetune": on_dense("finetune", **FULL),
    f"{HALF} + finetune": after_zeros("finetune", **FULL),
    "random 50% + finetune": after_zeros("finetune", "random", **FULL),
    **{f"dense + {name}": on_dense("perp", **options) for name, options in PERP.items()},
    **{f"{HALF} + {name}": after_zeros("perp", **options) for name, options in PERP.items()},
    "random 50% + perp, mask_lora": after_zeros("perp", "random", **PERP["perp, mask_lora"]),
    f"{HALF} + distill": taught_zeros("magnitude", "50% weights"),
    "ast 50%": searched("ast", "50% weights", **AST),
    "ast 50%, boost 16": searched("ast", "50% weights", boost=16, **AST),
    "magnitude 2:4": zeroed("magnitude", "2:4"),
    "random 2:4": zeroed("random", "2:4"),
    "magnitude 2:4 + distill": taught_zeros("magnitude", "2:4"),
    "ast 2:4": searched("ast", "2:4", **AST),
    "channels/random, 80% params + adapters": narrow("channels/random"),
    "l1, 80% params + adapters": narrow("l1"),
    "loraprune, 80% params": searched("loraprune", WIDTH, lr=3e-3),
    "atp, 80% params": searched("atp", WIDTH, lr=3e-3, decide_lr=1e-2),
    f"{HALF} + perp, reconstruct": after_zeros("perp", mode="reconstruct", rank=8, lr=3e-3, batch=BATCH),
}


def main() -> None:
    """Every arm and seed that the file does not hold yet; then means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--base-steps", type=int, default=300)
    parser.add_argument(
        "--text", type=Path, default=Path(os.environ.get("PRUNUS_DATA", ".")) / "text/tinyshakespeare.txt"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    text = torch.frombuffer(bytearray(args.text.read_bytes()), dtype=torch.uint8).long()
    lines = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    done = {(line["arm"], line["seed"]) for line in lines}
    for seed in range(args.seeds):
        left = [arm for arm in ARMS if (arm, seed) not in done]
        subject = Subject(seed, text, args.steps, args.base_steps) if left else None
        for arm in left:
            assert subject is not None
            start, subject.report = time.process_time(), {}
            model = ARMS[arm](subject)
            seconds = time.process_time() - start
            line = {"arm": arm, "seed": seed, "loss": subject.loss(model), "cpu_seconds": round(seconds, 2)}
            line["params"] = sum(p.numel() for p in model.parameters())
            line |= {name: subject.report[name] for name in ("trainable", "lost_at_merge") if name in subject.report}
            lines.append(line)
            with args.out.open("a") as file:
                file.write(json.dumps(line) + "\n")
    for arm in ARMS:
        own = [line for line in lines if line["arm"] == arm]
        losses = np.array([line["loss"] for line in own])
        sd = losses.std(ddof=1) if len(losses) > 1 else float("nan")
        costs = {
            name: round(float(np.mean([line.get(name, 0.0) for line in own])), 1)
            for name in ("params", "trainable", "cpu_seconds")
        }
        print(json.dumps({"arm": arm, "loss": round(losses.mean(), 3), "sd": round(sd, 3), **costs}))


if __name__ == "__main__":
    main()
