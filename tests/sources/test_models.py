"""open_model and open_tokenizer: every scheme on models small enough to make here; nothing is downloaded."""

from __future__ import annotations

import logging
import sys

import huggingface_hub
import numpy as np
import pytest
import timm
import tokenizers
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import models, pre_tokenizers
from torch import nn

from prunus.core.errors import BadInput, CorruptFile, UnknownName
from prunus.sources.models import open_model, open_tokenizer

TINY = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 40}


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    config = transformers.LlamaConfig(**TINY, num_key_value_heads=1, max_position_embeddings=64)
    model = transformers.LlamaForCausalLM(config).eval()
    model.save_pretrained(folder)
    return folder, model


@pytest.fixture
def resnet(tmp_path):
    model = open_model("prunus:resnet8", weights="random")
    path = tmp_path / "r8.safetensors"
    save_file(model.state_dict(), path)
    return path, model


def same(one: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in one.state_dict().items())


def test_own_networks_and_their_weights(resnet):
    path, model = resnet
    again = open_model("prunus:resnet8", weights=str(path), seed=5)
    assert same(model, again)
    assert not again.training
    assert open_model("prunus:tinyvit", num_classes=3)(torch.zeros(1, 3, 16, 16)).shape == (1, 3)
    with pytest.raises(UnknownName, match="tinycnn"):
        open_model("prunus:tinycn")
    with pytest.raises(BadInput, match="6n"):
        open_model("prunus:resnet21")


def test_weights_that_do_not_fit_are_named(resnet, tmp_path):
    path, model = resnet
    with pytest.raises(BadInput, match=r"linear.*\[10\] for \[5\]"):
        open_model("prunus:resnet8", weights=str(path), num_classes=5)
    with pytest.raises(BadInput, match=r"layer1\.1\.conv1"):
        open_model("prunus:resnet14", weights=str(path))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CorruptFile, match="safetensors"):
        open_model("prunus:resnet8", weights=str(path))
    with pytest.raises(BadInput, match="no weight file"):
        open_model("prunus:resnet8", weights="absent.safetensors")
    torch.save(model.state_dict(), tmp_path / "r8.pt")
    with pytest.raises(BadInput, match="pickled"):
        open_model("prunus:resnet8", weights=str(tmp_path / "r8.pt"))


def test_random_weights_come_from_the_seed_and_are_said(caplog):
    before = torch.get_rng_state()
    with caplog.at_level(logging.WARNING, "prunus"):
        one = open_model("timm:resnet10t", seed=1)
    assert "random weights" in caplog.text
    assert torch.equal(before, torch.get_rng_state())
    assert same(one, open_model("timm:resnet10t", seed=1))
    assert not same(one, open_model("timm:resnet10t", seed=2))


def test_timm_takes_safetensors_from_the_hub_only(tmp_path, monkeypatch):
    source = open_model("timm:resnet10t", weights="random", seed=3)
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    asked = []

    def download(repo: str, name: str) -> str:
        asked.append((repo, name))
        return str(tmp_path / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert same(open_model("timm:resnet10t", weights="pretrained"), source)
    assert asked == [(timm.get_pretrained_cfg("resnet10t").hf_hub_id, "model.safetensors")]
    assert open_model("timm:resnet10t", weights="pretrained", num_classes=7).fc.out_features == 7
    with pytest.raises(UnknownName, match="resnet10t"):
        open_model("timm:resnet10x")


def test_torchvision(monkeypatch):
    source = open_model("torchvision:squeezenet1_1", weights="random", seed=3)
    calls = []

    def load(url: str, **options: object) -> dict:
        calls.append(options)
        return source.state_dict()

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", load)
    assert same(open_model("torchvision:squeezenet1_1", weights="pretrained"), source)
    assert calls[0]["weights_only"] is True
    assert calls[0]["check_hash"] is True
    assert open_model("torchvision:squeezenet1_1", num_classes=4, weights="pretrained").classifier[1].out_channels == 4
    with pytest.raises(UnknownName, match="squeezenet"):
        open_model("torchvision:squeezenet9")

    def unreachable(url: str, **_: object) -> dict:
        raise OSError("no route")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)
    with pytest.raises(BadInput, match="no route"):
        open_model("torchvision:squeezenet1_1", weights="pretrained")


def test_detectors_download_no_backbone():
    model = open_model("torchvision:ssdlite320_mobilenet_v3_large", weights="random", num_classes=3)
    assert type(model).__name__ == "SSD"


def test_transformers_folder_comes_back_the_same(llama):
    folder, model = llama
    again = open_model(f"transformers:{folder}")
    assert type(again) is transformers.LlamaForCausalLM
    assert same(model, again)
    assert open_model(str(folder), dtype="bfloat16").dtype == torch.bfloat16
    assert not same(model, open_model(str(folder), weights="random"))
    with pytest.raises(BadInput, match="int8"):
        open_model(str(folder), dtype="int8")


def test_classifier_gets_the_classes_asked_for(tmp_path):
    config = transformers.BertConfig(**TINY, num_labels=3)
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path)
    assert open_model(str(tmp_path)).classifier.out_features == 3
    assert open_model(str(tmp_path), num_classes=5).classifier.out_features == 5


def test_broken_and_pickled_folders(llama, tmp_path):
    folder, model = llama
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(BadInput, match="pickled"):
        open_model(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:200])
    with pytest.raises(CorruptFile):
        open_model(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CorruptFile):
        open_model(str(tmp_path))
    (tmp_path / "config.json").unlink()
    with pytest.raises(BadInput, match=r"config\.json"):
        open_model(str(tmp_path))
    with pytest.raises(BadInput, match="no model folder"):
        open_model("transformers:/nowhere/at/all")


