"""ResNet-20 with two tasks (class; animal or vehicle) cut under a budget of loss for each task, beside L1. JSON lines.

The second head is a linear layer fitted to frozen features of training images. The losses are probed on test images that are
not measured on (on training images they are nearly 0), nothing is recovered. Accuracy of both tasks on cifar10-jpeg300 test
images. Control: random channels with the counts of each arm, 5 seeds; differences of the worst task's rows are paired, words
corrected by Holm. Needs PRUNUS_DATA.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import torch
from cifar import images, resnet20
from torch import Tensor, nn

import prunus as px
from prunus.core.budget import Budget
from prunus.core.registry import find
from prunus.flow.controls import random_like
from prunus.flow.search import plan_search
from prunus.measure.stats import over_rows, verdicts
from prunus.prunables.dataset import Dataset
from prunus.prunables.model import ModelPrunable
from prunus.train.step import Step

SEEDS = 5
ANIMALS = torch.tensor([0, 0, 1, 1, 1, 1, 1, 1, 0, 0])
TASKS = ("class", "animal")


class TwoTasks(nn.Module):
    """The network, and a second reading of what its last layer reads."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net, self.animal = net, nn.Linear(64, 2)
        self._features: list[Tensor] = []
        last = [module for module in net.modules() if isinstance(module, nn.Linear)][-1]
        self.kind = nn.Linear(64, 10)
        self.kind.load_state_dict(last.state_dict())
        for name, module in net.named_modules():
            if module is last:
                setattr(net.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], nn.Identity())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.net(x)
        return self.kind(features), self.animal(features)


def step(model: nn.Module, batch: Any) -> Step:
    """Losses of both tasks."""
    ids, x, y = batch
    kind, animal = model(x)
    entropy = nn.functional.cross_entropy
    losses = {"class": entropy(kind, y, reduction="none"), "animal": entropy(animal, ANIMALS[y], reduction="none")}
    return Step(ids, kind, y, losses["class"] + losses["animal"], losses=losses)


def fit_second_head(model: TwoTasks, x: Tensor, y: Tensor) -> None:
    """Full-batch L-BFGS on features that stay as they are."""
    with torch.no_grad():
        features = torch.cat([model.net(part) for part in x.split(250)])
    engine = torch.optim.LBFGS(model.animal.parameters(), max_iter=100)

    def closure() -> Tensor:
        engine.zero_grad()
        loss = nn.functional.cross_entropy(model.animal(features), ANIMALS[y])
        loss.backward()
        return loss

    engine.step(closure)


def main() -> None:
    """One line for each arm."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--fit", type=int, default=2000, help="training images of the second head")
    parser.add_argument("--probe", type=int, default=256, help="images for the losses")
    parser.add_argument("--rate", type=float, default=0.2, help="first rise of a loss, and its slope")
    parser.add_argument("--step", type=float, default=0.1, help="between ratios")
    parser.add_argument("--budget", default="80% macs")
    args = parser.parse_args()
    x, y = images("test", limit=args.test + args.probe)
    probe_x, probe_y = x[args.test :], y[args.test :]
    x, y = x[: args.test], y[: args.test]
    fit_x, fit_y = images("train", limit=args.fit)
    test, truth = torch.as_tensor(x), torch.as_tensor(y)
    model = TwoTasks(resnet20()).eval()
    fit_second_head(model, fit_x, torch.as_tensor(fit_y))
    rows = Dataset((probe_x.numpy(), probe_y), role="val")
    prunable = ModelPrunable(model, test[:1])

    def correct(net: nn.Module) -> np.ndarray:
        with torch.inference_mode():
            outputs = [net(part) for part in test.split(250)]
        kind, animal = (torch.cat(side).argmax(1) for side in zip(*outputs))
        return np.stack([(kind == truth).numpy(), (animal == ANIMALS[truth]).numpy()])

    dense = correct(model)
    arms: dict[str, dict[str, Any]] = {
        "pagcp": {"val": rows, "step": step},
        "l1 uniform": {"scope": "group"},
        "l1 global": {"scope": "global"},
    }
    lines, gaps = [], []
    for name, options in arms.items():
        start = time.process_time()
        if name == "pagcp":
            plan = plan_search(prunable, find("channels/pagcp"), Budget.parse(args.budget), **options,
                               options={"step": args.step, "rate": args.rate, "rate_slope": args.rate})  # fmt: skip
        else:
            plan = px.plan(prunable, "l1", args.budget, **options)
        spent = time.process_time() - start
        found = correct(prunable.apply(plan))
        random = np.mean([correct(prunable.apply(random_like(plan, seed))) for seed in range(SEEDS)], axis=0)
        worst = int((found.mean(1) - dense.mean(1)).argmin())
        gaps.append(over_rows(found[worst].astype(float), random[worst]))
        shares = dict(zip(TASKS, found.mean(1))) | {f"random {t}": v for t, v in zip(TASKS, random.mean(1))}
        shares |= {"macs": plan.planned["macs"] / plan.dense["macs"], "difference": gaps[-1].mean}
        line = {"arm": name, "worst": TASKS[worst], **{key: round(100 * float(v), 2) for key, v in shares.items()}}
        lines.append({**line, "cpu_seconds": round(spent, 1), "tried": plan.provenance.get("evaluations", 0)})
    head = {
        "data": "cifar10-jpeg300",
        **vars(args),
        **{t: round(100 * float(v), 2) for t, v in zip(TASKS, dense.mean(1))},
    }
    print(json.dumps(head))
    for line, word in zip(lines, verdicts(gaps, better="higher")):
        print(json.dumps({**line, "verdict": "below random" if word == "worse" else word}))


if __name__ == "__main__":
    main()
