"""What frozen blocks of a language model put out, kept: the numbers of a step are those without it."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from opinionlm.adaptation.methods import adapt_generative
from opinionlm.config.method_options import MethodConfig
from opinionlm.data.encoding.collators import InstructCollator
from opinionlm.errors import UserError
from opinionlm.models.backbones import anatomy_of
from opinionlm.models.families import family_of
from opinionlm.models.frozen_prefix import LanguagePrefix
from opinionlm.models.generative import RoundedLayer, output_layer, rounded_output_layer
from opinionlm.training.answer_prefix import answer_prefix
from opinionlm.training.instruct_trainer import InstructSplit, InstructTexts
from tests.tiny import FAMILIES, tiny_config
from tests.training.test_instruct_trainer import WEIGHTS, examples, tiny_writer, trainer_of
from tests.training.test_prefix_cache import arguments, settings

WRITERS = [name for name in FAMILIES if family_of(tiny_config(name)).causal]


def splits_of(count: int = 9) -> dict[str, InstructSplit]:
    encoded = examples(count)
    return {"train": InstructSplit(encoded["prompt_ids"], InstructTexts(encoded, WEIGHTS))}


def adapted(family: str, **options: object) -> tuple[PreTrainedModel, MethodConfig]:
    method = MethodConfig(adaptation="top_blocks", trainable_blocks=1, **options)
    return adapt_generative(tiny_writer(family), method), method


def step(folder: Path, model: PreTrainedModel, texts: InstructTexts, prefix: LanguagePrefix | None) -> list:
    """Loss and gradients of one batch that holds every example and, last, a filler."""
    trainer = trainer_of(folder, "gemma3_text", 2, 1, 4, [])
    trainer.model, trainer.prefix = model.eval(), prefix
    batch = InstructCollator(0, encoder_decoder=False)([texts[place] for place in [*range(len(texts)), ~0]])
    model.zero_grad()
    loss = trainer.weighted_sum(model, batch)
    loss.backward()
    return [loss.detach(), *(p.grad.clone() for p in model.parameters() if p.requires_grad)]


@pytest.mark.parametrize("family", WRITERS)
def test_a_step_from_kept_states_is_the_step(family: str, tmp_path) -> None:
    model, method = adapted(family, cache_dir=str(tmp_path / "cache"), cache_frozen="on")
    splits = splits_of()
    whole = step(tmp_path, model, splits["train"].learned, None)
    found = answer_prefix(model, splits, method, arguments(tmp_path), pad_id=0)
    kept = step(tmp_path, model, found.readers["train"].learned, found.prefix)
    assert found.states["train"].built_seconds > 0
    # Two more batches of other shapes: rounding alone differs.
    torch.testing.assert_close(kept, whole, rtol=1e-5, atol=1e-6)
    # No frozen block ran: with other weights the step is the same.
    with torch.no_grad():
        for block in anatomy_of(model).blocks[: found.prefix.prefix_blocks]:
            for parameter in block.parameters():
                parameter.add_(1.0)
    torch.testing.assert_close(step(tmp_path, model, found.readers["train"].learned, found.prefix), kept)
    # ... and they are back in their places, with those weights: nothing is read of the old ones.
    assert not torch.allclose(step(tmp_path, model, splits["train"].learned, found.prefix)[0], whole[0])
    again = answer_prefix(model, splits, method, arguments(tmp_path), pad_id=0)
    assert again.states["train"].built_seconds is not None


def test_states_of_another_run_are_found(tmp_path) -> None:
    model, method = adapted("gemma3_text", cache_dir=str(tmp_path / "cache"))
    first, second = (answer_prefix(model, splits_of(), method, arguments(tmp_path), pad_id=0) for _ in range(2))
    assert first.preparation().cache_splits_built == 1 and first.preparation().cache_train_tokens > 0
    assert second.preparation().cache_splits_built == 0 and second.preparation().cache_splits_reused == 1


def test_dropout_is_off_in_frozen_blocks_with_and_without_the_cache(tmp_path) -> None:
    model, method = adapted("gpt2", cache_dir=str(tmp_path / "cache"))
    assert any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())
    found = answer_prefix(model, splits_of(), method, arguments(tmp_path), pad_id=0)
    trainer = trainer_of(tmp_path, "gpt2", 2, 1, 4, [])
    trainer.model, trainer.prefix = model.train(), found.prefix
    losses = []
    for texts in (splits_of()["train"].learned, found.readers["train"].learned):
        batch = InstructCollator(0, encoder_decoder=False)([texts[place] for place in range(len(texts))])
        torch.manual_seed(0)
        losses.append(trainer.weighted_sum(model, batch))
    top = anatomy_of(model).blocks[-1]
    assert top.training and not anatomy_of(model).blocks[0].training
    torch.testing.assert_close(*losses)


def test_what_has_no_prefix_says_so(tmp_path) -> None:
    for method in (MethodConfig(adaptation="lora"), MethodConfig(adaptation="top_blocks", trainable_blocks=1)):
        model = adapt_generative(tiny_writer("t5"), method)
        assert answer_prefix(model, {}, method, arguments(tmp_path), pad_id=0).prefix is None
    with pytest.raises(UserError, match="cache_frozen: on, but no block .* use cache_frozen: auto"):
        answer_prefix(model, {}, settings(tmp_path, cache_frozen="on"), arguments(tmp_path), pad_id=0)


def test_a_rounded_layer_is_autocast_to_the_bit() -> None:
    torch.manual_seed(0)
    layer, hidden = nn.Linear(24, 40).requires_grad_(False), torch.randn(5, 24, requires_grad=True)
    results = []
    for context in (nullcontext(), RoundedLayer(layer)):
        hidden.grad = None
        with torch.autocast("cpu", torch.bfloat16), context:
            logits = layer(hidden)
        logits.float().square().sum().backward()
        results.append((logits.detach(), hidden.grad))
    torch.testing.assert_close(*results, rtol=0, atol=0)
    assert results[0][0].dtype == torch.bfloat16 and "forward" not in vars(layer)


def test_only_a_frozen_plain_output_layer_is_rounded() -> None:
    model, _ = adapted("gemma3_text")
    assert rounded_output_layer(model).layer is output_layer(model)
    for other in (tiny_writer("gemma3_text"), model.to(torch.bfloat16)):
        assert rounded_output_layer(other) is None