def test_missing_tensors_are_not_made_up(llama, tmp_path):
    folder, model = llama
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    part = {name: tensor.clone() for name, tensor in model.state_dict().items() if "down_proj" not in name}
    save_file(part, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadInput, match=r"lacks 2 of 21.*down_proj"):
        open_model(str(tmp_path))


def test_code_of_a_model_repository_is_not_run(llama, tmp_path):
    folder, _ = llama
    text = (folder / "config.json").read_text()
    config = text.replace('"model_type": "llama"', '"model_type": "x", "auto_map": {"AutoConfig": "evil.C"}')
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')\n")
    with pytest.raises(BadInput):
        open_model(str(tmp_path))


def test_offline_hub(monkeypatch):
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("We couldn't connect to the hub")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", unreachable)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BadInput, match=r"HF_HUB_OFFLINE is set.*transformers:/path"):
        open_model("transformers:some/name")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with pytest.raises(BadInput, match="couldn't connect"):
        open_model("transformers:some/name")


def words() -> tokenizers.Tokenizer:
    found = tokenizers.Tokenizer(models.WordLevel({"[unk]": 0, "a": 1, "b": 2}, unk_token="[unk]"))
    found.pre_tokenizer = pre_tokenizers.Whitespace()
    return found


def test_tokenizers(llama, tmp_path):
    folder, _ = llama
    transformers.PreTrainedTokenizerFast(tokenizer_object=words(), unk_token="[unk]").save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    assert open_tokenizer(str(tmp_path))("b a", add_special_tokens=False)["input_ids"] == [2, 1]
    assert open_tokenizer(str(tmp_path / "tokenizer.json")).encode("b a").ids == [2, 1]
    assert open_tokenizer("bytes")("ab")["input_ids"] == [97, 98]
    with pytest.raises(BadInput, match="bytes"):
        open_tokenizer("timm:resnet10t")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(CorruptFile):
        open_tokenizer(str(tmp_path / "bad.json"))
    with pytest.raises(BadInput, match="no tokenizer file"):
        open_tokenizer("absent.json")


def test_packages(llama, tmp_path, monkeypatch):
    folder, model = llama
    package = tmp_path / "tiny_model_package"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')\n")
    for name in ("config.json", "model.safetensors"):
        (package / "model" / name).write_bytes((folder / name).read_bytes())
    monkeypatch.syspath_prepend(str(tmp_path))
    assert same(open_model("package:tiny_model_package"), model)
    (package / "other.gguf").write_bytes(b"GGUF")
    (package / "third.gguf").write_bytes(b"GGUF")
    with pytest.raises(BadInput, match="2 models"):
        open_model("package:tiny_model_package")
    assert same(open_model("package:tiny_model_package/model"), model)
    with pytest.raises(BadInput, match="pip install nowhere-at-all"):
        open_model("package:nowhere_at_all")


def write_gguf(path, model) -> None:
    """The tiny Llama as an unquantised GGUF file: what llama.cpp's converter writes, as far as a reader needs it."""
    import gguf

    config = model.config
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        array = tensor.float().numpy()
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        for part, count in heads.items():
            if f"{part}.weight" in name:  # GGUF interleaves the halves of each head
                array = array.reshape(count, 2, array.shape[0] // count // 2, -1).swapaxes(1, 2).reshape(array.shape)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_gguf_comes_back_dequantised_and_can_be_saved(llama, tmp_path):
    pytest.importorskip("gguf", reason="GGUF files need the extra text")
    _, model = llama
    write_gguf(tmp_path / "tiny.gguf", model)
    again = open_model(f"gguf:{tmp_path / 'tiny.gguf'}")
    ids = torch.arange(10)[None]
    torch.testing.assert_close(again(ids).logits, model(ids).logits)
    assert again.dtype == torch.float32
    again.save_pretrained(tmp_path / "saved")
    assert same(open_model(str(tmp_path / "saved")), again)
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + b"\0" * 20)
    with pytest.raises(CorruptFile, match=r"bad\.gguf"):
        open_model(str(tmp_path / "bad.gguf"))
    with pytest.raises(BadInput, match="no GGUF"):
        open_model("gguf:absent.gguf")


def test_python_code_needs_permission(tmp_path, monkeypatch):
    (tmp_path / "mine_for_test.py").write_text(
        "from torch import nn\n"
        "def net(num_classes=2):\n    return nn.Linear(4, num_classes)\n"
        "def wrong():\n    return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    with pytest.raises(BadInput, match="--allow-code"):
        open_model("mine_for_test:net")
    assert "mine_for_test" not in sys.modules
    assert open_model("mine_for_test:net", allow_code=True, num_classes=6).out_features == 6
    assert open_model(f"{tmp_path}/mine_for_test.py:net", allow_code=True).out_features == 2
    with pytest.raises(BadInput, match="int"):
        open_model("mine_for_test:wrong", allow_code=True)
    with pytest.raises(BadInput, match="net, wrong"):
        open_model("mine_for_test:nett", allow_code=True)
    with pytest.raises(BadInput, match="imported"):
        open_model("nowhere_at_all:net", allow_code=True)
    assert sys.path == path


def test_specs_that_mean_nothing():
    with pytest.raises(BadInput, match="timm:NAME"):
        open_model("resnet18")
