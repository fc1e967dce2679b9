"""Prune, combine, augment on cifar10-jpeg300 (not comparable with papers): 20 stored images a class, equal steps, 5 seeds.

    PRUNUS_DATA=... PYTHONPATH=src python benchmarks/packed_cifar.py --seeds 5 --ipc 20

Kept from the first 6,000 training images at 32 x 32, tested on 2,000; a ResNet-8 of width 8, 200 steps of 64 for every arm,
flipped. Easiest by EL2N after 150 steps. Prints one line of JSON for each arm: mean test accuracy, and the paired difference
from random-balanced images of equal storage with its 95 % interval and verdict. About five CPU-minutes.
"""

from __future__ import annotations

import argparse
from typing import Any

import cifar
import paired
import torch
from kept_digits import CONTROL, Arms, gathered, packed

import prunus as px
from prunus.train.augment import flip
from prunus.train.models import resnet8, seeded

SETTINGS: dict[str, Any] = {"steps": 200, "lr": 0.05, "batch": 64, "channels_last": True, "augment": flip}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--ipc", type=int, nargs="+", default=[20])
    parser.add_argument("--rows", type=int, default=6000)
    asked = parser.parse_args()
    x, y = cifar.images("train", limit=asked.rows)
    rows = px.Dataset((x.numpy(), y), name="cifar10-jpeg300")
    test, truth = cifar.images("test", limit=2000)
    test = test.contiguous(memory_format=torch.channels_last)

    def arms(ipc: int, seed: int) -> Arms:
        return packed((rows, test, truth), lambda s: seeded(resnet8, s, width=8), ipc, SETTINGS, seed)

    for ipc in asked.ipc:
        paired.table({"images_per_class": ipc}, "accuracy", gathered(arms, asked.seeds, ipc), CONTROL)


if __name__ == "__main__":
    main()
