"""Merged models give the outputs of the adapted ones, from plain and from 4-bit weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from opinionlm.adaptation.merging import MERGEABLE, merge_adapters, merge_model_folder
from opinionlm.adaptation.methods import apply_adaptation
from opinionlm.config.method_options import MethodConfig
from opinionlm.config.options import HeadConfig, ModelConfig
from opinionlm.errors import UserError
from opinionlm.models.backbones import load_backbone
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.quantization import quantized_modules
from tests.adaptation.matrix import batch_of, method_config, tiny_model
from tests.tiny import LABELS, save_pretrained_model, tiny_tokenizer


def trained(model: OpinionClassifier, task: str = "sequence") -> tuple[OpinionClassifier, torch.Tensor]:
    """A few steps away from the start, and its logits."""
    batch = batch_of(task)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(3):
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        return model, model.eval()(**batch).logits


@pytest.mark.parametrize("method", ["lora", "dora", "adalora", "ia3"])
def test_merged_outputs_are_equal(method: str) -> None:
    for family, task in (("bert", "token"), ("gpt2", "sequence"), ("t5", "similarity")):
        model = tiny_model(family, task).eval()
        apply_adaptation(model, method_config(method), total_steps=10)
        model, before = trained(model, task)
        merged = merge_adapters(model)
        with torch.no_grad():
            torch.testing.assert_close(merged(**batch_of(task)).logits, before, rtol=1e-5, atol=1e-6)
        assert not [name for name, _ in merged.named_parameters() if "lora" in name or "ia3" in name]
        assert merged.config.adapter is None


# Each method is merged above; here a plain, a scaled and a transposed weight every day.
@pytest.mark.parametrize(
    ("family", "method"),
    [
        ("gemma3_text", "dora"),
        ("gemma3_text", "ia3"),
        ("gpt2", "qlora"),
        *(pytest.param("gemma3_text", m, marks=pytest.mark.slow) for m in MERGEABLE if m not in ("dora", "ia3")),
    ],
)
def test_four_bits_are_expanded_first(family: str, method: str, tmp_path) -> None:
    save_pretrained_model(tmp_path / "pretrained", family)
    options = ModelConfig(model_name_or_path=str(tmp_path / "pretrained"), load_in_4bit=True)
    torch.manual_seed(0)
    backbone = load_backbone(options, trained_blocks=0)
    model = OpinionClassifier.from_backbone(backbone, LABELS, HeadConfig(head_hidden_sizes=[8]))
    apply_adaptation(model.eval(), method_config(method), total_steps=10)
    quantized = quantized_modules(model)
    # Every linear layer of every block, and neither heads nor adapters (unsloth #5027, peft #1720).
    assert len(quantized) == 4 * (4 if family == "gpt2" else 7)
    assert not [name for name in quantized if name.startswith("head") or "lora" in name or "ia3" in name]
    model, before = trained(model)
    model.save_pretrained(tmp_path / "saved")
    tiny_tokenizer().save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "input.json").write_text('{"forms": []}')
    with torch.no_grad():
        reloaded = OpinionClassifier.from_pretrained(tmp_path / "saved").eval()
        assert quantized_modules(reloaded) == quantized
        assert torch.equal(reloaded(**batch_of("sequence")).logits, before)
        merge_model_folder(tmp_path / "saved", tmp_path / "merged")
        merged = OpinionClassifier.from_pretrained(tmp_path / "merged").eval()
        torch.testing.assert_close(merged(**batch_of("sequence")).logits, before, rtol=1e-4, atol=1e-5)
    assert quantized_modules(merged) == []
    assert not (tmp_path / "merged" / "config.json").read_text().count("quantization_config")
    # How the training files were read: predict.py reads alike, and finds the columns that the model needs.
    assert (tmp_path / "merged" / "input.json").is_file()


@pytest.fixture
def adapted(tmp_path) -> Path:
    """A saved model with LoRA, a tokenizer and a card."""
    model = tiny_model("bert", "sequence")
    apply_adaptation(model, method_config("lora"), 10)
    model.save_pretrained(tmp_path / "saved")
    tiny_tokenizer().save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "README.md").write_text("---\nlicense: gemma\n---\n# Ours\n")
    return tmp_path / "saved"


def test_card_and_licence_stay_with_the_merged_model(adapted: Path, tmp_path) -> None:
    merge_model_folder(adapted, tmp_path / "merged")
    card = (tmp_path / "merged" / "README.md").read_text()
    assert card.startswith("---\nlicense: gemma\n---\n# Ours\n") and "has made the adapter part" in card


def test_an_incomplete_or_damaged_model_is_not_merged(adapted: Path, tmp_path) -> None:
    """What is missing would be drawn at random, and written."""
    place = adapted / "model.safetensors"
    weights = load_file(place)
    name = next(name for name in weights if name.endswith("query.base_layer.weight"))
    save_file({other: weights[other] for other in weights if other != name}, place, {"format": "pt"})
    with pytest.raises(UserError, match=f"are incomplete .no {name}.; copy the folder anew"):
        merge_model_folder(adapted, tmp_path / "merged")
    place.write_bytes(place.read_bytes()[:1000])
    with pytest.raises(UserError, match="saved cannot be loaded"):
        merge_model_folder(adapted, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_place_that_no_folder_can_take_is_refused(adapted: Path, tmp_path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    with pytest.raises(UserError, match="--merge: .*link exists already"):
        merge_model_folder(adapted, tmp_path / "link")
    with pytest.raises(UserError, match="--merge: .*config.json, which is no folder"):
        merge_model_folder(adapted, adapted / "config.json" / "a" / "b")


def test_what_cannot_be_merged_is_refused(tmp_path) -> None:
    model = tiny_model("bert", "sequence")
    with pytest.raises(UserError, match="has no adapter"):
        merge_adapters(model)
    apply_adaptation(model, MethodConfig(adaptation="houlsby"))
    with pytest.raises(UserError, match="'houlsby' adds layers or tokens.*lora, qlora, dora, adalora, ia3"):
        merge_adapters(model)
    with pytest.raises(UserError, match="exists already"):
        merge_model_folder(tmp_path, tmp_path)
