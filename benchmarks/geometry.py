"""Geometry of ResNet-20's last layer, dense and pruned, clean and corrupted. JSON lines.

Models: dense; L1 at 80 % MACs; magnitude at 50 and 20 % of the weights; random weights at 80 %; nothing recovered but norms,
re-estimated on training images. cifar10-jpeg300 test images. Needs PRUNUS_DATA (cifar10/, weights/).
"""

from __future__ import annotations

import argparse
import json

import numpy as np
from cifar import DATA, images, resnet20
from scipy.stats import rankdata

import prunus as px
from prunus.maths.geometry import Geometry, flips, fragile, similarity
from prunus.measure.geometry import CLEAN, geometries
from prunus.prunables.dataset import Dataset
from prunus.prunables.model import ModelPrunable
from prunus.sources.open import open_data

ARMS = {
    "l1 80% macs": ("l1", "80% macs"),
    "magnitude 50%": ("magnitude", "50% weights"),
    "magnitude 20%": ("magnitude", "20% weights"),
    "random 80%": ("random", "80% weights"),
}


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Chance that a positive row scores higher than another; NaN where one side is empty."""
    n, m = int(positive.sum()), int((~positive).sum())
    return float((rankdata(scores)[positive].sum() - n * (n + 1) / 2) / (n * m)) if n and m else float("nan")


def main() -> None:
    """One line for each model and condition, then similarities and fragile rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--test", type=int, default=500)
    parser.add_argument("--corruptions", default="gaussian_noise,blur,brightness,fog")
    parser.add_argument("--severities", default="1,3,5")
    args = parser.parse_args()
    path = str(DATA / "cifar10/test.parquet")
    data = open_data(path, image="img", label="label", normalise="imagenet", limit=args.test, role="test")
    fit_x, fit_y = images("train", limit=512)
    fit = Dataset((fit_x.numpy(), fit_y), role="fit")
    net = resnet20().eval()
    prunable = ModelPrunable(net, fit_x[:1])
    models = {"dense": net}
    for name, (method, budget) in ARMS.items():
        plan = px.plan(prunable, method, budget)
        models[name] = px.recover(plan.apply(prunable), plan=plan, data=fit, how="bn_stats")
    conditions = {
        "corruptions": args.corruptions.split(","),
        "severities": [int(s) for s in args.severities.split(",")],
    }
    found: dict[str, dict[str, Geometry]] = {}
    for name, model in models.items():
        found[name] = geometries(model, data, **conditions)
        clean = found[name][CLEAN]
        for condition, one in found[name].items():
            values = {key: round(float(getattr(one, key).mean()), 3) for key in ("angle", "length", "margin")}
            line = {
                "model": name,
                "condition": condition,
                "accuracy": round(100 * float(one.correct.mean()), 1),
                **values,
            }
            right = clean.correct
            lost = flips(clean, one)
            line["flips"] = round(100 * float(lost.mean()), 1)
            line["auc_margin_flip"] = round(auc(-clean.margin[right], lost[right]), 3)
            print(json.dumps(line), flush=True)
    margins = np.stack([one[CLEAN].margin for one in found.values()])
    print(json.dumps({"models": list(models), "margin_spearman": similarity(margins).round(2).tolist()}))
    shifts = {c: one.margin - found["dense"][CLEAN].margin for c, one in found["dense"].items() if c != CLEAN}
    print(
        json.dumps({"conditions": list(shifts), "shift_spearman": similarity(list(shifts.values())).round(2).tolist()})
    )
    weak = fragile(found["dense"][CLEAN], [found[name][CLEAN] for name in ARMS])
    dense = found["dense"][CLEAN]
    print(json.dumps({
        "fragile": round(100 * float(weak.mean()), 1),
        "auc_margin_fragile": round(auc(-dense.margin[dense.correct], weak[dense.correct]), 3),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
