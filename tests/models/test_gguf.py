"""GGUF files: converted once, exactly, reused; what cannot be read is told in one line, and nothing is left behind."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import gguf
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import opinionlm.models.gguf as gguf_models
from opinionlm.config.options import ModelConfig
from opinionlm.data.encoding.tokenizers import load_tokenizer
from opinionlm.errors import UserError
from opinionlm.models.backbones import load_backbone, read_model_config
from opinionlm.models.generative import load_generative
from opinionlm.models.gguf import require_converted
from opinionlm.models.gguf_header import read_header
from opinionlm.utils.files import file_sha256
from tests.classifier_runs import train
from tests.gguf_files import ARCHITECTURES, CHAT_TEMPLATE, write_gguf

TEXTS = ["is this coin any good ?", "buy now!  the price fell again", "<bos> naïve 🚀\n\nnew\tline", ""]
COPY = Path("outputs/models/model")


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copies are made below the working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(path: str | Path) -> str:
    """The line that refuses a file; nothing but the folder's lock may lie in outputs/models afterwards."""
    with pytest.raises(UserError) as caught:
        require_converted(str(path))
    left = [found.name for found in Path("outputs/models").glob("*")] if Path("outputs/models").is_dir() else []
    assert [name for name in left if not name.endswith(".lock")] == []
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_the_copy_is_the_model(family: str, working_folder: Path) -> None:
    original = write_gguf(working_folder / "model.gguf", family)
    model = ModelConfig(model_name_or_path="model.gguf")
    config = read_model_config(model)
    loaded = load_generative(model, 0, config)
    assert type(loaded) is type(original)
    weights = loaded.state_dict()
    for name, weight in original.state_dict().items():
        # Gemma's norms are stored with one added.
        torch.testing.assert_close(weights[name], weight, rtol=0, atol=1e-6 if "norm" in name else 0)
    ids = torch.tensor([[2, 9, 30, 200, 41]])
    torch.testing.assert_close(loaded(ids).logits, original(ids).logits, rtol=0, atol=1e-4)
    backbone = load_backbone(model, 0)
    assert backbone.get_input_embeddings().weight.shape == (320, 64)
    assert not hasattr(config, "quantization_config")


def test_tokenizer_and_chat_template_are_those_that_transformers_makes(working_folder: Path) -> None:
    for family in ("gemma3_text", "llama", "qwen2"):
        path = working_folder / f"{family}.gguf"
        write_gguf(path, family)
        require_converted(str(path))
        ours = AutoTokenizer.from_pretrained(f"outputs/models/{family}")
        theirs = AutoTokenizer.from_pretrained(working_folder, gguf_file=path.name)
        assert ours(TEXTS)["input_ids"] == theirs(TEXTS)["input_ids"]
        assert theirs.special_tokens_map.items() >= ours.special_tokens_map.items() and ours.pad_token == "<pad>"
        assert ours.chat_template == theirs.chat_template == CHAT_TEMPLATE
    assert load_tokenizer(ModelConfig(model_name_or_path=str(path))).padding_side == "right"


@pytest.mark.parametrize(
    ("stored", "kept"), [("Q8_0", torch.bfloat16), ("BF16", torch.bfloat16), ("F16", torch.float32)]
)
def test_blocks_are_dequantised(stored: str, kept: torch.dtype, working_folder: Path) -> None:
    write_gguf(working_folder / "model.gguf", "qwen2", stored)
    require_converted("model.gguf")
    loaded = AutoModelForCausalLM.from_pretrained(COPY, dtype="auto")
    assert {weight.dtype for weight in loaded.state_dict().values()} == {kept}
    tensor = next(one for one in gguf.GGUFReader("model.gguf").tensors if one.name == "blk.1.ffn_up.weight")
    expected = torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type)).to(kept)
    assert torch.equal(loaded.model.layers[1].mlp.up_proj.weight, expected)


def test_a_copy_is_made_once_for_each_content(working_folder: Path) -> None:
    file = working_folder / "folder" / "model.gguf"
    file.parent.mkdir()
    write_gguf(file, "qwen2")
    require_converted("folder")
    made = (COPY / "model.safetensors").stat().st_mtime_ns
    note = json.loads((COPY / "source.json").read_bytes())
    assert note["sha256"] == file_sha256(file) and note["file"] == str(file)
    os.utime(file, ns=(1, 1))  # another time, the same content
    require_converted(str(file))
    assert (COPY / "model.safetensors").stat().st_mtime_ns == made
    write_gguf(file, "llama")
    require_converted(str(file))
    assert read_model_config(ModelConfig(model_name_or_path="folder")).model_type == "llama"
    shutil.copy(file, "model.gguf")
    require_converted("model.gguf")  # the same content elsewhere
    write_gguf(Path("model.gguf"), "qwen2")
    with pytest.raises(UserError, match=r"outputs/models/model was made of .*folder/model.gguf, another file of that"):
        require_converted("model.gguf")
    assert sorted(path.name for path in COPY.parent.iterdir()) == [".model.lock", "model"]


