"""Wrong labels found among digits: px.label_issues against the labels spoilt on purpose, beside cleanlab on the same probabilities.

    PYTHONPATH=src python benchmarks/label_issues.py --seeds 5

1,297 of scikit-learn's digits, 20 % of them with another label. Held-out probabilities by linear probes on the pixels and by
five trainings of an MLP 64-128-10; each rule of ours and each filter of cleanlab is given the same. Prints one line of
JSON for each way and set of probabilities, means over the seeds: rows called, precision, recall, F1 against the labels
that were spoilt, and the overlap (Jaccard) of our rules with cleanlab's filters. Then one line for each criterion over
rows: the average precision of its ranking, wrong labels first, and precision and recall of its hardest 20 %.
cleanlab is optional (pip install 'prunus[labels]'); without it the lines about it say so.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score

import prunus as px
from prunus.core import registry
from prunus.core.rng import Rng, uniform
from prunus.maths.confident import by_confidence, by_noise_rate, thresholds
from prunus.prunables.label_noise import symmetric
from prunus.rows.label_quality import label_quality
from prunus.signals.held_out_probs import probe
from prunus.train.models import mlp

Mask = np.ndarray
FILTERS = ("prune_by_noise_rate", "confident_learning", "both", "low_normalized_margin")
RECORDED = ("aum", "el2n_sum", "forgetting", "correctness", "loss", "el2n", "vog", "deepfool", "dual", "dyn_unc")


def spoilt(noise: float, seed: int) -> tuple[px.Dataset, Mask]:
    """Digits with wrong labels, and which rows these are."""
    digits = load_digits()
    at = np.argsort(uniform(0, "split", np.arange(digits.target.size)))[:1297]
    clean, ids = digits.target[at].astype(np.int64), np.arange(1297)
    labels = symmetric(clean, ids, noise, Rng(seed, "noise"))
    return px.Dataset(((digits.data[at] / 16).astype(np.float32), labels), ids=ids, name="digits"), labels != clean


def training(seed: int, **more: Any) -> px.Fit:
    """The MLP, 600 steps in each run."""
    settings = {"lr": 0.1, "batch": 128, "progress": False}
    return px.Fit(lambda: mlp(64, 128, 10), steps=600, seeds=(seed,), settings=settings, **more)


def held_out(data: px.Dataset, seed: int) -> Iterator[tuple[str, np.ndarray, float]]:
    """(name, probabilities `[n, c]`, processor seconds) of both ways."""
    begin = time.process_time()
    labels, x = np.asarray(data.labels), data.backing.column("x")
    yield "probe", probe(x, labels, data.ids, rng=Rng(seed, "probe")), time.process_time() - begin
    begin = time.process_time()
    made = training(seed).run(data, ("held_out_probs",))[0].held_out_probs.double().numpy()
    yield "training", made, time.process_time() - begin


def called(probs: np.ndarray, data: px.Dataset) -> dict[str, Mask]:
    """What our rules call, and cleanlab's filters where it is installed."""
    labels, ids = np.asarray(data.labels), data.ids
    limits = thresholds(probs, labels, ids)
    found = {
        "noise_rate": by_noise_rate(probs, labels, limits, ids),
        "confident": by_confidence(probs, labels, limits),
    }
    if importlib.util.find_spec("cleanlab") is None:
        return found
    from cleanlab.filter import find_label_issues

    return found | {f"cleanlab {name}": find_label_issues(labels, probs, filter_by=name) for name in FILTERS}


def scores_apart(probs: np.ndarray, data: px.Dataset) -> float | None:
    """Largest difference of our label quality from cleanlab's, over both measures, adjusted or not; None without cleanlab."""
    if importlib.util.find_spec("cleanlab") is None:
        return None
    from cleanlab.rank import get_label_quality_scores

    s, labels = px.Signals(ids=data.ids, held_out_probs=probs, labels=data.labels), np.asarray(data.labels)
    apart: list[float] = []
    for measure in ("self_confidence", "normalised_margin"):
        for adjust in (False, True):
            ours = label_quality(s, measure=measure, adjust=adjust, rng=Rng(0, "x")).numpy()
            theirs = get_label_quality_scores(
                labels, probs, method=measure.replace("normalised", "normalized"), adjust_pred_probs=adjust
            )
            apart.append(float(np.abs(ours - theirs).max()))
    return max(apart)


