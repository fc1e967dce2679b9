"""What masks cost a training step, and what an event costs: ResNet-20, 32x32, batches of 128. One JSON line each.

The masks' part of a step is also measured alone: the difference of two long steps is noisier than 1 %.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F
from interleaved import line

from prunus.core.budget import Budget
from prunus.flow.while_training import Pruning
from prunus.schedule.event import Event
from prunus.schedule.one_shot import OneShot
from prunus.train.models import CifarResNet, seeded


def trainer(density: str | None, batch: int) -> tuple[Callable[[], None], Callable[[], None], Pruning | None]:
    """(a whole step, its backward pass with the forward, the pruning) of a network, dense without a density."""
    net = seeded(CifarResNet, 0, 20).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (batch,))
    optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, weight_decay=5e-4)
    pruning = None
    if density is not None:
        pruning = Pruning(net, OneShot(f"{density} weights"), optimizer=optimizer, total=1, within="all")

    def backward() -> None:
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()

    def step() -> None:
        backward()
        optimizer.step()

    step()
    return step, backward, pruning


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=128)
    options = parser.parse_args()
    facts = {"model": "resnet20", "batch": options.batch, "rounds": options.rounds}
    dense, backward, _ = trainer(None, options.batch)
    sparse, _, pruning = trainer("10%", options.batch)
    assert pruning is not None
    optimizer = pruning._optimizer
    line("masked step / dense step", {"dense": dense, "masked": sparse}, over="dense", limit=1.01, **facts)
    hook = {"dense": dense, "masks alone": lambda: pruning.masks._after_step(optimizer, None, None)}
    line("masks alone / dense step", hook, over="dense", limit=0.01, **facts)
    exchange = Event("regrow", Budget.parse("10% weights"), ("grad",), exchange=0.3)
    events = {"forward and backward": backward, "granet event": lambda: pruning(exchange, pruning.model)}
    line("granet event / dense backward", events, over="forward and backward", limit=1.0, **facts)


if __name__ == "__main__":
    main()
