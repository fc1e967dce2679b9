"""How many recurrent weights a GRU on characters can lose, before and after a short retraining with the mask: JSON lines.

One GRU of 64 units between an embedding of 32 and a linear layer, on Tiny Shakespeare from PRUNUS_DATA: windows of 48 characters from
the first 90 % of the text to train on, 64 windows of the rest to measure the loss on (nats per character). Pruned at one magnitude over
input and hidden weights, over one of the two kinds (the share is of that kind), and at random over both. Means over seeds, paired with
random.
"""

from __future__ import annotations

import argparse
import copy
import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from paired import table
from torch import Tensor, nn

import prunus as px
from prunus.core.rng import torch_fork
from prunus.flow.recover import masks_of
from prunus.train.masks import Masks

WINDOW, BATCH = 48, 32


class Characters(nn.Module):
    """int64 `[B, T]` -> `[B, T, c]`."""

    def __init__(self, symbols: int, width: int = 64) -> None:
        super().__init__()
        self.embedding, self.gru = nn.Embedding(symbols, 32), nn.GRU(32, width, batch_first=True)
        self.out = nn.Linear(width, symbols)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.gru(self.embedding(x))[0])


def loss_of(net: nn.Module, windows: Tensor) -> Tensor:
    """Mean over characters, the first of each window left out."""
    return F.cross_entropy(net(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())


def train(net: nn.Module, text: Tensor, steps: int, seed: int, masks: dict[str, Tensor] | None = None) -> None:
    """Adam on random windows, gradients clipped at 5, as in the thesis."""
    engine = torch.optim.Adam(net.parameters(), lr=4e-3)
    if masks is not None:
        Masks(net, masks).attach(engine)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        starts = torch.randint(len(text) - WINDOW - 1, (BATCH,), generator=generator)
        engine.zero_grad()
        loss_of(net, torch.stack([text[at : at + WINDOW + 1] for at in starts.tolist()])).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5)
        engine.step()


def main() -> None:
    """One line for each arm and share."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--retrain", type=int, default=40)
    parser.add_argument("--shares", nargs="+", type=int, default=[30, 50, 70, 90])
    args = parser.parse_args()
    torch.set_num_threads(1)
    raw = (Path(os.environ["PRUNUS_DATA"]) / "text" / "tinyshakespeare.txt").read_text("utf-8")
    symbols = sorted(set(raw))
    place = {symbol: at for at, symbol in enumerate(symbols)}
    text = torch.tensor([place[symbol] for symbol in raw])
    fit_text, rest = text[: int(0.9 * len(text))], text[int(0.9 * len(text)) :]
    at = np.linspace(0, len(rest) - WINDOW - 2, 64).astype(int)
    held = torch.stack([rest[start : start + WINDOW + 1] for start in at.tolist()])
    nets: list[nn.Module] = []
    for seed in range(args.seeds):
        with torch_fork(seed, "network"):
            nets.append(Characters(len(symbols)))
        train(nets[-1], fit_text, args.steps, seed)

    def measured(net: nn.Module) -> float:
        with torch.no_grad():
            return float(loss_of(net, held))

    whole = [measured(net) for net in nets]
    for share in args.shares:
        before: dict[str, list[float]] = {"dense": whole}
        after: dict[str, list[float]] = {"dense": []}
        for seed, net in enumerate(nets):
            more = copy.deepcopy(net)
            train(more, fit_text, args.retrain, 1000 + seed)
            after["dense"].append(measured(more))
        for arm in ("both", "i2h", "h2h", "random"):
            before[arm], after[arm] = [], []
            for seed, net in enumerate(nets):
                budget = f"sparsity {share}%"
                if arm == "random":
                    plan = px.plan(net, "random", budget, layers="recurrent", within="all", minimum=0, seed=seed)
                else:
                    plan = px.plan(net, "rnn_sparsity", budget, connections=arm)
                small = plan.apply(net)
                before[arm].append(measured(small))
                train(small, fit_text, args.retrain, 1000 + seed, masks_of(small, plan))
                after[arm].append(measured(small))
        head = {"sparsity": share}
        table(head, "loss, not retrained", before, "random", better="lower")
        table(head, f"loss after {args.retrain} steps", after, "random", better="lower")


if __name__ == "__main__":
    main()
