"""ResNet-20 with weights of few bits, no data: rounded, and with readers repaired before they are rounded. JSON lines.

Accuracy on cifar10-jpeg300 test images, paired differences over them, words corrected by Holm over the run. The first and
last matrix have 8 bits. Needs PRUNUS_DATA (cifar10/, weights/).
"""

from __future__ import annotations

import argparse
import copy
import json

import numpy as np
from cifar import correct, resnet, tensors

from prunus.measure.stats import over_rows, verdicts
from prunus.recovery.udfc_bits import udfc_bits


def main() -> None:
    """One line for each number of bits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--test", type=int, default=2000, help="test images")
    parser.add_argument("--bits", type=int, nargs="+", default=[8, 6, 5, 4, 3], help="bits of a weight")
    args = parser.parse_args()
    net = resnet(20)
    x, y = tensors("test", args.test)
    row = (np.zeros((1, 3, 32, 32), dtype=np.float32), np.zeros(1, dtype=np.int64))

    print(
        json.dumps({"data": "cifar10-jpeg300", "test": args.test, "dense": round(100 * correct(net, x, y).mean(), 2)})
    )
    lines, gaps = [], []
    for bits in args.bits:
        nets = [udfc_bits(copy.deepcopy(net), row, bits=bits, repair=way) for way in (False, True)]
        plain, repaired = (correct(one, x, y) for one in nets)
        gap = over_rows(repaired.astype(float), plain.astype(float))
        shares = {"rounded": plain.mean(), "repaired": repaired.mean(), "difference": gap.mean}
        lines.append({"bits": bits, **{name: round(100 * float(value), 2) for name, value in shares.items()}})
        gaps.append(gap)
    for line, word in zip(lines, verdicts(gaps, better="higher")):
        print(json.dumps({**line, "verdict": word}))


if __name__ == "__main__":
    main()
