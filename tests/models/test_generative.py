"""Loading models that write, and logits at supervised positions equal to those of all positions."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel

from opinionlm.adaptation.methods import adapt_generative
from opinionlm.config.method_options import MethodConfig
from opinionlm.errors import UserError
from opinionlm.models.backbones import read_model_config
from opinionlm.models.generative import generative_class, load_generative, output_layer, supervised_logits
from opinionlm.models.quantization import quantized_modules
from tests.tiny import ENCODERS, FAMILIES, VOCABULARY, save_generative_model, tiny_config

WRITERS = [family for family in FAMILIES if family not in (*ENCODERS, "gemma3")]
# Learned virtual tokens lengthen the sequence in the model, other adapters do not.
ADAPTERS = ("lora", "prompt", "p_tuning", "prefix")


def tiny_writer(family: str, **options: object) -> PreTrainedModel:
    torch.manual_seed(0)
    config = tiny_config(family)
    for name, value in options.items():
        setattr(config, name, value)
    return generative_class(config).from_config(config).eval()


def batch(family: str, side: str = "right", extra: int = 0) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Three texts of different length with answers of different length."""
    generator = torch.Generator().manual_seed(5)
    lengths, answers = (12, 9, 6), (2, 3, 1)
    width = max(lengths) + extra
    ids, mask = torch.full((3, width), 7), torch.zeros(3, width, dtype=torch.long)
    labels = torch.full((3, width), -100)
    for row, (length, answer) in enumerate(zip(lengths, answers, strict=True)):
        text = torch.randint(4, 300, (length,), generator=generator)
        start = 0 if side == "right" else width - length
        ids[row, start : start + length] = text
        mask[row, start : start + length] = 1
        labels[row, start + length - answer : start + length] = text[-answer:]
    if family == "t5":
        labels = torch.tensor([[5, 6, 1], [7, 1, -100], [8, 9, 1]])
    return {"input_ids": ids, "attention_mask": mask}, labels


