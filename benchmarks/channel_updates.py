"""What the score and what the update are worth: ResNet-20 loses inner channels of every block, no training. JSON.

The first convolution of each of the 9 blocks loses a share of its filters; the second one, which reads them, is
compensated from 256 training images, block after block on the already pruned network. Accuracy on test images of
cifar10-jpeg300. Needs PRUNUS_DATA (cifar10/, weights/).
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from cifar import correct, resnet, tensors
from torch import Tensor, nn

from prunus.channels.l1 import l1
from prunus.channels.obspa import obspa
from prunus.channels.random import random
from prunus.compensate.joint_ls import joint_ls
from prunus.compensate.mean_bias import mean_bias
from prunus.compensate.reader import Matrix
from prunus.compensate.sweep import sweep
from prunus.core.edits import AddBias
from prunus.core.rng import Rng

TAPS = 9
SCORES: dict[str, Callable[[Any], Tensor]] = {
    "random": lambda group: random(group, rng=Rng(0, "channels/random")),
    "l1 (writer)": lambda group: l1(group, members="writers"),
    "l1": l1,
    "obspa": obspa,
    "obspa block": lambda group: obspa(group, score="block"),
}
UPDATES: dict[str, Any] = {"none": None, "mean_bias": mean_bias, "sweep": sweep, "joint_ls": joint_ls}


def reader_of(net: nn.Module, name: str, calib: Tensor) -> Matrix:
    """The second convolution of a block, with the statistics of what it reads now."""
    conv = net.get_submodule(f"{name}.conv2")
    caught: list[Tensor] = []
    hook = conv.register_forward_pre_hook(lambda module, args: caught.append(F.unfold(args[0], 3, padding=1)))
    net(calib)
    hook.remove()
    columns = caught[0].transpose(0, 1).flatten(1).double()
    mean = columns.mean(1).reshape(-1, TAPS)
    return Matrix(f"{name}.conv2", f"{name}.conv2.weight", conv.weight, 1, mean, columns @ columns.T)


def prune(net: nn.Module, name: str, calib: Tensor, share: float, score: Any, update: Any) -> None:
    """Drop a share of one block's inner channels, in place, as zeros in the reader."""
    reader = reader_of(net, name, calib)
    block = net.get_submodule(name)
    filters = block.conv1.weight
    writer = SimpleNamespace(name="conv1", weight=filters.flatten(1).unsqueeze(1))
    group = SimpleNamespace(name=name, size=len(filters), writers=(writer,), readers=(reader,), vectors=())
    gone = np.argsort(np.asarray(score(group)), kind="stable")[: round(share * len(filters))]
    edits = update(reader, gone) if update else ()
    block.conv2.weight[:, gone] = 0
    for edit in edits:
        value = torch.from_numpy(edit.value)
        if isinstance(edit, AddBias):
            block.conv2.bias = torch.nn.Parameter(value)
        else:
            block.conv2.weight.copy_(value)


def main() -> None:
    """One line for each share, score and update."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--test", type=int, default=2000, help="test images")
    parser.add_argument("--fit", type=int, default=256, help="calibration images")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.2, 0.3, 0.5], help="shares of channels dropped")
    args = parser.parse_args()
    dense = resnet()
    x, y = tensors("test", args.test)
    calib, _ = tensors("train", args.fit)
    rows: list[dict[str, Any]] = []
    with torch.no_grad():
        for share in [0.0, *args.shares]:
            for score in SCORES if share else ["l1"]:
                row: dict[str, Any] = {"dropped": share, "score": score}
                for update in UPDATES if share else ["none"]:
                    net = copy.deepcopy(dense)
                    for stage in (1, 2, 3):
                        for block in range(3):
                            name = f"layer{stage}.{block}"
                            prune(net, name, calib, share, SCORES[score], UPDATES[update])
                    row[update] = round(100 * float(correct(net, x, y).mean()), 2)
                rows.append(row)
    print(json.dumps({"data": "cifar10-jpeg300", "test": args.test, "fit": args.fit, "accuracy": rows}, indent=1))


if __name__ == "__main__":
    main()
