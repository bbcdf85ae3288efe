"""Adapters at their start, in generative models, and what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from opinionlm.adaptation.compatibility import check_length
from opinionlm.adaptation.methods import adapt_generative, apply_adaptation
from opinionlm.config.checks import validate
from opinionlm.config.config import Config
from opinionlm.config.method_options import MethodConfig
from opinionlm.config.options import ModelConfig
from opinionlm.config.parser import parse_config
from opinionlm.config.training_options import TrainingConfig
from opinionlm.errors import UserError
from opinionlm.models.backbones import anatomy_of, load_backbone
from opinionlm.models.bottleneck import Bottleneck
from opinionlm.models.classifier import OpinionClassifier
from tests.adaptation.matrix import METHODS, batch_of, method_config, tiny_model
from tests.tiny import FAMILIES, LABELS, save_pretrained_model, tiny_config


@pytest.mark.parametrize("method", ["lora", "dora", "adalora", "ia3"])
@torch.no_grad()
def test_updates_start_at_nothing(method: str) -> None:
    for family in ("bert", "gpt2", "gemma3_text"):
        model = tiny_model(family, "sequence").eval()
        before = model(**batch_of("sequence")).logits
        apply_adaptation(model, method_config(method), total_steps=10)
        torch.testing.assert_close(model(**batch_of("sequence")).logits, before, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("method", ["houlsby", "pfeiffer"])
@torch.no_grad()
def test_bottlenecks_start_close_to_the_identity(method: str) -> None:
    states = torch.randn(2, 3, 64)
    change = Bottleneck(64, 8, torch.nn.GELU())(states) - states
    assert 0 < change.norm() < 0.02 * states.norm()
    for family in FAMILIES:
        model = tiny_model(family, "sequence").eval()
        before = model(**batch_of("sequence")).logits
        apply_adaptation(model, MethodConfig(adaptation=method, adapter_size=8))
        after = model(**batch_of("sequence")).logits
        assert not torch.equal(after, before)
        torch.testing.assert_close(after, before, rtol=0.05, atol=0.02)
        adapters = [module for module in model.modules() if isinstance(module, Bottleneck)]
        assert len(adapters) == (8 if method == "houlsby" else 4)
        clone = copy.deepcopy(model)  # the hooks of a copy use the copy's adapters
        for module in clone.modules():
            if isinstance(module, Bottleneck):
                module.up.bias.normal_()
        assert torch.equal(model(**batch_of("sequence")).logits, after)
        assert not torch.allclose(clone(**batch_of("sequence")).logits, after)


def generative(family: str) -> torch.nn.Module:
    torch.manual_seed(0)
    auto_class = AutoModelForSeq2SeqLM if family == "t5" else AutoModelForCausalLM
    return auto_class.from_config(AutoConfig.for_model(family, **FAMILIES[family]))


@pytest.mark.parametrize("method", METHODS)
def test_generative_models(method: str) -> None:
    refused = {("bitfit", "llama"), ("bitfit", "t5")} | {("head_only", family) for family in ("gpt2", "llama", "t5")}
    for family in ("gpt2", "llama", "t5"):
        model = generative(family)
        if (method, family) in refused:
            with pytest.raises(UserError, match=f"'{method}' cannot work on a '{family}' model"):
                adapt_generative(model, method_config(method), total_steps=10)
            continue
        blocks = len(anatomy_of(model).blocks)
        output = model.get_output_embeddings().weight
        adapted = adapt_generative(model, method_config(method), total_steps=10)
        ids = torch.tensor([[2, 11, 12, 13]])
        adapted(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids).loss.backward()
        trained = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
        assert trained and not [name for name, p in trained.items() if p.grad is None]
        assert output.requires_grad == (method in ("full", "layerwise_lr", "lisa"))
        assert blocks == (8 if family == "t5" else 4)


def test_layers_that_do_not_exist_are_named() -> None:
    method = MethodConfig(adaptation="lora", target_modules=["c_attn"])
    with pytest.raises(UserError, match="target_modules: PEFT cannot adapt .'c_attn'. in a 'bert' model"):
        apply_adaptation(tiny_model("bert", "sequence"), method)
    model = tiny_model("gpt2", "sequence")
    apply_adaptation(model, MethodConfig(adaptation="qlora", target_modules=["all-linear"]))
    adapted = {name.split(".lora_A")[0] for name, _ in model.named_parameters() if ".lora_A." in name}
    assert len(adapted) == 4 * 4 and not [name for name in adapted if name.startswith("head")]


def test_positions_that_do_not_exist_are_refused() -> None:
    method = MethodConfig(adaptation="prompt", num_virtual_tokens=20)
    check_length(method, tiny_config("llama"), 4096)  # rotary positions have no table
    check_length(method, tiny_config("gpt2"), 108)
    with pytest.raises(UserError, match="max_length: 109 tokens and 20 virtual ones exceed .*128.* at most 108"):
        check_length(method, tiny_config("gpt2"), 109)
    with pytest.raises(UserError, match="129 positions; give at most 109"):
        check_length(method, tiny_config("roberta"), 110)
    with pytest.raises(UserError, match="max_length: 129 tokens exceed the 128 positions of a 'distilbert' model"):
        check_length(MethodConfig(), tiny_config("distilbert"), 129)
    with pytest.raises(UserError, match="128 positions; give at most 108"):
        check_length(method, tiny_config("mpnet"), 109)
    deberta = tiny_config("deberta-v2")
    check_length(method, deberta, 4096)  # relative positions only
    deberta.position_biased_input = True
    with pytest.raises(UserError, match="130 positions; give at most 110"):
        check_length(method, deberta, 111)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adaptation": "layerwise_lr", "layerwise_lr_decay": 0.0}, "layerwise_lr_decay: 0.0 must be above 0"),
        ({"adaptation": "bottom_frozen", "frozen_blocks": 0}, "frozen_blocks: 0 must be at least 1"),
        ({"adaptation": "lora", "lora_r": 0}, "lora_r: 0 must be at least 1"),
        ({"adaptation": "adalora", "adalora_init_r": 8, "adalora_target_r": 16}, "adalora_target_r: 16 must be below"),
        ({"adaptation": "qlora"}, "load_in_4bit: False contradicts adaptation: qlora"),
        (
            {"adaptation": "full", "target_modules": ["query"]},
            "target_modules: .'query'. is not read by adaptation: full",
        ),
        ({"adaptation": "lora", "target_modules": []}, "leave nothing to adapt"),
        (
            {"adaptation": "prompt", "prefix_projection": True},
            "prefix_projection: True is not read by adaptation: prompt; .* use adaptation: prefix",
        ),
        ({"adaptation": "prompt", "num_virtual_tokens": 0}, "num_virtual_tokens: 0"),
        ({"adaptation": "lora", "cache_frozen": "on"}, "cache_frozen: 'on' needs blocks that stay"),
    ],
)
def test_rules(options: dict, message: str) -> None:
    config = Config(method=MethodConfig(**options), training=TrainingConfig(run_name="run"))
    with pytest.raises(UserError, match=message):
        validate(config)


def test_rules_across_parts() -> None:
    prefix = MethodConfig(adaptation="prefix")
    training = TrainingConfig(run_name="run", activation_checkpointing=True)
    with pytest.raises(UserError, match="activation_checkpointing: True recomputes"):
        validate(Config(method=prefix, training=training))
    for method in ("full", "layerwise_lr", "lisa"):
        config = Config(method=MethodConfig(adaptation=method), model=ModelConfig(load_in_4bit=True))
        config.training.run_name = "run"
        with pytest.raises(UserError, match="cannot train 4-bit weights; use qlora"):
            validate(config)


def test_qlora_means_four_bits() -> None:
    assert parse_config(["--adaptation", "qlora"], "").model.load_in_4bit is True
    assert parse_config(["--adaptation", "lora"], "").model.load_in_4bit is False
    with pytest.raises(UserError, match="contradicts adaptation: qlora"):
        parse_config(["--adaptation", "qlora", "--load_in_4bit", "false"], "")


def test_dora_on_four_bit_gpt2_is_refused(tmp_path) -> None:
    save_pretrained_model(tmp_path, "gpt2")
    options = ModelConfig(model_name_or_path=str(tmp_path), load_in_4bit=True)
    model = OpinionClassifier.from_backbone(load_backbone(options, trained_blocks=0), LABELS)
    with pytest.raises(UserError, match="'dora' cannot work on a 4-bit 'gpt2'"):
        apply_adaptation(model, MethodConfig(adaptation="dora"))


@pytest.mark.parametrize("method", ["lora", "houlsby", "prompt"])
def test_activation_checkpointing_gives_the_same_gradients(method: str) -> None:
    def gradients(checkpointing: bool) -> list[torch.Tensor]:
        model = tiny_model("gemma3_text", "sequence")
        apply_adaptation(model, method_config(method))
        if checkpointing:
            model.activation_checkpointing_enable()
        model.train()
        model.head.eval()
        model(**batch_of("sequence")).loss.backward()
        return [p.grad for p in model.parameters() if p.requires_grad]

    torch.testing.assert_close(gradients(True), gradients(False))
