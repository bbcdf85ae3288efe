"""Tiny GGUF files, written with the writer of the gguf package as llama.cpp's converter would write them."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
from tokenizers import Tokenizer
from transformers import PreTrainedModel
from transformers.integrations import GGUF_CONFIG_MAPPING

from tests.generative import tiny_language_model
from tests.tiny import tiny_tokenizer

# What llama.cpp calls a family.
ARCHITECTURES = {"gemma3_text": "gemma3", "gemma2": "gemma2", "llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
# What a file does not state, as transformers assumes it.
UNSTATED = {"gemma3_text": {"layer_types": ["sliding_attention"] * 4}, "qwen3": {"head_dim": 128}}
CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
NORMAL, UNKNOWN, CONTROL = 1, 2, 3


def write_gguf(path: Path, family: str = "gemma3_text", stored: str = "F32", **metadata: str | int) -> PreTrainedModel:
    """Write a tiny language model and its tokenizer as one file.

    Args:
        path: the file.
        family: of `ARCHITECTURES`.
        stored: data type of the matrices, a name of `gguf.GGMLQuantizationType`.
        metadata: entries in the place of the usual ones, dots written as ``__``.

    Returns:
        The model.
    """
    model = tiny_language_model(family, **UNSTATED.get(family, {}))
    architecture = ARCHITECTURES[family]
    writer = gguf.GGUFWriter(path, str(metadata.pop("general__architecture", architecture)))
    config = model.config
    values = config.to_dict() | {"rope_theta": 10_000.0}
    for name, attribute in GGUF_CONFIG_MAPPING[architecture].items():
        if attribute is not None and values.get(attribute) is not None and attribute != "vocab_size":
            value = values[attribute]
            add = writer.add_uint32 if isinstance(value, int) else writer.add_float32
            add(f"{architecture}.{name}", value)
    for name, value in metadata.items():
        add = writer.add_uint32 if isinstance(value, int) else writer.add_string
        add(name.replace("__", "."), value)
    add_tokenizer(writer)
    add_weights(writer, model, architecture, gguf.GGMLQuantizationType[stored])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def add_tokenizer(writer: gguf.GGUFWriter) -> None:
    """The byte-level tokenizer of the tests, with a chat template."""
    backend: Tokenizer = tiny_tokenizer().backend_tokenizer
    vocabulary = sorted(backend.get_vocab().items(), key=lambda entry: entry[1])
    merges = json.loads(backend.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types([CONTROL if at < 3 else UNKNOWN if at == 3 else NORMAL for at in range(len(vocabulary))])
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_pad_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_unk_token_id(3)
    writer.add_chat_template(CHAT_TEMPLATE)


def add_weights(
    writer: gguf.GGUFWriter, model: PreTrainedModel, architecture: str, stored: gguf.GGMLQuantizationType
) -> None:
    """The weights under llama.cpp's names and in its order; vectors stay float32."""
    kind = next(kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(kind, model.config.num_hidden_layers)
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        data = weight.float().numpy()
        if architecture.startswith("gemma") and name.endswith("norm.weight"):
            data = data + 1
        if architecture == "llama" and "q_proj" in name:
            data = rotate_neighbours(data, model.config.num_attention_heads)
        if architecture == "llama" and "k_proj" in name:
            data = rotate_neighbours(data, model.config.num_key_value_heads)
        base, _, suffix = name.rpartition(".")
        target = f"{names.get_name(base)}.{suffix}"
        if data.ndim == 1:
            writer.add_tensor(target, data)
        else:
            writer.add_tensor(target, gguf.quants.quantize(data, stored), raw_dtype=stored)


def rotate_neighbours(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows in the order of an implementation that rotates neighbouring pairs instead of halves."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)