def full_loss(model: PreTrainedModel, inputs: dict[str, torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    """The family's own loss over the logits of every position."""
    return model(**inputs, labels=labels).loss


@pytest.mark.parametrize("family", WRITERS)
def test_loss_equals_the_familys_own(family: str) -> None:
    model = tiny_writer(family)
    inputs, labels = batch(family)
    found = supervised_logits(model, model, inputs, labels)
    loss = torch.nn.functional.cross_entropy(found.logits, found.targets)
    torch.testing.assert_close(loss, full_loss(model, inputs, labels), rtol=1e-6, atol=1e-6)
    loss.backward()
    ours = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    full_loss(model, inputs, labels).backward()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(ours[name], weight.grad, rtol=1e-4, atol=1e-6)


def test_soft_capping_still_happens() -> None:
    model = tiny_writer("gemma2", final_logit_softcapping=0.05)
    inputs, labels = batch("gemma2")
    logits = supervised_logits(model, model, inputs, labels).logits
    assert logits.abs().max() <= 0.05
    torch.testing.assert_close(logits, model(**inputs).logits[:, :-1][labels[:, 1:] != -100])


def test_hidden_state_before_a_token_predicts_it() -> None:
    model = tiny_writer("llama")
    inputs, labels = batch("llama")
    found = supervised_logits(model, model, inputs, labels)
    # Row 2 has one answer token at position 5: the logits of position 4, from the text before it alone.
    alone = model(input_ids=inputs["input_ids"][2:3, :5]).logits[0, 4]
    torch.testing.assert_close(found.logits[-1], alone, rtol=1e-4, atol=1e-5)
    assert found.targets.tolist() == [int(token) for token in labels[labels != -100]]
    assert found.rows.tolist() == [0, 0, 1, 1, 1, 2]


@pytest.mark.parametrize("family", ["gpt2", "gemma3_text", "t5"])
def test_padding_makes_no_difference(family: str) -> None:
    model = tiny_writer(family)
    expected = supervised_logits(model, model, *batch(family)).logits
    for side, extra in (("right", 5), ("left", 0), ("left", 7)):
        inputs, labels = batch(family, side, extra)
        torch.testing.assert_close(supervised_logits(model, model, inputs, labels).logits, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("adapter", ["none", *ADAPTERS])
def test_no_tensor_of_all_positions_and_the_vocabulary_exists(adapter: str, checkpointing: bool) -> None:
    if checkpointing and adapter == "prefix":
        pytest.skip("PEFT refuses prefix tuning with checkpointing")
    model = tiny_writer("gemma3_text")
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    adapted = model if adapter == "none" else adapt_generative(model, MethodConfig(adaptation=adapter))
    shapes: list[torch.Size] = []
    output_layer(adapted).register_forward_hook(lambda module, inputs, output: shapes.append(output.shape))
    inputs, labels = batch("gemma3_text")
    adapted.train()
    supervised_logits(adapted, adapted, inputs, labels).logits.sum().backward()
    assert shapes == [torch.Size([6, VOCABULARY])]


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_adapted_models_answer_at_the_same_positions(adapter: str) -> None:
    adapted = adapt_generative(tiny_writer("llama"), MethodConfig(adaptation=adapter, num_virtual_tokens=5)).eval()
    inputs, labels = batch("llama")
    found = supervised_logits(adapted, adapted, inputs, labels)
    positions = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
    extra = {} if adapter in ("prompt", "p_tuning") else {"position_ids": positions}
    logits = adapted(**inputs, **extra).logits[:, -labels.shape[1] :][:, :-1]
    torch.testing.assert_close(found.logits, logits[labels[:, 1:] != -100], rtol=1e-4, atol=1e-5)


def test_filler_batches_have_nothing_to_learn() -> None:
    model = tiny_writer("gpt2")
    inputs, labels = batch("gpt2")
    found = supervised_logits(model, model, inputs, torch.full_like(labels, -100))
    assert found.logits.shape == (0, VOCABULARY)
    found.logits.sum().backward()
    assert all(weight.grad is not None and not weight.grad.any() for weight in model.parameters())


@pytest.mark.parametrize("family", ENCODERS)
def test_encoders_are_refused(family: str) -> None:
    with pytest.raises(UserError, match="encoder-only model"):
        generative_class(tiny_config(family))


def test_multimodal_gemma_becomes_its_text_model(tmp_path) -> None:
    chosen = save_generative_model(tmp_path, "gemma3")
    model = load_generative(chosen, 0, read_model_config(chosen))
    assert model.config.model_type == "gemma3_text" and not any("vision" in name for name, _ in model.named_modules())
    assert output_layer(model).weight is model.get_input_embeddings().weight
    assert not any(weight.is_meta for weight in model.parameters())
    model.save_pretrained(tmp_path / "text")
    chosen.model_name_or_path = str(tmp_path / "text")
    again = load_generative(chosen, 0, read_model_config(chosen))
    inputs, _ = batch("gemma3_text")
    torch.testing.assert_close(again(**inputs).logits, model(**inputs).logits)


@pytest.mark.parametrize("family", ["gemma3_text", "gemma3", "t5"])
def test_four_bits_leave_trained_blocks_and_output_layer_alone(family: str, tmp_path) -> None:
    chosen = save_generative_model(tmp_path, family)
    chosen.load_in_4bit = True
    model = load_generative(chosen, 1, read_model_config(chosen))
    names = quantized_modules(model)
    last = "decoder.block.3" if family == "t5" else "model.layers.3"
    assert names and not any(last in name or "lm_head" in name for name in names)
    modules = dict(model.named_modules())
    assert all(modules[name].support_avx512bf16_for_cpu is False for name in names)
    model.save_pretrained(tmp_path / "saved")
    again = generative_class(model.config).from_pretrained(tmp_path / "saved")
    assert quantized_modules(again) == names


def test_weights_without_an_output_layer_are_refused(tmp_path) -> None:
    from tests.tiny import save_pretrained_model

    chosen = save_pretrained_model(tmp_path, "llama")
    with pytest.raises(UserError, match="lacks 1 weights of a LlamaForCausalLM"):
        load_generative(chosen, 0, read_model_config(chosen))
