"""The models of the coverage run: how each is built, small, and what it is called with."""

from __future__ import annotations

import copy
import importlib
import inspect
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from prunus.graph.trace import map_tensors

GIANT = 350_000_000  # parameters; larger models are left out and named
SIZES = (64, 96, 128, 160, 192, 224, 256)  # the smallest that the model takes is used
SMALL = ("zepto", "atto", "femto", "pico", "nano", "xxs", "xxtiny", "xtiny", "xs", "micro", "tiny", "mini", "lite", "t", "n",
         "s", "small", "m", "medium", "base", "b", "l", "large", "xl", "xlarge", "h", "huge", "g", "giant", "so400m")  # fmt: skip

TINY: dict[str, Any] = {
    "vocab_size": 60, "hidden_size": 32, "d_model": 32, "n_embd": 32, "embed_dim": 32, "dim": 32, "n_embed": 32,
    "intermediate_size": 48, "d_ff": 48, "ffn_dim": 48, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "hidden_dim": 48,
    "d_inner": 48, "n_inner": 48, "num_hidden_layers": 2, "num_layers": 2, "n_layer": 2, "n_layers": 2,
    "encoder_layers": 2, "decoder_layers": 2, "num_decoder_layers": 2, "num_encoder_layers": 2,
    "num_attention_heads": 4, "num_heads": 4, "n_head": 4, "n_heads": 4, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "num_encoder_attention_heads": 4, "num_decoder_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "d_kv": 8, "image_size": 32, "patch_size": 8, "projection_dim": 16,
    "max_position_embeddings": 64, "num_experts": 4, "n_routed_experts": 4, "num_local_experts": 4,
    "moe_intermediate_size": 24, "num_experts_per_tok": 2, "embedding_size": 16, "word_embed_proj_dim": 32,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 0, "rotary_dim": 4,
}  # fmt: skip
OWN: dict[str, Any] = {"num_labels": 5}
AS_THEY_COME = (  # configurations with lists per stage, small enough
    "segformer", "pvt", "levit", "cvt", "hiera", "focalnet", "poolformer", "mobilevit", "resnet", "regnet", "bit",
    "mobilenet_v1", "mobilenet_v2", "efficientnet", "convnext", "convnextv2",
)  # fmt: skip


def _ids(count: int = 9) -> Tensor:
    return torch.arange(3, 3 + count)[None]


def _text() -> dict[str, Any]:
    return {"input_ids": _ids()}


def _pairs() -> dict[str, Any]:
    return {"input_ids": _ids(), "decoder_input_ids": _ids(7)}


def _image(size: int = 32) -> dict[str, Any]:
    return {"pixel_values": torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))}


def _large_image() -> dict[str, Any]:
    """For models whose tables of positions are of one size."""
    return _image(224)


def _wave(count: int = 2000) -> dict[str, Any]:
    return {"input_values": torch.randn(1, count, generator=torch.Generator().manual_seed(1))}


def _both() -> dict[str, Any]:
    return _text() | _image() | {"attention_mask": torch.ones(1, 9, dtype=torch.long)}


def _seen(patches: int) -> dict[str, Any]:
    """Text with a place for every patch of the image."""
    return {"input_ids": torch.cat([_ids(3), torch.full((1, patches), 59), _ids(4)], 1)} | _image()


def _mel(frames: int) -> dict[str, Any]:
    made = torch.randn(1, 16, frames, generator=torch.Generator().manual_seed(1))
    return {"input_features": made, "decoder_input_ids": _ids(7)}


def _frames() -> dict[str, Any]:
    """Frames of 16 features each, for models that take them in this order."""
    made = _mel(32)
    return made | {"input_features": made["input_features"].mT}


def _plain(kinds: str) -> dict[str, dict[str, Any]]:
    """Types whose tiny configuration needs no change."""
    return {kind: {} for kind in kinds.split()}


def _spoken() -> dict[str, Any]:
    return _wave() | {"decoder_input_ids": _ids(7)}


