"""Learning rates of blocks and head, computed by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import TrainingArguments

from opinionlm.adaptation.methods import apply_adaptation
from opinionlm.adaptation.parameter_groups import decay_groups, new_optimizer, parameter_groups
from opinionlm.config.method_options import MethodConfig
from opinionlm.config.options import HeadConfig
from opinionlm.config.training_options import TrainingConfig
from tests.tiny import FAMILIES, tiny_classifier

TRAINING = TrainingConfig(learning_rate=1.0, weight_decay=0.1)


def groups_by_name(family: str) -> dict[str, tuple[float, float]]:
    model, method = tiny_classifier(family, head_hidden_sizes=[8]), MethodConfig(adaptation="layerwise_lr")
    method.layerwise_lr_decay = 0.5
    apply_adaptation(model, method)
    groups = parameter_groups(model, method, TRAINING, HeadConfig())
    placed = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(placed) == len(list(model.parameters()))
    return {name: placed[id(parameter)] for name, parameter in model.named_parameters()}


def test_bert_by_hand() -> None:
    groups = groups_by_name("bert")
    assert groups["head.layers.2.weight"] == (1.0, 0.1)
    assert groups["head.layers.2.bias"] == (1.0, 0.0)
    assert groups["head.layers.0.weight"] == (1.0, 0.0)  # the head's LayerNorm
    assert groups["backbone.encoder.layer.3.attention.self.query.weight"] == (0.5, 0.1)
    assert groups["backbone.encoder.layer.3.attention.output.LayerNorm.weight"] == (0.5, 0.0)
    assert groups["backbone.encoder.layer.0.output.dense.bias"] == (0.0625, 0.0)
    assert groups["backbone.embeddings.word_embeddings.weight"] == (0.03125, 0.1)
    assert groups["backbone.embeddings.LayerNorm.weight"] == (0.03125, 0.0)


def test_gemma_final_norm_learns_like_the_head() -> None:
    groups = groups_by_name("gemma3_text")
    assert groups["backbone.norm.weight"] == (1.0, 0.0)
    assert groups["backbone.layers.3.self_attn.q_norm.weight"] == (0.5, 0.0)
    assert groups["backbone.embed_tokens.weight"] == (0.03125, 0.1)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_a_rate_per_depth(family: str) -> None:
    groups = groups_by_name(family)
    assert {rate for rate, _ in groups.values()} == {0.5**depth for depth in range(6)}
    assert {decay for name, (_, decay) in groups.items() if name.endswith(".bias")} == {0.0}


def test_other_methods_leave_the_trainer_its_groups() -> None:
    model = tiny_classifier()
    assert parameter_groups(model, MethodConfig(adaptation="full"), TRAINING, HeadConfig()) is None


@pytest.mark.parametrize("adaptation", ["full", "top_blocks", "lora", "layerwise_lr"])
@pytest.mark.parametrize("family", ["bert", "gemma3_text", "t5"])
def test_the_head_learns_at_its_own_rate_and_all_else_as_before(family: str, adaptation: str) -> None:
    model, method = tiny_classifier(family, head_hidden_sizes=[8]), MethodConfig(adaptation=adaptation)
    apply_adaptation(model, method)
    groups = parameter_groups(model, method, TRAINING, HeadConfig(head_lr_factor=10))
    before = parameter_groups(model, method, TRAINING, HeadConfig()) or [
        group | {"lr": 1.0} for group in decay_groups(model, TRAINING.weight_decay)
    ]
    head = set(model.head.parameters())
    expected = {p: (g["lr"] * (10 if p in head else 1), g["weight_decay"]) for g in before for p in g["params"]}
    assert {p: (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]} == expected
    assert [group["lr"] for group in groups] == sorted(group["lr"] for group in groups)


@pytest.mark.parametrize(("labels", "factor"), [(15, 1), (16, 2), (40, 2)])
def test_everything_learns_faster_where_labels_are_many(labels: int, factor: int) -> None:
    model, method = tiny_classifier(labels=[f"label {number}" for number in range(labels)]), MethodConfig()
    apply_adaptation(model, method)
    options = HeadConfig(head_lr_factor=10, many_labels_lr_factor=2)
    groups = parameter_groups(model, method, TRAINING, options)
    head = set(model.head.parameters())
    assert all(
        group["lr"] == factor * (10 if parameter in head else 1) for group in groups for parameter in group["params"]
    )
    alone = parameter_groups(model, method, TRAINING, HeadConfig(many_labels_lr_factor=2))
    assert alone is None if factor == 1 else {group["lr"] for group in alone} == {2.0}


def test_eight_bit_optimizers_keep_embeddings_in_32_bits(tmp_path) -> None:
    """As Trainer does where it makes the groups; ours, of rates per layer and of the loop, had 8 bits for all."""
    model = nn.Sequential(nn.Embedding(128, 64), nn.Linear(64, 128))
    arguments = TrainingArguments(str(tmp_path), optim="adamw_bnb_8bit", use_cpu=True)
    optimizer = new_optimizer(arguments, model, decay_groups(model, 0.01))
    model(torch.arange(8)).sum().backward()
    optimizer.step()
    states = [optimizer.state[layer.weight]["state1"].dtype for layer in model]
    assert states == [torch.float32, torch.uint8]
