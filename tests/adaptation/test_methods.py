"""Which parameters train under each adaptation, exactly, for every family."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from opinionlm.adaptation.methods import adapt_generative, apply_adaptation, trained_blocks
from opinionlm.config.method_options import MethodConfig
from opinionlm.config.options import ModelConfig
from opinionlm.errors import UserError
from opinionlm.models.backbones import anatomy_of, read_model_config
from opinionlm.models.generative import load_generative
from opinionlm.training.cost import train_flops_per_token
from tests.tiny import FAMILIES, padded, save_generative_model, tiny_classifier


def trainable(model) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def names_of(model, *parts) -> set[str]:
    wanted = {id(parameter) for part in parts if part is not None for parameter in part.parameters()}
    return {name for name, parameter in model.named_parameters() if id(parameter) in wanted}


@pytest.mark.parametrize("family", FAMILIES)
def test_exact_trainable_sets(family: str) -> None:
    model = tiny_classifier(family, head_hidden_sizes=[32])
    anatomy = anatomy_of(model.backbone)

    apply_adaptation(model, MethodConfig(adaptation="head_only"))
    assert trainable(model) == names_of(model, model.head)
    apply_adaptation(model, MethodConfig(adaptation="full"))
    assert trainable(model) == {name for name, _ in model.named_parameters()}
    for count in (1, 3):
        apply_adaptation(model, MethodConfig(adaptation="top_blocks", trainable_blocks=count))
        assert trainable(model) == names_of(model, model.head, anatomy.final_norm, *anatomy.blocks[4 - count :])
    assert not names_of(model, anatomy.embedding) & trainable(model)


def test_weights_that_a_checkpoint_holds_in_4_bits_do_not_train(tmp_path) -> None:
    """Stored as bfloat16, as for FSDP, they could: as whatever numbers two packed weights make."""
    save_generative_model(tmp_path / "plain")
    stored = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_storage=torch.bfloat16)
    quantized = AutoModelForCausalLM.from_pretrained(tmp_path / "plain", quantization_config=stored)
    quantized.save_pretrained(tmp_path / "packed")
    packed = ModelConfig(model_name_or_path=str(tmp_path / "packed"))
    for method in (MethodConfig(adaptation="full"), MethodConfig(adaptation="top_blocks", trainable_blocks=1)):
        model = load_generative(packed, 1, read_model_config(packed))
        with pytest.raises(UserError, match="the weights that would train are stored in 4 or 8 bits"):
            adapt_generative(model, method)
    adapt_generative(model, MethodConfig(adaptation="layernorm"))


def test_lisa_may_leave_the_embedding_alone() -> None:
    model = tiny_classifier("bert")
    apply_adaptation(model, MethodConfig(adaptation="lisa", lisa_embedding=False))
    assert trainable(model) == names_of(model, model.head, *anatomy_of(model.backbone).blocks)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_trainable_parameter_gets_a_gradient(family: str) -> None:
    # A trainable parameter without gradient stops distributed training (and hides a wrong set).
    model = tiny_classifier(family, head_hidden_sizes=[32]).train()
    apply_adaptation(model, MethodConfig(adaptation="full"))
    model(**padded([[2, 5, 6], [2, 7, 8, 9]], 4, "right"), labels=torch.tensor([0, 1])).loss.backward()
    assert {name for name, parameter in model.named_parameters() if parameter.grad is None} == set()


def test_frozen_blocks_do_no_gradient_work() -> None:
    model = tiny_classifier(head_hidden_sizes=[32])
    apply_adaptation(model, MethodConfig(adaptation="top_blocks", trainable_blocks=1))
    seen = []
    for block in anatomy_of(model.backbone).blocks:
        block.register_forward_hook(lambda module, args, output: seen.append(output.requires_grad))
    model(**padded([[2, 5, 6]], 3, "right"))
    assert seen == [False, False, False, True]


def test_too_many_blocks() -> None:
    with pytest.raises(UserError, match="trainable_blocks: 5 exceeds the model's 4 blocks"):
        trained_blocks(MethodConfig(adaptation="top_blocks", trainable_blocks=5), 4)


def test_flops_by_hand() -> None:
    def flops(**options) -> float:
        model, method = tiny_classifier(), MethodConfig(**options)
        apply_adaptation(model, method, total_steps=10)
        return train_flops_per_token(model, method)

    block = sum(parameter.numel() for parameter in anatomy_of(tiny_classifier().backbone).blocks[0].parameters())
    assert flops(adaptation="full") == 4 * 6 * block
    assert flops(adaptation="top_blocks", trainable_blocks=1) == 4 * 2 * block + 4 * block
    assert flops(adaptation="head_only") == 4 * 2 * block
    assert flops(adaptation="lisa", lisa_blocks=1) == 4 * 4 * block + 4 * 2 * block / 4
    # A gradient runs through every block to what is in front of them, whose own weights are not in any.
    assert flops(adaptation="prompt", num_virtual_tokens=3) == 4 * 4 * block
    rank = 2 * (64 + 64 + 64 + 32)  # down and up, of the query (64 wide) and the value (two heads of 16)
    assert flops(adaptation="lora", lora_r=2) == 4 * (4 * (block + rank) + 2 * rank)