CLIP = {
    "text_config": {key: TINY[key] for key in TINY if key not in ("image_size", "patch_size", "head_dim")},
    "vision_config": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
                      "image_size": 32, "patch_size": 8, "projection_dim": 16},
}  # fmt: skip
LLAMA = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "vocab_size": 60, "head_dim": 8}  # fmt: skip
LATENT = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8,
          "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "num_key_value_heads": 4}  # fmt: skip
STAGES = {"embed_dim": 16, "depths": [1, 2], "num_heads": [2, 4], "window_size": 2, "patch_size": 2}
CONVS = {"conv_dim": (16, 16, 16), "conv_stride": (5, 2, 2), "conv_kernel": (10, 3, 3), "num_feat_extract_layers": 3,
         "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 4, "do_stable_layer_norm": False}  # fmt: skip
EXPERTS = {"experts_implementation": "batched_mm"}

LLAVA = {"vision_config": {"model_type": "clip_vision_model", **CLIP["vision_config"]}, "text_config": {
    "model_type": "llama", **LLAMA}, "image_token_index": 59, "image_token_id": 59, "inputs": lambda: _seen(17),
    "auto": "AutoModelForImageTextToText", "vision_feature_select_strategy": "full", "image_seq_length": 17}  # fmt: skip
SPEECH = {
    "auto": "AutoModelForSpeechSeq2Seq",
    "num_mel_bins": 16,
    "input_feat_per_channel": 16,
    "inputs": lambda: _mel(40),
}
SPECTRUM = {"auto": "AutoModelForAudioClassification", "num_mel_bins": 16, "max_length": 32, "patch_size": 8,
            "frequency_stride": 8, "time_stride": 8, "inputs": lambda: {"input_values": _mel(32)["input_features"].mT}}  # fmt: skip

# family -> (auto class, inputs, {model type: changes to the tiny config})
TYPES: dict[str, tuple[str, Callable[[], dict[str, Any]], dict[str, dict[str, Any]]]] = {
    "decoder": ("AutoModelForCausalLM", _text, _plain(
        "llama mistral qwen2 qwen3 gemma gemma2 gemma3_text phi phi3 gpt2 gpt_neox gptj opt bloom falcon codegen mpt "
        "stablelm starcoder2 olmo olmo2 cohere glm granite persimmon biogpt xglm gpt_bigcode nemotron smollm3 exaone4 "
        "helium ernie4_5"
    ) | {
        "gpt_neo": {"attention_types": [[["global", "local"], 1]]}, "ctrl": {"dff": 48},
        "mamba": {"state_size": 4, "time_step_rank": 4},
        "mamba2": {"num_heads": 8, "head_dim": 8, "state_size": 4, "n_groups": 1},
    }),
    "encoder": ("AutoModelForMaskedLM", _text, _plain(
        "bert roberta distilbert electra albert deberta deberta-v2 mpnet modernbert camembert xlm-roberta convbert fnet roformer"
    ) | {
        "mobilebert": {"intra_bottleneck_size": 16, "num_feedforward_networks": 2},
        "nystromformer": {"num_landmarks": 3, "segment_means_seq_len": 9}, "squeezebert": {"embedding_size": 32},
        "esm": {"mask_token_id": 4, "position_embedding_type": "rotary"}, "xlm": {"emb_dim": 32},
    }),
    "encoder-decoder": ("AutoModelForSeq2SeqLM", _pairs, _plain(
        "t5 mt5 umt5 bart mbart pegasus blenderbot m2m_100 longt5 prophetnet"
    ) | {"marian": {"max_length": 20}}),
    "vision": ("AutoModelForImageClassification", _image, _plain(
        "vit beit dinov2 data2vec-vision vit_msn"
    ) | dict.fromkeys(AS_THEY_COME, OWN) | {
        "deit": {"problem_type": None}, "levit": OWN | {"inputs": _large_image}, "swin": STAGES, "swinv2": STAGES | {"image_size": 32}}),
    "vision-language": ("AutoModel", _both, {
        "clip": CLIP, "siglip": CLIP, "blip": CLIP, "altclip": CLIP, "chinese_clip": CLIP, "clipseg": CLIP, "owlvit": CLIP,
        "vilt": {}, "git": {"vision_config": CLIP["vision_config"]}, "llava": LLAVA,
        "paligemma": LLAVA | {"projection_dim": 32},
    }),
    "audio": ("AutoModelForCTC", _wave, {
        "wav2vec2": CONVS, "hubert": CONVS, "wavlm": CONVS | {"num_buckets": 8}, "unispeech": CONVS, "data2vec-audio": CONVS,
        "sew": CONVS | {"squeeze_factor": 2}, "wav2vec2-conformer": CONVS,
        "wav2vec2-bert": {"feature_projection_input_dim": 16, "inputs": _frames},
        "whisper": SPEECH | {"max_source_positions": 20},
        "speech_to_text": SPEECH | {"inputs": _frames, "max_source_positions": 40, "conv_channels": 32},
        "audio-spectrogram-transformer": SPECTRUM,
        "moonshine": {"auto": "AutoModelForSpeechSeq2Seq", "inputs": _spoken},
    }),
    "mixture of experts": ("AutoModelForCausalLM", _text, {
        **dict.fromkeys(("mixtral", "qwen3_moe", "olmoe", "phimoe", "granitemoe", "gpt_oss"), EXPERTS),
        "qwen2_moe": EXPERTS | {"shared_expert_intermediate_size": 24},
        "deepseek_v2": EXPERTS | LATENT, "deepseek_v3": EXPERTS | LATENT,
        "glm4_moe": EXPERTS | {"n_group": 1, "topk_group": 1, "first_k_dense_replace": 1},
        "switch_transformers": {"auto": "AutoModelForSeq2SeqLM", "inputs": _pairs},
    }),
}  # fmt: skip


def names() -> Iterator[tuple[str, str]]:
    """(library and task, model) of every model of the run."""
    import torchvision.models as tv

    classes = list(tv.list_models(module=tv))
    for task, found in {
        "classification": classes,
        "segmentation": tv.list_models(module=tv.segmentation),
        "detection": tv.list_models(module=tv.detection),
        "optical flow": tv.list_models(module=tv.optical_flow),
    }.items():
        yield from ((f"torchvision {task}", name) for name in found)
    yield from (("timm", name) for name in timm_families())
    for family, (_, _, types) in TYPES.items():
        yield from ((f"transformers {family}", name) for name in types)


def timm_families() -> list[str]:
    """One model of each family: of the models that share a file of timm and the first word of their name, the smallest by name."""
    import timm
    from timm.models._registry import _model_to_module as files

    families: dict[tuple[str, str], list[str]] = {}
    for name in timm.list_models():
        word = re.match("[a-z]+", name)
        if word and word[0] != "test":
            families.setdefault((files[name], word[0]), []).append(name)
    return sorted(min(family, key=_size_by_name) for family in families.values())


def _size_by_name(name: str) -> tuple[int, list[int], int, str]:
    """Words for sizes first, then numbers (depth, width), then the shorter name."""
    said = [SMALL.index(word) for word in re.split(r"[_\d]+", name)[1:] if word in SMALL]
    return min(said, default=SMALL.index("small")), [int(n) for n in re.findall(r"\d+", name)], len(name), name


def make(library: str, name: str) -> tuple[nn.Module, Any]:
    """A model in evaluation mode and the example it is called with."""
    torch.manual_seed(0)
    if library == "timm":
        return _smallest(lambda options: _timm(name, options))
    if library.startswith("torchvision"):
        return _torchvision(library.removeprefix("torchvision "), name)
    return _transformers(library.removeprefix("transformers "), name)


def images(size: int, count: int = 1) -> Tensor:
    """Fixed random images `[count, 3, size, size]`."""
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def _runs(model: nn.Module, example: Any) -> bool:
    try:
        with torch.no_grad():
            model(example)
    except (
        Exception
    ):  # a size that a model can't take fails as its author liked: assert, RuntimeError, ZeroDivisionError
        return False
    return True


def _smallest(build: Callable[[int], nn.Module | None]) -> tuple[nn.Module, Any]:
    """The model at the smallest input it takes; `build` gives None, or raises, for a size it has not, and 0 is its own size."""
    model = build(0)
    assert model is not None
    for size in SIZES:
        if _runs(model, images(size)):
            return model, images(size)
        other = _quietly(build, size)
        if other is not None and _runs(other, images(size)):
            return other, images(size)
    own = getattr(model, "default_cfg", {}).get("input_size", (3, 224, 224))[-1]
    return model, images(own)


def _timm(name: str, size: int) -> nn.Module:
    import timm

    return timm.create_model(name, **({"img_size": size} if size else {})).eval()


def _torchvision(task: str, name: str) -> tuple[nn.Module, Any]:
    import torchvision.models as tv

    build = tv.get_model_builder(name)
    bare: dict[str, Any] = {"weights": None}
    if "weights_backbone" in inspect.signature(build).parameters:
        bare["weights_backbone"] = None
    if task == "detection":
        model = build(**bare, **_detector(name)).eval()
        return model, [images(128)[0]]
    if task == "optical flow":
        return build(**bare).eval(), (images(128), images(128).flip(-1))
    if name in ("googlenet", "inception_v3"):
        bare["init_weights"] = False

    def sized(size: int) -> nn.Module | None:
        if size and not name.startswith("vit"):
            return None
        return build(**bare, **({"image_size": size} if size and name.startswith("vit") else {})).eval()

    return _smallest(sized)


def _quietly(build: Callable[[int], nn.Module | None], size: int) -> nn.Module | None:
    try:
        return build(size)
    except Exception:  # as in `_runs`: this size is not for this model
        return None


def _detector(name: str) -> dict[str, Any]:
    """Small images stay small, and random weights give boxes: no score is too low."""
    if name.startswith("ssd300"):
        return {"score_thresh": 0.0}
    if name.startswith("ssdlite"):
        return {"score_thresh": 0.0}
    sizes = {"min_size": 128, "max_size": 160}
    return sizes | ({"box_score_thresh": 0.0} if "rcnn" in name else {"score_thresh": 0.0})


def _config(kind: str, changes: dict[str, Any]) -> Any:
    from transformers import CONFIG_MAPPING

    made = CONFIG_MAPPING[kind]
    known = set(inspect.signature(made.__init__).parameters) | set(getattr(made, "__dataclass_fields__", {}))
    maps = set(getattr(made, "attribute_map", {}))
    given = {key: value for key, value in TINY.items() if key in known and key not in maps}
    if kind in AS_THEY_COME or changes.get("depths"):
        given = {}
    return made(**(given | changes))


def _transformers(family: str, kind: str) -> tuple[nn.Module, Any]:
    import transformers

    auto, inputs, types = TYPES[family]
    changes = copy.deepcopy(types[kind])
    experts = changes.pop("experts_implementation", None)
    auto, example = changes.pop("auto", auto), changes.pop("inputs", inputs)()
    config = _config(kind, changes)
    if config.architectures is None:
        config.architectures = []
    model = getattr(transformers, auto).from_config(config, **({"experts_implementation": experts} if experts else {}))
    model = model.float().eval()
    takes = inspect.signature(model.forward).parameters
    return model, {key: value for key, value in example.items() if key in takes}


def double(example: Any) -> Any:
    """The example with its floating-point tensors in float64."""
    return map_tensors(example, lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)


def preload(jobs: list[tuple[str, str]]) -> None:
    """Import what the models need once, before processes are forked."""
    libraries = {library.partition(" ")[0] for library, _ in jobs}
    for library in libraries:
        importlib.import_module(library)
    if "transformers" in libraries:
        importlib.import_module("transformers.models.llama.modeling_llama")  # brings what all of them share
        logging.getLogger("transformers").setLevel(logging.ERROR)