def test_two_files_of_one_name_size_and_time_are_told_apart(working_folder: Path) -> None:
    """Archives give all their files the same time; the second file's copy must not be the first one's."""
    for name in ("one", "other"):
        Path(name).mkdir()
    write_gguf(Path("one/model.gguf"), "qwen2")
    content = bytearray(Path("one/model.gguf").read_bytes())
    content[-1] ^= 1
    Path("other/model.gguf").write_bytes(content)
    for name in ("one", "other"):
        os.utime(Path(name, "model.gguf"), ns=(1, 1))
    require_converted("one/model.gguf")
    with pytest.raises(UserError, match=r"was made of .*one/model.gguf, another file of that name"):
        require_converted("other/model.gguf")


def test_a_folder_that_is_no_copy_is_left_alone(working_folder: Path) -> None:
    write_gguf(Path("model.gguf"), "qwen2")
    COPY.mkdir(parents=True)
    (COPY / "config.json").write_text("{}")
    with pytest.raises(UserError, match="would replace outputs/models/model, which was not made of a GGUF file"):
        require_converted("model.gguf")
    assert [path.name for path in COPY.iterdir()] == ["config.json"]


def test_a_file_cut_short_is_refused(working_folder: Path) -> None:
    write_gguf(working_folder / "whole.gguf", "qwen2")
    content = Path("whole.gguf").read_bytes()
    start = read_header(Path("whole.gguf")).data_start
    for size in (0, 3, 20, 30, 500, start // 2, start - 40, start + 1, len(content) - 200):
        Path("model.gguf").write_bytes(content[:size])
        assert f"model.gguf is no whole GGUF file: it ends after {size:,} bytes" in refusal("model.gguf")


def test_what_is_no_gguf_is_refused(working_folder: Path) -> None:
    Path("model.gguf").write_bytes(b"PK\x03\x04" + bytes(100))
    assert "does not begin with `GGUF`" in refusal("model.gguf")
    Path("model.gguf").write_bytes(b"GGUF\x00\x00\x00\x03" + bytes(100))
    assert "is GGUF of version 50331648" in refusal("model.gguf")
    assert "there is no file missing.gguf" in refusal("missing.gguf")
    Path("several").mkdir()
    for name in ("a", "b"):
        Path("several", f"{name}.gguf").touch()
    assert "several GGUF files (a.gguf, b.gguf)" in refusal("several")
    write_gguf(Path("model.gguf"), "qwen2", split__count=3)
    assert "is one of 3 parts" in refusal("model.gguf")


def test_types_and_architectures_that_cannot_be_read_are_refused(
    working_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_gguf(Path("model.gguf"), "qwen2", general__architecture="wavenet")
    assert "architecture 'wavenet', cannot be read by transformers" in refusal("model.gguf")
    write_gguf(Path("model.gguf"), "qwen2", "Q8_0")
    header = read_header(Path("model.gguf"))
    content = bytearray(Path("model.gguf").read_bytes())
    # The type stands four bytes and an offset before the next tensor.
    place = content.index(b"blk.0.attn_q.weight", header.tensors_start) + len("blk.0.attn_q.weight") + 4 + 16
    for number, name in ((15, "Q8_K"), (99, "number 99")):
        content[place : place + 4] = number.to_bytes(4, "little")
        Path("model.gguf").write_bytes(content)
        assert f"holds weights of type {name}, which gguf 0.19.0 cannot dequantise" in refusal("model.gguf")


def test_no_package_and_no_room_are_told(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gguf(Path("model.gguf"), "qwen2")
    with monkeypatch.context() as patch:
        patch.setattr(gguf_models, "find_spec", lambda name: None)
        assert "pip install -r requirements-gguf.txt" in refusal("model.gguf")
    with monkeypatch.context() as patch:
        usage = shutil.disk_usage(".")
        patch.setattr(gguf_models.shutil, "disk_usage", lambda place: usage._replace(free=10**6))
        assert "needs 0.1 GB in outputs/models, where 0.0 GB are free" in refusal("model.gguf")
    with monkeypatch.context() as patch:
        patch.setattr(gguf_models, "read_weights", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            require_converted("model.gguf")
    assert [path.name for path in COPY.parent.iterdir()] == [".model.lock"]


def test_a_run_takes_the_file(setting: dict[str, str], working_folder: Path) -> None:
    write_gguf(Path("model.gguf"), "llama")
    options = {"model_name_or_path": "model.gguf", "num_train_epochs": "1", "max_train_samples": "32"}
    metrics = train(setting | {"output_dir": "runs", "run_name": "one"} | options)
    assert metrics is not None and 0 <= metrics["test"]["macro_f1"] <= 1
    card = Path("runs/one/best/README.md").read_text()
    assert "`model.gguf` fine-tuned" in card and "base_model" not in card


def test_a_damaged_file_is_told_before_anything_is_written(setting: dict[str, str], working_folder: Path) -> None:
    Path("model.gguf").write_bytes(b"GGUF\x03")
    with pytest.raises(UserError, match="no whole GGUF file"):
        train(setting | {"output_dir": "runs", "prepared_dir": "prepared", "model_name_or_path": "model.gguf"})
    assert sorted(path.name for path in Path().iterdir()) == ["model.gguf"]
