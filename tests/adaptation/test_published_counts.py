"""Trainable parameters that the papers print, on models of the real sizes without weights."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, PreTrainedConfig

from opinionlm.adaptation.methods import apply_adaptation, count_parameters
from opinionlm.config.method_options import MethodConfig
from opinionlm.config.options import HeadConfig
from opinionlm.models.backbones import new_backbone
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.tagger import OpinionTagger


def bert(vocabulary: int) -> PreTrainedConfig:
    return AutoConfig.for_model("bert", vocab_size=vocabulary)


def gpt2(width: int, layers: int, heads: int) -> PreTrainedConfig:
    return AutoConfig.for_model("gpt2", n_embd=width, n_layer=layers, n_head=heads)


def qwen2_5_1_5b() -> PreTrainedConfig:
    return AutoConfig.for_model(
        "qwen2",
        vocab_size=151_936,
        hidden_size=1536,
        intermediate_size=8960,
        num_hidden_layers=28,
        num_attention_heads=12,
        num_key_value_heads=2,
    )


def llama3_2_1b() -> PreTrainedConfig:
    return AutoConfig.for_model(
        "llama",
        vocab_size=128_256,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
    )


def trainable(
    config: PreTrainedConfig,
    labels: int,
    tagging: bool = False,
    pooling: str = "auto",
    head_bias: bool = True,
    **options,
) -> int:
    model_class = OpinionTagger if tagging else OpinionClassifier
    with torch.device("meta"):
        backbone = new_backbone(config, with_pooler=pooling == "pooler")
        names = [str(label) for label in range(labels)]
        model = model_class.from_backbone(backbone, names, HeadConfig(pooling=pooling, head_bias=head_bias))
        apply_adaptation(model, MethodConfig(**options), total_steps=1000)
    return count_parameters(model)["trainable_parameters"]


def test_methods_paper_on_bert() -> None:
    uncased, cased = bert(30_522), bert(28_996)
    assert trainable(uncased, 6, pooling="pooler", adaptation="full") == 109_486_854
    assert trainable(uncased, 6, pooling="pooler", adaptation="head_only") == 4_614
    assert trainable(cased, 9, tagging=True, adaptation="full") == 107_726_601
    assert trainable(cased, 9, tagging=True, adaptation="head_only") == 6_921
    # The paper prints 451,596 and 456,210: an old PEFT counted the classifier twice.
    assert trainable(uncased, 6, pooling="pooler", adaptation="lora", lora_r=8) == 446_982 == 451_596 - 4_614
    assert trainable(cased, 9, tagging=True, adaptation="lora", lora_r=8) == 449_289 == 456_210 - 6_921


def test_methods_paper_on_distilgpt2() -> None:
    config = gpt2(768, 6, 12)
    both = ["c_attn", "c_fc"]
    assert trainable(config, 9, tagging=True, adaptation="lora", lora_r=16, target_modules=both) == 670_473
    # Eight ranks to start with; the paper's target of 16 is above that, so nothing could ever be pruned.
    adalora = {"adaptation": "adalora", "adalora_init_r": 8, "adalora_target_r": 4, "target_modules": both}
    assert trainable(config, 9, tagging=True, **adalora) == 338_793
    assert trainable(config, 9, tagging=True, adaptation="prefix", num_virtual_tokens=20) == 191_241


@pytest.mark.parametrize(
    ("config", "targets", "head_bias", "published"),
    [
        (qwen2_5_1_5b(), None, False, (748_544, 751_616, 757_760, 770_048)),
        (llama3_2_1b(), None, False, (430_080, 434_176, 442_368, 458_752)),
        (gpt2(1600, 48, 25), None, False, (1_232_000, 1_235_200, 1_241_600, 1_254_400)),
        (bert(30_522), ["query", "value"], True, (148_994, 150_532, 153_608, 159_760)),
    ],
    ids=["qwen2.5-1.5b", "llama3.2-1b", "gpt2-xl", "bert"],
)
def test_goemotions_grid(config, targets, head_bias, published) -> None:
    # The decoders' own heads have no bias; BERT's has.
    options = {"adaptation": "lora", "lora_r": 4, "lora_alpha": 32, "target_modules": targets, "head_bias": head_bias}
    first, last = trainable(config, 2, **options), trainable(config, 16, **options)
    assert (first, last) == (published[0], published[3])
    per_label = (last - first) // 14
    assert tuple(first + per_label * (labels - 2) for labels in (2, 4, 8, 16)) == published