def against(mask: Mask, wrong: Mask) -> dict[str, float]:
    """Rows called, precision, recall, F1."""
    hits = int((mask & wrong).sum())
    precision, recall = hits / max(mask.sum(), 1), hits / max(wrong.sum(), 1)
    return {"called": int(mask.sum()), "precision": precision, "recall": recall,
            "f1": 2 * hits / max(mask.sum() + wrong.sum(), 1)}  # fmt: skip


def rules(noise: float, seeds: int) -> None:
    """The first table."""
    rows: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    apart: list[float] = []
    for seed in range(seeds):
        data, wrong = spoilt(noise, seed)
        for source, probs, seconds in held_out(data, seed):
            found = called(probs, data)
            apart.append(scores_apart(probs, data) or 0.0)
            for name, mask in found.items():
                line = against(mask, wrong) | {"spoilt": int(wrong.sum()), "cpu_seconds_of_probs": seconds}
                peers = {peer: other for peer, other in found.items() if peer.startswith("cleanlab")}
                overlap = {
                    f"jaccard {peer}": float((mask & m).sum() / max((mask | m).sum(), 1)) for peer, m in peers.items()
                }
                rows[source, name].append(line | ({} if name in peers else overlap))
    peer = "compared" if importlib.util.find_spec("cleanlab") else "not installed: pip install 'prunus[labels]'"
    for (source, name), lines in rows.items():
        means = {key: round(float(np.mean([line[key] for line in lines])), 4) for key in lines[0]}
        head = {"figure": "label issues", "probs": source, "rule": name, "noise": noise, "seeds": seeds}
        print(json.dumps(head | means | {"cleanlab": peer}), flush=True)
    line = {"figure": "label quality scores", "largest_difference_from_cleanlab": max(apart), "cleanlab": peer}
    print(json.dumps(line), flush=True)


def rankings(noise: float, seeds: int) -> None:
    """The second table: one training run feeds all criteria but label_quality, which has its own five."""
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for seed in range(seeds):
        data, wrong = spoilt(noise, seed)
        methods = {name: registry.find(name, unit="rows", kind="criterion") for name in RECORDED}
        need = {signal for method in methods.values() for signal in method.needs} - {"labels"}
        signals = training(seed).run(data, need)[0]
        hardness = {name: px.score(data, name, signals=signals) for name in methods}
        values = {name: _hard(score) for name, score in hardness.items()}
        values["vog within classes"] = _hard(px.score(data, "vog", normalise="class", signals=signals))
        values["random"] = uniform(seed, "control", data.ids)
        for source, probs, _ in held_out(data, seed):
            s = px.Signals(ids=data.ids, held_out_probs=probs, labels=data.labels)
            for adjust in (False, True):
                name = f"label_quality ({source}{', adjusted' if adjust else ''})"
                values[name] = -label_quality(s, adjust=adjust, rng=Rng(seed, "x")).numpy()
        for name, hard in values.items():
            first = np.zeros(wrong.size, bool)
            first[np.argsort(-hard, kind="stable")[: round(noise * wrong.size)]] = True
            found[name].append({"average_precision": average_precision_score(wrong, hard)} | against(first, wrong))
    for name, lines in found.items():
        means = {key: round(float(np.mean([line[key] for line in lines])), 4) for key in lines[0]}
        print(
            json.dumps({"figure": "wrong labels first", "method": name, "noise": noise, "seeds": seeds} | means),
            flush=True,
        )


def _hard(score: px.Score) -> np.ndarray:
    """Large = hard; what says what to keep is taken as it is."""
    group = score.group("rows")
    return np.asarray(group.values, np.float64) if group.sense == "keep" else group.hardness()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--noise", type=float, nargs="+", default=[0.2])
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for noise in options.noise:
        rules(noise, options.seeds)
        rankings(noise, options.seeds)


if __name__ == "__main__":
    main()
